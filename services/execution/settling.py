"""What has ended for good leaves memory; the ledger keeps it, and its ids stay known.

Every order and fill that an account ever had would make a process that runs for weeks larger and slower every
day. So, from time to time, what has rested since the last look is let go: orders with all that belongs to
them, when nothing of them is open, and fills, which their book has folded for good; neither while anything in
their contract is in doubt. The broker may repeat what it has said of them. When it says something new (a late
fill, a correction), all of it is needed again: `SettledChanged` ends the process, and its next start has
everything in memory.
"""

from __future__ import annotations

from services.execution.books import SettledChanged
from services.execution.records import EXTERNAL, OrderRecord
from services.execution.state import NS_PER_S, State
from services.execution.turn import Turn
from shared.domain.order import OrderStatus
from shared.domain.report import FillReport, OrderReport

PART = 500
"""Orders, and fills of one book, that one tick lets go: a start has all of them to look through."""


def due(turn: Turn) -> None:
    """Let go of what has rested since the sweep before the last one, a part at a time."""
    state, now_ns = turn.state, turn.at.mono_ns
    if state.sweep_due_ns is None or now_ns >= state.sweep_due_ns:
        if state.sweep_due_ns is not None:
            _begin(state)
        state.sweep_due_ns = now_ns + round(state.rules.settle_after_s * NS_PER_S)
    if not state.sweeping:
        return
    part, state.rested = state.rested[:PART], state.rested[PART:]
    for name in part:
        _settle_order(state, name)
    state.sweeping = bool(state.rested)
    for (strategy_id, contract_id), book in state.books.items():
        if strategy_id != EXTERNAL and not state.in_flight(contract_id):
            fills = book.settle(PART)
            for fill in fills:
                _settle_fill(state, fill.fill_id)
            state.sweeping = state.sweeping or len(fills) == PART


def _begin(state: State) -> None:
    state.rested += state.ended_before
    state.ended_before, state.ended = state.ended, {}
    for book in state.books.values():
        book.mark()
    state.sweeping = True


def order_repeated(state: State, seen: OrderReport) -> bool:
    """Is this what is known of an order that has left memory?

    Raises:
        SettledChanged: It is more than that.
    """
    known = state.settled.filled(seen.broker_order_id)
    if known is None and seen.custom_tag and seen.custom_tag not in state.orders:
        known = state.settled.filled_by_name(seen.custom_tag)
    if known is None:
        return False
    if seen.status.may_fill or seen.cum_qty > known:
        raise SettledChanged(f"order {seen.broker_order_id} is {seen.status}, {seen.cum_qty} filled")
    return True


def fill_repeated(state: State, fill: FillReport) -> bool:
    """Is this a fill that has left memory, as it is known?

    Raises:
        SettledChanged: It is void, has other fees, or is a new one of an order that has left memory.
    """
    fees = state.settled.fees(fill.fill_id)
    if fees is None:
        if (
            state.settled.filled(fill.broker_order_id) is not None
            and fill.fill_id not in state.fills
            and not fill.voided
        ):
            raise SettledChanged(f"fill {fill.fill_id} of order {fill.broker_order_id} is new")
        return False
    if fill.voided or fill.fees > fees:  # less is a hub's row, without the commissions
        raise SettledChanged(f"fill {fill.fill_id} of order {fill.broker_order_id} has changed")
    return True


def _settle_order(state: State, name: str) -> None:
    order = state.orders.get(name)
    if order is None:
        return  # with its family
    root = state.orders.get(order.parent or "", order)
    family = [root, *(state.orders[child] for child in state.children.get(root.client_order_id, ()))]
    if any(_is_young(state, one) for one in family):
        return  # who ended last takes all along
    if all(_rests(state, one) for one in family):
        for one in family:
            _forget(state, one)
    else:
        state.ended[name] = None  # looked at again


def _is_young(state: State, order: OrderRecord) -> bool:
    name = order.client_order_id
    return name in state.open or name in state.ended or name in state.ended_before


def _rests(state: State, order: OrderRecord) -> bool:
    name, number = order.client_order_id, order.broker_order_id
    book = state.books.get((order.strategy_id, order.contract_id))
    held = book is not None and (name in book.lots or order.parent in book.lots)
    watched = order.status is OrderStatus.ABSENT or order.unwanted  # it may still land
    changing = number in state.cancels_running or number in state.modifies_running
    asked = changing or name in state.places_running or number in state.checks
    return not (held or watched or asked or name in state.doubts or state.in_flight(order.contract_id))


def _forget(state: State, order: OrderRecord) -> None:
    name, number = order.client_order_id, order.broker_order_id
    del state.orders[name]
    state.children.pop(name, None)
    siblings = state.children.get(order.parent or "", [])
    if name in siblings:
        siblings.remove(name)
        if not siblings:
            del state.children[order.parent or ""]
    state.accepted_ns.pop(name, None)
    state.heard_late.pop(name, None)
    state.settled.put_order(name, number, order.cum_qty)
    if number is not None:
        state.by_broker_id.pop(number, None)
        state.cancels_sent.pop(number, None)


def _settle_fill(state: State, fill_id: int) -> None:
    """Let go of a fill when the book that has folded it is the only one that knows it."""
    parts = state.fills.get(fill_id, [])
    if len(parts) == 1:
        state.settled.put_fill(fill_id, parts[0].fees)
        del state.fills[fill_id]
