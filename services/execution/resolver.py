"""Doubts and their ends: what is due at a tick, and what a search proves.

One search answers all doubts at once: every order of the window, closed ones too, every fill, every position.
Found is found. Not found is nothing by itself: it needs several searches that succeeded, a time in which
a late landing would have shown, and a position that is explained without the order.
"""

from __future__ import annotations

import msgspec

from services.execution import (
    account,
    brackets,
    conduct,
    crossing,
    fills,
    flatten,
    orders,
    protection,
    settling,
)
from services.execution.events import OrderQueried, Search, Searched
from services.execution.records import OrderRecord
from services.execution.state import NS_PER_S, Check, Look, State
from services.execution.turn import Turn
from shared.domain.order import OrderFact, OrderStatus

SEARCH_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Between searches while something is in doubt; the last one repeats."""
CHECK_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
CANCELS_PAUSE_S = 10.0
"""After so many cancels without effect that a person was told."""
WINDOW_MARGIN_S = 60.0
"""Searches begin this long before the claim: clocks differ."""


def recovered(turn: Turn) -> None:
    """After a start: what was claimed and never answered may be anywhere."""
    state = turn.state
    for order in list(state.open.values()):
        unanswered = order.status is OrderStatus.PENDING_NEW and order.broker_order_id is None
        if unanswered or order.status is OrderStatus.UNKNOWN:
            orders.unknown(turn, order, "restarted before an answer was recorded")
        elif order.status is OrderStatus.PENDING_CANCEL and order.broker_order_id is not None:
            orders.want_check(turn, order.broker_order_id, delay_s=0.0, wanted=orders.OVER)
        elif order.missing_qty:
            orders.want_search(turn, delay_s=0.0)
        if order.wanted_qty and order.broker_order_id is not None:
            state.sizes_unknown_ns[order.client_order_id] = turn.at.mono_ns
    _remember_pace(turn)
    for number in sorted(number for number, parts in state.ownerless.items() if parts):
        if number not in state.standing.externals:
            orders.want_check(turn, number, delay_s=0.0)
    if state.standing.flatten is not None:
        state.flatten_due_ns = turn.at.mono_ns
    # Always one look: it settles old doubts, and its answer tells the broker's time.
    orders.want_search(turn, delay_s=0.0)
    state.recovered = True


def _remember_pace(turn: Turn) -> None:
    """Count what was sent in the minute before the restart, so that restarting is no way around limits."""
    state, at = turn.state, turn.at
    for age_ns, order in conduct.claimed_before(turn):
        if age_ns < 60 * NS_PER_S:
            state.sent_ns.append(at.mono_ns - age_ns)
            state.recent.append((at.mono_ns - age_ns, order))


def due(turn: Turn) -> None:
    """Ask what is due."""
    state = turn.state
    protection.due(turn)
    crossing.due(turn)
    settling.due(turn)
    _look_for_sizes(turn)
    for number, check in sorted(state.checks.items()):
        if check.due_ns <= turn.at.mono_ns and number not in state.queries_running:
            pause_s = CHECK_PAUSES_S[min(check.attempt, len(CHECK_PAUSES_S) - 1)]
            later_ns = turn.at.mono_ns + round(pause_s * NS_PER_S)
            state.checks[number] = Check(due_ns=later_ns, wanted=check.wanted, attempt=check.attempt + 1)
            orders.query(turn, number)
    account.watch(turn)
    _tell_blind(turn)
    if state.fills_due_ns is not None and state.fills_due_ns <= turn.at.mono_ns:
        state.fills_due_ns = None
        if any(order.missing_qty for order in state.open.values()):
            orders.want_search(turn, delay_s=0.0)
    if (
        state.search_due_ns is not None
        and state.search_due_ns <= turn.at.mono_ns
        and not state.search_running
    ):
        state.search_due_ns = None
        state.search_running = True
        working = state.standing.flatten is not None or bool(state.gaps)
        turn.do(Search(start_ns=_window_start(state, turn), working=working))


def _tell_blind(turn: Turn) -> None:
    """Say it when the broker could not be looked at since the start: what is held may stand unprotected."""
    state = turn.state
    if state.searched or state.blind_told:
        return
    if state.began_ns is None:
        state.began_ns = turn.at.mono_ns
    age_s = (turn.at.mono_ns - state.began_ns) / NS_PER_S
    if age_s >= state.rules.protect_within_s:
        state.blind_told = True
        turn.alarm("blind", f"no search has been answered for {age_s:.0f} s since the start")


def _window_start(state: State, turn: Turn) -> int:
    """Return where a search begins in the broker's time, early enough for everything in doubt."""
    begins = [
        _venue_claim_ns(state, turn, order)
        for order in state.open.values()
        if order.client_order_id in state.doubts or order.missing_qty
    ]
    now_ns = turn.at.venue_ns or turn.at.now_ns
    begins += [now_ns - round(WINDOW_MARGIN_S * 60 * state.rules.market_speed * NS_PER_S)]
    return max(0, min(begins) - round(WINDOW_MARGIN_S * state.rules.market_speed * NS_PER_S))


def _venue_claim_ns(state: State, turn: Turn, order: OrderRecord) -> int:
    if order.venue_claimed_ns is not None:
        return order.venue_claimed_ns
    if not state.rules.venue_clock:
        return order.ts_claimed_ns
    if turn.at.venue_ns is None:
        return 0
    elapsed_ns = max(0, turn.at.now_ns - order.ts_claimed_ns)
    return turn.at.venue_ns - round(elapsed_ns * state.rules.market_speed)


def searched(turn: Turn, look: Searched) -> None:
    """Take a search: first what it shows, then what it proves by not showing."""
    state = turn.state
    state.search_running = False
    if look.failure is None:
        state.searched = True
        state.sync.looked_ns = look.at.mono_ns
        for seen in (*look.orders, *(look.working or ())):
            brackets.see(turn, seen)
        for fill in look.fills:
            account.fill(turn, fill)
        at_broker = {one.contract_id: one.net_qty for one in look.positions}
        state.look = Look(look.started.mono_ns, at_broker)
        account.looked(turn, state.look)
        for name in sorted(state.doubts):
            _not_found(turn, state.orders[name], look, at_broker)
        if state.unmatched and not state.doubts:
            brackets.judge_unmatched(turn)
        fills.attribute_closes(turn)
        flatten.searched(turn, look)
        _catch_up(state, look)
    incomplete = bool(state.unmatched) or any(order.missing_qty for order in state.open.values())
    incomplete |= state.unread_ns is not None
    if not state.searched or state.doubts or incomplete or _flattening(state, look):
        pause_s = SEARCH_PAUSES_S[min(state.search_attempt, len(SEARCH_PAUSES_S) - 1)]
        state.search_attempt += 1
        orders.want_search(turn, delay_s=pause_s)
    else:
        state.search_attempt = 0


def _catch_up(state: State, look: Searched) -> None:
    """Once a search lags no more behind what was missed, it has shown all of that."""
    unread_ns = state.unread_ns
    if unread_ns is not None:
        shown_ns = unread_ns + round(state.rules.quarantine_s * NS_PER_S)
        state.unread_ns = None if look.started.mono_ns >= shown_ns else unread_ns


def _flattening(state: State, look: Searched) -> bool:
    return state.standing.flatten is not None and (look.failure is not None or state.search_due_ns is None)


def _not_found(turn: Turn, order: OrderRecord, look: Searched, at_broker: dict[str, int]) -> None:
    """Count one search that succeeded and does not show `order`; give it up when the evidence is whole."""
    state = turn.state
    doubt = state.doubts[order.client_order_id]
    if look.started.mono_ns < doubt.since_ns:
        return  # asked before the doubt: proves nothing
    doubt.good_searches += 1
    waited_s = (look.started.mono_ns - doubt.since_ns) / NS_PER_S
    if doubt.good_searches < state.rules.searches_min or waited_s < state.rules.quarantine_s:
        return
    ours, theirs = state.contract_qty(order.contract_id), at_broker.get(order.contract_id, 0)
    if ours != theirs:
        text = (
            f"{order.client_order_id}: not found, but fills make {ours:+d} and the broker holds {theirs:+d}"
        )
        turn.alarm("unexplained_position", text)
        return
    nameless = fills.nameless(state, order)
    if nameless:
        orders.want_check(turn, nameless[0], delay_s=0.0)
        return  # a fill of an order that nobody has shown: it may be this one
    reason = f"not at the broker after {doubt.good_searches} searches in {waited_s:.0f} s"
    # One that has filled in part was there: what was left of it has ended.
    fact = OrderFact.CANCELED if order.cum_qty else OrderFact.PROVEN_ABSENT
    orders.advance(turn, order, fact, reason=reason)
    if not state.is_doubtful(order.contract_id):
        brackets.judge_unmatched(turn)


def queried(turn: Turn, answer: OrderQueried) -> None:
    """Take a fresh look at one order; a cancel that had no effect is sent again.

    A person hears of it after a few. They go on, more slowly: an order that has nothing left to protect may
    not stay at the broker because that was away for some seconds.
    """
    state = turn.state
    number = answer.broker_order_id
    state.queries_running.discard(number)
    if answer.failure is not None:
        return  # asked again when the check is due again
    if answer.report is None:
        state.checks.pop(number, None)
        state.sizes_unknown_ns.pop(state.by_broker_id.get(number, ""), None)  # nor is it asked for again
        _vanished(turn, number)
        return
    brackets.see(turn, answer.report)
    name = state.by_broker_id.get(number)
    order = state.orders[name] if name is not None else None
    if order is None or order.status is not OrderStatus.PENDING_CANCEL:
        state.checks.pop(number, None)
        if order is not None and _waited_for_size(turn, order.client_order_id):
            # Not even a fresh look shows the size that a change of unknown fate asked for: given up.
            orders.store(turn, order, msgspec.structs.replace(order, wanted_qty=0))
        if order is not None and _canceled_in_vain(turn, order, number):
            text = f"{name}: its cancels were refused ({order.reason}); they go on"
            turn.alarm("cancel_without_effect", text)
        return
    if number in state.cancels_running or not answer.report.status.may_fill:
        return
    if _canceled_in_vain(turn, order, number):
        text = f"{name}: still working after {state.rules.cancels_max} cancels; they go on"
        turn.alarm("cancel_without_effect", text)
    else:
        orders.send_cancel(turn, number)


def _vanished(turn: Turn, number: int) -> None:
    text = f"the broker says there is no order {number}, which it had accepted"
    name = turn.state.by_broker_id.get(number)
    order = turn.state.orders[name] if name is not None else None
    if order is None:
        turn.alarm("order_vanished", text)
    elif order.status.may_fill and order.status is not OrderStatus.UNKNOWN:
        turn.alarm("order_vanished", f"{name}: {text}")
        orders.vanished(turn, order, text)


def _canceled_in_vain(turn: Turn, order: OrderRecord, number: int) -> bool:
    """Have there been as many cancels as may go unnoticed? The next one waits for a while then."""
    state = turn.state
    if not order.status.may_fill or state.cancels_sent.get(number, 0) < state.rules.cancels_max:
        return False
    state.cancels_sent.pop(number, None)
    orders.want_check(turn, number, delay_s=CANCELS_PAUSE_S, wanted=orders.OVER)
    return True


def _look_for_sizes(turn: Turn) -> None:
    """Have a look at each order whose size is in doubt, when the quarantine of the change is over."""
    state = turn.state
    for name in state.sizes_unknown_ns.keys() - state.orders.keys():
        del state.sizes_unknown_ns[name]
    for name in sorted(state.sizes_unknown_ns):
        number = state.orders[name].broker_order_id
        if number is not None and number not in state.checks and _waited_for_size(turn, name):
            orders.want_check(turn, number, delay_s=0.0)


def _waited_for_size(turn: Turn, name: str) -> bool:
    since_ns = turn.state.sizes_unknown_ns.get(name)
    return since_ns is not None and turn.at.mono_ns - since_ns >= turn.state.rules.quarantine_s * NS_PER_S
