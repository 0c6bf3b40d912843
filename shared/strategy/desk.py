"""The desk a strategy sits at: turns events into what it sees, and what it does into intents.

It holds no clock and makes no chance: the same events give the same intents, byte for byte. An action that
must not become an order now (old input, feed not live, an entry still on its way) is suppressed and counted,
never queued: a wish from a minute ago is not a wish any more.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from shared.domain.control import TradingState
from shared.domain.execution import (
    IntentExpired,
    OrderClaimed,
    OrderDenied,
    OrderFilled,
    OrderMessage,
    OrderUpdated,
    TradingStateChanged,
)
from shared.domain.ids import client_order_id
from shared.domain.market import Bar, BarSource, MarketMessage
from shared.domain.order import (
    CancelOrder,
    ClosePosition,
    Intent,
    ModifyOrder,
    OrderStatus,
    Side,
    StopPlan,
    SubmitOrder,
)
from shared.strategy import wishes
from shared.strategy.view import ENTRY_ROLES, DeskState, Market, Order, Ticks
from shared.strategy.wishes import ActionRefused

NS_PER_S = 1_000_000_000

SETTLED_KEPT = 32
"""A status follows its fill within a few entries; more would only fatten every snapshot."""

ASK_AGAIN_AFTER_NS = 10 * NS_PER_S
"""A close or cancel without an answer may be asked for again: both are idempotent in effect."""

INPUT_AHEAD_MAX_NS = NS_PER_S
"""Of an event that we have received in our future: clocks of two machines may differ by so much. One that is
further ahead was stamped before the clock was set back, and nobody knows how old it is."""

INTENTS_PER_EVENT_MAX = 32
"""One event never needs more; a loop that calls buy() for ever ends here."""


class DeskRules(NamedTuple):
    """What stays the same for the life of one instance.

    Attributes:
        intent_ttl_ns: An intent is never sent later than this after the event that led to it.
        input_age_max_ns: Older events still reach the callbacks, but lead to no orders; nor do those that
            are further in our future than `INPUT_AHEAD_MAX_NS`.
    """

    env: str
    account_id: int
    strategy_id: str
    intent_ttl_ns: int = 5 * NS_PER_S
    input_age_max_ns: int = 5 * NS_PER_S
    bar_interval_s: int = 60
    bars_kept: int = 30


class Desk:
    """One instance's framework side.

    Attributes:
        stream, entry_id, message, asof_ns: The event in hand, set by whoever delivers it. `message` is None
            between events: no action is possible then.
        intents: What the event led to; whoever delivered it takes them away.
    """

    def __init__(self, rules: DeskRules, state: DeskState) -> None:
        self.rules = rules
        self.state = state
        self.symbol = next(iter(state.markets))
        self.stream = ""
        self.entry_id = b""
        self.message: MarketMessage | OrderMessage | None = None
        self.asof_ns = 0
        self.intents: list[Intent] = []

    @property
    def cause(self) -> str:
        """The stream entry in hand, or the last one."""
        return f"{self.stream}@{self.entry_id.decode()}"

    # What happened

    def order_changed(self, message: OrderMessage) -> Order | None:
        """Take one message of the order stream; return the order of ours that it is about."""
        if isinstance(message, TradingStateChanged):
            self.state.trading_state = message.state
            return None
        if getattr(message, "strategy_id", None) != self.rules.strategy_id:
            return None
        order: Order | None
        match message:
            case OrderClaimed():
                order = self._order(message.client_order_id, message.symbol, message.side, message.order_qty)
                order.claimed = True
                if message.reduce_only:
                    order.role = "exit"
                order.limit_price, order.stop_price = message.limit_price, message.stop_price
                order.trail_ticks = message.trail_ticks
            case OrderUpdated():
                order = self._order(message.client_order_id, message.symbol, message.side, message.order_qty)
                order.claimed = True
                order.status, order.role, order.reason = message.status, message.role, message.reason
                order.order_qty, order.cum_qty = message.order_qty, max(order.cum_qty, message.cum_qty)
                order.limit_price = message.limit_price or order.limit_price
                order.stop_price = message.stop_price or order.stop_price
                order.trail_ticks = message.trail_ticks or order.trail_ticks
            case OrderFilled():
                order = self._filled(message)
            case OrderDenied():
                order = self._ended(message.client_order_id, OrderStatus.DENIED, message.code)
            case IntentExpired():
                order = self._ended(
                    message.client_order_id, OrderStatus.EXPIRED, "expired before it was sent"
                )
            case _:
                order = None
        if order is not None and order.settled:
            self._settle(order)
        return order

    def _settle(self, order: Order) -> None:
        """Take the order off the desk, but know it still: what follows must not bring it back."""
        self.state.orders.pop(order.client_order_id, None)
        settled = self.state.settled
        settled[order.client_order_id] = order
        if len(settled) > SETTLED_KEPT:
            del settled[next(iter(settled))]

    def _order(self, order_id: str, symbol: str, side: Side, order_qty: int) -> Order:
        order = self.state.orders.get(order_id) or self.state.settled.get(order_id)
        if order is None:
            order = Order(client_order_id=order_id, symbol=symbol, side=side, order_qty=order_qty)
            self.state.orders[order_id] = order
        return order

    def _ended(self, order_id: str, status: OrderStatus, reason: str) -> Order | None:
        order = self.state.orders.get(order_id)
        if order is None:
            return None
        order.reason = reason
        if not order.claimed:
            order.status = status
        return order

    def _filled(self, fill: OrderFilled) -> Order:
        order = self._order(fill.client_order_id, fill.symbol, fill.side, fill.cum_qty + fill.leaves_qty)
        order.claimed, order.role = True, fill.role
        order.filled_qty = max(order.filled_qty, fill.cum_qty)
        order.cum_qty = max(order.cum_qty, fill.cum_qty)
        if fill.leaves_qty == 0:
            order.status = OrderStatus.FILLED
            order.order_qty = order.filled_qty
        elif not order.status.is_terminal:
            order.status = OrderStatus.PARTIALLY_FILLED
        market = self.state.markets.get(fill.symbol)
        if market is not None:
            market.position, market.avg_px = fill.strategy_net_qty, fill.strategy_avg_px
        return order

    # What the strategy sees

    def market(self, symbol: str | None) -> Market:
        name = symbol or self.symbol
        market = self.state.markets.get(name)
        if market is None:
            known = ", ".join(self.state.markets)
            raise ActionRefused(f"{name!r} is not among the symbols of this instance ({known})")
        return market

    def working(self, symbol: str) -> list[Order]:
        return [order for order in self.state.orders.values() if order.symbol == symbol]

    def pending(self, symbol: str) -> bool:
        """Is an entry on its way, working, of unknown fate, or filled with fills still to come?"""
        return any(o.symbol == symbol and o.role in ENTRY_ROLES for o in self.state.orders.values())

    def price(self, market: Market, value: Decimal | float | None) -> Decimal | None:
        """Return an order price; off-grid is the author's mistake, rounding it silently would hide it."""
        if value is None:
            return None
        tick = market.tick_size
        exact = value if isinstance(value, Decimal) else Decimal(str(value))
        if tick is not None and (not exact.is_finite() or exact % tick):
            raise ActionRefused(
                f"{market.symbol}: price {value} is not a multiple of the tick {tick}; "
                "round it with self.on_tick(price)"
            )
        return exact

    # What the strategy does

    def submit(
        self,
        side: Side,
        qty: int,
        *,
        symbol: str | None,
        stop: Ticks | None,
        target: Ticks | None,
        limit: Decimal | float | None,
        trigger: Decimal | float | None,
        trail: Ticks | None,
        join: bool,
        plan: StopPlan | None,
        add: bool,
        reason: str,
    ) -> Order | None:
        market = self.market(symbol)
        if not isinstance(qty, int) or isinstance(qty, bool) or qty < 1:
            raise ActionRefused(f"{side}({qty!r}): the quantity is a whole number of contracts, at least 1")
        bracket = wishes.bracket(stop, target, plan)
        limit_price, stop_price = self.price(market, limit), self.price(market, trigger)
        trail_ticks = wishes.count("trail", trail)
        order_type = wishes.order_type(side, limit_price, stop_price, trail_ticks, join=join)
        why = self._too_old() or self._not_tradable(market) or self._piles_up(market, add=add)
        if why:
            self._suppress(why)
            return None
        order_id, cause, ts_ns = self._new_id()
        self.intents.append(
            SubmitOrder(
                client_order_id=order_id,
                strategy_id=self.rules.strategy_id,
                symbol=market.symbol,
                side=side,
                order_qty=qty,
                cause=cause,
                ts_cause_ns=ts_ns,
                expires_at_ns=ts_ns + self.rules.intent_ttl_ns,
                order_type=order_type,
                limit_price=limit_price,
                stop_price=stop_price,
                trail_ticks=trail_ticks,
                bracket=bracket,
                reason=reason,
            )
        )
        order = self._order(order_id, market.symbol, side, qty)
        order.limit_price, order.stop_price, order.trail_ticks = limit_price, stop_price, trail_ticks
        order.ts_sent_ns = ts_ns
        return order

    def close(self, symbol: str | None, reason: str) -> Order | None:
        market = self.market(symbol)
        if market.position == 0 and not self.working(market.symbol):
            return None
        why = self._too_old() or self._closes_already(market)
        if why:
            self._suppress(why)
            return None
        order_id, cause, ts_ns = self._new_id()
        self.intents.append(
            ClosePosition(
                client_order_id=order_id,
                strategy_id=self.rules.strategy_id,
                symbol=market.symbol,
                cause=cause,
                ts_cause_ns=ts_ns,
                expires_at_ns=ts_ns + self.rules.intent_ttl_ns,
                reason=reason,
            )
        )
        side = Side.SELL if market.position > 0 else Side.BUY
        order = self._order(order_id, market.symbol, side, abs(market.position))
        order.role, order.ts_sent_ns = "exit", ts_ns
        return order

    def cancel(self, order: Order, reason: str) -> bool:
        why = self._too_old()
        if not why:
            _, cause, ts_ns = self._cause()
            if order.ts_cancel_ns and ts_ns - order.ts_cancel_ns < ASK_AGAIN_AFTER_NS:
                why = "canceling"
        if why:
            self._suppress(why)
            return False
        order.ts_cancel_ns = ts_ns
        self.intents.append(
            CancelOrder(
                client_order_id=order.client_order_id,
                strategy_id=self.rules.strategy_id,
                symbol=order.symbol,
                cause=cause,
                ts_cause_ns=ts_ns,
                reason=reason,
            )
        )
        return True

    def modify(
        self,
        order: Order,
        *,
        qty: int | None,
        limit: Decimal | float | None,
        trigger: Decimal | float | None,
        trail: Ticks | None,
        reason: str,
    ) -> bool:
        market = self.market(order.symbol)
        if qty is not None and (not isinstance(qty, int) or isinstance(qty, bool) or qty < 1):
            raise ActionRefused(f"modify(qty={qty!r}): a whole number of contracts, at least 1; or cancel it")
        if qty is None and limit is None and trigger is None and trail is None:
            raise ActionRefused("modify: say what is to change: qty, limit, trigger or trail")
        limit_price, stop_price = self.price(market, limit), self.price(market, trigger)
        why = self._too_old() or self._not_tradable(market)
        if why:
            self._suppress(why)
            return False
        _, cause, ts_ns = self._cause()
        self.intents.append(
            ModifyOrder(
                client_order_id=order.client_order_id,
                strategy_id=self.rules.strategy_id,
                symbol=order.symbol,
                cause=cause,
                ts_cause_ns=ts_ns,
                order_qty=qty,
                limit_price=limit_price,
                stop_price=stop_price,
                trail_ticks=wishes.count("trail", trail),
                expires_at_ns=ts_ns + self.rules.intent_ttl_ns,
                reason=reason,
            )
        )
        return True

    # Guards

    def fresh(self, stamped_ns: int, asof_ns: int) -> bool:
        """Was this stamped so short a time before `asof_ns` that it may lead to orders?"""
        return -INPUT_AHEAD_MAX_NS <= asof_ns - stamped_ns <= self.rules.input_age_max_ns

    def _too_old(self) -> str:
        message = self.message
        if message is None:
            return "no_event"
        if isinstance(message, Bar) and message.source is BarSource.BACKFILL:
            return "backfill"
        if not self.fresh(_received_ns(message), self.asof_ns):
            return "late"
        return "" if len(self.intents) < INTENTS_PER_EVENT_MAX else "too_many"

    def _not_tradable(self, market: Market) -> str:
        if market.tick_size is None:
            return "no_contract"
        if not market.live:
            return "not_live"
        if market.quote is not None and market.quote.crossed:
            return "crossed"
        if self.state.orders_lost:
            return "orders_lost"
        return "halted" if self.state.trading_state is TradingState.HALTED else ""

    def _piles_up(self, market: Market, *, add: bool) -> str:
        for order in self.working(market.symbol):
            if order.role in ENTRY_ROLES and (not add or order.status is OrderStatus.UNKNOWN):
                return "pending"
        return ""

    def _closes_already(self, market: Market) -> str:
        _, _, ts_ns = self._cause()
        for order in [o for o in self.working(market.symbol) if o.role == "exit"]:
            if ts_ns - order.ts_sent_ns < ASK_AGAIN_AFTER_NS:
                return "closing"
            if order.status is OrderStatus.PENDING_NEW:
                # Never answered, and past its expiry: nothing will come of it.
                del self.state.orders[order.client_order_id]
        return ""

    def _suppress(self, why: str) -> None:
        suppressed = self.state.suppressed
        suppressed[why] = suppressed.get(why, 0) + 1

    def _cause(self) -> tuple[int, str, int]:
        assert self.message is not None
        return len(self.intents), self.cause, _received_ns(self.message)

    def _new_id(self) -> tuple[str, str, int]:
        n, cause, ts_ns = self._cause()
        rules = self.rules
        order_id = client_order_id(
            env=rules.env, account_id=rules.account_id, strategy_id=rules.strategy_id, cause=cause, n=n
        )
        return order_id, cause, ts_ns


def _received_ns(message: msgspec.Struct) -> int:
    """Return our clock at the event: the receive time of market data, the time of an order message."""
    received: int | None = getattr(message, "ts_recv_ns", None)
    if received is None:
        received = getattr(message, "ts_ns", 0)
    return received
