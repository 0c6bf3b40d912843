"""The real services as processes of a world: the same `run` as in production over the world's ports.

`services.*.__main__.run` builds its ports from modules that name an adapter. In a process of the simulator
those names lead here, and from here to the world and the incarnation that is running.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import services.broker_sync.__main__ as broker_sync_main
import services.execution.__main__ as execution_main
import services.feed.shell as feed_shell
import services.guard.__main__ as guard_main
import services.heartbeat.__main__ as heartbeat_main
import services.recorder.shell as recorder_shell
import shared.broker.projectx.adapter as adapter
from proof.simulation import scaled
from proof.simulation.archive import SimArchive
from proof.simulation.bridge import await_, run_blocking
from proof.simulation.disk import SimLedger, SimRecordFile
from proof.simulation.loop import NS_PER_S, OWNER, SimClock, quiet
from proof.simulation.machine import Incarnation
from proof.simulation.market_hub import SimMarketLink
from proof.simulation.wire import SimAccountLink, SimHttp
from proof.simulation.workload import Scripted, loaded
from services.strategy.progress import SEQS, SEQS_MAX, seen_of
from services.strategy.spec import Seen, WorkerSpec
from services.strategy.worker import Worker
from shared.broker.projectx.client import ProjectXAccount, ProjectXMarket
from shared.bus.blocking import BlockingBus
from shared.domain.report import SyncHealth
from shared.runtime.beat import BeatBoard
from shared.runtime.logs import Log
from shared.runtime.service import Context, _with_beats
from shared.wire import topics

if TYPE_CHECKING:
    from proof.simulation.world import World

BUILD = "sim"


def running() -> tuple[World, Incarnation]:
    """Return the world and the process in whose context we are."""
    incarnation = cast(Incarnation, OWNER.get())
    assert incarnation is not None, "outside of any process"
    return incarnation.process.machine.world, incarnation


def _ledger(path: Path, **_: Any) -> SimLedger:
    world, incarnation = running()
    return SimLedger(world.disk, incarnation)


def _http(**_: Any) -> SimHttp:
    world, incarnation = running()
    return SimHttp(incarnation, world.network)


def _account_link(_port: ProjectXAccount, account_ids: object) -> SimAccountLink:
    world, incarnation = running()
    return SimAccountLink(incarnation, world.network)


def _market_link(_port: ProjectXMarket) -> SimMarketLink:
    world, incarnation = running()
    return SimMarketLink(incarnation, world.network)


def _record_file(path: Path) -> SimRecordFile:
    world, incarnation = running()
    return SimRecordFile(path, world.guard_disk, incarnation)


def _archive(path: Path) -> SimArchive:
    world, incarnation = running()
    return SimArchive(world.archive, incarnation)


class Switch:
    """Stands where the kill switch's file stands."""

    def __init__(self, path: Path) -> None:
        self._world, _ = running()

    def pull(self) -> None: ...

    def pulled(self) -> str | None:
        return self._world.disk.halt_file


def install() -> None:
    """Lead the names of production to the simulation; once for each process of the simulator."""
    for where, name, ours in (
        (execution_main, "SqliteLedger", _ledger),
        (execution_main, "KillSwitch", Switch),
        (guard_main, "RecordFile", _record_file),
        (recorder_shell, "DiskArchive", _archive),
        (adapter, "Http", _http),
        (ProjectXAccount, "account_link", _account_link),
        (ProjectXMarket, "market_link", _market_link),
    ):
        assert hasattr(where, name), name
        setattr(where, name, ours)
    scaled.scale_constants()
    quiet()


class ProcessClock:
    """The machine's clock as one process reads it; of a dead one nothing reads any more."""

    def __init__(self, clock: SimClock, incarnation: Incarnation) -> None:
        self._incarnation = incarnation
        self.monotonic_ns = clock.monotonic_ns
        self.sleep = clock.sleep
        self.now_ns = clock.now_ns
        self.boot = clock.boot


class SimLog:
    """Keeps the names of alarms; prints only what is asked for."""

    def __init__(self, world: World, process: str, incarnation: Incarnation | None = None) -> None:
        self._world = world
        self._process = process
        self._incarnation = incarnation

    def _say(self, level: str, event: str, fields: dict[str, object]) -> None:
        if event == "sync" and self._incarnation is not None:
            self._incarnation.in_sync = fields["health"] is SyncHealth.IN_SYNC
        self._world.judge.session.said(f"what {self._process} logs: {event}", fields)
        if self._incarnation is not None:
            self._world.judge.hosts.heard(self._incarnation, event, fields)
        if self._world.tracing:
            shown = {name: value for name, value in fields.items() if name not in ("pid", "build")}
            self._world.trace(level, self._process, event, shown)

    def debug(self, event: str, **fields: object) -> None: ...

    def info(self, event: str, **fields: object) -> None:
        # Decisions are judged when they are made: Redis or a disk may have them much later.
        if self._process == "heartbeat" and event == "resume":
            self._world.judge.liveness.resumed()
        if self._process == "guard" and event == "flat":
            self._world.judge.guard.calls_flat()
        if self._process == "guard" and event == "said":
            self._world.judge.guard.said(str(fields.get("why", "")))
        self._say("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        world = self._world
        world.judge.alarms.append((world.clock.true_ns(), self._process, event, str(fields.get("why", ""))))
        world.judge.reach(f"alarm {event}")
        if self._process == "guard" and self._incarnation is not None:
            world.judge.guard.heard(self._incarnation, event, str(fields.get("why", "")))
        self._say("error", event, fields)

    exception = error


def context(world: World, incarnation: Incarnation, config: Any, *, lively: bool = False) -> Context[Any]:
    """Return what `serve` gives a shell.

    Args:
        lively: Somebody listens to its beats, whatever else there is in this world.
    """
    clock = ProcessClock(world.clock, incarnation)
    bus = world.bus(incarnation, clock)
    name = incarnation.name
    plan = world.plan
    heard = lively or plan.session.on
    julie = scaled.julie(scaled.LIVELY_BEATS_S) if heard else scaled.julie()
    beat = incarnation.beat = BeatBoard(
        process=name, clock=clock, bus=bus,
        interval_s=scaled.GUARDED_BEATS_S if plan.guard.on and not heard else julie.beat_interval_s,
        pid=1000 * len(name) + incarnation.number, host="sim", build=BUILD,
    )  # fmt: skip
    return Context(
        process=name,
        config=config,
        julie=julie,
        broker=scaled.broker(world.venue.requests_max),
        settings_hash="sim",
        clock=clock,
        rng=random.Random(world.chance(name).random()),
        bus=bus,
        beat=beat,
        log=cast(Log, SimLog(world, name, incarnation)),
    )


def execution(incarnation: Incarnation) -> Coroutine[Any, Any, None]:
    world = incarnation.process.machine.world
    return _with_beats(context(world, incarnation, scaled.execution()), execution_main.run)


def broker_sync(incarnation: Incarnation) -> Coroutine[Any, Any, None]:
    world = incarnation.process.machine.world
    return _with_beats(context(world, incarnation, scaled.broker_sync()), broker_sync_main.run)


def feed(incarnation: Incarnation) -> Coroutine[Any, Any, None]:
    world = incarnation.process.machine.world
    return _with_beats(context(world, incarnation, scaled.feed()), feed_shell.run)


def guard(incarnation: Incarnation) -> Coroutine[Any, Any, None]:
    world = incarnation.process.machine.world
    return _with_beats(context(world, incarnation, scaled.guard(world.plan.guard)), guard_main.run)


def heartbeat(incarnation: Incarnation) -> Coroutine[Any, Any, None]:
    world = incarnation.process.machine.world
    return _with_beats(context(world, incarnation, scaled.heartbeat()), heartbeat_main.run)


def recorder(incarnation: Incarnation) -> Coroutine[Any, Any, None]:
    world = incarnation.process.machine.world
    ahead_s = sum(max(0.0, by_s) for _, by_s in world.plan.jumps)
    return _with_beats(context(world, incarnation, scaled.recorder(ahead_s)), recorder_shell.run)


# -- workers ----------------------------------------------------------------------


class Page:
    """A worker's progress page without shared memory."""

    def __init__(self) -> None:
        self.words = [0] * (SEQS + SEQS_MAX)
        self.reason = ""

    def say(self, reason: str) -> None:
        self.reason = reason

    def look(self) -> Seen:
        return seen_of(self.words, self.reason)


def instance(
    incarnation: Incarnation,
    spec: WorkerSpec,
    page: Page,
    *,
    cls: type[Scripted] = Scripted,
    stop_asked: Callable[[], bool] = lambda: False,
) -> Worker:
    """Return the worker of one strategy instance, with what the seed has its strategy do."""
    world = incarnation.process.machine.world
    plan, clock = world.plan, ProcessClock(world.clock, incarnation)
    number = int(spec.strategy_id[-1])
    until_ns = world.clock.starts_ns + round((plan.faults_s - 1) * NS_PER_S)
    chosen = loaded(
        spec.strategy_id, plan.seed * 10 + number, plan.pace, plan.style, until_ns, changes=plan.changes
    )
    bus = world.blocking_bus(incarnation, clock, spec.commit_interval_ms)
    return Worker(
        spec, chosen._replace(cls=cls), bus=cast(BlockingBus, bus), page=cast(Any, page),
        log=cast(Log, SimLog(world, spec.strategy_id)), now_ns=clock.now_ns,
        sleep=lambda seconds: await_(clock.sleep(seconds)), stop_asked=stop_asked,
    )  # fmt: skip


async def worker(incarnation: Incarnation) -> None:
    """Hold a lease and run one strategy instance until it ends; the host in small, see `hosts`."""
    world = incarnation.process.machine.world
    strategy_id = incarnation.name
    clock = ProcessClock(world.clock, incarnation)
    async_bus = world.bus(incarnation, clock)
    key = topics.lease(scaled.julie().account_id, strategy_id)
    holder = f"host-{incarnation.number}"
    while True:
        try:
            lease = await async_bus.lease(key, holder, 1.0)
        except (ConnectionError, RuntimeError):
            lease = ""
        if not isinstance(lease, str):
            break
        await clock.sleep(0.3)
    spec = WorkerSpec(
        strategy_id=strategy_id,
        strategy_class="proof.simulation.workload:Scripted",
        symbols=scaled.julie().symbols,
        settings={},
        env="sim",
        account_id=scaled.julie().account_id,
        lease=(lease.key, lease.holder, lease.epoch),
        redis={},
        build=BUILD,
        intent_ttl_s=scaled.INTENT_TTL_S,
        max_input_age_s=scaled.INTENT_TTL_S,
        warmup_s=2.0,
        commit_interval_ms=1000,
    )
    await run_blocking(instance(incarnation, spec, Page()).run)
