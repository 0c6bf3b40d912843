"""The feed's only place with I/O: the market link, history, the bus.

A frame's messages are handed to the writers in the same turn of the loop in which it was read; nothing is
awaited in between. Everything slow (history, searches, published state) runs in tasks of its own and comes
back as an event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from services.feed.config import FeedConfig
from services.feed.core import decide
from services.feed.events import (
    Alarm,
    Append,
    BarsFetched,
    Command,
    ContractDoubted,
    ContractsFound,
    ContractTaken,
    Event,
    FetchBars,
    InputRefused,
    IntervalWanted,
    LinkChanged,
    MarketBatch,
    PublishState,
    Purpose,
    QueryFailed,
    Reconnect,
    ResolveContract,
    Subscribe,
    Tick,
    Unsubscribe,
)
from services.feed.outlet import Outlet
from services.feed.state import Market, make_state
from services.feed.tail import read_tail
from shared.broker.errors import BrokerQueryFailed
from shared.broker.port import (
    FrameRefused,
    LinkDown,
    LinkEvent,
    LinkUp,
    LoggedOut,
    MarketEvent,
    MarketLink,
    MarketPort,
    SubscriptionRefused,
    SubscriptionTaken,
)
from shared.bus.port import BusAway, BusRefused
from shared.domain.instrument import Instrument, gateway_root
from shared.domain.market import BarsWanted, Depth, MarketState, Quote, Trade
from shared.runtime.broker import market_port
from shared.runtime.schedule import turns
from shared.runtime.service import Context
from shared.runtime.session import SessionWatch
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode, encode

REFUSED_KEPT = 32
"""Refused frames whose raw bytes are kept for a look; the log has their beginning."""

TURN_NS = 2_000_000
"""A flood is read for at most this long before the other tasks of this process get their turn."""

MARKET_TYPES = frozenset({Quote, Trade, Depth})
RETRY_S = 0.5
WATCH_INTERVAL_S = 1.0
CONFIRM_INTERVAL_S = 0.5
CONFIRMED_NS = 1_000_000_000
"""The stream's word that it is ours still; when it is older (this process was frozen), it is asked again."""


class Shell:
    """Attributes: refused: the newest refused frames, with their bytes."""

    def __init__(self, context: Context[FeedConfig], port: MarketPort) -> None:
        self._context = context
        self._clock = context.clock
        self._port = port
        self._link: MarketLink = port.market_link()
        self._symbols = context.julie.symbols
        self.state = make_state(self._symbols, context.config.settings(context.julie))
        self._outlets: dict[str, Outlet] = {}
        self._views: dict[str, tuple[MarketState, int]] = {}  # with when they were said, monotonic
        self._views_ready = asyncio.Event()
        self._confirmed_mono_ns = 0
        self._queries: set[asyncio.Task[None]] = set()
        self.refused: deque[FrameRefused] = deque(maxlen=REFUSED_KEPT)

    async def run(self) -> None:
        """Serve until cancelled; ends with an exception when another feed has taken over."""
        for symbol in self._symbols:
            await self._open(symbol)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_link(), name="market-link")
                tasks.create_task(self._tick(), name="tick")
                tasks.create_task(self._watch(), name="watch")
                tasks.create_task(self._publish_views(), name="views")
                tasks.create_task(self._guard(), name="guard")
                tasks.create_task(self._read_wanted(), name="wanted")
        finally:
            for query in self._queries:
                query.cancel()
            await asyncio.gather(*self._queries, return_exceptions=True)
            await self._link.close()

    # start

    async def _open(self, symbol: str) -> None:
        """Take the right to write, then read where the last feed stopped."""
        config, bus, stream = self._context.config, self._context.bus, topics.md(symbol)
        while True:
            try:
                writer = await bus.open(
                    stream, entries_max=config.md_entries_max, pending_max=config.pending_max
                )
                entries = await bus.last(stream, config.tail_entries_max)
                latest = await bus.get(topics.quote(symbol))
                break
            except BusAway as error:
                self._context.log.warning("redis_away", why=str(error))
                await self._clock.sleep(RETRY_S)
        self._outlets[symbol] = Outlet(symbol, writer, config.pending_max)
        tail = read_tail(symbol, entries, config.bar_intervals_s, written=writer.last_seq, latest=latest)
        self._apply(tail.resumed(symbol, self._clock.now_ns(), self._clock.monotonic_ns()))

    # events

    async def _read_link(self) -> None:
        turn_ends_ns = 0
        async for batch in self._link.events():
            mono_ns = self._clock.monotonic_ns()
            self._take(batch, mono_ns)
            if mono_ns >= turn_ends_ns:
                await asyncio.sleep(0)
                while any(outlet.is_crowded for outlet in self._outlets.values()):
                    # The bus answers, slowly: read less, and let TCP make the broker wait.
                    await self._clock.sleep(0.002)
                turn_ends_ns = self._clock.monotonic_ns() + TURN_NS

    def _take(self, batch: Sequence[MarketEvent | LinkEvent], mono_ns: int) -> None:
        """Hand a frame to the core: market data as it is, what the link says one by one and in order."""
        for item in batch:
            if type(item) not in MARKET_TYPES:
                break
        else:
            self._apply(MarketBatch(batch, mono_ns))  # type: ignore[arg-type]
            return
        run: list[Quote | Trade | Depth] = []
        for item in batch:
            if isinstance(item, (Quote, Trade, Depth)):
                run.append(item)
                continue
            if run:
                self._apply(MarketBatch(run, mono_ns))
                run = []
            self._link_says(item, mono_ns)
        if run:
            self._apply(MarketBatch(run, mono_ns))

    def _link_says(self, item: LinkEvent, mono_ns: int) -> None:
        now_ns = self._clock.now_ns()
        log = self._context.log
        match item:
            case LinkUp(connection=connection):
                log.info("link_up", connection=connection)
                self._apply(LinkChanged(up=True, reason="", now_ns=now_ns, mono_ns=mono_ns))
                self._look_whether_ready()
            case LinkDown(reason=reason, planned=planned):
                log.info("link_down", why=reason, planned=planned)
                self._apply(
                    LinkChanged(up=False, reason=reason, planned=planned, now_ns=now_ns, mono_ns=mono_ns)
                )
            case SubscriptionRefused(target=target, argument=argument, error=error):
                reason = f"{target}({argument}) was refused: {error}"
                log.warning("subscription_refused", target=target, contract=argument, why=error)
                self._apply(
                    ContractDoubted(
                        contract_id=argument, target=target, reason=reason, now_ns=now_ns, mono_ns=mono_ns
                    )
                )
            case SubscriptionTaken(target=target, argument=argument):
                log.info("subscription_taken", target=target, contract=argument)
                self._apply(
                    ContractTaken(contract_id=argument, target=target, now_ns=now_ns, mono_ns=mono_ns)
                )
            case LoggedOut(text=text):
                log.error("logged_out", why=text, remedy="only one device may use this login at a time")
            case FrameRefused(origin=origin, field=field, reason=reason):
                self.refused.append(item)
                self._context.refuse(f"{origin} {field}".rstrip(), reason, item.raw)
                self._apply(
                    InputRefused(origin=origin, field=field, reason=reason, now_ns=now_ns, mono_ns=mono_ns)
                )

    async def _tick(self) -> None:
        """Give the core its time, often enough for the conflated state's rate."""
        append = self._context.beat.duty("append")
        async for _ in turns(self._clock, 1 / self._context.config.state_publish_hz):
            now_ns, mono_ns = self._clock.now_ns(), self._clock.monotonic_ns()
            for outlet in self._outlets.values():
                if (event := outlet.drained(now_ns, mono_ns)) is not None:
                    self._apply(event)
                acknowledged = outlet.newly_acknowledged()
                if acknowledged:
                    append.did(now_ns, acknowledged)
                if outlet.waiting:
                    append.waits(now_ns)
            venue_now_ns = self._port.venue_now_ns()
            self._apply(Tick(now_ns=now_ns, mono_ns=mono_ns, venue_now_ns=venue_now_ns))

    async def _watch(self) -> None:
        beat = self._context.beat
        duty = beat.duty("watch", interval_s=WATCH_INTERVAL_S)
        async for _ in turns(self._clock, WATCH_INTERVAL_S, duty):
            self._look_whether_ready()
            for market in self.state.markets.values():
                beat.detail[market.symbol] = _detail(market)
            for outlet in self._outlets.values():
                if trimmed := outlet.newly_trimmed():
                    self._context.log.error(
                        "stream_capped", symbol=outlet.symbol, entries=trimmed,
                        remedy="start the recorder, or raise feed.md_entries_max",
                    )  # fmt: skip
                    beat.detail["alarm"] = f"{outlet.symbol}: the hard cap trimmed {outlet.trimmed} entries"
            duty.did(self._clock.now_ns())

    def _look_whether_ready(self) -> None:
        known = any(market.instrument is not None for market in self.state.markets.values())
        self._context.beat.ready = self.state.link_was_up and known

    async def _guard(self) -> None:
        """Notice in a silent market too that another feed has taken over, or that Redis lost entries."""
        while True:
            await self._confirm()
            await self._clock.sleep(CONFIRM_INTERVAL_S)

    async def _confirm(self) -> None:
        """Ask the streams whether they are ours.

        Raises:
            Fenced, RolledBack: If they are not, or have lost what was acknowledged.
        """
        asked_mono_ns = self._clock.monotonic_ns()
        for outlet in self._outlets.values():
            await outlet.writer.check()
        self._confirmed_mono_ns = asked_mono_ns

    async def _read_wanted(self) -> None:
        """Look which bars strategies ask for; a read that fails changes nothing."""
        known: dict[str, bytes] = {}
        async for _ in turns(self._clock, WATCH_INTERVAL_S):
            try:
                fields = await self._context.bus.hash_get(topics.BARS_WANTED)
            except (BusAway, BusRefused):
                continue
            for who, value in fields.items():
                if known.get(who) != value:
                    self._want(who, value)
            known = fields

    def _want(self, who: str, value: bytes) -> None:
        origin = f"{topics.BARS_WANTED} {who}"
        try:
            wish = decode(b"bars_wanted", value)
        except MessageRefused as refused:
            self._context.log.warning("bars_refused", origin=origin, why=refused.why, raw=value[:200])
            self._context.refuse(origin, refused.why, value)
            return
        assert isinstance(wish, BarsWanted)
        now_ns, mono_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        self._apply(
            IntervalWanted(
                who=origin, interval_s=wish.interval_s, symbols=wish.symbols, now_ns=now_ns, mono_ns=mono_ns
            )
        )

    # commands

    def _apply(self, event: Event) -> None:
        for command in decide(event, self.state):
            if type(command) is Append:
                if command.messages:
                    shed = self._outlets[command.symbol].put(command.messages, self._clock)
                    if shed is not None:
                        self._apply(shed)
            else:
                self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case PublishState(state=view):
                self._views[view.symbol] = view, self._clock.monotonic_ns()
                self._views_ready.set()
            case FetchBars():
                self._ask(self._fetch(command), f"bars {command.symbol}")
            case ResolveContract(symbol=symbol):
                self._ask(self._resolve(symbol), f"contract {symbol}")
            case Subscribe(instrument=instrument):
                self._context.log.info(
                    "subscribed", symbol=instrument.symbol, contract=instrument.contract_id
                )
                self._link.subscribe(instrument)
                self._look_whether_ready()
            case Unsubscribe(contract_id=contract_id):
                self._context.log.info("unsubscribed", contract=contract_id)
                self._link.unsubscribe(contract_id)
            case Reconnect(reason=reason):
                self._link.reconnect(reason)
            case Alarm():
                self._say(command)

    def _say(self, alarm: Alarm) -> None:
        raw = self.refused[-1].raw if alarm.name == "input_refused" and self.refused else b""
        fields: dict[str, object] = {"symbol": alarm.symbol, "why": alarm.text, "count": alarm.count}
        if raw:
            fields["raw"] = raw[:200]
        if alarm.grave:
            self._context.beat.detail["alarm"] = f"{alarm.symbol} {alarm.name}: {alarm.text[:200]}"
            self._context.log.error(alarm.name, **fields)
        else:
            self._context.log.warning(alarm.name, **fields)

    async def _publish_views(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        # Python 3.11's `wait_for`, which the Redis library sends with, loses a cancellation that comes in the
        # moment of success: asking is the only way to hear of it.
        while not task.cancelling():
            await self._views_ready.wait()
            while self._clock.monotonic_ns() - self._confirmed_mono_ns > CONFIRMED_NS:
                # Nothing fences the conflated view: who was frozen, and replaced meanwhile, must not vouch.
                # Again, for what was answered may have waited for us to wake.
                await self._confirm()
            self._views_ready.clear()
            views, self._views = self._views, {}
            for symbol, (view, said_mono_ns) in views.items():
                if self._clock.monotonic_ns() - said_mono_ns > CONFIRMED_NS:
                    # It waited for us to wake; with the clock set back it would look like one of now.
                    # The core says it anew.
                    continue
                try:
                    await self._context.bus.set_and_publish(
                        topics.quote(symbol), topics.quotes(symbol), encode(view)
                    )
                except (BusAway, BusRefused):
                    break  # the next one replaces it

    # queries

    def _ask(self, query: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(query, name=name)  # type: ignore[arg-type]
        self._queries.add(task)
        task.add_done_callback(self._queries.discard)

    async def _fetch(self, command: FetchBars) -> None:
        symbol, purpose = command.symbol, command.purpose
        try:
            bars = await self._port.bars(
                command.instrument,
                interval_s=60,
                start_ns=command.start_ns,
                end_ns=command.end_ns,
                partial=purpose is Purpose.PROBE,
            )
        except BrokerQueryFailed as error:
            self._apply(self._failure(symbol, purpose, error))
            return
        self._apply(
            BarsFetched(
                symbol=symbol,
                purpose=purpose,
                contract_id=command.instrument.contract_id,
                start_ns=command.start_ns,
                end_ns=command.end_ns,
                bars=bars,
                now_ns=self._clock.now_ns(),
                mono_ns=self._clock.monotonic_ns(),
            )
        )

    async def _resolve(self, symbol: str) -> None:
        try:
            found = await self._search(symbol)
        except BrokerQueryFailed as error:
            self._apply(self._failure(symbol, Purpose.RESOLVE, error))
            return
        self._apply(
            ContractsFound(
                symbol=symbol, found=found, now_ns=self._clock.now_ns(), mono_ns=self._clock.monotonic_ns()
            )
        )

    async def _search(self, symbol: str) -> list[Instrument]:
        """Search by ticker, by the gateway's root, and at last ask for everything, to say what there is."""
        found = await self._port.search_contracts(symbol)
        root = gateway_root(symbol)
        if root != symbol and not any(i.symbol == symbol and i.active for i in found):
            found = [*found, *await self._port.search_contracts(root)]
        if not any(i.symbol == symbol and i.active for i in found):
            found = [*found, *await self._port.available_contracts()]
        return found

    def _failure(self, symbol: str, purpose: Purpose, error: BrokerQueryFailed) -> QueryFailed:
        if error.came is not None:
            self._context.refuse(error.endpoint, error.reason, error.came)
        return QueryFailed(
            symbol=symbol,
            purpose=purpose,
            reason=str(error),
            now_ns=self._clock.now_ns(),
            mono_ns=self._clock.monotonic_ns(),
        )


def _detail(market: Market) -> str:
    contract = market.instrument.contract_name if market.instrument else "no contract"
    counts = f"{market.quotes} quotes, {market.trades} trades, {market.depths} depth"
    late = f", {market.builder.late_trades} late" if market.builder.late_trades else ""
    reason = f" ({market.health_reason[:160]})" if market.health_reason else ""
    intervals = ", ".join(str(length) for length in sorted({60, *(f.interval_s for f in market.folders)}))
    return f"{market.health}{reason}; {contract}; {counts}{late}; bars of {intervals} s"


async def run(context: Context[FeedConfig]) -> None:
    """Build the ports and serve."""
    watch = SessionWatch(context.bus, context.clock)
    async with watch.followed():
        await watch.wait_token()
        async with market_port(context, watch) as port:
            await Shell(context, port).run()
