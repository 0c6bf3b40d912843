"""Close positions at the market: for a client that asks, and for a firm that liquidates."""

from __future__ import annotations

import copy

import msgspec

from services.simulator import brackets, matching
from services.simulator.book import Book
from services.simulator.contracts import is_active
from services.simulator.orders import WORKING, Order, Position
from services.simulator.state import AccountUpdated, Reply, State
from shared.broker.projectx.enums import (
    ClosePositionErrorCode,
    OrderSide,
    OrderStatus,
    OrderType,
    PartialClosePositionErrorCode,
)


class ClosePosition(msgspec.Struct, frozen=True, kw_only=True):
    """A request to close a position at the market; `size` None closes all of it."""

    now_ns: int
    account_id: int
    contract_id: str
    size: int | None = None


class Liquidate(msgspec.Struct, frozen=True, kw_only=True):
    """The firm cancels all of an account's orders and closes its positions; it may trade on, or not."""

    now_ns: int
    account_id: int
    can_trade: bool


def close(event: ClosePosition, state: State) -> Reply:
    """Send a market order against a position. The two endpoints agree in codes 0 to 4 only."""
    full, part = ClosePositionErrorCode, PartialClosePositionErrorCode
    if event.account_id not in state.accounts:
        return Reply(code=full.ACCOUNT_NOT_FOUND, message="Account not found.")
    contract = state.contract(event.contract_id)
    if contract is None:
        return Reply(code=full.CONTRACT_NOT_FOUND, message="Contract not found.")
    position = state.positions.get((event.account_id, event.contract_id))
    if position is None:
        return Reply(code=full.POSITION_NOT_FOUND, message="Position not found.")
    if not is_active(contract, event.now_ns):
        return Reply(code=full.CONTRACT_NOT_ACTIVE, message="Contract is not active.")
    held = abs(position.net_qty)
    if event.size is not None and not 0 < event.size <= held:
        return Reply(code=part.INVALID_CLOSE_SIZE, message=f"Invalid close size ({event.size}).")
    book = state.books.get(event.contract_id)
    if book is None or not book.tradable:
        # Documented for the partial close: no message when the market is closed or has no price.
        return Reply(code=full.ORDER_REJECTED if event.size is None else part.ORDER_REJECTED)
    _send_closing(state, position, book, held if event.size is None else event.size)
    if state.rules.close_cancels_brackets and event.size is None:
        for left in tuple(state.working.get(event.contract_id, ())):
            if left.parent_id is not None and left.account_id == event.account_id:
                brackets.cancel(state, left)
    return Reply(code=full.SUCCESS)


def liquidate(event: Liquidate, state: State) -> None:
    """Cancel and close what an account has; what has no market stays, for the next try."""
    account = state.accounts[event.account_id]
    if account.can_trade != event.can_trade:
        account.can_trade = event.can_trade
        state.out.append(AccountUpdated(account=copy.copy(account)))
    for order in [one for one in state.orders.values() if one.account_id == event.account_id]:
        if order.status in WORKING or order.status is OrderStatus.SUSPENDED:
            brackets.cancel(state, order)
    for position in [one for one in state.positions.values() if one.account_id == event.account_id]:
        book = state.books.get(position.contract_id)
        if book is not None and book.tradable:
            _send_closing(state, position, book, abs(position.net_qty))


def _send_closing(state: State, position: Position, book: Book, qty: int) -> None:
    """Send a market order against a position."""
    order = Order(
        id=state.take_order_ids(1),
        account_id=position.account_id,
        contract_id=position.contract_id,
        created_ns=state.now_ns,
        updated_ns=state.now_ns,
        status=OrderStatus.OPEN,
        type=OrderType.MARKET,
        side=OrderSide.ASK if position.net_qty > 0 else OrderSide.BID,
        size=qty,
    )
    state.orders[order.id] = order
    state.start_working(order)
    matching.match_one(state, book, order)
