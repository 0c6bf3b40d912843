"""The matching engine: how orders meet a market that does not know of them.

The market is a recording or a synthetic stream of touches and trades; our orders
do not move it. Three rules keep fills believable:

- A marketable order takes the displayed size at the opposite touch, then walks on
  a tick at a time, each deeper level assumed as deep as the touch. What it took is
  not there for the next order until the market shows that side anew.
- A resting limit order waits its turn. It joins behind the displayed size at its
  price; trades there and cancellations (a shrinking display) move it forward. It is
  filled by what trades beyond the queue, by a trade through its price, or when the
  opposite touch comes to it; always at its own price.
- Stops trigger on a trade or a touch at their price and then take the market; a stop-limit order is a limit
  order from then on.

Nothing is ever filled while the book is crossed, locked or one-sided.
"""

from __future__ import annotations

from services.simulator import account, brackets
from services.simulator.book import Book
from services.simulator.orders import Order
from services.simulator.state import State
from shared.broker.projectx.enums import OrderStatus, OrderType, TradeLogType

LIMITS = frozenset({OrderType.LIMIT, OrderType.JOIN_BID, OrderType.JOIN_ASK})
STOPS = frozenset({OrderType.STOP, OrderType.TRAILING_STOP, OrderType.STOP_LIMIT})


def match_touch(state: State, contract_id: str) -> None:
    """Match every working order of a contract against its present touch."""
    book = state.books[contract_id]
    if not book.tradable:
        return
    for order in tuple(state.working.get(contract_id, ())):
        match_one(state, book, order)


def match_one(state: State, book: Book, order: Order) -> None:
    """Match one order against the present touch, if it is open and the book allows it."""
    if order.status is not OrderStatus.OPEN or not book.tradable:
        return
    if order.type is OrderType.STOP_LIMIT and not order.triggered:
        order.triggered = _touch_triggers(book, order)
    if is_limit(order):
        if order.resting:
            _meet_resting(state, book, order)
        else:
            take(state, book, order, order.limit_ticks)
            _rest(book, order)
    elif order.type is OrderType.STOP_LIMIT:
        return
    elif order.type is OrderType.MARKET or order.triggered or _touch_triggers(book, order):
        order.triggered = order.type in STOPS
        take(state, book, order, None)


def match_trade(state: State, contract_id: str, price: int, qty: int, aggressor: TradeLogType | None) -> None:
    """Let a trade of the market reach working orders.

    Args:
        aggressor: None when the recording does not say: then either side may have
            been the one that waited.
    """
    book = state.books[contract_id]
    if not book.tradable:
        return
    claimed = {True: 0, False: 0}  # what our earlier orders took of the traded volume, by side
    for order in tuple(state.working.get(contract_id, ())):
        if order.status is not OrderStatus.OPEN:
            continue  # the other leg of this pair was filled by this very trade
        if is_limit(order) and order.resting:
            waited = aggressor is None or (aggressor is TradeLogType.SELL) == order.is_buy
            before = claimed[order.is_buy]
            claimed[order.is_buy] += _trade_meets(state, order, price, qty, before, waited)
        elif order.type is OrderType.STOP_LIMIT and not order.triggered:
            order.triggered = _reached(order, price)
            match_one(state, book, order)
        elif order.type in STOPS:
            _trail(state, order, price)
            if order.triggered or _reached(order, price):
                order.triggered = True
                take(state, book, order, None)


def is_limit(order: Order) -> bool:
    """Does it match as a limit order now?"""
    return order.type in LIMITS or (order.type is OrderType.STOP_LIMIT and order.triggered)


def take(state: State, book: Book, order: Order, limit: int | None) -> None:
    """Fill what is marketable of `order` at the opposite side, level by level."""
    if not book.tradable:
        return
    assert book.bid is not None and book.ask is not None
    buy = order.is_buy
    step = 1 if buy else -1
    price = book.ask if buy else book.bid
    depth = book.ask_qty if buy else book.bid_qty
    room = depth - (book.ask_taken if buy else book.bid_taken)
    due = _due_qty(state, order)
    while due > 0 and order.status is OrderStatus.OPEN:
        if limit is not None and (price - limit) * step > 0:
            return
        qty = min(due, room)
        due -= max(0, qty)
        if qty > 0:
            if buy and price == book.ask:
                book.ask_taken += qty
            elif not buy and price == book.bid:
                book.bid_taken += qty
            fill(state, order, price, qty)
        price += step
        room = depth


def _due_qty(state: State, order: Order) -> int:
    """Return how many contracts may be filled now; all that is left, unless it is filled in parts."""
    part_qty = order.fate.part_qty
    if part_qty is None:
        return order.leaves
    return min(order.leaves, part_qty) if state.now_ns >= order.next_part_ns else 0


def fill(state: State, order: Order, price: int, qty: int) -> None:
    """Fill `qty` of an order at `price` with all that follows from it."""
    assert 0 < qty <= order.leaves
    order.fill_volume += qty
    order.fill_ticks += price * qty
    order.next_part_ns = state.now_ns + order.fate.part_gap_ns
    if order.leaves == 0:
        order.status = OrderStatus.FILLED
        state.stop_working(order)
    state.report(order)
    account.book_fill(state, order, price, qty)
    if order.stop_loss or order.take_profit:
        brackets.protect(state, order)
    if order.linked_id is not None:
        brackets.shrink_sibling(state, order, qty)


def _rest(book: Book, order: Order) -> None:
    """Put what is left of a new limit order into the queue at its price."""
    assert order.limit_ticks is not None
    own = book.bid if order.is_buy else book.ask
    assert own is not None
    better = order.limit_ticks - own if order.is_buy else own - order.limit_ticks
    displayed = book.bid_qty if order.is_buy else book.ask_qty
    order.resting = True
    order.queue_ahead = displayed if better == 0 else (0 if better > 0 else None)


def _meet_resting(state: State, book: Book, order: Order) -> None:
    limit = order.limit_ticks
    assert limit is not None and book.bid is not None and book.ask is not None
    buy = order.is_buy
    if (book.ask <= limit) if buy else (book.bid >= limit):
        # The other side came to our price: it trades with whoever waits there.
        shown = book.ask_qty - book.ask_taken if buy else book.bid_qty - book.bid_taken
        qty = min(_due_qty(state, order), shown)
        if qty > 0:
            if buy:
                book.ask_taken += qty
            else:
                book.bid_taken += qty
            fill(state, order, limit, qty)
        return
    own, displayed = (book.bid, book.bid_qty) if buy else (book.ask, book.ask_qty)
    if own == limit:
        ahead = order.queue_ahead
        order.queue_ahead = displayed if ahead is None else min(ahead, displayed)
    elif (own < limit) if buy else (own > limit):
        order.queue_ahead = 0  # the market left our price: nobody else is there


def _trade_meets(state: State, order: Order, price: int, qty: int, before: int, waited: bool) -> int:
    """Apply a market trade to a resting order; return what it claimed of the volume."""
    limit = order.limit_ticks
    assert limit is not None
    through = price < limit if order.is_buy else price > limit
    due = _due_qty(state, order)
    if through and due:
        fill(state, order, limit, due)
        return 0
    if price != limit or not waited or order.queue_ahead is None:
        return 0
    beyond = qty - order.queue_ahead - before
    order.queue_ahead = max(0, order.queue_ahead - qty)
    claimed = min(due, beyond)
    if claimed <= 0:
        return 0
    fill(state, order, limit, claimed)
    return claimed


def _trail(state: State, order: Order, price: int) -> None:
    """Pull a trailing stop after the last trade; it only ever moves toward profit."""
    if order.trail_ticks is None or order.stop_ticks is None or order.triggered:
        return
    moved = price + order.trail_ticks if order.is_buy else price - order.trail_ticks
    if (moved < order.stop_ticks) if order.is_buy else (moved > order.stop_ticks):
        order.stop_ticks = moved
        state.report(order)


def _reached(order: Order, price: int) -> bool:
    assert order.stop_ticks is not None
    return price >= order.stop_ticks if order.is_buy else price <= order.stop_ticks


def _touch_triggers(book: Book, order: Order) -> bool:
    """A sell stop answers to the bid, a buy stop to the ask: the prices it would get."""
    touch = book.ask if order.is_buy else book.bid
    return touch is not None and _reached(order, touch)
