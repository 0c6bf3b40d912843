"""Changes of working orders that strategies ask for: other prices, another size, another trail."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from services.execution import claims, exposure, orders
from services.execution.orders import refuse
from services.execution.records import OrderRecord
from services.execution.turn import Turn
from shared.domain.control import TradingState
from shared.domain.denials import Denied, deny
from shared.domain.market import MarketState
from shared.domain.order import Bracket, ModifyOrder, OrderStatus, OrderType, Side, SubmitOrder
from shared.domain.risk import Approved, check, collar, is_price, pace, reduces, reference, trail


def modify(turn: Turn, intent: ModifyOrder) -> None:
    state = turn.state
    order = state.orders.get(intent.client_order_id)
    if order is None or order.strategy_id != intent.strategy_id:
        refuse(turn, intent, state.why_not_here(intent.client_order_id))
        return
    refused = _refused(turn, intent, order)
    if refused is not None:
        refuse(turn, intent, refused)
        return
    order = orders.send_modify(
        turn,
        order,
        order_qty=intent.order_qty,
        limit_price=intent.limit_price,
        stop_price=intent.stop_price,
        trail_price=claims.trail_price(turn, order, intent.trail_ticks),
        expires_at_ns=intent.expires_at_ns or None,
    )
    if intent.trail_ticks is not None:
        # The hub's rows do not tell a trail: what was asked for stands until a search says otherwise.
        orders.store(turn, order, msgspec.structs.replace(order, trail_ticks=intent.trail_ticks))


_MODIFIABLE = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.SUSPENDED)


def _refused(turn: Turn, intent: ModifyOrder, order: OrderRecord) -> Denied | None:
    """Return why a change may not be sent. A greater size is new exposure and checked as such."""
    state = turn.state
    if 0 < intent.expires_at_ns <= turn.at.now_ns:
        return deny("change_expired", expires_at_ns=intent.expires_at_ns)
    if state.trading_state is TradingState.HALTED:
        return deny("trading_halted", halts=state.halt_reason())
    if order.status not in _MODIFIABLE or order.broker_order_id is None:
        return deny("not_working", status=order.status)
    if order.broker_order_id in state.modifies_running:
        return deny("change_unanswered", client_order_id=order.client_order_id)
    if (intent.order_qty, intent.limit_price, intent.stop_price, intent.trail_ticks) == (None,) * 4:
        return deny("nothing_to_change")
    wrong = _unfit(intent, order)
    if wrong is not None:
        return wrong
    for px in (intent.limit_price, intent.stop_price):
        if px is not None and (not is_price(px) or px % order.tick_size):
            return deny("off_tick", px=px, tick_size=order.tick_size)
    if intent.order_qty is not None and intent.order_qty <= order.cum_qty:
        return deny("order_qty", order_qty=intent.order_qty, cum_qty=order.cum_qty)
    more = intent.order_qty - order.order_qty if intent.order_qty is not None else 0
    wish = SubmitOrder(
        client_order_id=intent.client_order_id,
        strategy_id=intent.strategy_id,
        symbol=intent.symbol,
        side=order.side,
        order_qty=max(1, more),
        cause=intent.cause,
        ts_cause_ns=intent.ts_cause_ns,
        expires_at_ns=0,
    )
    figures = exposure.exposure(state, wish, order.contract_id, turn.at, order.order_type)
    market, limits = state.markets.get(order.symbol), state.rules.limits
    too_fast = pace(figures, limits)
    if too_fast is not None:
        return too_fast
    if more > 0 and order.is_protective:
        return deny("protective_qty", order_qty=intent.order_qty)  # it follows its entry, at the broker
    if more > 0 and order.reduce_only and not reduces(wish, figures):
        return deny("not_reducing", net_qty=figures.net_qty, more=more, exits_working=figures.exit_qty)
    if more > 0:
        bracket = Bracket(stop_loss_ticks=limits.bracket_ticks_min)
        verdict = check(msgspec.structs.replace(wish, bracket=bracket), figures, market, limits)
        if not isinstance(verdict, Approved):
            return verdict
    stale = reference(figures, market, limits)
    prices = (intent.limit_price, intent.stop_price)
    if stale is None and intent.trail_ticks is not None:
        stale = trail(order.order_type, intent.trail_ticks, market)
    if stale is None and (intent.trail_ticks is not None or prices != (None, None)):
        stale = other_month(market, order.contract_id)
    if stale is not None:
        return stale
    return collar(order.symbol, prices, market, limits) or _through_market(turn, intent, order)


_PRICED = {
    OrderType.LIMIT: frozenset({"limit_price"}),
    OrderType.STOP: frozenset({"stop_price"}),
    OrderType.STOP_LIMIT: frozenset({"limit_price", "stop_price"}),
    OrderType.TRAILING_STOP: frozenset({"trail_ticks"}),
    OrderType.JOIN_BID: frozenset({"limit_price"}),
    OrderType.JOIN_ASK: frozenset({"limit_price"}),
}


def _unfit(intent: ModifyOrder, order: OrderRecord) -> Denied | None:
    """Deny a price of a kind that this type of order has not: the gateway would ignore it in silence."""
    allowed = _PRICED.get(order.order_type, frozenset())
    for name in ("limit_price", "stop_price", "trail_ticks"):
        if getattr(intent, name) is not None and name not in allowed:
            return deny(f"{name}_unused", order_type=order.order_type)
    return None


def _through_market(turn: Turn, intent: ModifyOrder, order: OrderRecord) -> Denied | None:
    """A stop moved through the market executes at once: it must stay a tick behind."""
    market = turn.state.markets.get(order.symbol)
    if intent.stop_price is None or market is None or market.bid_px is None or market.ask_px is None:
        return None
    if order.side is Side.SELL:
        most = Decimal(str(market.bid_px)) - order.tick_size
        return (
            deny("stop_through_market", px=intent.stop_price, most=most) if intent.stop_price > most else None
        )
    least = Decimal(str(market.ask_px)) + order.tick_size
    return (
        deny("stop_through_market", px=intent.stop_price, least=least) if intent.stop_price < least else None
    )


def other_month(market: MarketState | None, contract_id: str) -> Denied | None:
    """Deny when the market we see is of another contract month than the order."""
    if market is None or market.contract_id == contract_id:
        return None
    return deny("reference_missing", contract_id=contract_id, market_of=market.contract_id)
