"""Decide which host runs which instance, and when a worker must die. Pure; the shell does what it says.

Placement needs no leader. Every host sees who holds which lease and whose beats are fresh; it takes free
instances up to its fair share, and gives one back when another host has two fewer. The lease makes sure that
two hosts never run the same one, and its epoch that a host which missed this changes nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, assert_never

from services.strategy.spec import EXIT_FENCED, EXIT_REFUSED, EXIT_ROLLED_BACK, Seen

NS_PER_S = 1_000_000_000
STILL_NS = 5 * NS_PER_S
"""So long nothing may move on the page of a worker that runs, is in no callback and has Redis. A Redis that
is frozen shows as away after two to three seconds."""
PAUSE_NS = NS_PER_S
"""A host that has not looked for longer than this was frozen itself, and its workers perhaps with it."""
KILLED = -9
"""Exit code of a process that somebody ended with SIGKILL."""


class Phase(StrEnum):
    """Where an instance stands with this host."""

    ELSEWHERE = "elsewhere"
    WAITING = "waiting"  # ours; to be started at `start_at_ns`
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"  # asked to commit and leave; the lease is given back after it
    OFF = "off"  # latched: a person has to act


class Placed(NamedTuple):
    """Attributes:
    holders: instance -> host that holds its lease, "" for none.
    settling: Other hosts may not have been seen yet: nothing is taken but what is our own.
    """

    now_ns: int
    holders: Mapping[str, str]
    live_hosts: frozenset[str]
    settling: bool = False


class LeaseGranted(NamedTuple):
    instance: str
    epoch: int
    now_ns: int


class LeaseLost(NamedTuple):
    instance: str


class Looked(NamedTuple):
    """One look at the worker of an instance, while it runs."""

    instance: str
    now_ns: int
    seen: Seen
    rss_mb: int


class Exited(NamedTuple):
    """Attributes: code: exit code, negative for a signal. reason: What the worker left on its page."""

    instance: str
    now_ns: int
    code: int
    reason: str


class Due(NamedTuple):
    """Time has passed: is a restart due?"""

    now_ns: int


class StopAsked(NamedTuple):
    now_ns: int


Event = Placed | LeaseGranted | LeaseLost | Looked | Exited | Due | StopAsked


class Acquire(NamedTuple):
    instance: str


class Release(NamedTuple):
    instance: str
    epoch: int


class Start(NamedTuple):
    instance: str
    epoch: int


class AskStop(NamedTuple):
    instance: str


class Kill(NamedTuple):
    instance: str
    why: str


Command = Acquire | Release | Start | AskStop | Kill


class Rules(NamedTuple):
    """Attributes:
    failures_max: So many failures within `failure_window_ns` switch an instance off.
    still_deadline_ns: Nothing moves on the page of a worker outside of a callback.
    settled_ns: Killed from outside after this long it has not failed, and starts again at once.
    """

    event_deadline_ns: int = NS_PER_S
    still_deadline_ns: int = STILL_NS
    start_deadline_ns: int = 15 * NS_PER_S
    stop_deadline_ns: int = 3 * NS_PER_S
    memory_max_mb: int = 512
    backoff_first_ns: int = NS_PER_S // 2
    backoff_max_ns: int = 30 * NS_PER_S
    settled_ns: int = 3 * NS_PER_S
    failures_max: int = 5
    failure_window_ns: int = 600 * NS_PER_S


@dataclass(slots=True)
class Seat:
    """One instance as this host knows it.

    Attributes:
        started_ns: When the worker was started.
        since_ns: When the worker was last seen to move, or to begin what it is doing; later by each pause
            of ours since then.
        looked_ns: When we last looked at the worker.
        killed: Why we killed it; waits for the exit to be seen.
        leaving: A worker of a lease that was lost has been killed, and its exit not been seen yet.
        reason: Why it is off, or why it was restarted the last time.
        rollbacks_ns: When it ended because Redis had lost entries: that slows it down, and is no failure.
    """

    instance: str
    phase: Phase = Phase.ELSEWHERE
    holder: str = ""
    epoch: int = 0
    start_at_ns: int = 0
    started_ns: int = 0
    since_ns: int = 0
    looked_ns: int = 0
    moved: tuple[int, int, bool] = (-1, -1, False)
    killed: str = ""
    leaving: bool = False
    reason: str = ""
    failures_ns: list[int] = field(default_factory=list)
    rollbacks_ns: list[int] = field(default_factory=list)
    restarts: int = 0

    @property
    def ours(self) -> bool:
        return self.phase is not Phase.ELSEWHERE

    @property
    def has_worker(self) -> bool:
        return self.phase in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)


@dataclass(slots=True)
class State:
    """All that one host knows. Only `decide` changes it."""

    host: str
    seats: dict[str, Seat]
    rules: Rules
    stopping: bool = False


def state_of(host: str, instances: list[str], rules: Rules) -> State:
    return State(host, {name: Seat(name) for name in sorted(instances)}, rules)


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event to `state` and return what must now happen."""
    match event:
        case Placed():
            return _place(event, state)
        case LeaseGranted(instance=name, epoch=epoch, now_ns=now_ns):
            seat = state.seats[name]
            seat.phase, seat.epoch, seat.holder, seat.start_at_ns = Phase.WAITING, epoch, state.host, now_ns
            seat.failures_ns, seat.rollbacks_ns, seat.reason, seat.killed = [], [], "", ""
            return []
        case LeaseLost(instance=name):
            return _lost(state.seats[name])
        case Looked():
            return _look(event, state)
        case Exited():
            return _exited(event, state)
        case Due(now_ns=now_ns):
            return [] if state.stopping else _start_due(now_ns, state)
        case StopAsked(now_ns=now_ns):
            state.stopping = True
            return [c for seat in state.seats.values() if seat.ours for c in _give_up(seat, now_ns)]
        case _:
            assert_never(event)


# Placement


def _place(event: Placed, state: State) -> list[Command]:
    if state.stopping:
        return []
    seats = state.seats
    for name, holder in event.holders.items():
        if name in seats and not seats[name].ours:
            seats[name].holder = holder
    # Under our name and not ours: our predecessor's, killed before it gave them back, or granted to us by an
    # answer that was lost. While we live nobody else takes these, so we do, whatever our share is.
    named: list[Command] = [
        Acquire(s.instance) for s in seats.values() if not s.ours and s.holder == state.host
    ]
    if named or event.settling:
        return named
    live = event.live_hosts | {state.host}
    share = -(-len(seats) // len(live))
    count = dict.fromkeys(live, 0)
    for seat in seats.values():
        holder = state.host if seat.ours else seat.holder
        if holder in count:
            count[holder] += 1
    free = [seat for seat in seats.values() if not seat.ours and seat.holder not in live]
    if free:
        # Each host looks at the free ones in an order of its own: fewer meet at the same lease.
        free.sort(key=lambda s: zlib.crc32(f"{state.host} {s.instance}".encode()))
        return [Acquire(seat.instance) for seat in free[: max(0, share - count[state.host])]]
    return _spread(count, event.now_ns, state)


def _spread(count: dict[str, int], now_ns: int, state: State) -> list[Command]:
    """Give back half of what we have more than the idlest host, if nobody has more than we."""
    most = max(count.values())
    heaviest = min(host for host, n in count.items() if n == most)
    surplus = (most - min(count.values())) // 2
    if heaviest != state.host or surplus < 1:
        return []
    ours = [seat for seat in state.seats.values() if seat.ours and seat.phase is not Phase.OFF]
    if not ours or any(seat.phase is Phase.STOPPING for seat in ours):
        return []
    return [command for seat in ours[-surplus:] for command in _give_up(seat, now_ns)]


def _give_up(seat: Seat, now_ns: int) -> list[Command]:
    if seat.phase is Phase.STOPPING:
        return []  # it was asked before, and has no more time for being asked again
    if seat.has_worker:
        seat.phase, seat.since_ns = Phase.STOPPING, now_ns
        return [AskStop(seat.instance)]
    seat.phase, seat.holder = Phase.ELSEWHERE, ""
    return [Release(seat.instance, seat.epoch)]


def _lost(seat: Seat) -> list[Command]:
    had_worker = seat.has_worker
    seat.leaving = seat.leaving or had_worker
    seat.phase, seat.holder = Phase.ELSEWHERE, ""
    return [Kill(seat.instance, "its lease was lost")] if had_worker else []


# Supervision


def _start_due(now_ns: int, state: State) -> list[Command]:
    commands: list[Command] = []
    for seat in state.seats.values():
        if seat.phase is Phase.WAITING and not seat.leaving and now_ns >= seat.start_at_ns:
            seat.phase, seat.started_ns, seat.since_ns = Phase.STARTING, now_ns, now_ns
            seat.looked_ns, seat.moved, seat.killed = now_ns, (-1, -1, False), ""
            commands.append(Start(seat.instance, seat.epoch))
    return commands


def _look(event: Looked, state: State) -> list[Command]:
    seat, seen, rules = state.seats[event.instance], event.seen, state.rules
    unseen_ns, seat.looked_ns = event.now_ns - seat.looked_ns, event.now_ns
    if not seat.has_worker or seat.killed:
        return []
    if event.rss_mb > rules.memory_max_mb:
        return _kill(seat, f"it used {event.rss_mb} MB, more than memory_max_mb = {rules.memory_max_mb}")
    if seat.phase is Phase.STOPPING:
        late = event.now_ns - seat.since_ns > rules.stop_deadline_ns
        return _kill(seat, "it did not stop when asked") if late else []
    if seen.ready and seat.phase is Phase.STARTING:
        seat.phase = Phase.RUNNING
    moved = (seen.handled, seen.turns, seen.busy)
    if moved != seat.moved or seen.away:
        seat.moved, seat.since_ns = moved, event.now_ns
        return []
    if unseen_ns > PAUSE_NS:
        seat.since_ns += unseen_ns  # who was frozen with us goes on in its own time
    still_ns = event.now_ns - seat.since_ns
    if seat.phase is Phase.STARTING:
        # Importing, compiling and `on_start` may take longer than an event may.
        late = still_ns > rules.start_deadline_ns
        return _kill(seat, f"it did not start within {rules.start_deadline_ns // NS_PER_S} s") if late else []
    if seen.busy and still_ns > rules.event_deadline_ns:
        return _kill(seat, f"a callback took longer than {rules.event_deadline_ns // 1_000_000} ms")
    if not seen.busy and still_ns > rules.still_deadline_ns:
        still_s = rules.still_deadline_ns / NS_PER_S
        return _kill(seat, f"it stands still, outside of a callback, for more than {still_s:g} s")
    return []


def _kill(seat: Seat, why: str) -> list[Command]:
    seat.killed = why
    return [Kill(seat.instance, why)]


def _exited(event: Exited, state: State) -> list[Command]:
    seat = state.seats[event.instance]
    if seat.leaving or not seat.ours:
        # It ran by an earlier lease: its end says nothing of the one that we may have by now.
        seat.leaving = False
        return []
    if seat.phase is Phase.STOPPING or state.stopping:
        seat.phase, seat.holder = Phase.ELSEWHERE, ""
        return [Release(seat.instance, seat.epoch)]
    if event.code == EXIT_FENCED:
        seat.phase, seat.holder = Phase.ELSEWHERE, ""
        return []
    seat.reason = seat.killed or event.reason or _ended(event.code)
    if event.code == EXIT_REFUSED:
        seat.phase = Phase.OFF
        return []
    rules = state.rules
    if event.code == KILLED and not seat.killed and event.now_ns - seat.started_ns >= rules.settled_ns:
        seat.phase, seat.start_at_ns = Phase.WAITING, event.now_ns
        seat.restarts += 1
        return []
    rolled_back = event.code == EXIT_ROLLED_BACK
    ends_ns = seat.rollbacks_ns if rolled_back else seat.failures_ns
    ends_ns[:] = [ns for ns in ends_ns if event.now_ns - ns < rules.failure_window_ns] + [event.now_ns]
    if not rolled_back and len(ends_ns) >= rules.failures_max:
        seat.phase = Phase.OFF
        seat.reason = f"failed {len(ends_ns)} times, the last time: {seat.reason}"
        return []
    wait_ns = min(rules.backoff_max_ns, rules.backoff_first_ns << (len(ends_ns) - 1))
    seat.phase, seat.start_at_ns = Phase.WAITING, event.now_ns + wait_ns
    seat.restarts += 1
    return []


def _ended(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
