"""The system under test with everything that can be done to it, and the timeline of what was done."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from julie.processes import PROCESSES
from proof.chaos.books import Books
from proof.chaos.installation import ACCOUNT_ID, Happening, Installation
from proof.chaos.operator import Operator
from proof.chaos.processes import Supervisor, is_stopped, until
from proof.chaos.proxy import Door, Link, Requests
from proof.chaos.sampler import Sampler
from proof.chaos.venue import Venue
from proof.chaos.watch import Recovery, Watch
from proof.record import Record
from shared.domain.control import HaltKind, TradingState
from shared.domain.execution import TradingStateChanged
from shared.wire import topics

SERVICES = tuple(one.name for one in PROCESSES)
BEAT_NAMES = {"strategy": "strategy@chaos"}
READY_S = 120.0


@dataclass(slots=True)
class Kill:
    process: str
    mono_s: float


@dataclass(slots=True)
class Standstill:
    """A process that did nothing from `start_s` to `end_s` (monotonic), by SIGSTOP or by staying dead."""

    process: str
    start_s: float
    end_s: float
    start_ns: int
    end_ns: int


@dataclass
class World:
    """Attributes:
    rebuilt_ns: When Redis lost data on purpose.
    clocks_jumped: Processes whose wall clock was not everybody's for a while.
    hindered: Processes whose disk, memory or descriptors fail at this moment.
    restarts_s: How long it took, each time all were killed at once, until all did their jobs again.
    """

    installation: Installation
    record: Record
    seed: int
    processes: Supervisor = field(init=False)
    watch: Watch = field(init=False)
    requests: Requests = field(default_factory=Requests)
    kills: list[Kill] = field(default_factory=list)
    standstills: list[Standstill] = field(default_factory=list)
    rebuilt_ns: list[int] = field(default_factory=list)
    clocks_jumped: set[str] = field(default_factory=set)
    hindered: set[str] = field(default_factory=set)
    by_hand: int = 0
    trading_by_hand: int = 0
    mixed: list[tuple[int, int]] = field(default_factory=list)
    flat_s: list[float] = field(default_factory=list)
    breach_s: list[float] = field(default_factory=list)
    restarts_s: list[float] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.processes = Supervisor(self.installation, SERVICES)
        self.watch = Watch(self.installation.address, recovered=self._tell_recovery)
        self.redis_door = Door(
            "redis", target=self.installation.redis_real, who=self.processes.who, seed=self.seed
        )
        self.broker_door = Door(
            "broker",
            target=("127.0.0.1", self.installation.simulator_port),
            who=self.processes.who,
            seed=self.seed + 1,
            tap=self.requests,
        )
        self._tasks: list[asyncio.Task[Any]] = []
        self.sampler = Sampler(self)
        self.books = Books(self.installation.venue_database)
        self.operator = Operator(self.installation, self.tell)
        self.venue = Venue(f"http://127.0.0.1:{self.installation.simulator_port}", self.seed, self.tell)

    # -- start and end ----------------------------------------------------------

    async def open(self) -> None:
        """Start everything and return when it trades."""
        await self.redis_door.open_unix(self.installation.redis_socket)
        await self.broker_door.open_tcp(self.installation.broker_port)
        self._tasks.append(asyncio.create_task(self.watch.run(), name="watch"))
        for name in self.processes.all:
            self.processes.start(name)
        assert await until(lambda: self.all_ready(), within_s=READY_S), f"not ready: {self.unready()}"
        assert await until(lambda: self.trading is TradingState.ACTIVE, within_s=READY_S), "does not trade"
        self._tasks.append(asyncio.create_task(self.sampler.run(), name="sampler"))

    async def close(self) -> None:
        await self.processes.stop_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.redis_door.close()
        await self.broker_door.close()
        self.requests.write(self.installation.folder / "requests.jsonl")

    def check(self) -> None:
        """Raise what the harness itself failed with."""
        self.processes.check()
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise RuntimeError(f"{task.get_name()} failed") from task.exception()

    # -- what was done ------------------------------------------------------------

    def tell(self, what: str, **detail: Any) -> None:
        """Write one line of the timeline."""
        line = Happening(
            t_s=round(time.monotonic() - self.started_s, 3), ts_ns=time.time_ns(), what=what, detail=detail
        )
        with self.installation.timeline.open("ab") as out:
            out.write(msgspec.json.encode(line) + b"\n")

    def _tell_recovery(self, one: Recovery) -> None:
        took_s = round(one.took_s, 3)
        self.tell("deciding again", process=one.process, took_s=took_s, clean=one.clean, cold=one.cold)

    # -- looks ----------------------------------------------------------------------

    def beat_names(self) -> list[str]:
        return [BEAT_NAMES.get(name, name) for name in SERVICES]

    def unready(self) -> list[str]:
        return [name for name in self.beat_names() if not self.watch.ready(name)]

    def all_ready(self) -> bool:
        return not self.unready()

    @property
    def trading(self) -> TradingState | None:
        """Execution's newest word on it."""
        for seen in reversed(self.watch.streams.get(topics.orders(ACCOUNT_ID), [])):
            if seen.kind == b"trading_state":
                message = seen.message
                assert isinstance(message, TradingStateChanged)
                return message.state
        return None

    @property
    def latched(self) -> dict[str, str]:
        """Strategies that execution has latched off, and why."""
        found = self.watch.of_kind(topics.orders(ACCOUNT_ID), TradingStateChanged)
        return dict(found[-1].latched) if found else {}

    @property
    def halts(self) -> dict[HaltKind, str]:
        found = self.watch.of_kind(topics.orders(ACCOUNT_ID), TradingStateChanged)
        return dict(found[-1].halts) if found else {}

    async def back(self, name: str, *, within_s: float = 30.0) -> bool:
        """Return when the service's present incarnation does its job."""
        beat = BEAT_NAMES.get(name, name)

        def there() -> bool:
            pid = self.processes[name].service_pid
            return pid is not None and self.watch.ready(beat) and self.watch.beats[beat].pid == pid

        return await until(there, within_s=within_s)

    async def in_order(self, *, within_s: float = 45.0) -> bool:
        """Return when everything does its job."""
        return await until(self.all_ready, within_s=within_s)

    # -- processes ----------------------------------------------------------------------

    def kill(self, name: str, *, whole: bool = False) -> bool:
        """SIGKILL one service; it is started again at once.

        Args:
            whole: With its warm parent, so that it starts cold and with the environment it now has.
        """
        pid = self.processes[name].signal(signal.SIGKILL, whole=whole)
        if pid is None:
            return False
        if name != "redis":
            self.watch.killed(BEAT_NAMES.get(name, name), pid, cold=whole)
        self.kills.append(Kill(name, time.monotonic()))
        self.tell("kill", process=name, pid=pid, whole=whole)
        return True

    def kill_worker(self, name: str) -> bool:
        """SIGKILL the process of one strategy instance."""
        beat = self.watch.beats.get(name)
        if beat is None or beat.pid not in self.processes.workers():
            return False
        with suppress(ProcessLookupError):
            os.kill(beat.pid, signal.SIGKILL)
        self.watch.killed(name, beat.pid)
        self.kills.append(Kill("worker", time.monotonic()))
        self.tell("kill", process=name, pid=beat.pid)
        return True

    def kill_zygote(self) -> bool:
        """SIGKILL what forks the workers of the strategy host: they die with it, and the host starts anew."""
        host, zygotes = self.processes["strategy"].service_pid, self.processes.zygotes()
        if host is None or not zygotes:
            return False
        with suppress(ProcessLookupError):
            os.kill(zygotes[0], signal.SIGKILL)
        self.watch.killed(BEAT_NAMES["strategy"], host)
        self.kills.append(Kill("zygote", time.monotonic()))
        self.tell("kill", process="zygote", pid=zygotes[0])
        return True

    async def stand_still(self, name: str, seconds: float, *, dead: bool = False) -> None:
        """SIGSTOP a service (or kill it and keep it down) for a while."""
        one = self.processes[name]
        pid = one.service_pid
        if pid is None:
            return
        start_s, start_ns = time.monotonic(), time.time_ns()
        self.tell("dead" if dead else "frozen", process=name, pid=pid, seconds=seconds)
        if dead:
            one.hold()
            self.kill(name, whole=True)
        else:
            one.signal(signal.SIGSTOP)
        self.watch.disturb(seconds)
        try:
            await asyncio.sleep(seconds)
        finally:
            still = dead or one.service_pid == pid
            end_s, end_ns = time.monotonic(), time.time_ns()
            if dead:
                one.release()
            elif still:
                one.signal(signal.SIGCONT)
            if still:
                self.standstills.append(Standstill(name, start_s, end_s, start_ns, end_ns))
            self.tell("released", process=name)

    def is_up(self, name: str) -> bool:
        """Does it run, and say that it does its job?"""
        beat = self.watch.beats.get(BEAT_NAMES.get(name, name))
        if not self._runs(name):
            return False
        if name == "redis":
            return True
        same = beat is not None and beat.pid == self.processes[name].service_pid
        return same and self.watch.ready(BEAT_NAMES.get(name, name))

    def _runs(self, name: str) -> bool:
        """Does it run unhindered? Whether it does its job cannot be seen while Redis is away."""
        one = self.processes[name]
        pid = one.service_pid
        return pid is not None and name not in self.hindered and not is_stopped(pid)

    def can_act(self, name: str) -> bool:
        """Can a process do something about the account: does it run, and does the broker do as asked?"""
        rest = self.link(name, "rest").toxics.passes
        return rest and not self.venue.is_faulty and self.is_up("simulator") and self._runs(name)

    def can_hear(self) -> bool:
        """Is all well between the broker and execution, so that it knows what the account holds?"""
        names = (
            ("execution", "redis"),
            ("broker_sync", "redis"),
            ("broker_sync", "rest"),
            ("broker_sync", "user"),
        )
        links = all(self.link(*one).toxics.passes for one in names)
        return links and self.is_up("execution") and self.is_up("broker_sync") and self.is_up("redis")

    def link(self, client: str, server: str) -> Link:
        door = self.redis_door if server == "redis" else self.broker_door
        return door.link(client, server)

    def links(self, client: str) -> list[Link]:
        names = ("rest", "market", "user")
        return [self.link(client, "redis"), *(self.link(client, server) for server in names)]

    def heal(self) -> None:
        """End every fault that lasts."""
        self.redis_door.heal()
        self.broker_door.heal()
        for one in self.processes.all.values():
            changed = bool(one.extra)
            one.extra.clear()
            one.release()
            one.signal(signal.SIGCONT)
            if changed:
                self.kill(one.name, whole=True)

    @contextmanager
    def hindering(self, name: str) -> Iterator[None]:
        """Inside, a process cannot do what it should, though it runs."""
        self.hindered.add(name)
        try:
            yield
        finally:
            self.hindered.discard(name)

    @asynccontextmanager
    async def by_hand_now(self) -> AsyncIterator[None]:
        """Inside, positions may be somebody else's, without protection."""
        self.trading_by_hand += 1
        try:
            yield
        finally:
            self.trading_by_hand -= 1

    def orders_said(self, kind: type[msgspec.Struct]) -> list[Any]:
        return self.watch.of_kind(topics.orders(ACCOUNT_ID), kind)
