"""Evaluate one strategy: one event in, its intents out, nothing else touched.

The worker reads, this decides, the worker commits. No clock is read here: the guards compare an event's
receive time with `asof_ns`, which the worker sets for what it reads and journals, so that a replay of the
journal makes the same choices. Host decisions (who runs which instance) are in `supervision.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, assert_never, get_args

import msgspec

from shared.domain.execution import OrderFilled, OrderMessage
from shared.domain.journal import MarketAdopted, StrategySnapshot
from shared.domain.market import (
    Bar,
    ContractResolved,
    Depth,
    FeedGap,
    FeedHealth,
    FeedState,
    MarketMessage,
    Quote,
    Trade,
)
from shared.domain.order import Intent
from shared.strategy.desk import Desk, DeskRules
from shared.strategy.strategy import Strategy
from shared.strategy.view import DeskState, Market

_ORDER_TYPES: tuple[type, ...] = get_args(OrderMessage)


class Input(NamedTuple):
    """One stream entry, decoded."""

    stream: str
    id: bytes
    message: MarketMessage | OrderMessage
    asof_ns: int


class EntriesLost(NamedTuple):
    """Entries of a stream are missing; `symbol` is None for the order stream."""

    symbol: str | None
    missing: int
    asof_ns: int


class StopAsked(NamedTuple):
    """The worker will stop after this."""


Event = Input | EntriesLost | MarketAdopted | StopAsked

Handler = Callable[[Any], None]


@dataclass(slots=True)
class State:
    """One running instance. Only `decide` changes it.

    Attributes:
        every: Message types of which each one must reach `decide`. Of quotes that no callback wants only
            the last before anything else is needed; trades and depth that nobody wants not at all.
    """

    strategy: Strategy
    desk: Desk
    routes: dict[type, Handler] = field(init=False)
    every: frozenset[type] = field(init=False)

    def __post_init__(self) -> None:
        self.routes = _routes(self)
        cls = type(self.strategy)
        unwanted = {
            kind
            for kind, name in ((Quote, "on_quote"), (Trade, "on_trade"), (Depth, "on_depth"))
            if getattr(cls, name) is getattr(Strategy, name)
        }
        self.every = frozenset(set(self.routes) - unwanted)


def decide(event: Event, state: State) -> list[Intent]:
    """Apply one event to `state` and return what the strategy asks for, in its order.

    Raises:
        Exception: Whatever the author's code raises; `state` must not be used afterwards.
    """
    if type(event) is Input:
        route = state.routes.get(type(event.message))
        if route is None:
            return []
        desk = state.desk
        desk.stream, desk.entry_id, desk.message, desk.asof_ns = (
            event.stream,
            event.id,
            event.message,
            event.asof_ns,
        )
        desk.intents = []
        route(event.message)
        desk.message = None
        return desk.intents
    match event:
        case EntriesLost():
            _entries_lost(event, state)
        case MarketAdopted():
            _adopted(event, state)
        case StopAsked():
            state.strategy.on_stop()
        case Input():
            raise AssertionError("handled above")
        case _:
            assert_never(event)
    return []


def start(
    cls: type[Strategy],
    *,
    rules: DeskRules,
    symbols: tuple[str, ...],
    settings: Mapping[str, Any],
    snapshot: StrategySnapshot | None,
    settings_hash: str,
) -> tuple[State, str]:
    """Return the state of an instance and why it looks so: `fresh`, `snapshot` or `changed`.

    Raises:
        MemoryRefused: If the author's memory cannot be saved or loaded.
    """
    rules = rules._replace(bar_interval_s=settings["bar_interval_s"], bars_kept=cls.bars_kept)
    markets = {symbol: Market(symbol=symbol) for symbol in symbols}
    if snapshot is None:
        desk_state, reason = DeskState(markets=markets), "fresh"
    else:
        desk_state = msgspec.json.decode(snapshot.framework, type=DeskState)
        known = desk_state.markets
        desk_state.markets = {symbol: known.get(symbol, market) for symbol, market in markets.items()}
        reason = "snapshot" if snapshot.settings_hash == settings_hash else "changed"
    desk = Desk(rules, desk_state)
    strategy = cls(desk, settings)
    if snapshot is not None and reason == "snapshot":
        strategy.load(msgspec.json.decode(snapshot.strategy))
    else:
        strategy.on_start()
    strategy.save()  # what cannot be saved is found now, not after the first crash
    return State(strategy, desk), reason


def snapshot_of(
    state: State, *, strategy_id: str, cursors: dict[str, str], settings_hash: str
) -> StrategySnapshot:
    """Return all that a restart needs to go on as if nothing had happened."""
    return StrategySnapshot(
        strategy_id=strategy_id,
        cursors=cursors,
        framework=msgspec.Raw(msgspec.json.encode(state.desk.state)),
        strategy=msgspec.Raw(msgspec.json.encode(state.strategy.save())),
        settings_hash=settings_hash,
    )


def _routes(state: State) -> dict[type, Handler]:
    """Return message type -> what to do: framework first, then the author's callback, bound once."""
    desk, strategy = state.desk, state.strategy
    desk_state = desk.state
    markets = desk_state.markets
    rules = desk.rules

    def on_quote(quote: Quote) -> None:
        market = markets.get(quote.symbol)
        if market is None:
            return
        market.quote = quote
        desk.symbol = quote.symbol
        if quote.ts_event_ns > desk_state.now_ns:
            desk_state.now_ns = quote.ts_event_ns
        strategy_on_quote(quote)

    def on_trade(trade: Trade) -> None:
        if _turn_to(trade.symbol, trade.ts_event_ns):
            strategy.on_trade(trade)

    def on_depth(depth: Depth) -> None:
        if _turn_to(depth.symbol, depth.ts_event_ns):
            strategy.on_depth(depth)

    def on_bar(bar: Bar) -> None:
        if bar.interval_s != rules.bar_interval_s or bar.symbol not in markets:
            return
        if _keep(bar, markets[bar.symbol].bars, rules.bars_kept):
            _turn_to(bar.symbol, bar.ts_open_ns + bar.interval_s * 1_000_000_000)
            strategy.on_bar(bar)

    def on_gap(gap: FeedGap) -> None:
        if _turn_to(gap.symbol, 0):
            if gap.ts_to_ns is None:
                markets[gap.symbol].gapped = True
            strategy.on_gap(gap)

    def on_feed_state(told: FeedState) -> None:
        if _turn_to(told.symbol, 0):
            market = markets[told.symbol]
            market.health, market.contract_id = told.health, told.contract_id
            market.ts_health_ns = told.ts_recv_ns
            if told.health is FeedHealth.LIVE:
                market.gapped = False
            strategy.on_feed_state(told)

    def on_contract(contract: ContractResolved) -> None:
        if _turn_to(contract.symbol, 0):
            market = markets[contract.symbol]
            market.contract_id = contract.contract_id
            market.tick_size = Decimal(contract.tick_size)
            market.tick_value = Decimal(contract.tick_value)

    def on_order_message(message: OrderMessage) -> None:
        order = desk.order_changed(message)
        if order is None or order.symbol not in markets:
            return
        desk.symbol = order.symbol
        if isinstance(message, OrderFilled):
            desk_state.now_ns = max(desk_state.now_ns, message.ts_event_ns)
            strategy.on_fill(message)
        else:
            strategy.on_order(order)

    def _turn_to(symbol: str, market_ns: int) -> bool:
        if symbol not in markets:
            return False
        desk.symbol = symbol
        if market_ns > desk_state.now_ns:
            desk_state.now_ns = market_ns
        return True

    strategy_on_quote = strategy.on_quote
    return {
        Quote: on_quote,
        Trade: on_trade,
        Depth: on_depth,
        Bar: on_bar,
        FeedGap: on_gap,
        FeedState: on_feed_state,
        ContractResolved: on_contract,
        **dict.fromkeys(_ORDER_TYPES, on_order_message),
    }


def _keep(bar: Bar, bars: list[Bar], most: int) -> bool:
    """Put `bar` into its place; return whether it is new, for an older one only corrects what is known."""
    if not bars or bar.ts_open_ns > bars[-1].ts_open_ns:
        bars.append(bar)
        if len(bars) > most:
            del bars[0]
        return True
    for at, known in enumerate(bars):
        if known.ts_open_ns == bar.ts_open_ns:
            bars[at] = bar
            break
        if known.ts_open_ns > bar.ts_open_ns:
            if len(bars) < most:
                bars.insert(at, bar)
            break
    return False


def _entries_lost(event: EntriesLost, state: State) -> None:
    desk_state = state.desk.state
    if event.symbol is None:
        exposed = any(market.position for market in desk_state.markets.values())
        desk_state.orders_lost = desk_state.orders_lost or exposed or bool(desk_state.orders)
        return
    market = desk_state.markets.get(event.symbol)
    if market is None:
        return
    market.gapped = True
    state.desk.symbol = event.symbol
    why = f"{event.missing} entries were gone before they were read"
    state.strategy.on_gap(
        FeedGap(symbol=event.symbol, reason=why, ts_from_ns=None, ts_to_ns=None, ts_recv_ns=event.asof_ns)
    )


def _adopted(event: MarketAdopted, state: State) -> None:
    """Take what the feed vouches for now; the stream told it to others before we listened."""
    seen = event.state
    market = state.desk.state.markets.get(seen.symbol)
    if market is None:
        return
    fresh = state.desk.fresh(seen.ts_asof_ns, event.asof_ns)
    market.contract_id = seen.contract_id
    market.tick_size, market.tick_value = Decimal(seen.tick_size), Decimal(seen.tick_value)
    market.health = seen.health if fresh else FeedHealth.UNKNOWN
    # Never in our future: what the feed says from now on would be taken for older, until the clock is there.
    market.ts_health_ns = min(seen.ts_asof_ns, event.asof_ns)
    if market.health is FeedHealth.LIVE:
        market.gapped = False
    state.desk.symbol = seen.symbol
    reason = "adopted from the conflated view"
    state.strategy.on_feed_state(
        FeedState(
            symbol=seen.symbol,
            health=market.health,
            reason=reason,
            contract_id=seen.contract_id,
            ts_recv_ns=seen.ts_asof_ns,
        )
    )
