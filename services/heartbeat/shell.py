"""Heartbeat's I/O: the session's task and the judge's task, side by side, neither waiting for the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from services.heartbeat import core
from services.heartbeat.board import Board
from services.heartbeat.config import HeartbeatSection
from services.heartbeat.keeper import Keeper, OpenPort, credentials_stamp
from shared.bus.port import BusAway, BusRefused
from shared.domain.control import Beat, Halt, ProcessHealth, ProcessJudged, Resume
from shared.runtime.clock import NS_PER_S
from shared.runtime.schedule import turns
from shared.runtime.service import Context
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

POLL_S = 0.5
"""How often the stored beats are read: pub/sub may lose one, its key has the newest."""
SCAN_EVERY_POLLS = 4
"""Keys of processes that we do not know yet are looked for this seldom: a scan walks the whole key space."""


class Shell:
    def __init__(self, ctx: Context[HeartbeatSection], open_port: OpenPort) -> None:
        config = ctx.config
        self._ctx = ctx
        self._board = Board(bus=ctx.bus, clock=ctx.clock, log=ctx.log)
        self._keeper = Keeper(
            config=config,
            open_port=open_port,
            credentials=lambda: credentials_stamp(ctx.broker.api_key_file),
            board=self._board,
            bus=ctx.bus,
            beat=ctx.beat,
            clock=ctx.clock,
            rng=ctx.rng,
            log=ctx.log,
        )
        self._judge = ctx.beat.duty("judge", interval_s=config.judge_interval_s)
        self._unreadable_beats = 0
        # Slower beats must not look like silence.
        beat_ns = round(ctx.julie.beat_interval_s * NS_PER_S)
        late_ns = max(round(config.late_after_s * NS_PER_S), 5 * beat_ns // 2)
        judge_ns = round(config.judge_interval_s * NS_PER_S)
        self._state = core.State(
            build=ctx.beat.build,
            settings=ctx.beat.settings,
            vital=config.vital,
            late_after_ns=late_ns,
            dead_after_ns=max(round(config.dead_after_s * NS_PER_S), 4 * beat_ns),
            stuck_after_ns=round(config.stuck_after_s * NS_PER_S),
            overdue_factor=config.overdue_factor,
            start_grace_ns=round(config.start_grace_s * NS_PER_S),
            # Who dies now must show as late before trading could resume on its last beat.
            resume_after_ns=max(round(config.resume_after_s * NS_PER_S), late_ns + judge_ns),
            forget_after_ns=round(config.forget_after_s * NS_PER_S),
            processes_max=config.processes_max,
            own_name=ctx.process,
        )

    async def run(self) -> None:
        await self._board.open()
        await self._keeper.prepare()
        self._ctx.log.info(
            "guarantee",
            session=f"validated every {self._ctx.config.validate_interval_s:g} s",
            liveness=f"new exposure halts {self._state.dead_after_ns / NS_PER_S:g} s after the last beat of "
            + ", ".join(self._state.vital),
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._board.run(), name="board")
                tasks.create_task(self._keeper.run(), name="session")
                tasks.create_task(self._listen(), name="beats-heard")
                tasks.create_task(self._poll(), name="beats-polled")
                tasks.create_task(self._judge_all(), name="judge")
        finally:
            await self._keeper.log_out()
            with suppress(BusAway, BusRefused):
                await self._board.settle()

    async def _listen(self) -> None:
        async for _, value in self._ctx.bus.subscribe([topics.BEATS]):
            self._see(value, live=True)

    async def _poll(self) -> None:
        names: set[str] = set()
        async for turn in turns(self._ctx.clock, POLL_S):
            try:
                if turn % SCAN_EVERY_POLLS == 0:
                    prefix = topics.beat("")
                    names = {key.removeprefix(prefix) for key in await self._ctx.bus.keys(prefix + "*")}
                known = sorted(names | set(self._state.processes) | set(self._state.vital))
                for name in known[: self._state.processes_max]:
                    value = await self._ctx.bus.get(topics.beat(name))
                    if value is not None:
                        self._see(value, live=False)
            except (BusAway, BusRefused):
                continue  # silence is what the judge hears then, and that is right

    def _see(self, value: bytes, *, live: bool) -> None:
        try:
            beat = decode(b"beat", value)
        except MessageRefused as refused:
            self._unreadable_beats += 1
            self._ctx.refuse("a beat", refused.why, value)
            self._ctx.beat.detail["unreadable_beats"] = str(self._unreadable_beats)
            if self._unreadable_beats == 1:
                self._ctx.log.warning("beat_refused", why=str(refused), remedy="run one build everywhere")
            return
        assert isinstance(beat, Beat)
        core.decide(core.BeatSeen(beat=beat, live=live, now_ns=self._ctx.clock.monotonic_ns()), self._state)

    async def _judge_all(self) -> None:
        clock = self._ctx.clock
        async for _ in turns(clock, self._ctx.config.judge_interval_s, self._judge):
            ts_ns = clock.now_ns()
            commands = core.decide(core.Tick(now_ns=clock.monotonic_ns(), ts_ns=ts_ns), self._state)
            for command in commands:
                self._perform(command)
            self._board.keep_processes(set(self._state.processes))
            self._show()
            self._judge.did(ts_ns)

    def _perform(self, command: core.Command) -> None:
        log = self._ctx.log
        match command:
            case ProcessJudged(process=process, health=health, reason=reason):
                self._board.say_judged(command)
                well = health in (ProcessHealth.ALIVE, ProcessHealth.STARTING)
                (log.info if well else log.warning)("judged", process=process, health=health, why=reason)
            case Halt(reason=reason):
                self._board.say_control(command)
                log.warning("halt", kind=command.kind, why=reason)
            case Resume(reason=reason):
                self._board.say_control(command)
                log.info("resume", kind=command.kind, why=reason)

    def _show(self) -> None:
        state = self._state
        alive = sum(p.health in (ProcessHealth.ALIVE, ProcessHealth.LATE) for p in state.processes.values())
        detail = self._ctx.beat.detail
        detail["judged"] = f"{alive} of {len(state.processes)} processes alive"
        waiting = ", ".join(state.lost)
        detail["liveness"] = f"halted, waiting for {waiting or 'a stable moment'}" if state.halted else "ok"
