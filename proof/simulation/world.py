"""One world: the processes, Redis, the broker and the faults of one seed, from start to rest.

First safety: faults are on, every checker looks at every event. Then liveness: faults are off, everything is
started again, and within bounds all must be known, equal and flat.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from proof.simulation import faults, hosts, processes, swarm
from proof.simulation.archive import ArchiveDisk
from proof.simulation.bridge import unwind
from proof.simulation.checkers.exposure import LOOK_S
from proof.simulation.disk import Disk, RecordDisk
from proof.simulation.judge import Judge
from proof.simulation.loop import EPOCH_NS, NS_PER_S, SimClock, SimLoop, run
from proof.simulation.machine import Crash, Incarnation, Machine
from proof.simulation.plan import Plan
from proof.simulation.surroundings import Surroundings
from proof.simulation.venue import ACCOUNT_ID, SYMBOL, SimVenue
from proof.simulation.wire import Network
from shared.domain.control import Flatten, HaltKind, Resume
from shared.domain.execution import FlattenFinished
from shared.domain.journal import StrategySnapshot
from shared.domain.order import ClosePosition, ModifyOrder, SubmitOrder
from shared.strategy.view import DeskState
from shared.wire import topics
from shared.wire.codec import decode

SETTLE_S = 30.0
FLAT_S = 30.0
RESUME_EVERY_S, RESUMES_MAX = 3.0, 4
EVENTS_KEPT = 50
RECOVERED_S = 1.5
APART = ("recorder",)
"""Processes with chances of their own: a world is the same for all others with and without them."""
INTENT_KINDS = frozenset({b"submit_order", b"modify_order", b"close_position"})


class World:
    """See the module."""

    settle_s = SETTLE_S

    def __init__(self, plan: Plan, *, tracing: bool = False, log: bool = False) -> None:
        self.plan = plan
        self.tracing = tracing or log
        self._log = log
        self.events: deque[str] = deque(maxlen=EVENTS_KEPT)
        self._digest = hashlib.blake2b(digest_size=12)
        self.rng = random.Random(f"world {plan.seed}")
        self._chances = {name: random.Random(f"{name} {plan.seed}") for name in APART}
        self.loop = SimLoop()
        self.clock = SimClock(self.loop, EPOCH_NS + round(plan.feed.begins_s * NS_PER_S))
        self.judge = Judge(self)
        self.machine = Machine(
            self.loop, world=self, restart_delay_s=lambda name: self.chance(name).uniform(0.2, 1.5),
            trace=self.trace, reach=self.judge.reach, failed=self._failed,
        )  # fmt: skip
        self.venue = SimVenue(plan, self.clock.true_ns)
        self.network = Network(
            machine=self.machine, venue=self.venue, clock=self.clock, wire=plan.wire,
            rng=random.Random(self.rng.random()), reach=self.judge.reach,
            sent=self.judge.requests.posted, arrived=self.judge.requests.arrived,
            asked=self.judge.requests.asked,
        )  # fmt: skip
        self.venue.watch = self.judge.exposure.happened
        watch = self.judge.session
        self.network.tried, self.network.over, self.network.heard = watch.tried, watch.over, self._heard
        if self.venue.market is not None:
            self.venue.market.watch = self.judge.feed
        self.venue.came = self.judge.requests.landed
        self.judge.hosts.person = hosts.by_a_person
        self.disk = Disk()
        self.disk.watch = self.judge.commits.committed
        self.guard_disk = RecordDisk()
        self.guard_disk.watch = self.judge.guard.recorded
        self.archive = ArchiveDisk()
        self.archive.slow_s = plan.recorder.slow_s
        self.archive.stored, self.archive.removed = self.judge.archive.stored, self.judge.archive.removed
        self.loop.thread_s = lambda: self.guard_disk.rng.random() * plan.guard.record_s
        self.redis = faults.Redis(self)
        self.redis.server.store.trimmed = self.judge.archive.trimmed
        self.surroundings = Surroundings(
            self.redis.do, self.clock, self.venue, random.Random(self.rng.random())
        )
        self.forgotten: set[str] = set()
        self.troubles: dict[str, deque[str]] = {}  # what the next callbacks of each strategy do
        self._seen: dict[bytes, tuple[object, int]] = {}

    # -- the trace --------------------------------------------------------------

    def trace(self, *what: object) -> None:
        """Note one event; it is text only when somebody wants to see it."""
        if not self.tracing:
            return
        line = f"{self.loop.now_s:9.4f} " + " ".join(str(word) for word in what)
        self._digest.update(line.encode())
        self.events.append(line)
        if self._log:
            print(line)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    # -- what processes get -----------------------------------------------------

    def chance(self, process: str) -> random.Random:
        """Return where a process's chances come from."""
        return self._chances.get(process, self.rng)

    def bus(self, incarnation: Incarnation, clock: Any) -> Any:
        bus = incarnation.bus = self.redis.bus(incarnation, clock)
        return bus

    def blocking_bus(self, incarnation: Incarnation, clock: Any, block_ms: int) -> Any:
        return self.redis.blocking_bus(incarnation, clock, block_ms)

    def block(self, for_s: float) -> None:
        """Note that execution cannot hear an operator until then."""
        until_ns = self.clock.true_ns() + round((for_s + 1.0) * NS_PER_S)
        self.judge.blocked_until_ns = max(self.judge.blocked_until_ns, until_ns)

    @property
    def in_sync(self) -> bool:
        """Whether the newest broker_sync says so."""
        sync = self.machine.processes["broker_sync"].now
        return sync is not None and sync.in_sync

    def can_act(self) -> bool:
        """Return whether execution runs, has had a moment to recover, and hears of a broker that trades.

        That broker_sync is dead or says "stale" is told to people, and stops new exposure.
        """
        sync = self.machine.processes["broker_sync"].now
        if sync is None or sync.held or not self.in_sync or not self.judge.session.usable():
            return False
        server = self.redis.server
        if not server.up or server.frozen or server.disk_full or server.out_of_memory:
            return False
        process = self.machine.processes["execution"]
        running = process.now
        if running is None or running.held or self.loop.now_s - running.began_s < RECOVERED_S:
            return False
        away = self.network.cut or self.venue.storm or not self.venue.state.session_open
        return not away and self.disk.locked_by is running

    def _heard(
        self, path: str, incarnation: Incarnation, token: str | None, status: int, body: bytes
    ) -> None:
        """Tell who watches that a process has an answer in hand."""
        self.judge.session.heard(path, incarnation, token, status, body)
        self.judge.feed.answered(incarnation)

    def market_ns(self) -> int:
        """Return when the feed last vouched for prices that may be traded on."""
        return self.judge.feed.live_ns if self.plan.feed.on else self.surroundings.heard_ns

    # -- life -------------------------------------------------------------------

    def play(self) -> None:
        """Run it from start to rest.

        The garbage collector waits: what it takes of killed processes would be closed, and so go on running,
        in the middle of another one.
        """
        collects = gc.isenabled()
        gc.disable()
        try:
            run(self.loop, self._play)
        finally:
            self.machine.close()
            unwind(Crash("the world is over"))
            if collects:
                gc.enable()

    async def _play(self) -> None:
        machine, plan = self.machine, self.plan
        machine.spawn(self.surroundings.run(), None)
        if plan.session.on:
            machine.add("heartbeat", processes.heartbeat)
        if plan.feed.on:
            machine.add("feed", processes.feed)
        machine.add("broker_sync", processes.broker_sync)
        machine.add("execution", processes.execution)
        for number in range(1, plan.workers + 1):
            if plan.hosts.on:
                machine.add(f"s{number}", hosts.unstarted, restarts=False)
            else:
                machine.add(f"s{number}", processes.worker)
        for name in hosts.NAMES[: plan.hosts.count if plan.hosts.on else 0]:
            machine.add(name, hosts.host)
        if plan.guard.on:
            machine.add("guard", processes.guard)
        if plan.recorder.on:
            machine.add("recorder", processes.recorder)
        for process in machine.processes.values():
            if not process.restarts:
                continue
            machine.later(self.chance(process.name).random() * 0.3, process.start)
        faults.schedule(self)
        look = machine.spawn(self._look(), None)
        await asyncio.sleep(plan.faults_s)
        faults.heal(self)
        left = await self._settled(SETTLE_S)
        self.judge.rest.at_rest(left)
        if not left and not self.judge.rest.left_to_a_person():
            await self._end_flat()
        look.cancel()

    async def _look(self) -> None:
        while True:
            self.judge.exposure.tick()
            self.judge.requests.tick(LOOK_S)
            self.judge.guard.tick(LOOK_S)
            self.judge.liveness.tick(LOOK_S)
            self.judge.session.tick(LOOK_S)
            self.judge.hosts.tick(LOOK_S)
            self.judge.feed.tick(LOOK_S)
            await asyncio.sleep(LOOK_S)

    async def _settled(self, within_s: float) -> str:
        """Wait until nothing is open; return what still is when the time is over."""
        end_s = self.loop.now_s + within_s
        left = "nothing was looked at"
        quiet = 0
        while self.loop.now_s < end_s:
            await asyncio.sleep(1.0)
            left = self.judge.rest.unsettled()
            quiet = 0 if left else quiet + 1
            if quiet >= 3:
                return ""
        return left

    async def _end_flat(self) -> None:
        """The last word of the operator: everything may trade again, and everything becomes flat."""
        judge, surroundings, now_ns = self.judge, self.surroundings, self.clock.now_ns()
        halts = self.disk.standing_now().halts
        judge.rest.halts_at_rest(halts)
        self._resume()
        surroundings.operator(Flatten(reason="end", issuer="sim", ts_ns=now_ns))
        begun_s = self.loop.now_s
        first = self.disk.steps[-1].seq if self.disk.steps else 0
        finished: FlattenFinished | None = None
        while self.loop.now_s < begun_s + FLAT_S and finished is None:
            await asyncio.sleep(0.5)
            for step in self.disk.steps[-20:]:
                if step.seq > first and step.kind == b"flatten_finished":
                    message = decode(step.kind, step.value)
                    assert isinstance(message, FlattenFinished)
                    finished = message
        judge.rest.ended_flat(finished, self.loop.now_s - begun_s)
        for _ in range(RESUMES_MAX):
            if not judge.guard.holds_for_nothing():
                break
            await asyncio.sleep(RESUME_EVERY_S)
            self._resume()
        judge.guard.ended()

    def _resume(self) -> None:
        order = Resume(kind=HaltKind.OPERATOR, reason="end", issuer="sim", ts_ns=self.clock.now_ns())
        self.surroundings.operator(order)
        self.judge.guard.resumed(order)

    def _failed(self, incarnation: Incarnation, error: BaseException) -> None:
        faults.judge_end(self, incarnation, error)

    # -- what is on the bus -----------------------------------------------------

    def stream(self, key: bytes) -> Any:
        return self.redis.server.store.keys.get(key)

    def scan_intents(self) -> None:
        """Show the judge every intent that has come to the bus since the last look."""
        for number in range(1, self.plan.workers + 1):
            key = topics.intents(ACCOUNT_ID, f"s{number}").encode()
            stream = self.stream(key)
            if stream is None:
                continue
            known, count = self._seen.get(key, (None, 0))
            if known is not stream:
                count = 0
            if count == stream.added:
                continue
            for row in stream.rows[count - stream.added :]:
                kind, value = row[1]
                if kind in INTENT_KINDS:
                    message = decode(kind, value)
                    assert isinstance(message, SubmitOrder | ModifyOrder | ClosePosition)
                    self.judge.streams.wished(message, row[0])
            self._seen[key] = (stream, stream.added)

    def acknowledged(self) -> Iterator[tuple[str, int]]:
        """Yield stream -> number of an entry that its writer knows to be there, of every life of each."""
        for process in self.machine.processes.values():
            for incarnation in process.incarnations:
                if incarnation.bus is not None:
                    yield from ((one.stream, one.acked_seq) for one in incarnation.bus.writers)
        yield from self.surroundings.acknowledged()
        for wish in self.judge.wishes.values():
            stream = topics.intents(ACCOUNT_ID, wish.intent.strategy_id)
            yield stream, int(wish.entry_id.partition(b"-")[2])

    def strategy_positions(self) -> Iterator[tuple[str, int]]:
        """Yield each strategy's own view of its position, as its snapshot has it."""
        for number in range(1, self.plan.workers + 1):
            name = f"s{number}"
            value = self.stream(topics.state(ACCOUNT_ID, name).encode())
            if isinstance(value, bytes):
                snapshot = msgspec.json.decode(value, type=StrategySnapshot)
                state = msgspec.json.decode(snapshot.framework, type=DeskState)
                yield name, state.markets[SYMBOL].position


def play(seed: int, *, tracing: bool = False, log: bool = False) -> World:
    """Run the world of one seed."""
    world = World(swarm.draw(seed), tracing=tracing, log=log)
    world.play()
    return world
