"""One order's life: facts move its status along the table, and every change is published once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from services.execution import conduct
from services.execution.events import Cancel, Modify, QueryOrder
from services.execution.records import OrderRecord
from services.execution.state import NS_PER_S, Change, Check, Doubt, Wanted
from services.execution.turn import Turn
from shared.domain.denials import Denied
from shared.domain.execution import OrderDenied, OrderUpdated
from shared.domain.order import ImpossibleTransition, Intent, OrderFact, OrderStatus, next_status
from shared.domain.report import OrderReport

ANSWER_WAIT_S = 10.0
"""A change that has no answer by then is looked at."""
ANY = Wanted()
OVER = Wanted(over=True)
_VISIBLE = ("status", "order_qty", "broker_order_id", "limit_price", "stop_price", "trail_ticks")
_BY_FILLS = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)

FACTS = {
    OrderStatus.PENDING_NEW: OrderFact.FOUND,
    OrderStatus.NEW: OrderFact.FOUND,
    OrderStatus.SUSPENDED: OrderFact.SUSPENDED,
    OrderStatus.PARTIALLY_FILLED: OrderFact.FOUND,
    OrderStatus.FILLED: OrderFact.FOUND,  # our own fills make it filled: they carry price and fees
    OrderStatus.PENDING_CANCEL: OrderFact.FOUND,
    OrderStatus.CANCELED: OrderFact.CANCELED,
    OrderStatus.REJECTED: OrderFact.REJECTED,
    OrderStatus.EXPIRED: OrderFact.EXPIRED,
    OrderStatus.UNKNOWN: OrderFact.FOUND,
}
"""What a report's status says of the order; the broker's side of the transition table."""


def updated(order: OrderRecord, turn: Turn) -> OrderUpdated:
    """Return the message that says where `order` stands."""
    return OrderUpdated(
        client_order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        symbol=order.symbol,
        status=order.status,
        reason=order.reason,
        ts_ns=turn.at.now_ns,
        side=order.side,
        order_qty=order.order_qty,
        cum_qty=order.cum_qty,
        broker_order_id=order.broker_order_id,
        role=order.role,
        parent_client_order_id=order.parent,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        trail_ticks=order.trail_ticks,
    )


def advance(turn: Turn, order: OrderRecord, fact: OrderFact, **changes: Any) -> OrderRecord:
    """Apply one fact, keep the order, publish what others can see of the change.

    Raises:
        ImpossibleTransition: A fact of ours that cannot be: a bug.
    """
    status = next_status(order.status, fact)
    changed = msgspec.structs.replace(order, status=status, **changes)
    full_qty = max(changed.order_qty, changed.wanted_qty)  # one that is being made larger may not be full yet
    if 0 < full_qty <= changed.cum_qty and status in (*_BY_FILLS, OrderStatus.PENDING_CANCEL):
        changed = msgspec.structs.replace(changed, status=OrderStatus.FILLED)  # it was made smaller meanwhile
    elif status in _BY_FILLS:
        by_fills = OrderStatus.PARTIALLY_FILLED if changed.cum_qty else OrderStatus.NEW
        changed = msgspec.structs.replace(changed, status=by_fills)
    return store(turn, order, changed)


def store(turn: Turn, before: OrderRecord, after: OrderRecord) -> OrderRecord:
    """Keep `after`; publish it when anything visible differs."""
    if after == before:
        return after
    state = turn.state
    state.put_order(after)
    if not after.wanted_qty:
        state.sizes_unknown_ns.pop(after.client_order_id, None)
    if after.status is not OrderStatus.UNKNOWN:
        state.doubts.pop(after.client_order_id, None)
    # The hub can show a refusal before the answer brings its reason.
    explained = after.status is OrderStatus.REJECTED and after.reason != before.reason
    if explained or any(getattr(after, name) != getattr(before, name) for name in _VISIBLE):
        turn.publish(updated(after, turn))
    if after.status is not before.status:
        conduct.moved(turn, after)
    if after.cancel_wanted and after.broker_order_id is not None:
        return cancel(turn, after, after.reason)
    return after


def observe(turn: Turn, order: OrderRecord, fact: OrderFact, **changes: Any) -> OrderRecord:
    """Apply a fact of the broker. What cannot be is an alarm and changes nothing: input is never asserted."""
    if order.status is OrderStatus.REJECTED and fact is OrderFact.PARTLY_FILLED and order.broker_cum_qty:
        # It had filled in part when the broker refused the rest: heard late, and nothing of it works.
        return store(turn, order, msgspec.structs.replace(order, **changes))
    landed_late = order.status in (OrderStatus.ABSENT, OrderStatus.REJECTED)
    try:
        if landed_late and next_status(order.status, fact) is not order.status:
            changes["unwanted"] = True
        after = advance(turn, order, fact, **changes)
    except ImpossibleTransition as error:
        turn.alarm("impossible_report", f"{order.client_order_id}: {error}")
        return order
    if landed_late and after.status is not order.status:
        text = f"{order.client_order_id}: given up as {order.status}, and the broker has it: {after.status}"
        turn.alarm("late_landing", text)
    return after


def report(turn: Turn, order: OrderRecord, seen: OrderReport) -> OrderRecord:
    """Apply what the broker says of an order of ours."""
    changes: dict[str, Any] = {"broker_order_id": seen.broker_order_id}
    changes["broker_cum_qty"] = max(order.broker_cum_qty, seen.cum_qty)
    if seen.status is OrderStatus.FILLED:
        changes["broker_cum_qty"] = max(changes["broker_cum_qty"], seen.order_qty)
    if seen.ts_event_ns >= order.ts_broker_ns:
        changes["ts_broker_ns"] = seen.ts_event_ns
        changes["order_qty"] = max(seen.order_qty, order.cum_qty, 1)
        if seen.order_qty == order.wanted_qty:
            changes["wanted_qty"] = 0
        changes["limit_price"] = seen.limit_price if seen.limit_price is not None else order.limit_price
        changes["stop_price"] = seen.stop_price if seen.stop_price is not None else order.stop_price
        if seen.trail_distance is not None:
            changes["trail_ticks"] = int(seen.trail_distance / order.tick_size)
        if order.status is OrderStatus.FILLED and seen.order_qty > order.cum_qty:
            order = observe(turn, order, OrderFact.ENLARGED, order_qty=seen.order_qty)
    if not seen.status.may_fill:
        changes["wanted_qty"] = 0  # it ended as it was
    fact = FACTS.get(seen.status, OrderFact.FOUND)
    older = 0 < seen.ts_event_ns < order.ts_broker_ns
    if older and order.status is OrderStatus.REJECTED and not seen.cum_qty:
        fact = OrderFact.REJECTED  # a word from before the refusal revives nothing
    if fact is OrderFact.FOUND and order.status is OrderStatus.SUSPENDED:
        fact = OrderFact.ACTIVATED
    if fact is OrderFact.SUSPENDED and older and order.status is not OrderStatus.SUSPENDED:
        fact = OrderFact.FOUND  # an old word about a child that works by now
    if fact is OrderFact.SUSPENDED and order.status in _BY_FILLS:
        fact = OrderFact.FOUND  # a working child does not fall asleep again
    after = observe(turn, order, fact, **changes)
    if after.missing_qty:
        want_fills(turn, delay_s=1.0)
    heard(turn, after)
    return after


def unknown(turn: Turn, order: OrderRecord, reason: str) -> OrderRecord:
    """The broker may or may not have it: from here on only evidence decides."""
    return _doubt(turn, advance(turn, order, OrderFact.UNANSWERED, reason=reason))


def vanished(turn: Turn, order: OrderRecord, reason: str) -> OrderRecord:
    """The broker had it and says there is none. A look may lag: searches decide, as for an unanswered one."""
    to_cancel = order.cancel_wanted or order.status is OrderStatus.PENDING_CANCEL
    return _doubt(turn, advance(turn, order, OrderFact.VANISHED, reason=reason, cancel_wanted=to_cancel))


def _doubt(turn: Turn, after: OrderRecord) -> OrderRecord:
    if after.status is OrderStatus.UNKNOWN:
        turn.state.doubts.setdefault(after.client_order_id, Doubt(since_ns=turn.at.mono_ns))
        turn.state.search_attempt = 0
        want_search(turn, delay_s=0.5)
    return after


def want_search(turn: Turn, *, delay_s: float) -> None:
    """Ask the broker for orders, fills and positions, not later than in `delay_s`."""
    due_ns = turn.at.mono_ns + round(delay_s * NS_PER_S)
    current = turn.state.search_due_ns
    turn.state.search_due_ns = due_ns if current is None else min(current, due_ns)


def want_fills(turn: Turn, *, delay_s: float) -> None:
    """Search for fills that the broker speaks of, unless they are heard within `delay_s`."""
    if turn.state.fills_due_ns is None:
        turn.state.fills_due_ns = turn.at.mono_ns + round(delay_s * NS_PER_S)


def query(turn: Turn, broker_order_id: int) -> None:
    """Ask the broker for one order; one question at a time: while it is slow more would only queue up."""
    running = turn.state.queries_running
    if broker_order_id not in running:
        running.add(broker_order_id)
        turn.do(QueryOrder(broker_order_id=broker_order_id))


def want_check(turn: Turn, broker_order_id: int, *, delay_s: float, wanted: Wanted = ANY) -> None:
    """Have a fresh look at one order, unless a report shows what is wanted within `delay_s`."""
    due_ns = turn.at.mono_ns + round(delay_s * NS_PER_S)
    turn.state.checks[broker_order_id] = Check(due_ns=due_ns, wanted=wanted)


def heard(turn: Turn, order: OrderRecord) -> None:
    """A report has come: what it shows need not be asked for."""
    number = order.broker_order_id
    check = turn.state.checks.get(number) if number is not None else None
    if check is None or number is None:
        return
    wanted = check.wanted
    shown = all(
        value is None or getattr(order, name) == value
        for name, value in zip(wanted._fields[1:], wanted[1:], strict=True)
    )
    if not order.status.may_fill or (shown and not wanted.over):
        del turn.state.checks[number]


def cancel(turn: Turn, order: OrderRecord, reason: str) -> OrderRecord:
    """Send a cancel, or remember it until the broker's id of the order is known."""
    state = turn.state
    if not order.status.may_fill:
        return order
    if order.broker_order_id is None:
        return store(turn, order, msgspec.structs.replace(order, cancel_wanted=True, reason=reason))
    if order.broker_order_id in state.cancels_running:
        return order
    after = order
    if order.status is not OrderStatus.UNKNOWN:
        after = advance(turn, order, OrderFact.CANCEL_SENT, cancel_wanted=False, reason=reason)
    send_cancel(turn, order.broker_order_id)
    return after


def send_cancel(turn: Turn, broker_order_id: int) -> None:
    """Send one cancel; its effect is judged by the order's state, not by the answer."""
    state = turn.state
    state.cancels_running.add(broker_order_id)
    state.sent_ns.append(turn.at.mono_ns)
    state.cancels_sent[broker_order_id] = state.cancels_sent.get(broker_order_id, 0) + 1
    turn.do(Cancel(broker_order_id=broker_order_id))


def refuse(turn: Turn, intent: Intent, why: Denied, *, blamed: str | None = None) -> None:
    """Tell a strategy of a refusal, and hold it against the one to blame (None: the intent's strategy)."""
    turn.publish(denied(turn, intent, why))
    conduct.denied(turn, intent.strategy_id if blamed is None else blamed, why)


def send_modify(
    turn: Turn,
    order: OrderRecord,
    *,
    order_qty: int | None = None,
    limit_price: Decimal | None = None,
    stop_price: Decimal | None = None,
    trail_price: Decimal | None = None,
    expires_at_ns: int | None = None,
    urgent: bool = False,
) -> OrderRecord:
    """Send one change of a working order; what becomes of it is seen in the order's reports.

    A greater size counts from now on, in the same commit: nobody knows when the broker takes it.

    Args:
        urgent: It makes what protects or closes fit a position: it waits for nobody.
    """
    state, number = turn.state, order.broker_order_id
    assert number is not None and number not in state.modifies_running, order
    state.modifies_running[number] = Change(order.wanted_qty, order_qty)
    if order_qty is not None and order_qty > order.order_qty:
        wanted_qty = max(order_qty, order.wanted_qty)
        order = store(turn, order, msgspec.structs.replace(order, wanted_qty=wanted_qty))
    state.sent_ns.append(turn.at.mono_ns)
    wanted = Wanted(order_qty=order_qty, limit_price=limit_price, stop_price=stop_price)
    want_check(turn, number, delay_s=ANSWER_WAIT_S, wanted=wanted)
    turn.do(
        Modify(
            client_order_id=order.client_order_id,
            broker_order_id=number,
            order_qty=order_qty,
            limit_price=limit_price,
            stop_price=stop_price,
            trail_price=trail_price,
            expires_at_ns=expires_at_ns,
            urgent=urgent,
        )
    )
    return order


def denied(turn: Turn, intent: Intent, why: Denied) -> OrderDenied:
    """Return the message that tells a strategy of a refusal."""
    return OrderDenied(
        client_order_id=intent.client_order_id,
        strategy_id=intent.strategy_id,
        symbol=intent.symbol,
        code=why.code,
        numbers=why.numbers,
        cause=turn.cause,
        ts_ns=turn.at.now_ns,
    )
