"""Judge every process by its progress, and halt trading when one that it needs is lost. Pure.

No process says that it is healthy. Its beats say what it has *done*; here is decided what that means. Silence
is one sign of death, work that stands still under a loop that beats is the other: a duty not done for 2.5 of
its own intervals, or work that waits and is not taken.

Everything is timed by our own monotonic clock at the moment we *saw* a change. Clocks of other
processes are data and may be wrong; a repeated or delayed beat changes nothing and so proves nothing. A late
process warns, a dead one halts (when vital). While we were stopped ourselves (a frozen machine), nobody
is blamed for more than a second of silence that we could not have heard.

Of the halts only `liveness` is ours: it ends by itself when all vital processes have been back for a
while, and a resume that execution's beats do not show is said again. What a broken invariant or an operator
halted is never resumed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from shared.domain.control import Beat, Halt, HaltKind, ProcessHealth, ProcessJudged, Resume

SECOND_NS = 1_000_000_000
ISSUER = "heartbeat"
HEARD_NS = 5 * SECOND_NS
"""So long after a resume execution's beats have shown that it was read, or it never will be."""
OWN_PAUSE_NS = SECOND_NS
"""Two ticks, or two looks at a stored beat, further apart than this: we did not listen in between."""


class BeatSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: live: heard as it was sent; False: found under its key, may be old."""

    beat: Beat
    live: bool
    now_ns: int


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: now_ns: monotonic; ts_ns: wall clock, only stamped on messages."""

    now_ns: int
    ts_ns: int


Event = BeatSeen | Tick
Command = ProcessJudged | Halt | Resume


@dataclass(slots=True, kw_only=True)
class SeenDuty:
    """When a duty last moved, on our clock."""

    interval_s: float
    done: int
    moved_ns: int
    waiting_since_ns: int = 0
    waiting_seen_ns: int = 0


@dataclass(slots=True, kw_only=True)
class Process:
    """All that was seen of one process.

    Attributes:
        moved_ns: When its newest beat came in.
        looked_ns: When its stored beat was last looked at; None: never.
        unready_ns: Since when it is there and does not do its job; None while it does.
        served_ns: When the newest beat came in after which it was doing its job; None before. Later silence
            is part of what it was away.
        holds_ns: Since when its beats show that it holds `liveness`; None while they do not.
    """

    name: str
    started_at_ns: int = 0
    pid: int = 0
    seq: int = -1
    build: str = ""
    settings: str = ""
    moved_ns: int = 0
    looked_ns: int | None = None
    alive_once: bool = False
    unready_ns: int | None = None
    served_ns: int | None = None
    holds_ns: int | None = None
    duties: dict[str, SeenDuty] = field(default_factory=dict)
    health: ProcessHealth | None = None
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class State:
    build: str
    vital: tuple[str, ...]
    late_after_ns: int
    dead_after_ns: int
    stuck_after_ns: int
    overdue_factor: float
    start_grace_ns: int
    resume_after_ns: int
    forget_after_ns: int
    processes_max: int
    own_name: str = ISSUER
    settings: str = ""
    processes: dict[str, Process] = field(default_factory=dict)
    last_tick_ns: int | None = None
    halted: bool | None = None  # None: nothing was said yet
    resumed_ns: int = 0
    lost: tuple[str, ...] = ()
    well_since_ns: int | None = None
    refused_beats: int = 0

    def __post_init__(self) -> None:
        assert 0 < self.late_after_ns < self.dead_after_ns


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event and return what must now be published."""
    match event:
        case BeatSeen():
            if event.beat.process != state.own_name:
                _see(event, state)
            return []
        case Tick():
            return _judge_all(event, state)
        case _:
            assert_never(event)


# -- what was seen ----------------------------------------------------------------


def _see(event: BeatSeen, state: State) -> None:
    beat = event.beat
    process = state.processes.get(beat.process)
    if process is None:
        if len(state.processes) >= state.processes_max:
            state.refused_beats += 1
            return
        process = state.processes[beat.process] = Process(name=beat.process, moved_ns=event.now_ns)
    recent = event.live or _was_looked_at(process, event.now_ns)
    if not event.live:
        process.looked_ns = event.now_ns
    same = (process.started_at_ns, process.pid) == (beat.started_at_ns, beat.pid)
    if same and beat.seq <= process.seq:
        return  # repeated, or overtaken by a newer one: no proof of life
    if not same:
        lives = process.alive_once and event.now_ns - process.moved_ns < state.dead_after_ns
        if beat.started_at_ns < process.started_at_ns and lives:
            state.refused_beats += 1
            return  # a late word of an earlier incarnation
        _reborn(process, event)
    if not recent:
        # It may have been sent long ago, by a process that is dead by now. The next one proves.
        process.seq = beat.seq
        _see_duties(process, event)
        return
    process.seq = beat.seq
    process.alive_once = True
    process.moved_ns = event.now_ns
    _see_duties(process, event)
    if HaltKind.LIVENESS not in (beat.held or ()):
        process.holds_ns = None
    elif process.holds_ns is None:
        process.holds_ns = event.now_ns
    if beat.ready:
        process.unready_ns = None
    elif process.unready_ns is None:
        process.unready_ns = event.now_ns


def _was_looked_at(process: Process, now_ns: int) -> bool:
    """A stored beat that changes under our eyes is as live as a message."""
    return process.looked_ns is not None and now_ns - process.looked_ns <= OWN_PAUSE_NS


def _reborn(process: Process, event: BeatSeen) -> None:
    process.started_at_ns, process.pid = event.beat.started_at_ns, event.beat.pid
    process.build, process.settings = event.beat.build, event.beat.settings
    process.duties = {}
    process.unready_ns, process.holds_ns = event.now_ns, None


def _see_duties(process: Process, event: BeatSeen) -> None:
    for name, duty in event.beat.duties.items():
        seen = process.duties.get(name)
        if seen is None or seen.done != duty.done:
            seen = SeenDuty(interval_s=duty.interval_s, done=duty.done, moved_ns=event.now_ns)
            process.duties[name] = seen
        seen.interval_s = duty.interval_s
        if duty.waiting_since_ns != seen.waiting_since_ns:
            seen.waiting_since_ns, seen.waiting_seen_ns = duty.waiting_since_ns, event.now_ns


# -- verdicts ---------------------------------------------------------------------


def _judge_all(tick: Tick, state: State) -> list[Command]:
    if state.last_tick_ns is None:
        _begin(tick.now_ns, state)
    else:
        _forgive_own_pause(tick.now_ns, state)
    state.last_tick_ns = tick.now_ns
    commands: list[Command] = []
    for name in sorted(state.processes):
        process = state.processes[name]
        silence_ns = max(0, tick.now_ns - process.moved_ns)
        if name not in state.vital and silence_ns > state.forget_after_ns:
            del state.processes[name]
            continue
        health, reason = verdict(process, tick.now_ns, state)
        if health in (ProcessHealth.ALIVE, ProcessHealth.LATE):
            process.served_ns = process.moved_ns
        if (health, reason) != (process.health, process.reason):
            process.health, process.reason = health, reason
            judged = ProcessJudged(
                process=name, health=health, silence_ns=silence_ns, reason=reason, ts_ns=tick.ts_ns
            )
            commands.append(judged)
    return commands + _halt_or_resume(tick, state)


def _begin(now_ns: int, state: State) -> None:
    for name in state.vital:
        state.processes.setdefault(name, Process(name=name, moved_ns=now_ns, unready_ns=now_ns))


def _forgive_own_pause(now_ns: int, state: State) -> None:
    """Take what is more than `OWN_PAUSE_NS` of a pause of ours from everyone's silence.

    Not all of it: on a machine so slow that each tick comes late, nobody's silence would ever grow.
    """
    assert state.last_tick_ns is not None
    pause_ns = now_ns - state.last_tick_ns - OWN_PAUSE_NS
    if pause_ns <= 0:
        return
    state.well_since_ns = None  # nor was anybody seen to be well
    for process in state.processes.values():
        # What waited for us has been heard since we woke: that was no pause of theirs, nor is it to come.
        process.moved_ns = min(process.moved_ns + pause_ns, now_ns)
        for duty in process.duties.values():
            duty.moved_ns = min(duty.moved_ns + pause_ns, now_ns)
            duty.waiting_seen_ns = min(duty.waiting_seen_ns + pause_ns, now_ns)


def verdict(process: Process, now_ns: int, state: State) -> tuple[ProcessHealth, str]:
    """Return the health of one process and why, in words that stay the same while nothing changes."""
    silence_ns = now_ns - process.moved_ns
    if not process.alive_once:
        if silence_ns < state.start_grace_ns:
            return ProcessHealth.STARTING, "no beat yet"
        return ProcessHealth.DEAD, "has not beaten since heartbeat started; start it, or read its log"
    if silence_ns >= state.dead_after_ns:
        return ProcessHealth.DEAD, f"silent for {state.dead_after_ns / SECOND_NS:g} s"
    if process.unready_ns is not None:
        if now_ns - process.unready_ns < state.start_grace_ns:
            return ProcessHealth.STARTING, "beats, and is not ready yet"
        seconds = state.start_grace_ns / SECOND_NS
        return ProcessHealth.DEAD, f"beats, but does not do its job since {seconds:g} s; read its log"
    stuck = _stuck(process, state)
    if stuck:
        return ProcessHealth.DEAD, f"beats, but {stuck}"
    if silence_ns >= state.late_after_ns:
        return ProcessHealth.LATE, f"silent for {state.late_after_ns / SECOND_NS:g} s"
    return ProcessHealth.ALIVE, mixed(process, state) or "beats and does its duties"


def mixed(process: Process, state: State) -> str:
    """Return in words how a living process differs from us in build or settings; empty when it does not."""
    if not process.alive_once:
        return ""
    if process.build != state.build:
        return f"runs build {process.build}, heartbeat runs {state.build}; restart the older one"
    if process.settings != state.settings:
        return "runs with other [julie] or [broker] settings than heartbeat; restart the older one"
    return ""


def _stuck(process: Process, state: State) -> str:
    """Return which duty stood still up to the newest beat; what came after is silence, not standstill."""
    seen_ns = process.moved_ns
    for name in sorted(process.duties):
        duty = process.duties[name]
        overdue_ns = int(duty.interval_s * state.overdue_factor * SECOND_NS)
        if duty.interval_s and seen_ns - duty.moved_ns > overdue_ns:
            return f"its duty {name!r} (every {duty.interval_s:g} s) is overdue"
        if duty.waiting_since_ns and seen_ns - duty.waiting_seen_ns > state.stuck_after_ns:
            seconds = state.stuck_after_ns / SECOND_NS
            return f"work of its duty {name!r} waits for more than {seconds:g} s"
    return ""


# -- trading ----------------------------------------------------------------------


def _halt_or_resume(tick: Tick, state: State) -> list[Command]:
    lost = tuple(name for name in state.vital if _is_lost(state.processes[name], tick.now_ns, state))
    news = set(lost) - set(state.lost)
    state.lost = lost
    if state.halted is None or news:
        state.halted, state.well_since_ns = True, None
        return [_halt(lost, tick, state)]
    if not all(_is_well(state.processes[name], state) for name in state.vital):
        state.well_since_ns = None
        return []
    if state.well_since_ns is None:
        state.well_since_ns = tick.now_ns
    stable = tick.now_ns - state.well_since_ns >= state.resume_after_ns
    if stable and (state.halted or _was_not_read(tick.now_ns, state)):
        state.halted, state.resumed_ns = False, tick.now_ns
        reason = "every vital process does its duties: " + ", ".join(state.vital)
        return [Resume(kind=HaltKind.LIVENESS, reason=reason, issuer=ISSUER, ts_ns=tick.ts_ns)]
    return []


def _was_not_read(now_ns: int, state: State) -> bool:
    """Say whether execution still shows the halt that was lifted: it has not read that, and never will.

    A Redis that lost its newest entries gives their ids again while the clock is set back: who had read the
    old ones passes the new ones over.
    """
    holds = (p.holds_ns for p in state.processes.values() if p.health is ProcessHealth.ALIVE)
    return any(now_ns - max(since, state.resumed_ns) >= HEARD_NS for since in holds if since is not None)


def _is_lost(process: Process, now_ns: int, state: State) -> bool:
    """Is it gone for trading? A restart that is ready again within `dead_after` is not a loss."""
    if process.health is ProcessHealth.DEAD or mixed(process, state):
        return True
    if process.health is ProcessHealth.STARTING:
        return process.served_ns is None or now_ns - process.served_ns >= state.dead_after_ns
    return False


def _is_well(process: Process, state: State) -> bool:
    return process.health is ProcessHealth.ALIVE and not mixed(process, state)


def _has_to_be_told(process: Process, state: State) -> bool:
    return process.health is ProcessHealth.DEAD or bool(mixed(process, state))


def _halt(lost: tuple[str, ...], tick: Tick, state: State) -> Halt:
    if any(_has_to_be_told(state.processes[name], state) for name in lost):
        words = "; ".join(f"{name} {state.processes[name].reason}" for name in lost)
    else:
        words = "starting: waiting for " + (", ".join(lost) or "a first look at every process")
    return Halt(kind=HaltKind.LIVENESS, reason=words, issuer=ISSUER, ts_ns=tick.ts_ns)
