"""Fills: a set by the broker's id, each counted once for the one it belongs to.

Three kinds of fill belong to nobody at first: one that overtook the answer to its own POST (it is counted for
the account at once and for its strategy when the order's id is known), one of a close that a flatten sent
(the broker places that order itself, without our tag; it goes to the strategies whose positions it closed),
and what others did on the account.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from services.execution import settling
from services.execution.orders import observe, store, want_check
from services.execution.records import BEFORE, EXIT, EXTERNAL, FillRecord, OrderRecord
from services.execution.state import NS_PER_S, HeardLate, State
from services.execution.turn import Turn
from shared.domain.control import HaltKind
from shared.domain.execution import OrderFilled
from shared.domain.order import OrderFact
from shared.domain.position import ZERO
from shared.domain.report import FillReport

WHOSE_AFTER_S = 0.5
"""How long a fill waits for its order to be shown before the broker is asked; an answer is usually near."""
FEES_LEAST = Decimal("0.0001")
"""Less than this is what sharing out has rounded."""
HEARD_LATE_NS = NS_PER_S


def take(turn: Turn, fill: FillReport) -> str | None:
    """Count one fill; return why trading must halt over it, None in the ordinary case."""
    state = turn.state
    if settling.fill_repeated(state, fill):
        return None
    known = state.fills.get(fill.fill_id)
    if fill.voided:
        return _void(turn, known, fill)
    if known is not None:
        _correct_fees(state, known, fill)
        return None
    name = state.by_broker_id.get(fill.broker_order_id)
    order = state.orders[name] if name is not None else None
    record = _record(state, fill)
    if order is not None:
        _count_own(turn, order, record)
    elif _is_before(state, fill):
        state.put_fill(msgspec.structs.replace(record, strategy_id=BEFORE))
    else:
        _count_foreign(turn, record)
    return None


def adopt_early(turn: Turn, order: OrderRecord) -> None:
    """Give `order` the fills that were heard before its broker id was known."""
    state = turn.state
    assert order.broker_order_id is not None, order
    early = state.ownerless.get(order.broker_order_id, ())
    if early:
        state.checks.pop(order.broker_order_id, None)
    for fill in sorted(early, key=lambda one: (one.ts_event_ns, one.fill_id)):
        state.drop_fill(fill)
        _count_own(turn, state.orders[order.client_order_id], fill)


def count_since(turn: Turn, begun_ns: int) -> None:
    """Count fills that were heard before the baseline was known and happened after it was taken."""
    state = turn.state
    later = [one for parts in state.fills.values() for one in parts if one.ts_event_ns >= begun_ns]
    for fill in sorted(later, key=lambda one: (one.ts_event_ns, one.fill_id)):
        if fill.strategy_id == BEFORE:
            state.drop_fill(fill)
            _count_foreign(turn, msgspec.structs.replace(fill, strategy_id=EXTERNAL))


def attribute_closes(turn: Turn) -> None:
    """Give fills that closed strategies' positions to them, once no order of ours could claim the fills."""
    state = turn.state
    waiting = [fill for fills in state.ownerless.values() for fill in fills if _closes(state, fill)]
    for fill in waiting:
        owners = [one for one, contract in state.books if contract == fill.contract_id and one != EXTERNAL]
        if any(_could_close(state, one, fill) for one in owners):
            state.drop_fill(fill)
            _count_foreign(turn, fill)


def _could_close(state: State, strategy_id: str, fill: FillRecord) -> int:
    """Return how much of a strategy's position a fill can have closed: no more than there was at its time."""
    if state.net_qty(strategy_id, fill.contract_id) * fill.side.sign >= 0:
        return 0
    return min(fill.qty, state.book(strategy_id, fill.contract_id).open_before(fill.ts_event_ns))


def _closes(state: State, fill: FillRecord) -> bool:
    """Did a flatten of ours, or a person by hand, place this order? Then it closes what strategies hold.

    The order itself must have been shown: until then it may be a stop of ours that nobody has shown yet.
    """
    number = fill.broker_order_id
    shown = number in state.standing.externals or number in state.closing
    return shown and not state.is_doubtful(fill.contract_id)


def unexplained(state: State, contract_id: str) -> bool:
    """Is there a fill of an order that nobody has shown yet?"""
    return any(
        fill.contract_id == contract_id
        for number, parts in state.ownerless.items()
        if number not in state.standing.externals and number not in state.closing
        for fill in parts
    )


def nameless(state: State, order: OrderRecord) -> list[int]:
    """Return broker orders with fills that `order` could have made, and that no report has shown yet.

    A search for orders can lag behind one for fills, so such a fill is evidence that the order is there.
    """
    return sorted(
        number
        for number, parts in state.ownerless.items()
        if number not in state.standing.externals and number not in state.unmatched
        if any(one.contract_id == order.contract_id and one.side is order.side for one in parts)
    )


def _record(state: State, fill: FillReport) -> FillRecord:
    contract = state.standing.contracts.get(fill.contract_id)
    return FillRecord(
        fill_id=fill.fill_id,
        broker_order_id=fill.broker_order_id,
        contract_id=fill.contract_id,
        side=fill.side,
        qty=fill.last_qty,
        px=fill.last_px,
        fees=fill.fees,
        multiplier=contract.multiplier if contract is not None else ZERO,
        ts_event_ns=fill.ts_event_ns,
    )


def _count_own(turn: Turn, order: OrderRecord, fill: FillRecord) -> None:
    state = turn.state
    own = msgspec.structs.replace(
        fill,
        client_order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        multiplier=order.multiplier,
        closes=order.parent or "",
    )
    realized = state.put_fill(own)
    _note_late(turn, own)
    cum_qty = order.cum_qty + own.qty
    if order.order_qty < cum_qty <= order.wanted_qty:
        # The greater size has landed, and no report has said so yet.
        order = store(turn, order, msgspec.structs.replace(order, order_qty=order.wanted_qty, wanted_qty=0))
    leaves_qty = max(0, max(order.order_qty, order.wanted_qty) - cum_qty)
    if cum_qty > order.order_qty and not order.is_protective:
        text = f"{order.client_order_id}: {cum_qty} filled of {order.order_qty}"
        turn.alarm("overfilled", text)
    publish(turn, own, order.role, cum_qty, leaves_qty, realized)
    fact = OrderFact.PARTLY_FILLED if leaves_qty else OrderFact.FULLY_FILLED
    observe(turn, order, fact, cum_qty=cum_qty, broker_cum_qty=max(cum_qty, order.broker_cum_qty))


def _note_late(turn: Turn, fill: FillRecord) -> None:
    """What stands without a stop has done so since the fill, not since we heard of it."""
    state, venue_ns = turn.state, turn.at.venue_ns
    late_ns = 0 if venue_ns is None else round((venue_ns - fill.ts_event_ns) / state.rules.market_speed)
    if late_ns > HEARD_LATE_NS:
        state.heard_late[fill.client_order_id] = HeardLate(turn.at.mono_ns, late_ns)


def publish(turn: Turn, fill: FillRecord, role: str, cum_qty: int, leaves_qty: int, realized: object) -> None:
    """Tell the strategy; `realized` is the gross result of the closing part."""
    state = turn.state
    position = state.book(fill.strategy_id, fill.contract_id).position
    contract = state.standing.contracts.get(fill.contract_id)
    order = state.orders.get(fill.client_order_id)
    symbol = order.symbol if order is not None else contract.symbol if contract is not None else ""
    turn.publish(
        OrderFilled(
            client_order_id=fill.client_order_id,
            strategy_id=fill.strategy_id,
            symbol=symbol,
            fill_id=fill.fill_id,
            side=fill.side,
            last_qty=fill.qty,
            last_px=fill.px,
            cum_qty=cum_qty,
            leaves_qty=leaves_qty,
            fees=fill.fees,
            realized_pnl=realized,  # type: ignore[arg-type]
            strategy_net_qty=position.net_qty,
            strategy_avg_px=position.avg_px,
            ts_event_ns=fill.ts_event_ns,
            ts_ns=turn.at.now_ns,
            role=role,
        )
    )


def _count_foreign(turn: Turn, fill: FillRecord) -> None:
    """Count a fill of an order that is not ours, or not yet known to be."""
    state = turn.state
    rest = fill.qty
    # Parts that are counted already stay; one of the same number would take another's place in the ledger.
    part = max((one.part for one in state.fills.get(fill.fill_id, ())), default=-1) + 1
    by = "external" if fill.broker_order_id in state.standing.externals else "flatten"
    if _closes(state, fill):
        theirs = state.net_qty(EXTERNAL, fill.contract_id) + state.standing.baselines.get(fill.contract_id, 0)
        own = min(rest, abs(theirs)) if theirs * fill.side.sign < 0 else 0
        if own:  # what was opened by hand is closed first: by hand, and by a flatten with all the rest
            fees = fill.fees * own / fill.qty
            state.put_fill(msgspec.structs.replace(fill, part=part, qty=own, fees=fees))
            rest, part = rest - own, part + 1
        for strategy_id in sorted({name for name, contract in state.books if contract == fill.contract_id}):
            qty = 0 if strategy_id == EXTERNAL else min(rest, _could_close(state, strategy_id, fill))
            if not qty:
                continue
            share = msgspec.structs.replace(
                fill,
                part=part,
                qty=qty,
                fees=fill.fees * qty / fill.qty,
                strategy_id=strategy_id,
                client_order_id=f"{by}:{fill.broker_order_id}",
            )
            realized = state.put_fill(share)
            publish(turn, share, EXIT, qty, 0, realized)
            rest -= qty
            part += 1
    if not rest:
        return
    fees = fill.fees * rest / fill.qty
    state.put_fill(msgspec.structs.replace(fill, part=part, qty=rest, fees=fees))
    if fill.broker_order_id not in state.standing.externals and fill.broker_order_id not in state.closing:
        # A protective order can be born and filled between two looks: nobody has shown us the order itself.
        want_check(turn, fill.broker_order_id, delay_s=WHOSE_AFTER_S)


def _is_before(state: State, fill: FillReport) -> bool:
    """Is it of a time that the baseline contains?"""
    standing = state.standing
    return not standing.baselined or fill.ts_event_ns < standing.baseline_venue_ns


def _correct_fees(state: State, known: list[FillRecord], fill: FillReport) -> None:
    """Take over fees that came later. A hub's row lacks the commissions that the search's row has."""
    more = fill.fees - sum(one.fees for one in known)
    if more < FEES_LEAST:
        return
    for record in list(known):  # what one close of several books was split into
        state.drop_fill(record)
        share = more * record.qty / fill.last_qty
        state.put_fill(msgspec.structs.replace(record, fees=record.fees + share))


def _void(turn: Turn, known: list[FillRecord] | None, fill: FillReport) -> str | None:
    if known is None:
        return None
    own = any(record.client_order_id for record in known)
    for record in list(known):
        turn.state.drop_fill(record)
    text = f"fill {fill.fill_id} of broker order {fill.broker_order_id} was voided by the broker"
    turn.alarm("fill_voided", text)
    return f"{HaltKind.INVARIANT}: {text}" if own else None
