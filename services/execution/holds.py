"""What is held back as the last thing before it is sent, whatever was allowed when it was decided.

Between a decision and its request lie the wait for a place in the budget, for a connection, and a pause that
the broker asked for: seconds, or minutes.
"""

from __future__ import annotations

from itertools import takewhile

from services.execution import exposure, flatten
from services.execution.events import Modify, Moment
from services.execution.records import EXIT, STOP_LOSS, OrderRecord
from services.execution.state import State
from shared.domain.control import HaltKind, TradingState
from shared.domain.market import FeedHealth
from shared.domain.order import OrderType

HALTED = "trading was halted before it could be sent"
CANCELED = "it was canceled before it could be sent"
GONE = "what it was to close is not there any more"
TOO_MUCH = "with it the account could hold more than position_max by now"
FROZEN = "the fate of another order in its contract became unknown before it could be sent"
UNJUDGED = "heartbeat fell silent before it could be sent"
STALE = "the market it was decided on is too old by now"
NOT_LIVE = "the feed does not call its market live any more"


def hold(state: State, order: OrderRecord, at: Moment) -> str | None:
    """Return why this order may not be sent; None when it may."""
    if order.cancel_wanted:
        return CANCELED
    if order.role == EXIT and not _closes(state, order):
        return GONE  # a stop filled while it waited for its place: it would turn the position
    if order.role == STOP_LOSS and order.leaves_qty > _to_protect(state, order):
        return GONE  # the target filled meanwhile: it would open a position
    if order.parent is not None:
        # It protects a position or ends it: no halt is against that. A flatten does it in its own way.
        flattened = state.standing.flatten is not None and flatten.covered(state, order.contract_id)
        return HALTED if flattened or HaltKind.STARTING in state.own_halts else None
    if order.reduce_only:
        return HALTED if state.trading_state is TradingState.HALTED else None
    return _new_exposure(state, order, at)


def hold_change(state: State, change: Modify, at: Moment) -> str | None:
    """Return why this change may not be sent; None when it may. A greater size is new exposure."""
    order = state.orders[change.client_order_id]
    prices = (change.limit_price, change.stop_price, change.trail_price)
    smaller = change.order_qty is not None and change.order_qty <= order.order_qty and prices == (None,) * 3
    if order.role == STOP_LOSS and (change.order_qty or 0) > max(order.order_qty, _to_protect(state, order)):
        return GONE
    if order.parent is not None or (smaller and order.reduce_only):
        return HALTED if HaltKind.STARTING in state.own_halts else None
    if change.order_qty is not None and change.order_qty > order.order_qty:
        if not order.reduce_only:
            return _new_exposure(state, order, at)
        held_qty = -state.net_qty(order.strategy_id, order.contract_id) * order.side.sign
        if change.order_qty - order.cum_qty > held_qty:
            return GONE
    if state.trading_state is TradingState.HALTED:
        return HALTED
    return _stale(state, order, at)


def _new_exposure(state: State, order: OrderRecord, at: Moment) -> str | None:
    if state.trading_state is not TradingState.ACTIVE:
        return HALTED
    if exposure.silent_ms(state, at) > state.rules.limits.heartbeat_silence_ms_max:
        return UNJUDGED
    if state.is_frozen(order.contract_id):
        return FROZEN
    return TOO_MUCH if exposure.beyond_limit(state, order) else _stale(state, order, at)


def _stale(state: State, order: OrderRecord, at: Moment) -> str | None:
    age_ms = exposure.reference_age_ms(state, order.symbol, at)
    if age_ms is None or age_ms > state.rules.limits.reference_age_ms_max:
        return STALE
    # A feed whose link is down vouches for that as often as for prices.
    return None if state.markets[order.symbol].health is FeedHealth.LIVE else NOT_LIVE


def _closes(state: State, order: OrderRecord) -> bool:
    """Is there enough left for this exit, beside what those claimed before it will close at once?"""
    if order.contract_id in state.standing.crossing and not state.sync.positions.get(order.contract_id):
        return False  # a flatten has closed it, and that is still to be booked
    net_qty = state.net_qty(order.strategy_id, order.contract_id)
    earlier = takewhile(lambda one: one.client_order_id != order.client_order_id, state.open.values())
    before_qty = sum(
        one.leaves_qty
        for one in earlier
        if (one.strategy_id, one.contract_id, one.side) == (order.strategy_id, order.contract_id, order.side)
        and (one.role, one.order_type) == (EXIT, OrderType.MARKET)
    )
    return net_qty * order.side.sign < 0 and before_qty + order.leaves_qty <= abs(net_qty)


def _to_protect(state: State, order: OrderRecord) -> int:
    """Return what is held of its entry; where it stands for none, of all."""
    if order.parent is None:
        return abs(state.net_qty(order.strategy_id, order.contract_id))
    lot = state.book(order.strategy_id, order.contract_id).lots.get(order.parent)
    return lot.qty if lot is not None else 0
