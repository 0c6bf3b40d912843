"""A host: holds leases, starts workers, looks at them, kills them. It never runs a line of a strategy.

Worker beats are published here, from the page each worker shares: the worker counts, the host tells.
"""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec

from services.strategy.config import InstanceSection, StrategySection
from services.strategy.progress import consumed_streams
from services.strategy.spawn import Spawn, WorkerHandle
from services.strategy.spec import WORKER_PREFIX, Seen, WorkerSpec
from services.strategy.supervision import (
    NS_PER_S,
    STILL_NS,
    Acquire,
    AskStop,
    Command,
    Due,
    Event,
    Exited,
    Kill,
    LeaseGranted,
    LeaseLost,
    Looked,
    Phase,
    Placed,
    Release,
    Rules,
    Seat,
    Start,
    StopAsked,
    decide,
    state_of,
)
from shared.bus.client import Address
from shared.bus.port import BusAway, BusRefused, Lease
from shared.domain.control import Beat
from shared.runtime.beat import BeatBoard
from shared.runtime.build import BUILD
from shared.runtime.schedule import turns
from shared.runtime.service import Context
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

HOST_PREFIX = "strategy@"

HOST_DEAD_AFTER_NS = 3 * NS_PER_S
FIRST_SIGHT_AGE_MAX_NS = 10 * NS_PER_S
"""A beat seen for the first time counts when it is not older than this; a dead host's stays for a day."""

REASON_CHARS_MAX = 400
"""The whole reason is in the log."""

SETTLE_TURNS = 1
"""Placement turns before the first lease of another, so that hosts starting together see each other."""


class Shell:
    """One strategy host."""

    def __init__(self, ctx: Context[StrategySection], spawn: Spawn, *, redis: Address | None = None) -> None:
        self._ctx, self._spawn = ctx, spawn
        self._address = redis if redis is not None else ctx.bus.address  # type: ignore[attr-defined]
        config = ctx.config
        self._host = ctx.process
        self._instances = {i.id: i for i in config.instances}
        rules = Rules(
            event_deadline_ns=config.event_deadline_ms * 1_000_000,
            # A commit and a read travel together, and each of them waits for so much longer.
            still_deadline_ns=STILL_NS + 2 * config.commit_interval_ms * 1_000_000,
            start_deadline_ns=round(config.start_deadline_s * NS_PER_S),
            memory_max_mb=config.memory_max_mb,
            failures_max=config.failures_max,
            failure_window_ns=round(config.failure_window_s * NS_PER_S),
        )
        self._state = state_of(self._host, list(self._instances), rules)
        self._workers: dict[str, WorkerHandle] = {}
        self._boards: dict[str, BeatBoard] = {}
        self._seen: dict[str, Seen] = {}
        self._hosts: dict[str, tuple[tuple[int, int], int]] = {}
        self._heads: dict[str, int] = {}
        self._turn = 0
        self._tasks: asyncio.TaskGroup
        self._releases: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run until cancelled; then every worker commits, leaves, and its lease is given back."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._watch())
                tasks.create_task(self._place())
                tasks.create_task(self._tell())
        finally:
            await self._stop()

    # Loops

    async def _watch(self) -> None:
        clock = self._ctx.clock
        async for _ in turns(clock, self._ctx.config.watch_interval_ms / 1000):
            await self._look_at_workers()
            await self._take(Due(clock.monotonic_ns()))

    async def _place(self) -> None:
        ctx = self._ctx
        duty = ctx.beat.duty("host", interval_s=ctx.config.placement_interval_s)
        async for _ in turns(ctx.clock, ctx.config.placement_interval_s, duty):
            try:
                await self._renew()
                await self._given_back()
                placed = await self._look_around()
                await self._read_heads()
                if self._turn == SETTLE_TURNS:
                    await self._drop_wishes()
            except (BusAway, BusRefused) as error:
                ctx.log.warning("placement_failed", why=str(error))
                continue
            self._turn += 1
            settling = self._turn <= SETTLE_TURNS
            await self._take(placed._replace(settling=settling))
            ctx.beat.ready = not settling or all(seat.ours for seat in self._state.seats.values())
            duty.did(ctx.clock.now_ns())

    async def _tell(self) -> None:
        async for _ in turns(self._ctx.clock, self._ctx.julie.beat_interval_s):
            self._describe()
            for name, board in list(self._boards.items()):
                if name in self._boards:
                    await board.send()

    async def _stop(self) -> None:
        clock = self._ctx.clock
        await self._take(StopAsked(clock.monotonic_ns()))
        while self._workers:
            await self._look_at_workers()
            await clock.sleep(0.01)
        await self._given_back()
        self._spawn.close()

    # Doing what was decided

    async def _take(self, event: Event) -> None:
        for command in decide(event, self._state):
            await self._perform(command)

    async def _perform(self, command: Command) -> None:
        log = self._ctx.log
        match command:
            case Acquire(instance=name):
                await self._acquire(name)
            case Release(instance=name, epoch=epoch):
                self._boards.pop(name, None)
                # Looking at the workers does not wait for Redis: another one may hang meanwhile.
                self._releases.add(asyncio.create_task(self._release(name, epoch)))
            case Start(instance=name, epoch=epoch):
                self._start(name, epoch)
            case AskStop(instance=name):
                if name in self._workers:
                    self._workers[name].ask_stop()
            case Kill(instance=name, why=why):
                log.warning("strategy_killed", instance=name, why=why)
                if name in self._workers:
                    self._workers[name].kill()

    async def _acquire(self, name: str) -> None:
        key = topics.lease(self._ctx.julie.account_id, name)
        try:
            lease = await self._ctx.bus.lease(key, self._host, self._ctx.config.lease_ttl_s)
        except (BusAway, BusRefused) as error:
            # It may have been granted all the same: then it runs out, or the next turn finds it ours.
            self._ctx.log.warning("lease_not_asked", instance=name, why=str(error))
            return
        if isinstance(lease, Lease):
            await self._take(LeaseGranted(name, lease.epoch, self._ctx.clock.monotonic_ns()))

    async def _release(self, name: str, epoch: int) -> None:
        try:
            await self._ctx.bus.release(self._lease(name, epoch))
        except (BusAway, BusRefused) as error:
            self._ctx.log.warning("lease_not_released", instance=name, why=str(error))

    async def _given_back(self) -> None:
        """Wait for leases on their way back: until then they stand under our name, as if we held them."""
        while self._releases:
            done, _ = await asyncio.wait(self._releases.copy())
            self._releases -= done
            for one in done:
                one.result()

    def _start(self, name: str, epoch: int) -> None:
        assert name not in self._workers, name
        instance = self._instances[name]
        seat = self._state.seats[name]
        unknown = [symbol for symbol in instance.symbols if symbol not in self._ctx.julie.symbols]
        worker = None
        if unknown:
            seat.phase = Phase.OFF
            seat.reason = (
                f"strategy {name}: the feed does not bring {', '.join(unknown)}; add to julie.symbols"
            )
            self._ctx.log.error("strategy_refused", instance=name, why=seat.reason)
        else:
            worker = self._spawn.start(self._spec(instance, self._lease(name, epoch)))
            self._workers[name] = worker
            self._ctx.log.info("worker_started", instance=name, pid=worker.pid, restarts=seat.restarts)
        self._boards[name] = BeatBoard(
            process=WORKER_PREFIX + name,
            clock=self._ctx.clock,
            bus=self._ctx.bus,
            interval_s=self._ctx.julie.beat_interval_s,
            pid=worker.pid if worker is not None else 0,
            host=self._host.removeprefix(HOST_PREFIX),
            build=BUILD,
            settings=self._ctx.beat.settings,
        )

    def _spec(self, instance: InstanceSection, lease: Lease) -> WorkerSpec:
        config, julie = self._ctx.config, self._ctx.julie
        return WorkerSpec(
            strategy_id=instance.id,
            strategy_class=instance.strategy_class,
            symbols=instance.symbols,
            settings=instance.settings,
            env=julie.env,
            account_id=julie.account_id,
            lease=(lease.key, lease.holder, lease.epoch),
            redis=dataclasses.asdict(self._address),
            build=BUILD,
            log_level=julie.log_level,
            intent_ttl_s=config.intent_ttl_s,
            max_input_age_s=config.max_input_age_s,
            warmup_s=config.warmup_s,
            skip_behind_s=config.skip_behind_s,
            commit_interval_ms=config.commit_interval_ms,
            commit_entries_max=config.commit_entries_max,
            memory_max_mb=config.memory_max_mb,
        )

    def _lease(self, name: str, epoch: int) -> Lease:
        return Lease(topics.lease(self._ctx.julie.account_id, name), self._host, epoch)

    # Looking

    async def _look_at_workers(self) -> None:
        clock = self._ctx.clock
        for name, worker in list(self._workers.items()):
            code = worker.exit_code()
            seen = self._seen[name] = worker.look()
            if code is None:
                await self._take(Looked(name, clock.monotonic_ns(), seen, worker.rss_mb()))
                self._tell_running(name)
                continue
            del self._workers[name]
            worker.close()
            await self._take(Exited(name, clock.monotonic_ns(), code, seen.reason))
            seat = self._state.seats[name]
            self._ctx.log.info("worker_ended", instance=name, code=code, now=seat.phase, why=seat.reason)
            if not seat.ours:
                self._boards.pop(name, None)

    async def _renew(self) -> None:
        for name, seat in self._state.seats.items():
            if not seat.ours:
                continue
            if not await self._ctx.bus.renew(self._lease(name, seat.epoch), self._ctx.config.lease_ttl_s):
                self._ctx.log.warning("lease_lost", instance=name)
                await self._take(LeaseLost(name))
                self._boards.pop(name, None)

    async def _look_around(self) -> Placed:
        bus, clock = self._ctx.bus, self._ctx.clock
        for key in await bus.keys(topics.beat(HOST_PREFIX + "*")):
            beat = _beat(await bus.get(key))
            if beat is None:
                continue
            stamp = (beat.started_at_ns, beat.seq)
            before = self._hosts.get(beat.process)
            if before is None and clock.now_ns() - beat.ts_ns > FIRST_SIGHT_AGE_MAX_NS:
                self._hosts[beat.process] = (stamp, clock.monotonic_ns() - HOST_DEAD_AFTER_NS)
            elif before is None or before[0] != stamp:
                self._hosts[beat.process] = (stamp, clock.monotonic_ns())
        now_ns = clock.monotonic_ns()
        live = frozenset(h for h, (_, at_ns) in self._hosts.items() if now_ns - at_ns < HOST_DEAD_AFTER_NS)
        holders: dict[str, str] = {}
        for name, seat in self._state.seats.items():
            if not seat.ours:
                fields = await bus.hash_get(topics.lease(self._ctx.julie.account_id, name))
                holders[name] = fields.get("holder", b"").decode("utf-8", "replace")
        return Placed(now_ns, holders, live)

    async def _read_heads(self) -> None:
        """See how far the streams are that our workers read; each shows its own place."""
        streams = {stream for name in self._workers for stream in self._streams(name)}
        self._heads = await self._ctx.bus.heads(sorted(streams)) if streams else {}

    def _streams(self, name: str) -> list[str]:
        return consumed_streams(self._ctx.julie.account_id, self._instances[name].symbols)

    async def _drop_wishes(self) -> None:
        """Forget which bars instances asked for that are configured no more and run nowhere.

        Dropping one too many does no harm: every worker says at its start what it wants.
        """
        bus, account_id = self._ctx.bus, self._ctx.julie.account_id
        ours = topics.bars_wanted_by(account_id, "")
        for field in await bus.hash_get(topics.BARS_WANTED):
            name = field.removeprefix(ours)
            if name == field or name in self._instances:
                continue
            if not (await bus.hash_get(topics.lease(account_id, name))).get("holder"):
                self._ctx.log.info("bars_not_wanted_any_more", instance=name)
                await bus.hash_drop(topics.BARS_WANTED, [field])

    # Telling

    def _tell_running(self, name: str) -> None:
        """Tell at once that a worker has begun to run; looking at the others does not wait for Redis."""
        board, seat = self._boards.get(name), self._state.seats[name]
        if board is not None and seat.phase is Phase.RUNNING and not board.ready:
            self._fill(board, seat, self._seen.get(name))
            self._tasks.create_task(board.send())

    def _describe(self) -> None:
        ctx = self._ctx
        ours = [seat for seat in self._state.seats.values() if seat.ours]
        ctx.beat.detail["instances"] = f"{len(ours)} of {len(self._state.seats)} here"
        for seat in self._state.seats.values():
            if seat.phase is Phase.OFF:
                ctx.beat.detail[f"off:{seat.instance}"] = seat.reason[:REASON_CHARS_MAX]
            else:
                ctx.beat.detail.pop(f"off:{seat.instance}", None)
        for name, board in self._boards.items():
            self._fill(board, self._state.seats[name], self._seen.get(name))

    def _fill(self, board: BeatBoard, seat: Seat, seen: Seen | None) -> None:
        instance = self._instances[seat.instance]
        board.ready = seat.phase is Phase.RUNNING
        board.detail["strategy"] = f"{instance.strategy_class} {','.join(instance.symbols)}"
        reason = seat.reason[:REASON_CHARS_MAX]
        board.detail["state"] = f"{seat.phase}: {reason}" if reason else str(seat.phase)
        board.detail["restarts"] = str(seat.restarts)
        if seen is None:
            return
        duty = board.duty("events")
        if seen.handled != duty.done:
            duty.done = seen.handled
            duty.did(self._ctx.clock.now_ns(), 0)
        elif seen.busy:
            duty.waits(self._ctx.clock.now_ns())
        else:
            duty.waiting_since_ns = 0
        board.detail.update(
            last_id=seen.last_id,
            intents=str(seen.intents),
            suppressed=str(seen.suppressed),
            refused=str(seen.refused),
            behind_ms=str(seen.behind_ms),
        )
        board.lag = {
            stream: max(0, self._heads[stream] - seq)
            for stream, seq in zip(self._streams(seat.instance), seen.seqs, strict=False)
            if seq and stream in self._heads
        }
        if seen.away:
            board.detail["bus"] = "away"
        else:
            board.detail.pop("bus", None)


def _beat(value: bytes | None) -> Beat | None:
    if value is None:
        return None
    try:
        beat = decode(b"beat", value)
    except (MessageRefused, msgspec.DecodeError):
        return None
    return beat if isinstance(beat, Beat) else None
