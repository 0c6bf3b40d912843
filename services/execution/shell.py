"""Execution's I/O: streams in, one commit, then POSTs and the outbox.

Between reading an intent and its POST there are decoding, the decision and one fsynced commit, and nothing
else: no await, no round trip. POSTs and questions to the broker run as tasks (`sender.py`), so a slow broker
delays neither reports nor cancels nor control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from services.execution import holds
from services.execution.config import ExecutionConfig
from services.execution.core import decide
from services.execution.events import (
    Alarm,
    BusDiffers,
    Command,
    Event,
    HeartbeatHeard,
    KillSeen,
    MarketRead,
    Place,
    ProcessSeen,
    Publish,
    Recovered,
    ReportRead,
    Tick,
)
from services.execution.inbox import Inbox, lost_before
from services.execution.ledger import Commit, Ledger, LedgerFailed, Step
from services.execution.outbox import Outbox, Position
from services.execution.sender import Sender, Session, words
from services.execution.state import NS_PER_S, Dirty, State
from services.execution.switch import KillSwitch
from shared.broker.port import AccountPort, OrderPort
from shared.bus.places import ends_before, gone_back, parsed_id
from shared.bus.port import BusAway, BusRefused, RolledBack
from shared.domain.control import HELD, HELD_NONE, Beat
from shared.domain.market import MarketState
from shared.domain.report import SyncState
from shared.runtime import marks
from shared.runtime.config import halt_flag
from shared.runtime.fence import Fence
from shared.runtime.service import Context
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode, encode, kind_of

HEARTBEAT = "heartbeat"
IDLE_COMMIT_S = 5.0
"""Cursors that moved over entries without effect, and what the bus has acknowledged, are written this often:
reading again is harmless, and of a loss of Redis this much may go unnoticed if we are killed with it."""
IDLE_S = 1.0
"""Without an entry for so long, the ledger's housekeeping delays nobody."""
PAUSE_S, WAKING_S = 1.0, 0.25
"""So long without a turn we were frozen; what is heard in the first moment after that had waited."""
RECALL_ENTRIES = 5_000
"""How far back the newest whole picture of the account is looked for at the start."""


class Shell:
    """One account's sender of orders."""

    def __init__(
        self,
        ctx: Context[ExecutionConfig],
        *,
        orders: OrderPort,
        account: AccountPort,
        session: Session,
        ledger: Ledger,
        switch: KillSwitch | None = None,
    ) -> None:
        self._ctx = ctx
        self._switch = switch or KillSwitch(halt_flag(ctx.julie.data_dir))
        self._session = session
        self._fence = Fence(ctx.clock)
        self._sender = Sender(
            ctx,
            orders=orders,
            account=account,
            session=session,
            answer=self._apply,
            fence=self._fence,
            held=lambda name: holds.hold(self.state, self.state.orders[name], self._now()),
            held_change=lambda change: holds.hold_change(self.state, change, self._now()),
        )
        self._ledger = ledger
        self._account_id = ctx.julie.account_id
        self._duty = ctx.beat.duty("orders", interval_s=1.0)
        self._reader = ctx.bus.reader()
        self._followed: set[str] = set()
        self._intents: list[str] = []
        self._inbox = Inbox(
            self._account_id,
            refuse=ctx.refuse,
            misplaced=lambda text: self._alarm("misplaced", text),
        )
        self._failed: Exception | None = None
        self._saved_ns = 0
        self._ran_ns = ctx.clock.monotonic_ns()
        self._woke_ns = self._ran_ns - NS_PER_S
        self._entry_ns = 0
        self._alarms = 0
        self._outbox: Outbox | None = None
        rules = ctx.config.rules(ctx.julie)
        self.state = State(
            msgspec.structs.replace(
                rules,
                order_types=orders.capabilities.order_types,
                build=ctx.beat.build,
                settings=ctx.beat.settings,
            )
        )
        self._now = self._sender.now

    async def run(self) -> None:
        """Recover, then work until cancelled."""
        await self._recover()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(), name="read")
                tasks.create_task(self._tick(), name="tick")
                tasks.create_task(self._markets(), name="markets")
                tasks.create_task(self._beats(), name="beats")
                tasks.create_task(self._discover(), name="discover")
                tasks.create_task(self._fence.keep(), name="fence")
        finally:
            await self._finish()

    # -- start and end ----------------------------------------------------------

    async def _recover(self) -> None:
        contents = self._ledger.load()
        self.state.load(contents.standing, contents.orders, contents.fills)
        self._inbox.cursors = contents.cursors
        writer = await self._ctx.bus.open(topics.orders(self._account_id))
        self._outbox = Outbox(writer, self._ledger)
        self._fence.begin(self._outbox.check)
        acked_seq = self.state.standing.acked_seq
        differs = self._outbox.difference(last_seq=contents.last_seq, acked_seq=acked_seq)
        if differs is not None:
            # Before the stream is made whole: after a kill in between the next start could not tell any more.
            self._apply(BusDiffers(what=differs, at=self._now()))
        republished = await self._outbox.republish()
        self._ctx.log.info(
            "recovered", orders=len(contents.orders), fills=len(contents.fills), step=contents.last_seq,
            republished=republished, state=self.state.trading_state,
        )  # fmt: skip
        begun = await self._check_cursors()
        lost = lost_before(await self._ctx.bus.heads(sorted(begun)), begun)
        await self._recall()
        self._look_at_switch()
        # With the halt, and not before it: the next start could not tell any more.
        self._inbox.unsaved |= dict.fromkeys(begun, "0-0")
        self._apply(Recovered(lost=lost, boot=self._ctx.clock.boot(), at=self._now()))

    async def _check_cursors(self) -> dict[str, str]:
        """Begin a stream anew that ends before our place in it; return what our place was in each.

        Ids rise with the wall clock. Where that has fallen as well, nothing would ever come after our place.
        """
        begun: dict[str, str] = {}
        for stream, cursor in sorted(self._inbox.cursors.items()):
            newest = await self._ctx.bus.last(stream)
            # One without entries is read from its beginning too; `lost_before` tells what it was.
            if ends_before(newest[0].id if newest else None, cursor, empty=True):
                self._ctx.log.warning("stream_begins_anew", stream=stream, cursor=cursor)
                self._inbox.cursors[stream] = "0-0"
                begun[stream] = cursor
        return begun

    async def _recall(self) -> None:
        """Read reports again from the newest whole picture on, and whether broker_sync was in sync."""
        stream = topics.reports(self._account_id)
        cursor = self._inbox.cursors.get(stream)
        if cursor is None:
            return
        sync = (await self._ctx.bus.hash_get(topics.account(self._account_id))).get("sync")
        if sync is not None:
            report = decode(b"sync_state", sync)
            assert isinstance(report, SyncState)
            self._apply(ReportRead(report=report, cause="", at=self._now()))
        entries = await self._ctx.bus.last(stream, RECALL_ENTRIES)
        begun = [
            parsed_id(entry.id) for entry in entries if entry.kind == b"snapshot_begun" and entry.seq > 0
        ]
        if begun and begun[-1] <= parsed_id(cursor):
            ms, seq = begun[-1]
            self._inbox.cursors[stream] = f"{ms}-{seq - 1}"  # just before it, whoever's entry that is

    async def _finish(self) -> None:
        """Give what was sent a moment to be answered, so that a stop leaves nothing unknown if it can."""
        await self._sender.finish(self._ctx.config.stop_wait_s)
        await self._reader.close()

    # -- what comes in ----------------------------------------------------------

    async def _read(self) -> None:
        config = self._ctx.config
        while True:
            self._follow()
            entries = await self._reader.read(block_ms=config.read_block_ms, count=config.read_count_max)
            if entries:
                self._entry_ns = self._ctx.clock.monotonic_ns()
                entries.sort(key=self._inbox.rank)
                at = self._now()
                self._apply(*[event for entry in entries for event in self._inbox.events(entry, at)])
                await asyncio.sleep(0)  # what is to be sent leaves before the next read is asked for
            elif self._reader.away_since_ns is not None:
                # Before anything is read from what comes back: an older copy may show intents that the
                # writer's connection, which is made anew by itself, has not refused yet.
                self._fence.forget()
            self._duty.did(self._ctx.clock.now_ns())

    def _follow(self) -> None:
        """Follow what may be read by now: reports after a look at the broker, intents when all is known."""
        wanted = [topics.CONTROL_OPERATOR, topics.CONTROL_GUARD, topics.CONTROL_HEARTBEAT]
        if self.state.searched:
            wanted.append(topics.reports(self._account_id))
        if self.state.ready:
            wanted += self._intents
            self._ctx.beat.ready = True
        for stream in wanted:
            if stream not in self._followed:
                self._followed.add(stream)
                self._reader.follow(stream, self._inbox.place(stream))

    async def _tick(self) -> None:
        config = self._ctx.config
        while True:
            self._waking(self._ctx.clock.monotonic_ns())
            self._look_at_switch()
            offset_ms = self._sender.clock_offset_ms()
            self._apply(Tick(session=self._session.health, at=self._now(), clock_offset_ms=offset_ms))
            if self._unsaved() and self._ctx.clock.monotonic_ns() - self._saved_ns > IDLE_COMMIT_S * NS_PER_S:
                self._commit([])
            elif self._ledger.untidy and self._idle_s() > IDLE_S:
                self._ledger.tidy()
            self._show()
            await self._ctx.clock.sleep(config.tick_ms / 1000)

    def _unsaved(self) -> bool:
        assert self._outbox is not None
        return bool(self._inbox.unsaved) or self._outbox.acked_seq > self.state.standing.acked_seq

    def _look_at_switch(self) -> None:
        why = self._switch.pulled()
        if why is not None:
            self._apply(KillSeen(why=why, at=self._now()))

    def _idle_s(self) -> float:
        return (self._ctx.clock.monotonic_ns() - self._entry_ns) / NS_PER_S

    async def _markets(self) -> None:
        channels = [topics.quotes(symbol) for symbol in self._ctx.julie.symbols]
        async for _, value in self._ctx.bus.subscribe(channels):
            self._market(value, polled=False)

    def _market(self, value: bytes, *, polled: bool) -> None:
        try:
            market = decode(b"market_state", value)
        except MessageRefused as refused:
            self._ctx.refuse("quote", refused.why, value)
            self._alarm("market_refused", str(refused))
            return
        assert isinstance(market, MarketState)
        self._apply(MarketRead(market=market, at=self._now(), polled=polled))

    async def _beats(self) -> None:
        async for _, value in self._ctx.bus.subscribe([topics.BEATS]):
            try:
                beat = decode(b"beat", value)
            except MessageRefused as refused:
                self._ctx.refuse("a beat", refused.why, value)
                continue
            assert isinstance(beat, Beat)
            if self.state.builds.get(beat.process) != (beat.build, beat.settings):
                self._apply(
                    ProcessSeen(
                        process=beat.process, build=beat.build, settings=beat.settings, at=self._now()
                    )
                )
            if beat.process == HEARTBEAT:
                at = self._now()
                if not self._waking(at.mono_ns):
                    self._apply(HeartbeatHeard(at=at, age_ns=max(0, at.now_ns - beat.ts_ns)))

    def _waking(self, now_ns: int) -> bool:
        """Say whether we have just been frozen: whoever is heard now may have fallen silent since.

        The age of a beat alone does not tell: the wall clock may have been set back meanwhile.
        """
        if now_ns - self._ran_ns > PAUSE_S * NS_PER_S:
            self._woke_ns = now_ns
        self._ran_ns = now_ns
        return now_ns - self._woke_ns < WAKING_S * NS_PER_S

    async def _discover(self) -> None:
        """Find new strategy instances; market states, if their channel was deaf; how far behind we are.

        Raises:
            RolledBack: A stream ends before our place in it: trading halts until a person lifts it.
        """
        pattern = topics.intents(self._account_id, "*")
        while True:
            back = None
            try:
                keys = await self._ctx.bus.keys(pattern)
                self._intents = [key for key in keys if not key.endswith(":head")]
                for symbol in self._ctx.julie.symbols:
                    value = await self._ctx.bus.get(topics.quote(symbol))
                    if value is not None:
                        self._market(value, polled=True)
                heads = await self._ctx.bus.heads(sorted(self._followed))
                self._ctx.beat.lag = {
                    stream: max(0, head - Position.of(self._inbox.place(stream)).seq)
                    for stream, head in heads.items()
                }
                # Our places as they were before the question: they may move while we wait.
                back = await gone_back(self._ctx.bus, {one: self._inbox.place(one) for one in self._followed})
            except (BusAway, BusRefused) as error:
                self._ctx.log.debug("discover", why=str(error))
            if back is not None:
                raise RolledBack(back)
            await self._ctx.clock.sleep(self._ctx.config.discover_s)

    # -- decide, commit, obey -----------------------------------------------------

    def _apply(self, *events: Event) -> None:
        if self._failed is not None:
            # The state is ahead of the ledger: a later commit would hold its records without their steps.
            raise self._failed
        try:
            commands = [command for event in events for command in decide(event, self.state)]
        except Exception as error:
            self._failed = error
            raise
        messages = [command for command in commands if isinstance(command, Publish)]
        claims = marks.ARMED and any(isinstance(command, Place) for command in commands)
        if claims:
            marks.reached("before_claim")
        sent = [text for command in commands if (text := words(command))]
        steps = self._commit(messages, sent) if messages or sent or self.state.dirty else []
        if claims:
            marks.reached("after_claim")
        for command in commands:
            self._obey(command)
        if marks.ARMED and any(hasattr(publish.message, "client_order_id") for publish in messages):
            marks.reached("before_publish")
        assert self._outbox is not None
        for step, publish in zip(steps, messages, strict=True):
            self._outbox.publish(publish.message, step.seq)

    def _commit(self, messages: Sequence[Publish], sent: Sequence[str] = ()) -> list[Step]:
        """Write steps, changed records, cursors and what is to leave, all or nothing: it rests on that."""
        outbox, state = self._outbox, self.state
        assert outbox is not None
        now_ns = self._ctx.clock.now_ns()
        steps = [
            Step(outbox.next_seq + n, now_ns, kind_of(one.message), encode(one.message), one.cause)
            for n, one in enumerate(messages)
        ]
        dirty = state.dirty
        standing = state.standing if dirty.standing or not messages else None
        if standing is not None:
            standing.acked_seq = outbox.acked_seq
            self._saved_ns = self._ctx.clock.monotonic_ns()
        batch = Commit(
            steps=steps,
            orders=dirty.orders,
            fills=dirty.fills,
            standing=standing,
            cursors=self._inbox.unsaved,
            sent=sent,
            ts_ns=now_ns,
        )
        try:
            self._ledger.commit(batch)
        except LedgerFailed as error:
            self._failed = error
            raise
        outbox.next_seq += len(steps)
        state.dirty = Dirty()
        self._inbox.unsaved = {}
        return steps

    def _obey(self, command: Command) -> None:
        match command:
            case Publish():
                pass  # with the steps
            case Alarm(name=name, text=text):
                self._alarm(name, text)
            case _:
                self._sender.send(command)

    # -- what people see --------------------------------------------------------------

    def _alarm(self, name: str, text: str) -> None:
        self._alarms += 1
        self._ctx.log.error(name, why=text)
        self._ctx.beat.detail["alarm"] = f"{name}: {text}"[:200]
        self._ctx.beat.detail["alarms"] = str(self._alarms)

    def _show(self) -> None:
        self._sender.check()
        state, detail = self.state, self._ctx.beat.detail
        detail["trading"] = str(state.trading_state)
        detail[HELD] = ", ".join(sorted(state.halts)) or HELD_NONE
        if state.halts:
            detail["halts"] = state.halt_reason()[:200]
        else:
            detail.pop("halts", None)
        if latched := state.latched():
            detail["latched"] = "; ".join(f"{name}: {why}" for name, why in latched.items())[:200]
        else:
            detail.pop("latched", None)
        detail["open_orders"] = str(len(state.open))
        detail["in_doubt"] = str(len(state.doubts))
