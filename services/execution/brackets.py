"""Whose is this order? Ours by tag or id, a protective child of ours, or another's.

The gateway creates bracket children itself, without our tag. It was seen to give them ids right after the
parent's (stop first), a tag with `AutoBracket`, the parent's id, a link between the two; none of that is
documented, so any of it is taken.
"""

from __future__ import annotations

from services.execution import fills, settling
from services.execution.orders import report, want_search
from services.execution.records import ENTRY, STOP_LOSS, TAKE_PROFIT, OrderRecord
from services.execution.state import NS_PER_S, State
from services.execution.turn import Turn
from shared.domain.execution import ExternalOrderSeen
from shared.domain.order import OrderStatus, OrderType
from shared.domain.report import OrderReport

AUTO_BRACKET = "AutoBracket"
STOP_TYPES = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})
EXTERNALS_MAX = 10_000
UNMATCHED_MAX = 1_000
LANDING_QUARANTINES = 2
"""So long after its claim a bracket may still be that of an order which landed after it was given up."""
_SUFFIX = {STOP_LOSS: "sl", TAKE_PROFIT: "tp"}


def see(turn: Turn, seen: OrderReport) -> None:
    """Take one report about any order of the account."""
    state = turn.state
    if settling.order_repeated(state, seen):
        return
    order = _ours(state, seen) or _child(turn, seen)
    if order is None:
        _other(turn, seen)
        return
    state.unmatched.pop(seen.broker_order_id, None)
    state.external_working.pop(seen.broker_order_id, None)
    first = order.broker_order_id is None
    after = report(turn, order, seen)
    if first and after.broker_order_id is not None:
        known(turn, after)


def known(turn: Turn, order: OrderRecord) -> None:
    """The broker's id of an order is known now: what was heard before under that id belongs to it."""
    state = turn.state
    state.accepted_ns.setdefault(order.client_order_id, turn.at.mono_ns)
    fills.adopt_early(turn, order)
    waiting = sorted(state.unmatched.items())
    for broker_order_id, seen in waiting:
        if broker_order_id in state.unmatched and (_ours(state, seen) or _parent(state, seen)):
            see(turn, seen)


def _ours(state: State, seen: OrderReport) -> OrderRecord | None:
    name = state.by_broker_id.get(seen.broker_order_id)
    if name is None and seen.custom_tag and seen.custom_tag in state.orders:
        order = state.orders[seen.custom_tag]
        # One that we refused was never sent: what bears its name is of a time this ledger has not seen.
        never = order.status in (OrderStatus.DENIED, OrderStatus.EXPIRED) and not order.attempts
        name = seen.custom_tag if order.broker_order_id is None and not never else None
    return state.orders[name] if name is not None else None


def _parent(state: State, seen: OrderReport) -> OrderRecord | None:
    """Return the entry that `seen` protects, None when it is not a child of ours."""
    tagged = AUTO_BRACKET in (seen.custom_tag or "")
    if seen.custom_tag and not tagged:
        return None
    for broker_id in (seen.parent_order_id, seen.linked_order_id):
        name = state.by_broker_id.get(broker_id) if broker_id is not None else None
        if name is None:
            continue
        linked = state.orders[name]
        entry = state.orders[linked.parent] if linked.parent is not None else linked
        if _protects(entry, seen):
            return entry
    for offset in (1, 2):
        name = state.by_broker_id.get(seen.broker_order_id - offset)
        if name is None or not _protects(state.orders[name], seen):
            continue
        # Without a tag only the documented pair is believed: the stop right after the entry, then the target.
        if tagged or _role(seen) == (STOP_LOSS if offset == 1 else TAKE_PROFIT):
            return state.orders[name]
    return None


def _protects(entry: OrderRecord, seen: OrderReport) -> bool:
    return (
        entry.role == ENTRY
        and entry.stop_loss_ticks is not None
        and entry.contract_id == seen.contract_id
        and entry.side is seen.side.opposite
        and seen.order_type in STOP_TYPES | {OrderType.LIMIT}
    )


def _role(seen: OrderReport) -> str:
    return STOP_LOSS if seen.order_type in STOP_TYPES else TAKE_PROFIT


def _child(turn: Turn, seen: OrderReport) -> OrderRecord | None:
    """Create the record of a protective child that is seen for the first time."""
    state = turn.state
    entry = _parent(state, seen)
    if entry is None:
        return None
    role = _role(seen)
    name = f"{entry.client_order_id}:{_SUFFIX[role]}"
    earlier = state.orders.get(name)
    if earlier is not None and earlier.broker_order_id is not None:
        name = f"{name}{seen.broker_order_id}"  # the broker has replaced it
    child = OrderRecord(
        client_order_id=name,
        strategy_id=entry.strategy_id,
        symbol=entry.symbol,
        contract_id=entry.contract_id,
        side=seen.side,
        order_qty=seen.order_qty,
        order_type=seen.order_type or OrderType.STOP,
        cause=entry.cause,
        tick_size=entry.tick_size,
        multiplier=entry.multiplier,
        ts_claimed_ns=turn.at.now_ns,
        venue_claimed_ns=entry.venue_claimed_ns,
        role=role,
        parent=entry.client_order_id,
        native=True,
        limit_price=seen.limit_price,
        stop_price=seen.stop_price,
        reduce_only=True,
    )
    state.put_order(child)
    return child


def _other(turn: Turn, seen: OrderReport) -> None:
    """Keep what may turn out to be ours while something of ours is unanswered; else it is another's."""
    state = turn.state
    state.checks.pop(seen.broker_order_id, None)
    maybe_ours = state.is_doubtful(seen.contract_id) or _may_be_landing(turn, seen)
    if maybe_ours and len(state.unmatched) < UNMATCHED_MAX:
        state.unmatched[seen.broker_order_id] = seen
        want_search(turn, delay_s=1.0)
        return
    state.unmatched.pop(seen.broker_order_id, None)
    announced = seen.broker_order_id in state.standing.externals
    if _after_a_close(turn, seen.contract_id) and not announced:
        state.closing.add(seen.broker_order_id)  # the order of a close that we sent, most likely
        fills.attribute_closes(turn)
    if seen.status.may_fill:
        state.external_working[seen.broker_order_id] = seen
    else:
        state.external_working.pop(seen.broker_order_id, None)
        if not state.ownerless.get(seen.broker_order_id):
            return  # it is over, and nothing came of it
    if announced or seen.broker_order_id in state.closing:
        return
    standing = state.change_standing()
    standing.externals = [*standing.externals[-EXTERNALS_MAX + 1 :], seen.broker_order_id]
    turn.publish(
        ExternalOrderSeen(
            broker_order_id=seen.broker_order_id, contract_id=seen.contract_id, ts_ns=turn.at.now_ns
        )
    )
    turn.alarm(
        "external_order",
        f"broker order {seen.broker_order_id} on {seen.contract_id} is not ours; it counts in the position",
    )
    fills.attribute_closes(turn)


def _may_be_landing(turn: Turn, seen: OrderReport) -> bool:
    """Is it a bracket of an order that was given up a moment ago? It can be shown before its entry is."""
    state = turn.state
    if AUTO_BRACKET not in (seen.custom_tag or ""):
        return False
    young_ns = LANDING_QUARANTINES * state.rules.quarantine_s * NS_PER_S
    now = state.stamp(turn.at)
    return any(
        order.status is OrderStatus.ABSENT
        and order.contract_id == seen.contract_id
        and order.age_ns(now) < young_ns
        for order in state.orders.values()
    )


def _after_a_close(turn: Turn, contract_id: str) -> bool:
    """Was a close of this contract sent lately? An order that shows long after it is somebody else's."""
    sent_ns = turn.state.standing.closes.get(contract_id)
    return sent_ns is not None and abs(turn.at.now_ns - sent_ns) <= turn.state.rules.quarantine_s * NS_PER_S


def judge_unmatched(turn: Turn) -> None:
    """Decide again on what was kept while something of ours was unanswered."""
    fills.attribute_closes(turn)
    for broker_order_id, seen in sorted(turn.state.unmatched.items()):
        if broker_order_id in turn.state.unmatched:
            see(turn, seen)
