"""Accept or refuse a new order: every check the gateway is known to make.

A refusal still allocates an id and keeps the order with status Rejected, so a
client must look at `success`, never at the presence of an `orderId`. A custom tag
is used up by a refusal as well.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from services.simulator import brackets, matching
from services.simulator.book import Book
from services.simulator.contracts import Contract, is_active
from services.simulator.orders import ORDINARY, Account, Bracket, Fate, Order
from services.simulator.state import Reply, State
from shared.broker.projectx.enums import OrderSide, OrderStatus, OrderType, PlaceOrderErrorCode

PLACEABLE = frozenset(
    {
        OrderType.LIMIT,
        OrderType.MARKET,
        OrderType.STOP,
        OrderType.TRAILING_STOP,
        OrderType.JOIN_BID,
        OrderType.JOIN_ASK,
    }
)
BRACKETS_REFUSED = "Brackets cannot be used with Position Brackets. You must enable Auto OCO Brackets."
REJECTED = PlaceOrderErrorCode.ORDER_REJECTED
_TYPES = {int(one): one for one in OrderType}


class PlaceOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A request to place an order; integers as they came, prices exact."""

    now_ns: int
    account_id: int
    contract_id: str
    type: int
    side: int
    size: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    custom_tag: str | None = None
    stop_loss: Bracket | None = None
    take_profit: Bracket | None = None
    fate: Fate = ORDINARY


class Refusal(Exception):
    """Why a request is refused: an endpoint's code and its message."""

    def __init__(self, code: int, message: str | None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def place(event: PlaceOrder, state: State) -> Reply:
    """Validate, store and match a new order."""
    account = state.accounts.get(event.account_id)
    if account is None:
        return Reply(code=PlaceOrderErrorCode.ACCOUNT_NOT_FOUND, message="Account not found.")
    contract = state.contract(event.contract_id)
    if contract is None:
        return Reply(code=PlaceOrderErrorCode.CONTRACT_NOT_FOUND, message="Contract not found.")
    order = _draft(event, state)
    try:
        _check_account(event, state, account, contract)
        _check_shape(event, state)
        _check_tag(order, state)
        _set_prices(event, state, contract, order)
        _check_brackets(event, state, account)
    except Refusal as refusal:
        return _refuse(state, order, refusal)
    _accept(event, state, order)
    return Reply(code=PlaceOrderErrorCode.SUCCESS, order_id=order.id)


def _draft(event: PlaceOrder, state: State) -> Order:
    with_brackets = event.stop_loss is not None or event.take_profit is not None
    return Order(
        id=state.take_order_ids(3 if with_brackets else 1),
        account_id=event.account_id,
        contract_id=event.contract_id,
        created_ns=event.now_ns,
        updated_ns=event.now_ns,
        status=OrderStatus.PENDING,
        type=_TYPES.get(event.type, OrderType.UNKNOWN),
        side=OrderSide.ASK if event.side == OrderSide.ASK else OrderSide.BID,
        size=event.size,
        custom_tag=event.custom_tag,
        stop_loss=event.stop_loss,
        take_profit=event.take_profit,
        fate=event.fate,
    )


def _check_account(event: PlaceOrder, state: State, account: Account, contract: Contract) -> None:
    if not account.can_trade:
        raise Refusal(PlaceOrderErrorCode.ACCOUNT_VIOLATION, "Account is not allowed to trade.")
    if not state.session_open:
        raise Refusal(PlaceOrderErrorCode.OUTSIDE_TRADING_HOURS, "Market is closed.")
    if not is_active(contract, event.now_ns):
        raise Refusal(PlaceOrderErrorCode.CONTRACT_NOT_ACTIVE, "Contract is not active.")


def _check_shape(event: PlaceOrder, state: State) -> None:
    if event.type not in PLACEABLE and not (event.type == OrderType.STOP_LIMIT and state.rules.stop_limit):
        raise Refusal(REJECTED, f"Invalid order type ({event.type}).")
    if event.side not in (0, 1):
        raise Refusal(REJECTED, f"Invalid order side ({event.side}).")
    if not 0 < event.size <= state.rules.order_size_max:
        raise Refusal(REJECTED, f"Invalid order size ({event.size}).")


def _check_tag(order: Order, state: State) -> None:
    if not order.custom_tag:
        order.custom_tag = None
        return
    used = state.tags.setdefault(order.account_id, {})
    window_ns = order.fate.tag_window_ns
    used_ns = used.get(order.custom_tag)
    if used_ns is not None and (window_ns is None or state.now_ns - used_ns < window_ns):
        # The tag is unique in the account, so the refused record cannot carry it too.
        tag, order.custom_tag = order.custom_tag, None
        raise Refusal(REJECTED, f"Custom tag already in use: {tag}")
    used[order.custom_tag] = state.now_ns


def to_ticks(price: Decimal, contract: Contract, what: str, code: int) -> int:
    """Turn a price into ticks, or refuse it when it lies between two."""
    ticks = price / contract.tick_size
    if not ticks.is_finite() or ticks != ticks.to_integral_value() or ticks <= 0:
        raise Refusal(code, f"Invalid {what} price. Price is not aligned to tick size.")
    return int(ticks)


def _set_prices(event: PlaceOrder, state: State, contract: Contract, order: Order) -> None:
    book = state.books.get(event.contract_id)
    if book is None or not book.tradable:
        if order.type in (OrderType.MARKET, OrderType.JOIN_BID, OrderType.JOIN_ASK):
            raise Refusal(REJECTED, "There is no market for this contract at the moment.")
        book = book or Book()
    if order.type is OrderType.LIMIT:
        if event.limit_price is None:
            raise Refusal(REJECTED, "Limit price not set.")
        order.limit_ticks = to_ticks(event.limit_price, contract, "limit", REJECTED)
    elif order.type in (OrderType.STOP, OrderType.STOP_LIMIT):
        if event.stop_price is None:
            raise Refusal(REJECTED, "Stop price not set.")
        if order.type is OrderType.STOP_LIMIT:
            if event.limit_price is None:
                raise Refusal(REJECTED, "Limit price not set.")
            order.limit_ticks = to_ticks(event.limit_price, contract, "limit", REJECTED)
        order.stop_ticks = to_ticks(event.stop_price, contract, "stop", REJECTED)
        _check_stop_side(book, order)
    elif order.type is OrderType.TRAILING_STOP:
        set_trail(order, event.trail_price, book, contract, REJECTED, state.rules.trail_ticks_max)
    elif order.type is OrderType.JOIN_BID:
        order.limit_ticks = book.bid
    elif order.type is OrderType.JOIN_ASK:
        order.limit_ticks = book.ask


def _check_stop_side(book: Book, order: Order) -> None:
    """A stop must lie beyond the market, else it would execute on arrival."""
    assert order.stop_ticks is not None
    touch = book.ask if order.is_buy else book.bid
    reference = touch if touch is not None else book.last
    if reference is None:
        return
    beyond = order.stop_ticks - reference if order.is_buy else reference - order.stop_ticks
    if beyond <= 0:
        side = "above" if order.is_buy else "below"
        raise Refusal(REJECTED, f"Invalid stop price. Price must be {side} the market.")


def set_trail(
    order: Order, level: Decimal | None, book: Book, contract: Contract, code: int, ticks_max: int | None
) -> None:
    """Turn an absolute trail level into the fixed distance that the server keeps.

    Distance = trunc(|last traded price - trailPrice| / tickSize), measured on receipt.

    Args:
        ticks_max: Greatest distance, or None where it is not checked (modify).
    """
    if level is None:
        raise Refusal(code, "Trail Distance not set.")
    if (level / contract.tick_size) % 1 != 0:
        raise Refusal(code, "Invalid trail price. Price is not aligned to tick size.")
    if book.last is None:
        raise Refusal(code, "Cannot trail without a last price")
    distance = int(abs(book.last - level / contract.tick_size))
    if distance == 0:
        raise Refusal(code, "Trail Distance not set.")
    if ticks_max is not None and distance > ticks_max:
        raise Refusal(code, f"Trail Distance exceeds maximum ({ticks_max})")
    order.trail_ticks = distance
    order.stop_ticks = book.last + distance if order.is_buy else book.last - distance


def _check_brackets(event: PlaceOrder, state: State, account: Account) -> None:
    if event.stop_loss is None and event.take_profit is None:
        return
    if not account.auto_oco:
        raise Refusal(REJECTED, BRACKETS_REFUSED)
    buy = event.side == OrderSide.BID
    going = "longing" if buy else "shorting"
    for name, bracket, negative in (
        ("stop loss", event.stop_loss, buy),
        ("take profit", event.take_profit, not buy),
    ):
        if bracket is None:
            continue
        allowed = (OrderType.STOP, OrderType.TRAILING_STOP) if name == "stop loss" else (OrderType.LIMIT,)
        if bracket.type not in allowed:
            raise Refusal(REJECTED, f"Invalid {name} type ({int(bracket.type)}).")
        ticks = bracket.ticks
        if (ticks >= 0) if negative else (ticks <= 0):
            than = "less" if negative else "greater"
            raise Refusal(
                REJECTED, f"Invalid {name} ticks ({ticks}). Ticks should be {than} than zero when {going}."
            )
        if abs(ticks) < state.rules.bracket_ticks_min:
            least = state.rules.bracket_ticks_min
            raise Refusal(REJECTED, f"Invalid {name} ticks ({ticks}). Must be at least {least} ticks away.")


def _refuse(state: State, order: Order, refusal: Refusal) -> Reply:
    order.status = OrderStatus.REJECTED
    order.reason = refusal.message
    if order.custom_tag:
        state.tags.setdefault(order.account_id, {})[order.custom_tag] = state.now_ns
    state.orders[order.id] = order
    state.report(order)
    return Reply(code=refusal.code, message=refusal.message, order_id=order.id)


def _accept(event: PlaceOrder, state: State, order: Order) -> None:
    state.orders[order.id] = order
    if order.type is not OrderType.MARKET or order.fate.held:
        state.report(order)  # Pending: the hub shows it before it is Open
    if order.stop_loss or order.take_profit:
        brackets.create_children(state, order, order.id + 1)
    state.start_working(order)
    if not order.fate.held:
        open_order(state, order)


def open_order(state: State, order: Order) -> None:
    """Let a pending order meet the market."""
    order.status = OrderStatus.OPEN
    if order.type is not OrderType.MARKET or order.fate.held:
        state.report(order)
    matching.match_one(state, state.books[order.contract_id], order)


def reject_order(state: State, order: Order, reason: str) -> None:
    """End an order that had been accepted: the exchange rejects it."""
    order.status = OrderStatus.REJECTED
    order.reason = reason
    state.stop_working(order)
    state.report(order)
    for child in brackets.children(state, order):
        brackets.cancel(state, child)
