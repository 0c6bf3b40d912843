"""Flatten: no working order, no position, seen at the broker. Rounds of cancel, close, look again.

The first round acts on what is known, without asking anything; every further one on a fresh look, because
closing leaves resting stops alive, a stop can fill beside the close, and answers prove nothing. Repeating
is harmless after a fresh look: a cancel of a dead order and a close of a flat contract do nothing.
"""

from __future__ import annotations

import msgspec

from services.execution import crossing
from services.execution.events import CloseContract, Searched
from services.execution.fills import attribute_closes
from services.execution.orders import cancel, send_cancel, want_search
from services.execution.records import FlattenRecord
from services.execution.state import State
from services.execution.turn import Turn
from shared.domain.execution import FlattenFinished, FlattenProgressed
from shared.domain.order import OrderStatus

LOOK_AFTER_S = 0.5
ANSWER_WAIT_S = 10.0
"""A cancel or close that has no answer by then no longer holds the round up."""


def begin(turn: Turn, reason: str, symbol: str | None) -> None:
    """Start; a flatten under way is widened, never narrowed.

    Where it is at work already nothing is closed again without a fresh look: the close may have filled.
    """
    state = turn.state
    standing = state.change_standing()
    current, rounds = standing.flatten, 0
    if current is not None:
        rounds = current.rounds
        symbol = symbol if current.symbol == symbol else None
    contracts = set(state.sync.positions) | set(state.net_of_fills) | set(state.standing.baselines)
    contracts |= {one.contract_id for one in state.open.values()} | {
        one.contract_id for one in (*state.external_working.values(), *state.unmatched.values())
    }
    before = {one for one in contracts if current is not None and covered(state, one)} - state.unclosed
    standing.flatten = FlattenRecord(reason=reason, ts_ns=turn.at.now_ns, symbol=symbol, rounds=rounds)
    new = {one for one in contracts - before if covered(state, one)}
    held = [
        contract_id
        for contract_id in sorted(new)
        if (state.sync.positions.get(contract_id) or state.contract_qty(contract_id))
    ]
    working = {
        order.broker_order_id: order.contract_id
        for order in state.open.values()
        if order.broker_order_id is not None and order.status.may_fill
    }
    working.update({number: seen.contract_id for number, seen in state.external_working.items()})
    working.update(
        {number: seen.contract_id for number, seen in state.unmatched.items() if seen.status.may_fill}
    )
    # Cancels may be repeated at any time, closes not.
    cancels = {number for number, contract in working.items() if covered(state, contract)}
    if current is not None and not held and not cancels - state.cancels_running:
        want_search(turn, delay_s=0.0)
        return
    _round(turn, cancels, held, first=current is None)


def closed_by_guard(turn: Turn) -> None:
    """Guard may close by itself when we are slow: what it closes belongs to the strategies that hold it."""
    standing = turn.state.change_standing()
    held = {
        contract_id: turn.at.now_ns
        for strategy_id, contract_id in turn.state.books
        if turn.state.net_qty(strategy_id, contract_id)
    }
    standing.closes = {**standing.closes, **held}
    attribute_closes(turn)


def searched(turn: Turn, look: Searched) -> None:
    """Decide on a fresh look whether it is done, else do another round."""
    state = turn.state
    flatten = state.standing.flatten
    if flatten is None or look.failure is not None or state.cancels_running or state.closes_running:
        return
    if state.flatten_due_ns is not None and look.started.mono_ns < state.flatten_due_ns:
        return  # it began before the last round had its effect
    if look.working is None:
        want_search(turn, delay_s=0.0)  # it did not ask for what works: asked for before the flatten began
        return
    working = {one.broker_order_id for one in look.working if covered(state, one.contract_id)}
    held = sorted(
        one.contract_id for one in look.positions if one.net_qty and covered(state, one.contract_id)
    )
    pending = [
        order.client_order_id
        for order in state.open.values()
        if order.status in (OrderStatus.PENDING_NEW, OrderStatus.UNKNOWN)
        and covered(state, order.contract_id)
    ]
    if not working and not held and not pending:
        _finish(turn, flatten, flat=True, reason=flatten.reason)
    elif flatten.rounds >= state.rules.flatten_rounds_max:
        left = f"{len(working)} orders, positions in {held}, unanswered {pending} are left"
        turn.alarm("flatten_incomplete", f"{left}; close them in the broker's platform")
        _finish(turn, flatten, flat=False, reason=left)
    elif not working and not held:
        want_search(turn, delay_s=2.0)  # only doubts are left; the resolver is at them
    else:
        _round(turn, working, held)


def answered(turn: Turn) -> None:
    """An answer came in; when it was the round's last, look at the broker."""
    state = turn.state
    if state.standing.flatten is None or state.cancels_running or state.closes_running:
        return
    state.flatten_due_ns = turn.at.mono_ns
    want_search(turn, delay_s=LOOK_AFTER_S)


def covered(state: State, contract_id: str) -> bool:
    """Does the flatten under way concern this contract?"""
    flatten = state.standing.flatten
    assert flatten is not None
    if flatten.symbol is None:
        return True
    contract = state.standing.contracts.get(contract_id)
    return contract is not None and contract.symbol == flatten.symbol


def _round(turn: Turn, working: set[int], held: list[str], *, first: bool = True) -> None:
    """Cancel and close. Who only asks once more uses up no round: those are for fresh looks."""
    state = turn.state
    standing = state.change_standing()
    assert standing.flatten is not None
    rounds = standing.flatten.rounds + first
    standing.flatten = msgspec.structs.replace(standing.flatten, rounds=rounds)
    for order in list(state.open.values()):
        if covered(state, order.contract_id) and order.broker_order_id is None:
            cancel(turn, order, "flatten")  # as soon as the broker's id is known
    for broker_order_id in sorted(working - state.cancels_running):
        name = state.by_broker_id.get(broker_order_id)
        if name is not None and state.orders[name].status.may_fill:
            cancel(turn, state.orders[name], "flatten")
        else:
            send_cancel(turn, broker_order_id)
    for contract_id in held:
        if contract_id not in state.closes_running:
            state.closes_running.add(contract_id)
            state.unclosed.discard(contract_id)
            standing.closes = {**standing.closes, contract_id: turn.at.now_ns}
            turn.do(CloseContract(contract_id=contract_id))
    turn.publish(
        FlattenProgressed(round=rounds, cancels=len(working), closes=len(held), ts_ns=turn.at.now_ns)
    )
    if first or held:
        state.flatten_due_ns = turn.at.mono_ns
    idle = not state.cancels_running and not state.closes_running
    want_search(turn, delay_s=LOOK_AFTER_S if idle else ANSWER_WAIT_S)


def _finish(turn: Turn, flatten: FlattenRecord, *, flat: bool, reason: str) -> None:
    if flat:
        contracts = {contract_id for _, contract_id in turn.state.books}
        crossing.want(turn, {one for one in contracts if covered(turn.state, one)})
    turn.state.change_standing().flatten = None
    turn.state.unclosed.clear()
    turn.state.flatten_due_ns = None
    turn.publish(FlattenFinished(flat=flat, rounds=flatten.rounds, reason=reason, ts_ns=turn.at.now_ns))
