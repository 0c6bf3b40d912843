"""Stops that follow the market: break-even and trailing, as the entry's plan says.

The plan is in the entry's record, so it goes on whatever becomes of the strategy. A stop only ever moves
toward the market and never to it; one change of it is under way at a time, at most one in `plan_pause_s`, and
all of them together leave half of the message budget to the strategies. What counts is what the broker's
reports show: a change without effect is asked for again after a look at the order.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from services.execution import exposure, flatten
from services.execution.books import Lot
from services.execution.orders import send_modify, store
from services.execution.records import STOP_LOSS, OrderRecord
from services.execution.state import NS_PER_S, Move, State
from services.execution.turn import Turn
from shared.domain.market import FeedHealth, MarketState
from shared.domain.order import OrderStatus, OrderType, Side, StopPlan

_WORKING = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


def follow(turn: Turn, market: MarketState) -> None:
    """Move the stops in the market's contract that have a plan."""
    state = turn.state
    if not state.ready or market.health is not FeedHealth.LIVE or market.crossed:
        return
    for name in state.moves.keys() - state.open.keys():
        del state.moves[name]
    for stop in list(state.open.values()):
        if stop.contract_id != market.contract_id or stop.role != STOP_LOSS or stop.parent is None:
            continue
        entry = state.orders[stop.parent]
        lot = state.book(entry.strategy_id, entry.contract_id).lots.get(stop.parent)
        if entry.plan is not None and lot is not None and stop.status in _WORKING:
            _follow(turn, market, stop, entry, entry.plan, lot)


def _follow(
    turn: Turn, market: MarketState, stop: OrderRecord, entry: OrderRecord, plan: StopPlan, lot: Lot
) -> None:
    state = turn.state
    touch = market.bid_px if entry.side is Side.BUY else market.ask_px
    if touch is None or stop.stop_price is None or stop.order_type is not OrderType.STOP:
        return
    now = Decimal(str(touch))
    wanted = _further(entry.side, planned(plan, entry, lot, now), stop.wanted_stop_price)
    move = state.moves.get(stop.client_order_id)
    wanted = _further(entry.side, wanted, move.best_price if move is not None else None)
    if wanted is None:
        return
    if move is None:
        move = state.moves[stop.client_order_id] = Move(best_price=wanted)
    move.best_price = wanted
    # At least a tick behind the market: a stop that is moved into it executes at once.
    behind = now - entry.side.sign * entry.tick_size
    price = min(wanted, behind) if entry.side is Side.BUY else max(wanted, behind)
    gain_ticks = (price - stop.stop_price) * entry.side.sign / entry.tick_size
    if gain_ticks < plan.trail_step_ticks or not _may_send(turn, stop, move):
        return
    move.sent_ns = turn.at.mono_ns
    kept = store(turn, stop, msgspec.structs.replace(stop, wanted_stop_price=price))
    send_modify(turn, kept, stop_price=price)


def planned(plan: StopPlan, entry: OrderRecord, lot: Lot, now: Decimal) -> Decimal | None:
    """Return where the plan wants the stop when the position could be closed at `now`; None: where it is."""
    sign, tick = entry.side.sign, entry.tick_size
    profit_ticks = (now - lot.px) * sign / tick
    rounding = ROUND_CEILING if entry.side is Side.BUY else ROUND_FLOOR
    price = None
    if plan.break_even_after_ticks is not None and profit_ticks >= plan.break_even_after_ticks:
        even = (lot.px / tick).to_integral_value(rounding) * tick
        price = even + sign * plan.break_even_offset_ticks * tick
    if plan.trail_after_ticks is not None and profit_ticks >= plan.trail_after_ticks:
        price = _further(entry.side, now - sign * plan.trail_ticks * tick, price)
    return price


def _further(side: Side, one: Decimal | None, other: Decimal | None) -> Decimal | None:
    if one is None or other is None:
        return one if other is None else other
    return max(one, other) if side is Side.BUY else min(one, other)


def _may_send(turn: Turn, stop: OrderRecord, move: Move) -> bool:
    state = turn.state
    number = stop.broker_order_id
    if number is None or number in state.modifies_running or number in state.checks:
        return False
    if state.standing.flatten is not None and flatten.covered(state, stop.contract_id):
        return False
    if move.sent_ns is not None and turn.at.mono_ns - move.sent_ns < state.rules.plan_pause_s * NS_PER_S:
        return False
    return _within_budget(turn, state)


def _within_budget(turn: Turn, state: State) -> bool:
    exposure.trim(state, turn.at)
    return len(state.sent_ns) < state.rules.limits.messages_per_min_max // 2
