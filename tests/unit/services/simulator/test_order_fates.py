"""Orders that the venue treats unlike others: in parts, held, rejected later, filled before a cancel."""

from __future__ import annotations

import pytest

from services.simulator.core import CancelOrder, ExchangeAnswered
from services.simulator.orders import Fate
from services.simulator.state import Reply
from shared.broker.projectx.enums import OrderStatus, OrderType
from tests.support.venue import ACCOUNT_ID, BUY, SELL, Desk, statuses_said

MS = 1_000_000


def test_market_order_is_filled_in_parts_as_the_market_moves() -> None:
    desk = Desk()
    order_id = desk.place(size=5, fate=Fate(part_qty=2)).order_id
    assert desk.order(order_id).fill_volume == 2
    desk.touch(401, 402)
    desk.touch(400, 401)
    assert desk.status(order_id) is OrderStatus.FILLED
    assert [(fill.size, fill.price_ticks) for fill in desk.fills] == [(2, 401), (2, 402), (1, 401)]
    assert desk.net_qty == 5


def test_parts_keep_their_distance_in_time() -> None:
    desk = Desk()
    order_id = desk.place(size=4, fate=Fate(part_qty=2, part_gap_ns=3 * MS)).order_id
    desk.touch(400, 402)
    desk.touch(400, 401)
    assert desk.order(order_id).fill_volume == 2
    desk.touch(400, 402)
    assert desk.order(order_id).fill_volume == 4


def test_resting_limit_is_filled_in_parts_when_the_market_trades_through() -> None:
    desk = Desk()
    order_id = desk.place(BUY, OrderType.LIMIT, 3, limit=399, fate=Fate(part_qty=1)).order_id
    for _ in range(3):
        desk.trade(398, 50, None)
    assert desk.status(order_id) is OrderStatus.FILLED
    assert desk.prices() == [399, 399, 399]


def test_protection_grows_with_the_parts() -> None:
    desk = Desk()
    order_id = desk.place(size=3, stop_ticks=-40, fate=Fate(part_qty=1)).order_id
    assert order_id is not None
    assert desk.order(order_id + 1).size == 1
    desk.touch(401, 402)
    assert desk.order(order_id + 1).size == 2


def test_held_order_meets_no_market_until_the_exchange_answers() -> None:
    desk = Desk()
    order_id = desk.place(fate=Fate(held=True)).order_id
    assert order_id is not None
    desk.touch(401, 402)
    desk.trade(402, 5, None)
    assert (desk.status(order_id), desk.net_qty) == (OrderStatus.PENDING, 0)
    said = desk.decide(ExchangeAnswered(now_ns=desk.now_ns, order_id=order_id, rejected=False))
    assert statuses_said(said, order_id) == [OrderStatus.OPEN, OrderStatus.FILLED]
    assert desk.prices() == [402]


def test_rejected_by_the_exchange_with_its_brackets() -> None:
    desk = Desk()
    order_id = desk.place(stop_ticks=-40, target_ticks=40, fate=Fate(held=True)).order_id
    assert order_id is not None
    answer = ExchangeAnswered(now_ns=desk.now_ns, order_id=order_id, rejected=True)
    desk.decide(answer)
    assert desk.status(order_id) is OrderStatus.REJECTED
    assert [desk.status(order_id + leg) for leg in (1, 2)] == [OrderStatus.CANCELLED] * 2
    assert desk.decide(answer) == []  # said once
    desk.touch(401, 402)
    assert desk.net_qty == 0


def test_held_order_can_be_cancelled_and_stays_so() -> None:
    desk = Desk()
    order_id = desk.place(fate=Fate(held=True)).order_id
    assert order_id is not None
    assert desk.cancel(order_id).code == 0
    assert desk.decide(ExchangeAnswered(now_ns=desk.now_ns, order_id=order_id, rejected=False)) == []
    assert desk.status(order_id) is OrderStatus.CANCELLED


def test_a_rejected_stop_leaves_the_target_alone() -> None:
    desk = Desk()
    order_id = desk.place(stop_ticks=-40, target_ticks=40, fate=Fate(rejected_legs=("SL",))).order_id
    assert order_id is not None
    assert desk.status(order_id + 1) is OrderStatus.REJECTED
    assert desk.status(order_id + 2) is OrderStatus.OPEN
    desk.touch(442, 443)
    assert desk.net_qty == 0


@pytest.mark.parametrize(("kind", "filled"), [(OrderType.LIMIT, True), (OrderType.STOP, False)])
def test_fill_wins_the_race_against_a_cancel(kind: OrderType, filled: bool) -> None:
    desk = Desk()
    prices = {"limit": 500} if kind is OrderType.LIMIT else {"stop": 300}
    order_id = desk.place(SELL, kind, 2, **prices).order_id  # type: ignore[arg-type]
    assert order_id is not None
    event = CancelOrder(now_ns=desk.now_ns, account_id=ACCOUNT_ID, order_id=order_id, filled_first=True)
    assert desk.decide(event)[-1] == Reply(code=0)
    assert desk.status(order_id) is (OrderStatus.FILLED if filled else OrderStatus.CANCELLED)
    assert desk.net_qty == (-2 if filled else 0)


def test_tag_may_come_again_after_its_window() -> None:
    desk = Desk()
    assert desk.place(tag="one").code == 0
    window = Fate(tag_window_ns=5 * MS)
    assert desk.place(tag="one", fate=window).code == 2
    desk.now_ns += 10 * MS
    assert desk.place(tag="one", fate=window).code == 0
    assert desk.place(tag="one").code == 2
    assert desk.place(tag="one", fate=Fate(tag_window_ns=0)).code == 0
