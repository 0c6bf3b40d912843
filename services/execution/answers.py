"""What the broker answered to what was sent. No answer is `unknown`, never a refusal."""

from __future__ import annotations

import msgspec

from services.execution import brackets, claims, conduct, flatten, holds, orders
from services.execution.events import CancelAnswered, CloseAnswered, ModifyAnswered, PlaceAnswered
from services.execution.records import NOT_SENT, OrderRecord
from services.execution.state import NS_PER_S, Change
from services.execution.turn import Turn
from shared.broker.port import Accepted, NotSent, Rejected, Unknown
from shared.domain.order import OrderFact, OrderStatus

ATTEMPTS_MAX = 2
CHANGE_SHOWN_S = 2.0
"""In which a report shows a change that was accepted; after that the order is looked at."""
POSITION_BRACKETS = "Position Brackets"
POSITION_BRACKETS_REMEDY = (
    "the account uses Position Brackets: with no position and no working order, switch to Auto OCO Brackets "
    "in the platform under Settings, Risk Settings"
)


def placed(turn: Turn, answer: PlaceAnswered) -> None:
    """Take the outcome of a POST: the outcome table of the order protocol."""
    state = turn.state
    state.places_running.discard(answer.client_order_id)
    order = state.orders[answer.client_order_id]
    outcome = answer.outcome
    match outcome:
        case Accepted(broker_order_id=broker_order_id) if broker_order_id is not None:
            first = order.broker_order_id is None
            if not first and order.broker_order_id != broker_order_id:
                text = (
                    f"{order.client_order_id} is {order.broker_order_id} and {broker_order_id} at the broker"
                )
                turn.alarm("two_broker_orders", text)
                return
            after = orders.observe(turn, order, OrderFact.ACCEPTED, broker_order_id=broker_order_id)
            if first:
                brackets.known(turn, after)
        case Accepted():
            orders.unknown(turn, order, "accepted without an id")
        case Rejected(code=code, reason=reason):
            _rejected(turn, order, code, reason)
        case NotSent(reason=reason):
            _not_sent(turn, order, reason)
        case Unknown(reason=reason):
            if order.status in (OrderStatus.PENDING_NEW, OrderStatus.UNKNOWN):
                orders.unknown(turn, order, reason)
    if not state.is_doubtful(order.contract_id):
        brackets.judge_unmatched(turn)


def _rejected(turn: Turn, order: OrderRecord, code: int, reason: str) -> None:
    if order.broker_order_id is not None and order.status is not OrderStatus.REJECTED:
        # The user hub has shown the order already: what the broker holds outweighs what it said.
        orders.want_check(turn, order.broker_order_id, delay_s=0.0)
        return
    if POSITION_BRACKETS in reason:
        reason = f"{reason} Remedy: {POSITION_BRACKETS_REMEDY}."
        turn.alarm("brackets_refused", reason)
    orders.observe(turn, order, OrderFact.REJECTED, reason=f"{reason} (code {code})")


def _not_sent(turn: Turn, order: OrderRecord, reason: str) -> None:
    """Proven not to have left this machine: once more under the same id, if there is time."""
    if order.status is not OrderStatus.PENDING_NEW:
        return
    if (
        order.attempts >= ATTEMPTS_MAX
        or turn.at.now_ns >= order.expires_at_ns
        or holds.hold(turn.state, order, turn.at) is not None
        or order.cancel_wanted
    ):
        conduct.unsent(turn, order)
        orders.advance(turn, order, OrderFact.NOT_SENT, reason=f"{NOT_SENT}{reason}")
        return
    # Recorded before it is done: after a crash between the two the order counts as unknown.
    again = msgspec.structs.replace(order, attempts=order.attempts + 1)
    turn.state.put_order(again)
    claims.post(turn, again)


def canceled(turn: Turn, answer: CancelAnswered) -> None:
    """A cancel was answered; whatever the answer, the order itself is looked at."""
    state = turn.state
    state.cancels_running.discard(answer.broker_order_id)
    if isinstance(answer.outcome, NotSent):
        # It had no chance to have an effect: the order is looked at, and the cancel sent again.
        state.cancels_sent.pop(answer.broker_order_id, None)
    name = state.by_broker_id.get(answer.broker_order_id)
    if name is not None:
        order = state.orders[name]
        if isinstance(answer.outcome, Rejected) and order.status is OrderStatus.PENDING_CANCEL:
            reason = f"cancel refused: {answer.outcome.reason}"
            orders.observe(turn, order, OrderFact.CANCEL_REFUSED, reason=reason)
        if state.orders[name].status.may_fill:
            # A refusal usually means that a fill was faster: the truth is one question away.
            soon = not isinstance(answer.outcome, Accepted)
            orders.want_check(turn, answer.broker_order_id, delay_s=0.5 if soon else 2.0, wanted=orders.OVER)
    flatten.answered(turn)


def modified(turn: Turn, answer: ModifyAnswered) -> None:
    """A change was answered; the new values count when a report shows them."""
    state = turn.state
    order = state.orders[answer.client_order_id]
    change = state.modifies_running.pop(order.broker_order_id or 0, Change(order.wanted_qty, None))
    if isinstance(answer.outcome, Accepted) and change.order_qty is not None:
        if order.client_order_id not in state.sizes_unknown_ns:
            # The broker takes changes in their order: one that was accepted before has become of no account.
            wanted_qty = change.order_qty if change.order_qty > order.order_qty else 0
            orders.store(turn, order, msgspec.structs.replace(order, wanted_qty=wanted_qty))
    elif isinstance(answer.outcome, Rejected | NotSent | Unknown):
        reason = f"change not confirmed: {answer.outcome.reason}"
        wanted_qty = change.before_qty
        if isinstance(answer.outcome, Unknown):
            wanted_qty = order.wanted_qty  # it may still land
            if wanted_qty:
                state.sizes_unknown_ns[order.client_order_id] = turn.at.mono_ns
        after = msgspec.structs.replace(order, reason=reason, wanted_qty=wanted_qty)
        after = orders.store(turn, order, after)
        turn.publish(orders.updated(after, turn))
        if after.status is OrderStatus.PARTIALLY_FILLED:
            orders.observe(turn, after, OrderFact.FOUND)  # it may be full as it is
    check = state.checks.get(order.broker_order_id or 0)
    if check is not None:
        wait_s = CHANGE_SHOWN_S if isinstance(answer.outcome, Accepted) else 0.5
        check.due_ns = turn.at.mono_ns + round(wait_s * NS_PER_S)


def closed(turn: Turn, answer: CloseAnswered) -> None:
    """A close of a contract was answered; only a look at the position says whether it worked."""
    turn.state.closes_running.discard(answer.contract_id)
    if isinstance(answer.outcome, NotSent) and turn.state.standing.flatten is not None:
        turn.state.unclosed.add(answer.contract_id)
    flatten.answered(turn)
