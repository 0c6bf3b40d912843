"""What strategies ask for: checked, claimed, sent once. An id is decided on once, for ever."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from services.execution import exposure, orders
from services.execution.events import IntentRead, Modify, Place
from services.execution.records import ENTRY, EXIT, OrderRecord
from services.execution.turn import Turn
from shared.broker.port import OrderTicket
from shared.domain.control import TradingState
from shared.domain.execution import IntentExpired, OrderClaimed, OrderDenied
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
from shared.domain.risk import Approved, Denied, check, collar, is_price, reference

ZERO = Decimal(0)


def take(turn: Turn, read: IntentRead) -> None:
    """Decide one intent."""
    intent = read.intent
    name = intent.client_order_id
    if intent.strategy_id != read.strategy_id:
        turn.publish(_denied(turn, intent, _no("foreign_strategy", stream_of=read.strategy_id)))
    elif isinstance(intent, CancelOrder):
        _cancel(turn, intent)
    elif isinstance(intent, ModifyOrder):
        _modify(turn, intent)
    elif name in turn.state.orders:
        turn.alarm("intent_repeated", f"{name} was decided before; it is not looked at again")
    elif not (name.isascii() and name.isprintable() and 0 < len(name) <= CLIENT_ORDER_ID_CHARS_MAX):
        turn.publish(_denied(turn, intent, _no("client_order_id", most=CLIENT_ORDER_ID_CHARS_MAX)))
    elif turn.at.now_ns >= intent.expires_at_ns:
        _expire(turn, intent)
    elif isinstance(intent, ClosePosition):
        _close(turn, intent)
    else:
        _submit(turn, intent, role=EXIT if intent.reduce_only else ENTRY)


def _no(code: str, **numbers: object) -> Denied:
    return Denied(code=code, numbers={key: str(value) for key, value in numbers.items()})


def _submit(turn: Turn, intent: SubmitOrder, *, role: str) -> None:
    state = turn.state
    contract_id = exposure.contract_of(state, intent.symbol, intent.strategy_id, intent.side)
    figures = exposure.exposure(state, intent, contract_id, turn.at)
    verdict = check(intent, figures, state.markets.get(intent.symbol), state.rules.limits)
    if isinstance(verdict, Denied):
        _refuse(turn, intent, verdict)
        return
    if contract_id not in state.standing.contracts:
        _refuse(turn, intent, _no("contract_unknown", symbol=intent.symbol))
        return
    # A bracket on an exit would protect a position that is about to end.
    bracket = None if verdict.reduces else intent.bracket
    _claim(turn, intent, contract_id, bracket, EXIT if verdict.reduces else role)


def _claim(turn: Turn, intent: SubmitOrder, contract_id: str, bracket: Bracket | None, role: str) -> None:
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
        expires_at_ns=intent.expires_at_ns,
        venue_claimed_ns=at.venue_ns,
        role=role,
        limit_price=intent.limit_price,
        stop_price=intent.stop_price,
        stop_loss_ticks=bracket.stop_loss_ticks if bracket is not None else None,
        take_profit_ticks=bracket.take_profit_ticks if bracket is not None else None,
        reduce_only=role == EXIT,
        reason=intent.reason,
    )
    state.put_order(order)
    turn.publish(
        OrderClaimed(
            client_order_id=order.client_order_id,
            strategy_id=order.strategy_id,
            symbol=order.symbol,
            contract_id=contract_id,
            side=order.side,
            order_qty=order.order_qty,
            order_type=order.order_type,
            cause=turn.cause,
            ts_ns=at.now_ns,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
            stop_loss_ticks=order.stop_loss_ticks,
            take_profit_ticks=order.take_profit_ticks,
            reduce_only=order.reduce_only,
        )
    )
    state.recent.append((at.mono_ns, order))
    post(turn, order)


def post(turn: Turn, order: OrderRecord) -> None:
    """Send an order; its claim, or the record of this attempt, is in the commit before."""
    turn.state.sent_ns.append(turn.at.mono_ns)
    bracket = None
    if order.stop_loss_ticks is not None:
        bracket = Bracket(stop_loss_ticks=order.stop_loss_ticks, take_profit_ticks=order.take_profit_ticks)
    ticket = OrderTicket(
        account_id=turn.state.rules.account_id,
        client_order_id=order.client_order_id,
        contract_id=order.contract_id,
        side=order.side,
        order_qty=order.order_qty,
        order_type=order.order_type,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        bracket=bracket,
        expires_at_ns=order.expires_at_ns,
    )
    turn.do(Place(ticket=ticket))


def _close(turn: Turn, intent: ClosePosition) -> None:
    """Bring the strategy's position to zero by a market order of its own; then its children go.

    The children are canceled when the exit has filled, not before: until then they are the protection.
    """
    state = turn.state
    held = [
        (contract_id, book.position.net_qty)
        for (owner, contract_id), book in state.books.items()
        if owner == intent.strategy_id and book.position.net_qty
        if state.standing.contracts[contract_id].symbol == intent.symbol
    ]
    for order in state.open_of(intent.strategy_id, intent.symbol):
        if order.role == ENTRY:
            orders.cancel(turn, order, "position is being closed")
    if not held:
        _refuse(turn, intent, _no("flat", net_qty=0))
        return
    contract_id, net_qty = held[0]
    side = Side.SELL if net_qty > 0 else Side.BUY
    working = sum(
        order.leaves_qty
        for order in state.open_of(intent.strategy_id, intent.symbol)
        if order.side is side and order.contract_id == contract_id and not order.is_protective
    )
    if working >= abs(net_qty):
        _refuse(turn, intent, _no("already_closing", net_qty=net_qty, exits_working=working))
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


def _cancel(turn: Turn, intent: CancelOrder) -> None:
    order = turn.state.orders.get(intent.client_order_id)
    if order is None or order.strategy_id != intent.strategy_id:
        turn.publish(_denied(turn, intent, _no("order_unknown")))
    elif not order.status.may_fill:
        turn.publish(orders.updated(order, turn))  # the answer is where it stands
    else:
        turn.state.sent_ns.append(turn.at.mono_ns)
        orders.cancel(turn, order, intent.reason or "canceled by strategy")


def _modify(turn: Turn, intent: ModifyOrder) -> None:
    state = turn.state
    order = state.orders.get(intent.client_order_id)
    if order is None or order.strategy_id != intent.strategy_id:
        turn.publish(_denied(turn, intent, _no("order_unknown")))
        return
    denied = _modify_denied(turn, intent, order)
    if denied is not None:
        turn.publish(_denied(turn, intent, denied))
        return
    assert order.broker_order_id is not None, "a working order has the broker's id"
    state.sent_ns.append(turn.at.mono_ns)
    turn.do(
        Modify(
            client_order_id=order.client_order_id,
            broker_order_id=order.broker_order_id,
            order_qty=intent.order_qty,
            limit_price=intent.limit_price,
            stop_price=intent.stop_price,
        )
    )
    orders.want_check(turn, order.broker_order_id, delay_s=1.0)


_MODIFIABLE = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.SUSPENDED)


def _modify_denied(turn: Turn, intent: ModifyOrder, order: OrderRecord) -> Denied | None:
    """Return why a change may not be sent. A greater size is new exposure and checked as such."""
    state = turn.state
    if state.trading_state is TradingState.HALTED:
        return _no("trading_halted", halts=state.halt_reason())
    if order.status not in _MODIFIABLE or order.broker_order_id is None:
        return _no("not_working", status=order.status)
    for px in (intent.limit_price, intent.stop_price):
        if px is not None and (not is_price(px) or px % order.tick_size):
            return _no("off_tick", px=px, tick_size=order.tick_size)
    if intent.order_qty is not None and intent.order_qty <= order.cum_qty:
        return _no("order_qty", order_qty=intent.order_qty, cum_qty=order.cum_qty)
    more = intent.order_qty - order.order_qty if intent.order_qty is not None else 0
    wish = SubmitOrder(
        client_order_id=intent.client_order_id,
        strategy_id=intent.strategy_id,
        symbol=intent.symbol,
        side=order.side,
        order_qty=max(1, more),
        cause=intent.cause,
        ts_cause_ns=intent.ts_cause_ns,
        expires_at_ns=0,
    )
    figures = exposure.exposure(state, wish, order.contract_id, turn.at)
    market, limits = state.markets.get(order.symbol), state.rules.limits
    if figures.messages_last_min >= limits.messages_per_min_max:
        return _no("messages_per_min_max", messages=figures.messages_last_min)
    if more > 0 and order.is_protective:
        return _no("protective_qty", order_qty=intent.order_qty)  # it follows its entry, at the broker
    if more > 0:
        bracket = Bracket(stop_loss_ticks=limits.bracket_ticks_min)
        verdict = check(msgspec.structs.replace(wish, bracket=bracket), figures, market, limits)
        if not isinstance(verdict, Approved):
            return verdict
    stale = reference(figures, market, limits)
    if stale is not None:
        return stale
    prices = (intent.limit_price, intent.stop_price)
    return collar(order.symbol, prices, market, limits) or _through_market(turn, intent, order)


def _through_market(turn: Turn, intent: ModifyOrder, order: OrderRecord) -> Denied | None:
    """A stop moved through the market executes at once: it must stay a tick behind."""
    market = turn.state.markets.get(order.symbol)
    if intent.stop_price is None or market is None or market.bid_px is None or market.ask_px is None:
        return None
    if order.side is Side.SELL:
        most = Decimal(str(market.bid_px)) - order.tick_size
        return (
            _no("stop_through_market", px=intent.stop_price, most=most) if intent.stop_price > most else None
        )
    least = Decimal(str(market.ask_px)) + order.tick_size
    return (
        _no("stop_through_market", px=intent.stop_price, least=least) if intent.stop_price < least else None
    )


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
    if isinstance(intent, SubmitOrder | ClosePosition) and name not in turn.state.orders:
        _bury(turn, intent, OrderStatus.DENIED, why.code)
    turn.publish(_denied(turn, intent, why))


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


def _denied(
    turn: Turn, intent: SubmitOrder | ClosePosition | CancelOrder | ModifyOrder, why: Denied
) -> OrderDenied:
    return OrderDenied(
        client_order_id=intent.client_order_id,
        strategy_id=intent.strategy_id,
        symbol=intent.symbol,
        code=why.code,
        numbers=why.numbers,
        cause=turn.cause,
        ts_ns=turn.at.now_ns,
    )
