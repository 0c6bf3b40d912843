"""Claim, then send: the one way in which an order leaves, whoever wants it."""

from __future__ import annotations

from decimal import Decimal

from services.execution import conduct
from services.execution.events import Place
from services.execution.records import OrderRecord
from services.execution.turn import Turn
from shared.broker.port import OrderTicket
from shared.domain.execution import OrderClaimed
from shared.domain.order import Bracket


def claim(turn: Turn, order: OrderRecord, numbers: dict[str, str] | None = None) -> None:
    """Keep a new order, say so, and send it; the record is in the commit that the POST follows.

    Args:
        numbers: What risk approved it on; None for what execution does by itself.
    """
    state = turn.state
    assert not state.is_known(order.client_order_id), f"{order.client_order_id} is claimed for ever"
    state.put_order(order)
    turn.publish(
        OrderClaimed(
            client_order_id=order.client_order_id,
            strategy_id=order.strategy_id,
            symbol=order.symbol,
            contract_id=order.contract_id,
            side=order.side,
            order_qty=order.order_qty,
            order_type=order.order_type,
            cause=order.cause,
            ts_ns=order.ts_claimed_ns,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
            stop_loss_ticks=order.stop_loss_ticks,
            take_profit_ticks=order.take_profit_ticks,
            trail_ticks=order.trail_ticks,
            reduce_only=order.reduce_only,
            numbers=numbers or {},
        )
    )
    state.recent.append((turn.at.mono_ns, order))
    conduct.claimed(turn, order)
    post(turn, order)


def post(turn: Turn, order: OrderRecord) -> None:
    """Send an order; its claim, or the record of this attempt, is in the commit before."""
    turn.state.sent_ns.append(turn.at.mono_ns)
    bracket = None
    if order.stop_loss_ticks is not None and order.parent is None:
        bracket = Bracket(stop_loss_ticks=order.stop_loss_ticks, take_profit_ticks=order.take_profit_ticks)
    ticket = OrderTicket(
        account_id=turn.state.rules.account_id,
        client_order_id=order.client_order_id,
        contract_id=order.contract_id,
        side=order.side,
        order_qty=order.order_qty,
        order_type=order.order_type,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        trail_price=trail_price(turn, order, order.trail_ticks),
        bracket=bracket,
        expires_at_ns=order.expires_at_ns,
        # Sent by execution itself: it protects a position or ends it.
        urgent=order.parent is not None,
    )
    turn.state.places_running.add(order.client_order_id)
    turn.do(Place(ticket=ticket))


def trail_price(turn: Turn, order: OrderRecord, trail_ticks: int | None) -> Decimal | None:
    """Return the level that makes the broker trail at this distance: it measures from its last trade."""
    if trail_ticks is None:
        return None
    market = turn.state.markets.get(order.symbol)
    if market is None or market.last_px is None or market.contract_id != order.contract_id:
        return None  # the broker refuses it then
    return Decimal(str(market.last_px)) + order.side.sign * trail_ticks * order.tick_size
