"""The venue: accounts, orders, positions and the market that they meet.

`decide(event, state) -> commands` is the whole of it; the modules beside it are its
chapters (`placing`, `closing`, `matching`, `brackets`, `account`). It has no sockets, no clock
and no chance: time comes in events, ids are counted in the state. So the same venue
serves a live simulation over sockets and a backtest in a loop.

Market data has a short cut: `touch` and `trade` take plain integers and cost next to
nothing while no order works on the contract. `decide` calls the same two.
"""

from __future__ import annotations

from decimal import Decimal
from typing import assert_never

import msgspec

from services.simulator import brackets, matching
from services.simulator.book import Book
from services.simulator.closing import ClosePosition, Liquidate, close, liquidate
from services.simulator.matching import LIMITS
from services.simulator.orders import WORKING, Order
from services.simulator.placing import (
    PlaceOrder,
    Refusal,
    open_order,
    place,
    reject_order,
    set_trail,
    to_ticks,
)
from services.simulator.state import Command, Reply, State
from shared.broker.projectx.enums import (
    CancelOrderErrorCode,
    ModifyOrderErrorCode,
    OrderStatus,
    OrderType,
    TradeLogType,
)


class TouchChanged(msgspec.Struct, frozen=True, gc=False):
    """The market's best bid or ask changed, prices in ticks; None is an empty side.

    Positional, unlike other messages: tens of thousands of these are made a second.
    """

    now_ns: int
    contract_id: str
    bid: int | None
    bid_qty: int
    ask: int | None
    ask_qty: int


class MarketTraded(msgspec.Struct, frozen=True, gc=False):
    """The market traded. `aggressor` None: the source does not say."""

    now_ns: int
    contract_id: str
    price: int
    qty: int
    aggressor: TradeLogType | None


class SessionChanged(msgspec.Struct, frozen=True, gc=False):
    """The market opened, or closed for the break or the weekend."""

    now_ns: int
    is_open: bool


class ModifyOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A request to change an order; None leaves a field as it is."""

    now_ns: int
    account_id: int
    order_id: int
    size: int | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A request to cancel; with `filled_first` the fill wins the race against an accepted cancel."""

    now_ns: int
    account_id: int
    order_id: int
    filled_first: bool = False


class ExchangeAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange takes or rejects an order that was held; nothing happens to one that is not pending."""

    now_ns: int
    order_id: int
    rejected: bool


Request = PlaceOrder | ModifyOrder | CancelOrder | ClosePosition
Event = TouchChanged | MarketTraded | SessionChanged | ExchangeAnswered | Liquidate | Request
NOTHING: list[Command] = []  # shared and never appended to: the market's usual answer


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event to `state` and return what happened, the answer to a request last."""
    match event:
        case TouchChanged():
            return touch(
                state, event.contract_id, event.bid, event.bid_qty, event.ask, event.ask_qty, event.now_ns
            )
        case MarketTraded():
            return trade(state, event.contract_id, event.price, event.qty, event.aggressor, event.now_ns)
        case SessionChanged():
            _change_session(state, event)
            return NOTHING
        case ExchangeAnswered():
            _begin(state, event.now_ns)
            _hear_exchange(event, state)
        case Liquidate():
            _begin(state, event.now_ns)
            liquidate(event, state)
        case PlaceOrder():
            _begin(state, event.now_ns)
            state.out.append(place(event, state))
        case ModifyOrder():
            _begin(state, event.now_ns)
            state.out.append(_modify(event, state))
        case CancelOrder():
            _begin(state, event.now_ns)
            state.out.append(_cancel(event, state))
        case ClosePosition():
            _begin(state, event.now_ns)
            state.out.append(close(event, state))
        case _:
            assert_never(event)
    return _taken(state)


def touch(
    state: State, contract_id: str, bid: int | None, bid_qty: int, ask: int | None, ask_qty: int, now_ns: int
) -> list[Command]:
    """Take a new touch of the market and match what works there."""
    book = state.books.get(contract_id)
    if book is None:
        book = state.books[contract_id] = Book()
    book.set_quote(bid, bid_qty, ask, ask_qty)
    if book.working == 0:
        return NOTHING
    _begin(state, now_ns)
    matching.match_touch(state, contract_id)
    return _taken(state)


def trade(
    state: State, contract_id: str, price: int, qty: int, aggressor: TradeLogType | None, now_ns: int
) -> list[Command]:
    """Take a trade of the market and match what works there."""
    book = state.books.get(contract_id)
    if book is None:
        book = state.books[contract_id] = Book()
    book.last = price
    if book.working == 0:
        return NOTHING
    _begin(state, now_ns)
    matching.match_trade(state, contract_id, price, qty, aggressor)
    return _taken(state)


def _change_session(state: State, event: SessionChanged) -> None:
    """Open or close; at the close every touch is gone, so nothing meets yesterday's prices."""
    state.session_open = event.is_open
    if not event.is_open:
        for book in state.books.values():
            book.set_quote(None, 0, None, 0)


def _begin(state: State, now_ns: int) -> None:
    state.now_ns = max(state.now_ns, now_ns)
    state.out = []


def _taken(state: State) -> list[Command]:
    out, state.out = state.out, []
    _forget(state)
    return out


def _forget(state: State) -> None:
    """Drop the oldest ended orders beyond the limit; the store still has them."""
    surplus = len(state.orders) - state.rules.history_max
    if surplus <= 0:
        return
    ended = (
        one.id
        for one in state.orders.values()
        if one.status not in WORKING and one.status != OrderStatus.SUSPENDED
    )
    for order_id in [order_id for order_id, _ in zip(ended, range(surplus), strict=False)]:
        del state.orders[order_id]


def _find(state: State, account_id: int, order_id: int) -> Order | None:
    order = state.orders.get(order_id)
    return order if order is not None and order.account_id == account_id else None


def _modify(event: ModifyOrder, state: State) -> Reply:
    codes = ModifyOrderErrorCode
    if event.account_id not in state.accounts:
        return Reply(code=codes.ACCOUNT_NOT_FOUND, message="Account not found.")
    order = _find(state, event.account_id, event.order_id)
    if order is None:
        return Reply(code=codes.ORDER_NOT_FOUND, message="Order not found.")
    if order.status not in WORKING:
        return Reply(code=codes.REJECTED, message=f"Order is not open (status {int(order.status)}).")
    changed = msgspec.structs.replace(order)
    try:
        _apply_changes(event, state, changed)
    except Refusal as refusal:
        return Reply(code=refusal.code, message=refusal.message)
    for field in ("size", "limit_ticks", "stop_ticks", "trail_ticks", "resting", "queue_ahead"):
        setattr(order, field, getattr(changed, field))
    state.report(order)
    # A stop moved through the market executes at once, as the platform does.
    matching.match_one(state, state.books[order.contract_id], order)
    return Reply(code=codes.SUCCESS)


def _apply_changes(event: ModifyOrder, state: State, order: Order) -> None:
    code = ModifyOrderErrorCode.REJECTED
    contract = state.known_contract(order.contract_id)
    if event.size is not None and event.size != order.size:
        if not order.fill_volume < event.size <= state.rules.order_size_max:
            raise Refusal(code, f"Invalid order size ({event.size}).")
        if event.size > order.size:
            order.resting, order.queue_ahead = False, None  # growing loses the place in the queue
        order.size = event.size
    if event.limit_price is not None and order.type in LIMITS | {OrderType.STOP_LIMIT}:
        ticks = to_ticks(event.limit_price, contract, "limit", code)
        if ticks != order.limit_ticks:
            order.limit_ticks, order.resting, order.queue_ahead = ticks, False, None
    if event.stop_price is not None and order.type in (OrderType.STOP, OrderType.STOP_LIMIT):
        order.stop_ticks = to_ticks(event.stop_price, contract, "stop", code)
    if event.trail_price is not None and order.type is OrderType.TRAILING_STOP:
        set_trail(order, event.trail_price, state.books[order.contract_id], contract, code, None)


def _cancel(event: CancelOrder, state: State) -> Reply:
    codes = CancelOrderErrorCode
    if event.account_id not in state.accounts:
        return Reply(code=codes.ACCOUNT_NOT_FOUND, message="Account not found.")
    order = _find(state, event.account_id, event.order_id)
    if order is None:
        return Reply(code=codes.ORDER_NOT_FOUND, message="Order not found.")
    if order.status not in WORKING and order.status is not OrderStatus.SUSPENDED:
        return Reply(code=codes.REJECTED, message=f"Order is not open (status {int(order.status)}).")
    if event.filled_first and (price := _fill_price(state, order)) is not None:
        matching.fill(state, order, price, order.leaves)
    else:
        brackets.cancel(state, order)
    return Reply(code=codes.SUCCESS)


def _fill_price(state: State, order: Order) -> int | None:
    """Return a price at which an open order could just have been filled, or None."""
    book = state.books[order.contract_id]
    if order.status is not OrderStatus.OPEN or not book.tradable:
        return None
    if matching.is_limit(order):
        return order.limit_ticks
    if order.type is OrderType.MARKET:
        return book.ask if order.is_buy else book.bid
    return None  # a stop that has not triggered


def _hear_exchange(event: ExchangeAnswered, state: State) -> None:
    order = state.orders.get(event.order_id)
    if order is None or order.status is not OrderStatus.PENDING:
        return
    if event.rejected:
        reject_order(state, order, "Rejected by the exchange.")
    else:
        open_order(state, order)
