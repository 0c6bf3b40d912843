"""Guard's I/O: two ways in (bus and broker), two ways out (a stream for execution, and orders of its own).

Nothing here waits for Redis: what is said to execution is handed to a writer that sends it when it can, and
everything that guard needs for closing goes straight to the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.guard import view
from services.guard.config import GuardConfig
from services.guard.core import decide
from services.guard.events import (
    AskFlatLook,
    AskLook,
    AskPrice,
    Command,
    Event,
    ExecutionBeat,
    ExecutionSaid,
    FlatLooked,
    Keep,
    LookFailed,
    Marked,
    Moment,
    Note,
    ReArmed,
    RecordUnwritten,
    RemedyAnswered,
    Reported,
    Say,
    Send,
    Tick,
)
from services.guard.gather import AccountMissing, flat_look, look, price
from services.guard.hours import brokers_time, day_at
from services.guard.keeping import RecordKeeper
from services.guard.state import NS_PER_S, Enforcing, State
from services.guard.store import RecordFile, RecordUnreadable
from shared.broker.errors import BrokerQueryFailed, LimiterUnavailable
from shared.broker.port import AccountPort, MarketPort, NotSent, OrderPort, Outcome
from shared.bus.places import gone_back
from shared.bus.port import BusAway, BusRefused, Entry, Fenced, RolledBack, StreamWriter
from shared.domain.control import Beat, HaltKind, Resume
from shared.domain.execution import FlattenFinished, FlattenProgressed, TradingStateChanged
from shared.domain.flat import Cancel
from shared.domain.instrument import Instrument
from shared.domain.market import MarketState
from shared.domain.market_time import MarketTime
from shared.domain.report import (
    AccountReport,
    FillReport,
    OrderReport,
    PositionReport,
    SyncState,
)
from shared.runtime.fence import Fence
from shared.runtime.schedule import turns
from shared.runtime.service import Context
from shared.runtime.session import SessionWatch
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

TICK_S = 0.1
READ_BLOCK_MS = 200
READ_COUNT_MAX = 500
QUOTE_POLL_S = 1.0
SHOW_S = 1.0
CHECK_S = 0.5
"""How soon an emptied Redis is noticed."""
CONFIRM_S = 0.5
"""A cancel or close waits so long for the bus to say that we are the newest guard."""
TAKEN_OVER = "a newer guard has taken over"
UNACKED_S = 1.0
"""What was said to execution and is not in Redis after this long: Redis is away for us."""
EXECUTION = "execution"
_HEARD = frozenset({b"trading_state", b"flatten_progress", b"flatten_finished"})


class Shell:
    """One account's guard."""

    def __init__(
        self,
        ctx: Context[GuardConfig],
        *,
        orders: OrderPort,
        account: AccountPort,
        market: MarketPort,
        watch: SessionWatch | None,
        file: RecordFile,
    ) -> None:
        config, julie = ctx.config, ctx.julie
        row = config.account(julie.account_id)
        self._ctx = ctx
        self._clock = ctx.clock
        self._orders = orders
        self._account = account
        self._market = market
        self._watch = watch
        self._file = file
        self._account_id = julie.account_id
        self._venue_clock = julie.market_clock == "venue"
        self._time = MarketTime(venue=self._venue_clock, speed=julie.market_speed)
        self._told_ns: dict[str, int] = {}
        self._instruments: dict[str, Instrument] = {}
        self._reader = ctx.bus.reader()
        self._heard = (
            topics.CONTROL_OPERATOR,
            topics.orders(self._account_id),
            topics.reports(self._account_id),
        )
        self._writer: StreamWriter | None = None
        self._fence = Fence(ctx.clock)
        self._refused: BusRefused | None = None
        self._unacked_ns: int | None = None
        self._record = RecordKeeper(file, self._clock, refuse=self._refuse, write_fails=self._write_fails)
        self._tasks: asyncio.TaskGroup | None = None
        self._duty = ctx.beat.duty("watch", interval_s=1.0)
        self._looks = ctx.beat.duty("look", interval_s=config.look_interval_s)
        self._alarms = 0
        self.state = State(
            account_id=julie.account_id,
            rules=row.rules(),
            hours=config.hours(julie),
            limits=config.limits(),
            since=row.since.isoformat() if row.since is not None else "",
            began_ns=ctx.clock.monotonic_ns(),
        )

    async def run(self) -> None:
        """Guard until cancelled."""
        self._load()
        if self._watch is not None:
            await self._watch.refresh()  # a look without the session's token would fail
        self._writer = await self._ctx.bus.open(topics.CONTROL_GUARD)
        self._fence.begin(self._writer.check)
        for stream in self._heard:
            self._reader.follow(stream, "$")
        rules, hours = self.state.rules, self.state.hours
        self._ctx.log.info(
            "guarantee", account=self._account_id, profile=rules.profile,
            max_loss=str(rules.max_loss), daily_loss=str(rules.daily_loss), flat_by=str(hours.flat_by),
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._tick(), name="tick")
                tasks.create_task(self._read(), name="read")
                tasks.create_task(self._hear_quotes(), name="quotes")
                tasks.create_task(self._poll_quotes(), name="quotes-polled")
                tasks.create_task(self._hear_beats(), name="beats-heard")
                tasks.create_task(self._record.keep(self._writer), name="record")
                tasks.create_task(self._show(), name="view")
                tasks.create_task(self._check(), name="check")
        finally:
            await self._reader.close()

    def _load(self) -> None:
        try:
            self.state.recall(self._file.load(account_id=self._account_id, since=self.state.since))
        except RecordUnreadable as error:
            self.state.record_lost = str(error)
            self._alarm("record_unreadable", str(error))
        record = self.state.record
        if record is not None:
            self._record.write(record)
            self._ctx.log.info(
                "recalled", day=record.day, high_balance=str(record.high_balance),
                latch=record.latch.reason if record.latch is not None else "",
            )  # fmt: skip

    # -- what comes in ------------------------------------------------------------

    def _now(self) -> Moment:
        now_ns, mono_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        told_ns = self._account.venue_now_ns()
        if self._venue_clock:
            self._time.tell(told_ns, mono_ns)
            market_ns = self._time.now(now_ns, mono_ns)
        else:
            # Closing hours are the broker's. What is unknown for `blind_s` is acted upon elsewhere too.
            waited_s = (mono_ns - self.state.began_ns) / NS_PER_S
            market_ns = brokers_time(told_ns, now_ns, waited_s=waited_s, patience_s=self.state.limits.blind_s)
        return Moment(now_ns=now_ns, mono_ns=mono_ns, market_ns=market_ns)

    async def _tick(self) -> None:
        async for _ in turns(self._clock, TICK_S, self._duty):
            at = self._now()
            self._decide(Tick(bus_away=self._is_bus_away(at.mono_ns), at=at))
            self._duty.did(at.now_ns)
            # Start and recovery are one path; but not while we are closing, unless a newer guard does that.
            if self._refused is not None and (self.state.enforcing is None or self._is_older):
                raise self._refused

    @property
    def _is_older(self) -> bool:
        """A newer guard has the record, and has heard what was said since: a person may have re-armed it."""
        return isinstance(self._refused, Fenced)

    def _is_bus_away(self, mono_ns: int) -> bool:
        writer = self._writer
        assert writer is not None
        if writer.acked_seq >= writer.last_seq:
            self._unacked_ns = None
        elif self._unacked_ns is None:
            self._unacked_ns = mono_ns
        unacked = self._unacked_ns is not None and mono_ns - self._unacked_ns > UNACKED_S * NS_PER_S
        return self._refused is not None or self._reader.away_since_ns is not None or unacked

    async def _read(self) -> None:
        while True:
            entries = await self._reader.read(block_ms=READ_BLOCK_MS, count=READ_COUNT_MAX)
            for entry in entries:
                self._take(entry)
            if entries:
                await asyncio.sleep(0)

    def _take(self, entry: Entry) -> None:
        if entry.stream == topics.orders(self._account_id) and entry.kind not in _HEARD:
            return
        try:
            message = decode(entry.kind, entry.value)
        except MessageRefused as refused:
            self._ctx.refuse(entry.cause, refused.why, entry.value)
            return
        at = self._now()
        match message:
            case AccountReport() | PositionReport() | OrderReport() | FillReport() | SyncState():
                self._decide(Reported(report=message, at=at))
            case TradingStateChanged() | FlattenProgressed() | FlattenFinished():
                self._decide(ExecutionSaid(message=message, at=at))
            case Resume(kind=HaltKind.OPERATOR | HaltKind.GUARD, strategy_id=None) as order:
                if entry.stream == topics.CONTROL_OPERATOR:
                    self._decide(ReArmed(order=order, at=at))
            case _:
                pass  # halts and flattens of a person are execution's; snapshot marks are of no use here

    async def _hear_quotes(self) -> None:
        channels = [topics.quotes(symbol) for symbol in self._ctx.julie.symbols]
        async for _, value in self._ctx.bus.subscribe(channels):
            self._mark(value, polled=False)

    async def _poll_quotes(self) -> None:
        """A lost message must not make a price old: the newest also lies under a key."""
        async for _ in turns(self._clock, QUOTE_POLL_S):
            for symbol in self._ctx.julie.symbols:
                try:
                    value = await self._ctx.bus.get(topics.quote(symbol))
                except (BusAway, BusRefused):
                    break
                if value is not None:
                    self._mark(value, polled=True)

    def _mark(self, value: bytes, *, polled: bool) -> None:
        try:
            market = decode(b"market_state", value)
        except MessageRefused as refused:
            self._ctx.refuse("quote", refused.why, value)
            return
        assert isinstance(market, MarketState)
        if market.ts_event_ns > self._told_ns.get(market.symbol, 0):
            self._told_ns[market.symbol] = market.ts_event_ns
            self._time.observe(market.ts_event_ns, self._clock.monotonic_ns())
        self._decide(Marked(market=market, polled=polled, at=self._now()))

    async def _hear_beats(self) -> None:
        async for _, value in self._ctx.bus.subscribe([topics.BEATS]):
            if b'"execution"' not in value:
                continue
            try:
                beat = decode(b"beat", value)
            except MessageRefused as refused:
                self._ctx.refuse("a beat", refused.why, value)
                continue
            if isinstance(beat, Beat) and beat.process == EXECUTION:
                self._decide(ExecutionBeat(held=beat.held, at=self._now()))

    # -- decide and obey ------------------------------------------------------------

    def _decide(self, event: Event) -> None:
        for command in decide(event, self.state):
            self._obey(command)
        self._ctx.beat.ready = self._ctx.beat.ready or self.state.truth is not None

    def _obey(self, command: Command) -> None:
        match command:
            case Say():
                self._say(command)
            case AskLook(fills_from_ns=fills_from_ns, working=working):
                self._start(self._look(fills_from_ns, working=working), "look")
            case AskFlatLook():
                self._start(self._flat_look(), "flat-look")
            case AskPrice(contract_id=contract_id):
                self._start(self._price(contract_id), "price")
            case Send():
                self._start(self._send(command, self.state.enforcing), "remedy")
            case Keep(record=record):
                self._record.write(record)
            case Note(name=name, text=text, alarm=True):
                self._alarm(name, text)
            case Note(name=name, text=text):
                self._ctx.log.info(name, why=text)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work, name=name)

    def _say(self, command: Say) -> None:
        assert self._writer is not None
        self._ctx.log.info("said", what=type(command.control).__name__.lower(), why=command.control.reason)
        try:
            self._writer.append(command.control)
        except BusRefused as refused:
            self._refuse(refused)

    def _refuse(self, refused: BusRefused) -> None:
        """Keep the first reason to end; that a newer guard is there counts more than any other."""
        if self._refused is None or (isinstance(refused, Fenced) and not self._is_older):
            self._refused = refused
            self._alarm("control_refused", str(refused))

    # -- the broker -------------------------------------------------------------------

    async def _look(self, fills_from_ns: int | None, *, working: bool) -> None:
        at = self._now()
        event: Event
        try:
            if self._watch is not None and self._watch.token() is None:
                raise AccountMissing("there is no broker session yet")
            async with asyncio.timeout(self._ctx.config.look_within_s):
                event = await look(
                    self._account,
                    self._account_id,
                    self._now,
                    fills_from_ns=fills_from_ns if fills_from_ns is not None else self._far_back(at),
                    asked_ns=fills_from_ns,
                    working=working,
                )
        except (BrokerQueryFailed, LimiterUnavailable, AccountMissing) as error:
            event = LookFailed(reason=str(error), at=self._now())
        except TimeoutError:
            why = f"the broker gave no answer within {self._ctx.config.look_within_s:g} s"
            event = LookFailed(reason=why, at=self._now())
        self._decide(event)
        if not self.state.look_failure:
            self._looks.did(self._clock.now_ns())

    def _far_back(self, at: Moment) -> int:
        """Return the start of the trading day that lies `history_days` back, by the best clock there is."""
        market_ns = at.market_ns if at.market_ns is not None else at.now_ns
        return day_at(
            market_ns - self.state.limits.history_days * 86_400 * NS_PER_S, self.state.hours
        ).start_ns

    async def _flat_look(self) -> None:
        seen = await flat_look(self._account, self._account_id, self._now, self._ctx.config.look_within_s)
        self._decide(FlatLooked(look=seen, at=self._now()))

    async def _price(self, contract_id: str) -> None:
        try:
            async with asyncio.timeout(self._ctx.config.look_within_s):
                event = await price(self._market, self._instruments, contract_id, self._now)
        except (BrokerQueryFailed, LimiterUnavailable, TimeoutError) as error:
            self._ctx.log.warning("price_unknown", contract=contract_id, why=str(error))
            return
        if event is not None:
            self._decide(event)

    async def _send(self, command: Send, demand: Enforcing | None) -> None:
        """Send it while that demand stands; None: it has ended with the very look that this is decided by."""

        def held() -> str | None:
            """A place in the request budget may take seconds: what is open by then may be nobody's breach."""
            if self._is_older:
                return TAKEN_OVER
            stands = demand is not None and self.state.enforcing is demand
            return None if stands else "nothing demands it any more"

        await self._ask_for_newer()
        remedy = command.remedy
        outcome: Outcome
        if self._is_older:
            outcome = NotSent(reason=TAKEN_OVER)
        elif isinstance(remedy, Cancel):
            outcome = await self._orders.cancel(self._account_id, remedy.broker_order_id, held=held)
        else:
            outcome = await self._orders.close_contract(self._account_id, remedy.contract_id, held=held)
        self._ctx.log.info("remedy", what=str(remedy), outcome=str(outcome))
        answer = RemedyAnswered(remedy=remedy, sent_ns=command.sent_ns, outcome=str(outcome), at=self._now())
        self._decide(answer)

    async def _ask_for_newer(self) -> None:
        """Ask whether a newer guard is there, if the bus has not just denied it; silence holds nothing back.

        One that was frozen closes by an old picture: the newer one, and a person beside it, know better.
        """
        slept = True
        while slept and not self._is_older:
            began_ns = self._clock.monotonic_ns()
            try:
                await self._fence.confirmed(CONFIRM_S)
            except BusRefused as refused:
                self._refuse(refused)
            # What was said while we did not run again, in that very wait, we could not hear.
            slept = self._clock.monotonic_ns() - began_ns > round(2 * CONFIRM_S * NS_PER_S)

    # -- what lasts and what people see ---------------------------------------------------

    def _write_fails(self, why: str | None) -> None:
        """Take in that the disk does not take the record, or takes it again."""
        if why is not None and self.state.record_failure is None:
            self._alarm("record_unwritten", why)
        if why != self.state.record_failure:
            self._decide(RecordUnwritten(reason=why, at=self._now()))

    async def _show(self) -> None:
        key = topics.guard(self._account_id)
        async for _ in turns(self._clock, SHOW_S):
            at = self._now()
            state, detail = self.state, self._ctx.beat.detail
            detail["guard"] = view.sentence(state, at)
            if state.look_failure:
                detail["look"] = state.look_failure[:200]
            else:
                detail.pop("look", None)
            try:
                await self._ctx.bus.hash_set(key, view.fields(state, at))
            except (BusAway, BusRefused):
                continue

    async def _check(self) -> None:
        """Notice that another guard has taken over, or that Redis lost what we said or read."""
        async for _ in turns(self._clock, CHECK_S):
            try:
                try:
                    await self._fence.ask()
                except BusRefused as refused:
                    self._refuse(refused)
                back = await gone_back(self._ctx.bus, {one: self._reader.cursor(one) for one in self._heard})
                if back is not None:
                    self._refuse(RolledBack(back))
            except BusAway:
                continue
            except BusRefused as refused:
                self._ctx.log.debug("check", why=str(refused))

    def _alarm(self, name: str, text: str) -> None:
        self._alarms += 1
        self._ctx.log.error(name, why=text)
        self._ctx.beat.detail["alarm"] = f"{name}: {text}"[:200]
        self._ctx.beat.detail["alarms"] = str(self._alarms)
