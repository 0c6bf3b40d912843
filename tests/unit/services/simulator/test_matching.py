"""How orders meet the market: queue at the touch, walking, stops, no fills in a crossed book."""

from __future__ import annotations

import pytest

from shared.broker.projectx.enums import OrderSide, OrderStatus, OrderType, TradeLogType
from tests.support.venue import BUY, SELL, Desk

BOUGHT, SOLD = TradeLogType.BUY, TradeLogType.SELL
LIMIT, STOP, TRAIL = OrderType.LIMIT, OrderType.STOP, OrderType.TRAILING_STOP
STOP_LIMIT = OrderType.STOP_LIMIT


@pytest.mark.parametrize(("side", "price"), [(BUY, 401), (SELL, 400)])
def test_market_order_takes_the_opposite_touch(side: OrderSide, price: int) -> None:
    desk = Desk()
    reply = desk.place(side)
    assert desk.status(reply.order_id) is OrderStatus.FILLED
    assert desk.prices() == [price]


def test_market_order_walks_when_the_displayed_size_is_exceeded() -> None:
    desk = Desk(qty=4)
    desk.place(BUY, size=10)
    assert [(fill.price_ticks, fill.size) for fill in desk.fills] == [(401, 4), (402, 4), (403, 2)]


def test_displayed_size_is_taken_once() -> None:
    desk = Desk(qty=3)
    desk.place(BUY, size=2)
    desk.place(BUY, size=2)  # one is left at the touch, the other walks
    assert desk.prices() == [401, 401, 402]
    desk.touch(400, 401, 3, 5)  # the market shows that side anew
    desk.place(BUY, size=2)
    assert desk.prices()[3:] == [401]


def test_marketable_limit_order_takes_up_to_its_price_and_rests() -> None:
    desk = Desk(qty=4)
    reply = desk.place(BUY, LIMIT, size=10, limit=402)
    assert [(fill.price_ticks, fill.size) for fill in desk.fills] == [(401, 4), (402, 4)]
    order = desk.order(reply.order_id)
    assert (order.status, order.fill_volume) == (OrderStatus.OPEN, 8)


def test_limit_order_waits_for_the_volume_ahead_of_it() -> None:
    desk = Desk()
    reply = desk.place(BUY, LIMIT, size=3, limit=400)  # behind ten
    desk.trade(400, 8, SOLD)
    assert desk.net_qty == 0
    desk.trade(400, 3, SOLD)  # two more ahead, one for us
    assert desk.net_qty == 1
    desk.trade(400, 5, SOLD)
    assert desk.status(reply.order_id) is OrderStatus.FILLED
    assert desk.prices() == [400, 400]


def test_trades_of_the_other_side_do_not_move_the_queue() -> None:
    desk = Desk()
    desk.place(BUY, LIMIT, limit=400)
    desk.trade(400, 50, BOUGHT)
    assert desk.net_qty == 0
    desk.trade(400, 11, None)  # the source does not know the side: either may have waited
    assert desk.net_qty == 1


def test_cancellations_ahead_move_the_queue() -> None:
    desk = Desk()
    desk.place(SELL, LIMIT, limit=401)
    desk.touch(400, 401, 10, 2)
    desk.trade(401, 3, BOUGHT)
    assert desk.net_qty == -1


def test_trade_through_the_price_fills_whole() -> None:
    desk = Desk()
    desk.place(BUY, LIMIT, size=5, limit=399)
    desk.trade(398, 1, SOLD)
    assert (desk.net_qty, desk.prices()) == (5, [399])


def test_order_behind_the_touch_joins_the_queue_when_the_touch_comes() -> None:
    desk = Desk()
    desk.place(BUY, LIMIT, limit=399)
    desk.touch(399, 400, 6, 10)
    desk.trade(399, 6, SOLD)
    assert desk.net_qty == 0
    desk.trade(399, 1, SOLD)
    assert desk.net_qty == 1


def test_opposite_touch_fills_a_resting_order_at_its_own_price() -> None:
    desk = Desk()
    desk.place(BUY, LIMIT, limit=399)
    desk.touch(396, 397)
    assert desk.prices() == [399]


def test_volume_is_shared_among_orders_at_one_price() -> None:
    desk = Desk(qty=1)
    first = desk.place(BUY, LIMIT, limit=400)
    second = desk.place(BUY, LIMIT, limit=400)
    desk.trade(400, 2, SOLD)
    assert desk.status(first.order_id) is OrderStatus.FILLED
    assert desk.status(second.order_id) is OrderStatus.OPEN


@pytest.mark.parametrize(
    ("bid", "ask", "bid_qty", "ask_qty"),
    [
        (402, 401, 10, 10),  # crossed
        (401, 401, 10, 10),  # locked
        (None, 401, 0, 10),  # no bids
        (400, None, 10, 0),  # no asks
        (400, 401, 10, 0),  # nothing behind the price
    ],
)
def test_nothing_fills_while_the_book_is_not_tradable(
    bid: int | None, ask: int | None, bid_qty: int, ask_qty: int
) -> None:
    desk = Desk()
    desk.place(BUY, LIMIT, limit=395)
    desk.place(SELL, LIMIT, limit=405)
    desk.place(SELL, STOP, stop=390)
    desk.touch(bid, ask, bid_qty, ask_qty)
    desk.trade(380, 100, None)
    desk.trade(420, 100, None)
    assert desk.fills == []
    refused = desk.place(BUY)
    assert desk.status(refused.order_id) is OrderStatus.REJECTED


def test_limit_order_placed_before_the_open_meets_the_first_real_touch() -> None:
    desk = Desk()
    desk.touch(410, 405)
    reply = desk.place(BUY, LIMIT, limit=408)
    desk.touch(406, 407)
    assert desk.prices() == [407]
    assert desk.status(reply.order_id) is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("side", "stop", "trade_at", "touch", "price"),
    [
        (SELL, 395, 395, None, 400),  # a trade triggers, the touch of that moment pays
        (SELL, 395, None, (394, 395), 394),
        (BUY, 406, 407, None, 401),
        (BUY, 406, None, (405, 406), 406),
    ],
)
def test_stop_triggers_on_trade_or_touch(
    side: OrderSide, stop: int, trade_at: int | None, touch: tuple[int, int] | None, price: int
) -> None:
    desk = Desk()
    reply = desk.place(side, STOP, stop=stop)
    if trade_at is not None:
        desk.trade(trade_at, 1, None)
    if touch is not None:
        desk.touch(*touch)
    assert desk.status(reply.order_id) is OrderStatus.FILLED
    assert desk.prices() == [price]


def test_stop_limit_order_waits_then_is_a_limit_order() -> None:
    desk = Desk(stop_limit=True)
    reply = desk.place(BUY, STOP_LIMIT, stop=404, limit=405)
    desk.trade(403, 1, BOUGHT)
    assert desk.net_qty == 0
    desk.touch(406, 407)  # triggered, and beyond its limit
    assert desk.net_qty == 0
    desk.touch(404, 405)
    assert desk.status(reply.order_id) is OrderStatus.FILLED
    assert desk.prices() == [405]


def test_stop_limit_order_is_triggered_by_a_trade() -> None:
    desk = Desk(stop_limit=True)
    reply = desk.place(SELL, STOP_LIMIT, stop=398, limit=396)
    desk.touch(397, 399)
    assert desk.status(reply.order_id) is OrderStatus.FILLED
    assert desk.prices() == [397]


def test_stop_limit_order_is_refused_where_the_venue_has_none() -> None:
    assert Desk().place(BUY, STOP_LIMIT, stop=404, limit=405).message == "Invalid order type (3)."


def test_trailing_stop_keeps_its_distance_and_never_retreats() -> None:
    desk = Desk()
    reply = desk.place(SELL, TRAIL, trail=390)  # last 400: distance 10
    assert desk.order(reply.order_id).stop_ticks == 390
    desk.touch(410, 411)
    desk.trade(411, 1, BOUGHT)
    assert desk.order(reply.order_id).stop_ticks == 401
    desk.trade(405, 1, SOLD)
    assert desk.order(reply.order_id).stop_ticks == 401
    desk.touch(401, 402)
    assert desk.status(reply.order_id) is OrderStatus.FILLED


def test_join_orders_rest_at_the_touch_of_that_moment() -> None:
    desk = Desk()
    bid = desk.place(BUY, OrderType.JOIN_BID)
    ask = desk.place(SELL, OrderType.JOIN_ASK)
    assert desk.order(bid.order_id).limit_ticks == 400
    assert desk.order(ask.order_id).limit_ticks == 401
    assert desk.net_qty == 0


def test_stop_moved_through_the_market_executes_at_once() -> None:
    desk = Desk()
    reply = desk.place(SELL, STOP, stop=390)
    assert reply.order_id is not None
    assert desk.modify(reply.order_id, stop_price=402).code == 0
    assert desk.prices() == [400]


def test_limit_order_modified_into_the_market_executes_at_once() -> None:
    desk = Desk()
    reply = desk.place(BUY, LIMIT, limit=390)
    assert reply.order_id is not None
    desk.modify(reply.order_id, limit_price=401)
    assert desk.prices() == [401]
