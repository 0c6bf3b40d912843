"""Bracket children: suspended with the entry, opened by its fill, one cancels the other.

As reported of the gateway: children are orders of their own with the ids after the
parent's (stop, then target), invisible to `searchOpen` while the entry is unfilled,
priced by the platform from the actual fill. Their size follows the filled size, so
a partly filled entry is protected from its first contract on.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN

from services.simulator.orders import WORKING, Order
from services.simulator.state import State
from shared.broker.projectx.enums import OrderSide, OrderStatus, OrderType


def create_children(state: State, parent: Order, first_id: int) -> None:
    """Create the suspended children of an accepted entry, ids from `first_id` on."""
    stop = _child(state, parent, first_id, "SL") if parent.stop_loss else None
    target = _child(state, parent, first_id + 1, "TP") if parent.take_profit else None
    if stop and target:
        stop.linked_id, target.linked_id = target.id, stop.id
    for child in (stop, target):
        if child:
            state.orders[child.id] = child
            state.report(child)


def _child(state: State, parent: Order, order_id: int, leg: str) -> Order:
    bracket = parent.stop_loss if leg == "SL" else parent.take_profit
    assert bracket is not None
    return Order(
        id=order_id,
        account_id=parent.account_id,
        contract_id=parent.contract_id,
        created_ns=state.now_ns,
        updated_ns=state.now_ns,
        status=OrderStatus.SUSPENDED,
        type=bracket.type,
        side=OrderSide.ASK if parent.is_buy else OrderSide.BID,
        size=parent.size,
        custom_tag=f"AutoBracket-{parent.id}-{leg}",
        parent_id=parent.id,
    )


def children(state: State, parent: Order) -> list[Order]:
    """Return the children of an entry that are not at their end, by id."""
    if parent.stop_loss is None and parent.take_profit is None:
        return []
    candidates = (state.orders.get(parent.id + offset) for offset in (1, 2))
    return [
        child
        for child in candidates
        if child is not None
        and child.parent_id == parent.id
        and (child.status in WORKING or child.status is OrderStatus.SUSPENDED)
    ]


def protect(state: State, parent: Order) -> None:
    """Open or enlarge the children after a fill of their entry."""
    avg = parent.avg_ticks
    assert avg is not None
    entry_ticks = int(avg.to_integral_value(ROUND_HALF_EVEN))
    for child in children(state, parent):
        is_stop = child.id == parent.id + 1
        if ("SL" if is_stop else "TP") in parent.fate.rejected_legs:
            child.status, child.reason = OrderStatus.REJECTED, "Rejected by the exchange."
            state.report(child)
            continue
        bracket = parent.stop_loss if is_stop else parent.take_profit
        assert bracket is not None
        child.size = child.fill_volume + parent.fill_volume
        price_ticks = entry_ticks + bracket.ticks
        if child.type is OrderType.LIMIT:
            child.limit_ticks = price_ticks
        else:
            child.stop_ticks = price_ticks
        if child.type is OrderType.TRAILING_STOP:
            child.trail_ticks = abs(bracket.ticks)
        if child.status is OrderStatus.SUSPENDED:
            child.status = OrderStatus.OPEN
            child.resting = child.type is OrderType.LIMIT
            state.start_working(child)
        state.report(child)


def shrink_sibling(state: State, order: Order, qty: int) -> None:
    """Take `qty` off the other leg after a fill of `order`; cancel it when nothing is left."""
    sibling = state.orders.get(order.linked_id) if order.linked_id is not None else None
    if sibling is None or sibling.status not in WORKING:
        return
    if order.leaves == 0 or sibling.leaves <= qty:
        cancel(state, sibling)
    else:
        sibling.size -= qty
        state.report(sibling)


def cancel(state: State, order: Order) -> None:
    """Cancel an order; an entry that never filled takes its children with it."""
    order.status = OrderStatus.CANCELLED
    state.stop_working(order)
    state.report(order)
    for child in children(state, order):
        if child.status is OrderStatus.SUSPENDED:
            cancel(state, child)
