"""The faults of a plan as they happen, and how they end."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from proof.simulation import hosts
from proof.simulation.bus.address import SimAddress
from proof.simulation.bus.replies import ErrorReply
from proof.simulation.bus.server import ServerDown, SimServer
from proof.simulation.bus.session import Parked, Session
from proof.simulation.machine import Bomb, Incarnation
from proof.simulation.plan import Kill, Outage, Stop
from proof.simulation.venue import ACCOUNT_ID
from services.execution.books import SettledChanged
from services.execution.ledger import LedgerFailed
from shared.bus.blocking import BlockingBus
from shared.bus.bus import RedisBus
from shared.bus.functions import LIBRARY
from shared.bus.port import BusAway, BusRefused, Fenced, RolledBack
from shared.domain.control import Flatten, Halt, HaltKind, Resume
from shared.wire import topics

if TYPE_CHECKING:
    from proof.simulation.world import World

BOMB_WAITS_S = 3.0
TWIN_AFTER_S = 1.0
TROUBLES = {"misconf": "disk_full", "oom": "out_of_memory"}


class Redis:
    """The server of a world, and what is done to it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(world.rng.random())
        self.server = SimServer(lambda: world.clock.now_ns() // 1000, fsync_always=True)
        self._session: Session | None = None
        self.lost = world.plan.bus_lost
        self.latency_s = world.plan.bus_latency_s
        self.cut: set[str] = set()

    # -- for the surroundings -----------------------------------------------------

    def do(self, args: Sequence[Any]) -> Any:
        """Run one command without a network; None when the server is away or refuses."""
        words = [one if isinstance(one, bytes) else str(one).encode() for one in args]
        reply = self._do(words)
        if isinstance(reply, ErrorReply) and "unction not found" in reply.text:
            self._do([b"FUNCTION", b"LOAD", b"REPLACE", LIBRARY.encode()])
            reply = self._do(words)
        if isinstance(reply, ErrorReply | Parked):
            return None
        return reply

    def _do(self, words: list[bytes]) -> Any:
        server = self.server
        if not server.up or server.frozen:
            return None
        if self._session is None or not self._session.open:
            try:
                self._session = server.attach()
            except ServerDown:
                return None
        return server.execute(self._session, words)

    # -- for processes ------------------------------------------------------------

    def bus(self, incarnation: Incarnation, clock: Any) -> Any:
        address = SimAddress(server=self.server, calls=incarnation)
        return RedisBus(address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)

    def blocking_bus(self, incarnation: Incarnation, clock: Any, block_ms: int) -> Any:
        address = SimAddress(server=self.server, calls=incarnation)
        return BlockingBus(address, now_ns=clock.now_ns, block_ms=block_ms)

    # -- faults -------------------------------------------------------------------

    def begin(self, outage: Outage) -> None:
        world, server = self._world, self.server
        if not server.up or server.frozen:
            return
        world.trace("redis", outage.kind)
        world.judge.reach(f"redis {outage.kind}")
        world.block(outage.for_s)
        if outage.kind == "frozen":
            server.freeze()
        elif outage.kind in TROUBLES:
            setattr(server, TROUBLES[outage.kind], True)
        else:
            world.scan_intents()
            world.judge.session.leaks()
            server.crash()
        world.machine.later(outage.for_s, lambda: self.end(outage))

    def end(self, outage: Outage) -> None:
        server = self.server
        if outage.kind == "frozen":
            if server.frozen:
                server.thaw()
        elif outage.kind in TROUBLES:
            setattr(server, TROUBLES[outage.kind], False)
        elif not server.up:
            keep = None
            if outage.kind == "emptied":
                keep = 0
            elif outage.kind == "rolled_back":
                keep = max(0, len(server.log) - self._rng.choice((1, 10, 100, 1000)))
            self._start(keep)

    def _start(self, keep: int | None) -> None:
        world, server = self._world, self.server
        key = topics.orders(ACCOUNT_ID).encode()
        server.start(keep=keep)
        after = server.store.keys.get(key)
        head = after.last[1] if after is not None else 0
        if keep is not None:
            world.forgotten |= {name for name in world.judge.wishes if name not in world.disk.orders}
            world.judge.data_lost = True
            world.judge.streams.lost()
            world.judge.requests.redis_forgot()
        world.judge.redis_back(head)
        world.trace("redis", "back", head)

    def heal(self) -> None:
        server = self.server
        if server.frozen:
            server.thaw()
        server.disk_full = server.out_of_memory = False
        if not server.up:
            self._start(None)
        self.lost = 0.0
        self.latency_s = 0.0
        self.cut.clear()


# -- the schedule -------------------------------------------------------------------


def schedule(world: World) -> None:
    """Let everything that is planned happen in its time."""
    plan, later = world.plan, world.machine.later
    for kill in plan.kills:
        later(kill.at_s, lambda k=kill: _kill(world, k))  # type: ignore[misc]
    for stop in plan.stops:
        later(stop.at_s, lambda s=stop: _stop(world, s))  # type: ignore[misc]
    for outage in plan.outages:
        later(outage.at_s, lambda o=outage: world.redis.begin(o))  # type: ignore[misc]
    for at_s, by_s in plan.jumps:
        later(at_s, lambda b=by_s: _jump(world, b))  # type: ignore[misc]
    for at_s, for_s in plan.reboots:
        later(at_s, lambda f=for_s: _reboot(world, f))  # type: ignore[misc]
    for at_s in plan.externals:
        later(at_s, lambda: _external(world))
    for at_s, word in plan.commands:
        later(at_s, lambda w=word: _command(world, w))  # type: ignore[misc]
    _span(world, plan.closed, "session closed", lambda on: world.venue.open_session(not on))
    _span(world, plan.storms, "storm of 429", lambda on: _storm(world, on))
    _span(world, plan.partitions, "broker cut off", lambda on: _cut(world, on))
    _span(world, plan.blind, "broker answers no question", lambda on: setattr(world.network, "blind", on))
    _span(world, plan.disk, "ledger's disk fails", lambda on: setattr(world.disk, "failing", on))
    _span(
        world,
        plan.guard.record_fails,
        "guard's disk fails",
        lambda on: setattr(world.guard_disk, "failing", on),
    )
    _span(
        world,
        plan.recorder.fails,
        "recorder's disk fails",
        lambda on: setattr(world.archive, "failing", on),
    )
    _span(world, plan.silences, "feed silent", lambda on: _silence(world, on))
    if (hub := world.venue.market) is not None:
        hub.reach = world.judge.reach
        _span(world, plan.feed.falls, "market hub down", hub.fall)
        _span(world, plan.feed.silences, "market hub silent", lambda on: setattr(hub, "silent", on))
        _span(world, plan.feed.refusals, "subscriptions refused", lambda on: setattr(hub, "refusing", on))
    if (door := world.venue.door) is not None:
        door.reach = world.judge.reach
        for at_s in plan.session.revoked:
            later(at_s, lambda: _revoke(world))
        _span(world, plan.session.denied, "logins denied", lambda on: setattr(door, "denying", on))
        _span(world, plan.session.feed_stops, "feed stopped", lambda on: _stop_feed(world, on))
    hosts.schedule(world)
    _span(world, plan.hub.falls, "user hub down", lambda on: _hub(world, on))


def _span(world: World, spans: list[tuple[float, float]], name: str, switch: Any) -> None:
    for at_s, for_s in spans:

        def begin(for_s: float = for_s) -> None:
            world.trace(name)
            world.judge.reach(name)
            switch(True)
            world.machine.later(for_s, lambda: switch(False))

        world.machine.later(at_s, begin)


def _victim(world: World, name: str) -> str:
    if name == "host":
        return hosts.one_of(world)
    return f"s{world.rng.randint(1, world.plan.workers)}" if name == "worker" else name


def _kill(world: World, kill: Kill) -> None:
    incarnation = world.machine.processes[_victim(world, kill.process)].now
    if incarnation is None:
        return
    if kill.point == "now":
        world.judge.reach(f"kill of {kill.process} at once")
        incarnation.die("at once")
        return
    bomb = incarnation.bomb = Bomb(kill.point, kill.when, kill.skip)
    world.machine.later(BOMB_WAITS_S, lambda: _defuse(incarnation, bomb))


def _defuse(incarnation: Incarnation, bomb: Bomb) -> None:
    if incarnation.bomb is bomb:
        incarnation.bomb = None


def _stop(world: World, stop: Stop) -> None:
    process = world.machine.processes[_victim(world, stop.process)]
    incarnation = process.now
    if incarnation is None or incarnation.stopped:
        return
    world.trace("stop", incarnation.name, stop.for_s)
    world.judge.reach(f"stop of {stop.process}")
    if stop.process == "execution":
        world.block(stop.for_s)
    incarnation.stop()
    world.machine.later(stop.for_s, incarnation.go_on)
    if stop.twin and stop.for_s > TWIN_AFTER_S and process.restarts:
        world.judge.reach(f"two of {stop.process}")
        world.machine.later(TWIN_AFTER_S, lambda: _twin(world, incarnation))


def _twin(world: World, incarnation: Incarnation) -> None:
    if incarnation.stopped and incarnation.process.now is incarnation:
        incarnation.process.start()


def _jump(world: World, by_s: float) -> None:
    world.trace("clock jumps", by_s)
    world.judge.reach("wall clock jumped")
    world.judge.requests.clock_jumped(by_s)
    world.clock.jump_ns += round(by_s * 1e9)


def _reboot(world: World, for_s: float) -> None:
    world.trace("machine starts anew")
    world.judge.reach("machine started anew")
    for process in world.machine.processes.values():
        for incarnation in process.incarnations:
            incarnation.die("with the machine")
    world.clock.start_anew()
    world.redis.begin(Outage(world.loop.now_s, for_s, "killed"))


def _revoke(world: World) -> None:
    assert world.venue.door is not None
    world.trace("every token is revoked")
    world.judge.reach("tokens revoked")
    world.venue.door.revoke()


def _silence(world: World, on: bool) -> None:
    world.surroundings.silent = on
    if world.venue.market is not None:
        world.venue.market.silent = on


def _stop_feed(world: World, on: bool) -> None:
    world.surroundings.feed_stopped = world.surroundings.silent = on


def _external(world: World) -> None:
    if world.venue.external(world.rng) is not None:
        world.judge.reach("order by hand")


def _storm(world: World, on: bool) -> None:
    world.venue.storm = on
    world.judge.requests.storm(on)


def _cut(world: World, on: bool) -> None:
    world.network.cut = on
    if on:
        world.network.drop_links()
        if world.venue.market is not None:
            world.venue.market.drop_links()


def _hub(world: World, on: bool) -> None:
    world.network.closed_hub = on
    if on:
        world.network.drop_links()


def _command(world: World, word: str) -> None:
    now_ns = world.clock.now_ns()
    judge = world.judge
    message: Halt | Resume | Flatten
    if word == "resume-again":
        if judge.guard.last_resume is None:
            return
        message = judge.guard.last_resume
    elif word == "resume":
        message = Resume(kind=HaltKind.OPERATOR, reason="go on", issuer="sim", ts_ns=now_ns)
    elif word == "flatten":
        message = Flatten(reason="enough", issuer="sim", ts_ns=now_ns)
    else:
        kind = HaltKind.OPERATOR if word == "halt" else HaltKind.INVARIANT
        message = Halt(kind=kind, reason="stop", issuer="sim", ts_ns=now_ns)
    if not world.surroundings.operator(message):
        return
    world.trace("operator", word)
    judge.reach(f"operator: {word}")
    if isinstance(message, Resume):
        judge.guard.resumed(message)
        judge.liveness.overruled()
        judge.halted_ns = judge.stopped_ns = None
        return
    if judge.stopped_ns is None and word != "halt-reducing":
        judge.stopped_ns, judge.stopped_seq = world.clock.true_ns(), world.surroundings.operator_seq
    if judge.halted_ns is None:
        judge.halted_ns, judge.halted_seq = world.clock.true_ns(), world.surroundings.operator_seq
        if any(one.posts and one.arrives for one in judge.sent.values()):
            judge.reach("halt while an order is under way")


def heal(world: World) -> None:
    """End every fault; what is dead will be started by its supervisor."""
    world.trace("healed")
    world.network.heal()
    world.redis.heal()
    world.disk.failing = world.guard_disk.failing = world.archive.failing = False
    world.venue.open_session(True)
    world.surroundings.silent = world.surroundings.feed_stopped = False
    if world.venue.door is not None:
        world.venue.door.heal()
    world.troubles.clear()
    if world.venue.market is not None:
        world.venue.market.heal()
    for process in world.machine.processes.values():
        for incarnation in process.incarnations[:-1]:
            if not incarnation.dead and process.restarts:
                incarnation.die("older of two")
        for incarnation in process.incarnations:
            incarnation.bomb = None
            incarnation.go_on()


# -- programs that end by themselves --------------------------------------------------


def judge_end(world: World, incarnation: Incarnation, error: BaseException) -> None:
    """A program may end because it is fenced, or its disk or Redis fails; all else is a bug of ours."""
    for one in _leaves(error):
        world.judge.session.said(f"the error that ended {incarnation.name}", repr(one))
        world.judge.reach(f"{incarnation.process.name.rstrip('0123456789')} ended: {type(one).__name__}")
        if isinstance(one, Fenced):
            world.judge.reach("fenced write")
        elif isinstance(one, RolledBack):
            world.judge.reach("write refused after a rollback")
        known = isinstance(one, BusAway | BusRefused | LedgerFailed | SettledChanged)
        world.judge.check("I-18", known, lambda e=one: f"{incarnation.name} failed: {e!r}{_where(e)}")  # type: ignore[misc]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _where(error: BaseException) -> str:
    traceback = error.__traceback__
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return " at " + " > ".join(places[-4:])
