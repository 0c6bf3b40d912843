"""Book fills: half turns, positions, realized P&L, fees, balance.

Average-cost accounting: a fill with the position moves its average price, a fill
against it realizes P&L and leaves the average alone. A fill that turns a position
round is booked as two half turns, one that closes (with P&L) and one that opens
(P&L null), as the gateway's trade rows are half turns.
"""

from __future__ import annotations

import copy
from decimal import ROUND_HALF_EVEN, Decimal

from services.simulator.orders import Fill, Order, Position
from services.simulator.state import AccountUpdated, FillBooked, PositionUpdated, State

AVERAGE_PLACES = Decimal("0.000000001")
CENT = Decimal("0.01")


def book_fill(state: State, order: Order, price_ticks: int, qty: int) -> None:
    """Book `qty` contracts of `order` at `price_ticks` into position and balance."""
    key = (order.account_id, order.contract_id)
    position = state.positions.get(key)
    signed = qty if order.is_buy else -qty
    if position is None:
        _book_open(state, order, price_ticks, qty, None)
    elif position.net_qty * signed > 0:
        _book_open(state, order, price_ticks, qty, position)
    else:
        closing = min(qty, abs(position.net_qty))
        _book_close(state, order, price_ticks, closing, position)
        if qty > closing:
            _book_open(state, order, price_ticks, qty - closing, None)
    state.out.append(AccountUpdated(account=copy.copy(state.accounts[order.account_id])))


def _book_open(state: State, order: Order, price_ticks: int, qty: int, position: Position | None) -> None:
    signed = qty if order.is_buy else -qty
    if position is None:
        position = Position(
            id=state.next_position_id,
            account_id=order.account_id,
            contract_id=order.contract_id,
            created_ns=state.now_ns,
            net_qty=signed,
            avg_ticks=Decimal(price_ticks),
            was_long=order.is_buy,
        )
        state.next_position_id += 1
        state.positions[(order.account_id, order.contract_id)] = position
    else:
        held = abs(position.net_qty)
        total = position.avg_ticks * held + Decimal(price_ticks) * qty
        position.avg_ticks = (total / (held + qty)).quantize(AVERAGE_PLACES, ROUND_HALF_EVEN)
        position.net_qty += signed
    _book_half_turn(state, order, price_ticks, qty, None)
    state.out.append(PositionUpdated(position=copy.copy(position)))


def _book_close(state: State, order: Order, price_ticks: int, qty: int, position: Position) -> None:
    direction = 1 if position.net_qty > 0 else -1
    contract = state.known_contract(order.contract_id)
    moved_ticks = (Decimal(price_ticks) - position.avg_ticks) * direction
    pnl = (moved_ticks * contract.tick_value * qty).quantize(CENT, ROUND_HALF_EVEN)
    position.net_qty -= direction * qty
    if position.net_qty == 0:
        del state.positions[(order.account_id, order.contract_id)]
    state.accounts[order.account_id].balance += pnl
    _book_half_turn(state, order, price_ticks, qty, pnl)
    state.out.append(PositionUpdated(position=copy.copy(position)))


def _book_half_turn(state: State, order: Order, price_ticks: int, qty: int, pnl: Decimal | None) -> None:
    symbol = state.known_contract(order.contract_id).product.symbol
    fees = state.rules.fees.get(symbol, Decimal(0)) * qty
    state.accounts[order.account_id].balance -= fees
    fill = Fill(
        id=state.next_fill_id,
        account_id=order.account_id,
        contract_id=order.contract_id,
        created_ns=state.now_ns,
        price_ticks=price_ticks,
        side=order.side,
        size=qty,
        profit_and_loss=pnl,
        fees=fees,
        order_id=order.id,
    )
    state.next_fill_id += 1
    state.fills.append(fill)
    if len(state.fills) > state.rules.history_max:
        del state.fills[0]
    state.out.append(FillBooked(fill=fill))
