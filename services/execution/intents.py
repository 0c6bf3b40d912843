"""What strategies ask for: checked, claimed, sent once. An id is decided on once, for ever."""

from __future__ import annotations

from decimal import Decimal

from services.execution import changes, claims, conduct, crossing, exposure, orders
from services.execution.events import IntentRead
from services.execution.orders import refuse
from services.execution.records import ENTRY, EXIT, OrderRecord
from services.execution.turn import Turn
from shared.domain.control import TradingState
from shared.domain.denials import Denied, deny
from shared.domain.execution import IntentExpired
from shared.domain.ids import CLIENT_ORDER_ID_CHARS_MAX
from shared.domain.order import (
    Bracket,
    CancelOrder,
    ClosePosition,
    ModifyOrder,
    OrderStatus,
    OrderType,
    Side,
    SubmitOrder,
)
from shared.domain.risk import check, reference, weighed

ZERO = Decimal(0)
CAUSE_AHEAD_NS_MAX = 1_000_000_000
"""Clocks of one machine, or of two that are kept in time, differ by less."""


def take(turn: Turn, read: IntentRead) -> None:
    """Decide one intent."""
    intent = read.intent
    name = intent.client_order_id
    conduct.intended(turn, read.strategy_id)
    if intent.strategy_id != read.strategy_id:
        why = deny("foreign_strategy", stream_of=read.strategy_id)
        refuse(turn, intent, why, blamed=read.strategy_id)
    elif isinstance(intent, CancelOrder):
        _cancel(turn, intent)
    elif isinstance(intent, ModifyOrder):
        changes.modify(turn, intent)
    elif turn.state.is_known(name):
        turn.alarm("intent_repeated", f"{name} was decided before; it is not looked at again")
    elif not (name.isascii() and name.isprintable() and 0 < len(name) <= CLIENT_ORDER_ID_CHARS_MAX):
        refuse(turn, intent, deny("client_order_id", most=CLIENT_ORDER_ID_CHARS_MAX))
    elif turn.at.now_ns >= intent.expires_at_ns or _of_another_time(turn, intent):
        _expire(turn, intent)
    elif isinstance(intent, ClosePosition):
        _close(turn, intent)
    else:
        _submit(turn, intent, role=EXIT if intent.reduce_only else ENTRY)


def _submit(turn: Turn, intent: SubmitOrder, *, role: str) -> None:
    state = turn.state
    crossing.due(turn)  # what a flatten has left to book freezes its contract: not longer than it must
    contract_id = exposure.contract_of(state, intent.symbol, intent.strategy_id, intent.side)
    figures = exposure.exposure(state, intent, contract_id, turn.at, intent.order_type)
    market, limits = state.markets.get(intent.symbol), state.rules.limits
    verdict = check(intent, figures, market, limits)
    if intent.order_type not in state.rules.order_types:
        verdict = deny("order_type", order_type=intent.order_type)
    elif intent.order_type is OrderType.TRAILING_STOP:
        # Its level is computed from the last price, also when it only reduces.
        stale = reference(figures, market, limits) or changes.other_month(market, contract_id)
        verdict = stale or verdict
    if isinstance(verdict, Denied):
        _refuse(turn, intent, verdict)
        return
    if contract_id not in state.standing.contracts:
        _refuse(turn, intent, deny("contract_unknown", symbol=intent.symbol))
        return
    # A bracket on an exit would protect a position that is about to end.
    bracket = None if verdict.reduces else intent.bracket
    role = EXIT if verdict.reduces else role
    _claim(turn, intent, contract_id, bracket, role, weighed(figures, market))


def _claim(
    turn: Turn,
    intent: SubmitOrder,
    contract_id: str,
    bracket: Bracket | None,
    role: str,
    numbers: dict[str, str],
) -> None:
    state, at = turn.state, turn.at
    contract = state.standing.contracts[contract_id]
    order = OrderRecord(
        client_order_id=intent.client_order_id,
        strategy_id=intent.strategy_id,
        symbol=intent.symbol,
        contract_id=contract_id,
        side=intent.side,
        order_qty=intent.order_qty,
        order_type=intent.order_type,
        cause=turn.cause,
        tick_size=contract.tick_size,
        multiplier=contract.multiplier,
        ts_claimed_ns=at.now_ns,
        mono_claimed_ns=at.mono_ns,
        boot=state.standing.boots,
        expires_at_ns=intent.expires_at_ns,
        venue_claimed_ns=at.venue_ns,
        role=role,
        limit_price=intent.limit_price,
        stop_price=intent.stop_price,
        plan=bracket.plan if bracket is not None else None,
        stop_loss_ticks=bracket.stop_loss_ticks if bracket is not None else None,
        take_profit_ticks=bracket.take_profit_ticks if bracket is not None else None,
        trail_ticks=intent.trail_ticks,
        reduce_only=role == EXIT,
        reason=intent.reason,
    )
    claims.claim(turn, order, numbers)


def _close(turn: Turn, intent: ClosePosition) -> None:
    """Bring the strategy's position to zero by a market order of its own; then its children go.

    The children are canceled when the exit has filled, not before: until then they are the protection.
    """
    state = turn.state
    held = [
        (contract_id, book.position.net_qty)
        for (owner, contract_id), book in state.books.items()
        if owner == intent.strategy_id and book.position.net_qty
        if (contract := state.standing.contracts.get(contract_id)) is not None
        and contract.symbol == intent.symbol
    ]
    for order in state.open_of(intent.strategy_id, intent.symbol):
        if order.role == ENTRY:
            orders.cancel(turn, order, "position is being closed")
    if not held:
        _refuse(turn, intent, deny("flat", net_qty=0))
        return
    contract_id, net_qty = held[0]
    side = Side.SELL if net_qty > 0 else Side.BUY
    working = sum(
        order.most_leaves_qty
        for order in state.open_of(intent.strategy_id, intent.symbol)
        if order.side is side and order.contract_id == contract_id and not order.is_protective
    )
    resting = _resting_exits(turn, intent, contract_id) if working >= abs(net_qty) else []
    if resting:
        for order in resting:
            orders.cancel(turn, order, "position is being closed")
        _refuse(turn, intent, deny("exits_canceled", exits=len(resting), net_qty=net_qty))
        return
    if working >= abs(net_qty):
        _refuse(turn, intent, deny("already_closing", net_qty=net_qty, exits_working=working))
        return
    exit_order = SubmitOrder(
        client_order_id=intent.client_order_id,
        strategy_id=intent.strategy_id,
        symbol=intent.symbol,
        side=side,
        order_qty=abs(net_qty) - working,
        cause=intent.cause,
        ts_cause_ns=intent.ts_cause_ns,
        expires_at_ns=intent.expires_at_ns,
        reduce_only=True,
        reason=intent.reason or "close position",
    )
    _submit(turn, exit_order, role=EXIT)


def _resting_exits(turn: Turn, intent: ClosePosition, contract_id: str) -> list[OrderRecord]:
    """Return the exits that have to go before the position can be closed at once; they may still fill.

    None while a close would be refused anyway: until there can be one, they are what ends the position.
    """
    state = turn.state
    exits = conduct.exits_last_min(turn.at.mono_ns, state, contract_id)
    if state.trading_state is TradingState.HALTED or exits >= state.rules.limits.exits_per_min_max:
        return []
    return [
        order
        for order in state.open_of(intent.strategy_id, intent.symbol)
        if order.role == EXIT and order.parent is None and order.order_type is not OrderType.MARKET
        if order.status.may_fill and order.contract_id == contract_id
    ]


def _cancel(turn: Turn, intent: CancelOrder) -> None:
    order = turn.state.orders.get(intent.client_order_id)
    if order is None or order.strategy_id != intent.strategy_id:
        refuse(turn, intent, turn.state.why_not_here(intent.client_order_id))
    elif not order.status.may_fill:
        turn.publish(orders.updated(order, turn))  # the answer is where it stands
    else:
        orders.cancel(turn, order, intent.reason or "canceled by strategy")


def _of_another_time(turn: Turn, intent: SubmitOrder | ClosePosition) -> bool:
    """Say whether its cause lies ahead: the clock was set back since, and nobody knows how old it is.

    What gets us out goes all the same.
    """
    opens = isinstance(intent, SubmitOrder) and not intent.reduce_only
    return opens and intent.ts_cause_ns > turn.at.now_ns + CAUSE_AHEAD_NS_MAX


def _expire(turn: Turn, intent: SubmitOrder | ClosePosition) -> None:
    _bury(turn, intent, OrderStatus.EXPIRED, "expired before it could be sent")
    turn.publish(
        IntentExpired(
            client_order_id=intent.client_order_id,
            strategy_id=intent.strategy_id,
            symbol=intent.symbol,
            expires_at_ns=intent.expires_at_ns,
            ts_ns=turn.at.now_ns,
        )
    )


def _refuse(turn: Turn, intent: SubmitOrder | ClosePosition | CancelOrder | ModifyOrder, why: Denied) -> None:
    name = intent.client_order_id
    if isinstance(intent, SubmitOrder | ClosePosition) and not turn.state.is_known(name):
        _bury(turn, intent, OrderStatus.DENIED, why.code)
    refuse(turn, intent, why)


def _bury(turn: Turn, intent: SubmitOrder | ClosePosition, status: OrderStatus, reason: str) -> None:
    """Keep the id for ever with its end: the same intent, read again, must not get another answer."""
    side, order_qty, order_type = Side.SELL, 0, OrderType.MARKET
    if isinstance(intent, SubmitOrder):
        side, order_qty, order_type = intent.side, intent.order_qty, intent.order_type
    turn.state.put_order(
        OrderRecord(
            client_order_id=intent.client_order_id,
            strategy_id=intent.strategy_id,
            symbol=intent.symbol,
            contract_id="",
            side=side,
            order_qty=order_qty,
            order_type=order_type,
            cause=turn.cause,
            tick_size=ZERO,
            multiplier=ZERO,
            ts_claimed_ns=turn.at.now_ns,
            expires_at_ns=intent.expires_at_ns,
            status=status,
            reason=reason,
            attempts=0,
        )
    )
