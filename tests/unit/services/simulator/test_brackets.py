"""Bracket children: ids, suspension, prices from the fill, one cancels the other."""

from __future__ import annotations

import pytest

from shared.broker.projectx.enums import OrderSide, OrderStatus, OrderType, TradeLogType
from tests.support.venue import BUY, SELL, Desk, statuses_said

LIMIT = OrderType.LIMIT
OPEN, FILLED, CANCELLED, SUSPENDED = (
    OrderStatus.OPEN,
    OrderStatus.FILLED,
    OrderStatus.CANCELLED,
    OrderStatus.SUSPENDED,
)


def test_children_are_the_next_ids_and_open_with_the_fill() -> None:
    desk = Desk()
    entry = desk.place(BUY, size=2, stop_ticks=-10, target_ticks=20)
    assert entry.order_id is not None
    stop, target = desk.order(entry.order_id + 1), desk.order(entry.order_id + 2)
    assert statuses_said(desk.said, stop.id) == [SUSPENDED, OPEN]
    assert (stop.type, stop.side, stop.size, stop.stop_ticks) == (OrderType.STOP, SELL, 2, 391)
    assert (target.type, target.side, target.size, target.limit_ticks) == (LIMIT, SELL, 2, 421)
    assert (stop.parent_id, stop.linked_id, target.linked_id) == (entry.order_id, target.id, stop.id)
    assert stop.custom_tag is not None
    assert "AutoBracket" in stop.custom_tag
    assert desk.place(BUY).order_id == entry.order_id + 3


def test_children_stay_suspended_while_the_entry_waits() -> None:
    desk = Desk()
    entry = desk.place(BUY, LIMIT, limit=395, stop_ticks=-10, target_ticks=20)
    assert entry.order_id is not None
    desk.touch(390, 391)  # far below the stop's future price: it does not exist yet
    assert desk.status(entry.order_id) is FILLED
    desk = Desk()
    entry = desk.place(BUY, LIMIT, limit=395, stop_ticks=-10, target_ticks=20)
    assert entry.order_id is not None
    assert desk.status(entry.order_id + 1) is SUSPENDED
    desk.cancel(entry.order_id)
    assert [desk.status(entry.order_id + n) for n in range(3)] == [CANCELLED, CANCELLED, CANCELLED]


def test_children_grow_with_a_partly_filled_entry() -> None:
    desk = Desk(qty=1)
    entry = desk.place(BUY, LIMIT, size=3, limit=400, stop_ticks=-8, target_ticks=8)
    assert entry.order_id is not None
    desk.trade(400, 2, TradeLogType.SELL)
    assert (desk.order(entry.order_id).fill_volume, desk.order(entry.order_id + 1).size) == (1, 1)
    desk.trade(400, 5, TradeLogType.SELL)
    assert [desk.order(entry.order_id + n).size for n in (1, 2)] == [3, 3]
    desk.cancel(entry.order_id)
    assert desk.status(entry.order_id + 1) is OPEN


@pytest.mark.parametrize(("touch", "filled", "cancelled"), [((380, 381), 1, 2), ((430, 431), 2, 1)])
def test_one_cancels_the_other(touch: tuple[int, int], filled: int, cancelled: int) -> None:
    desk = Desk()
    entry = desk.place(BUY, stop_ticks=-10, target_ticks=20)
    assert entry.order_id is not None
    desk.touch(*touch)
    assert desk.status(entry.order_id + filled) is FILLED
    assert desk.status(entry.order_id + cancelled) is CANCELLED
    assert desk.net_qty == 0


def test_both_reached_by_one_trade_fill_only_one() -> None:
    desk = Desk()
    desk.place(BUY, stop_ticks=-10, target_ticks=20)
    desk.trade(430, 5, TradeLogType.BUY)
    desk.trade(380, 5, TradeLogType.SELL)
    assert desk.net_qty == 0
    assert len(desk.fills) == 2


def test_partly_filled_target_shrinks_the_stop() -> None:
    desk = Desk(qty=3)
    entry = desk.place(BUY, size=3, stop_ticks=-10, target_ticks=10)
    assert entry.order_id is not None
    desk.touch(411, 412, 1, 5)  # one contract comes to the target at 411
    assert desk.order(entry.order_id + 1).leaves == desk.order(entry.order_id + 2).leaves == 2
    assert desk.net_qty == 2


def test_short_entry_mirrors() -> None:
    desk = Desk()
    entry = desk.place(SELL, stop_ticks=10, target_ticks=-20)
    assert entry.order_id is not None
    assert desk.order(entry.order_id + 1).stop_ticks == 410
    assert desk.order(entry.order_id + 2).limit_ticks == 380


def test_trailing_stop_bracket_trails() -> None:
    from services.simulator.orders import Bracket

    desk = Desk()
    entry = desk.place(BUY, stop_loss=Bracket(ticks=-10, type=OrderType.TRAILING_STOP))
    assert entry.order_id is not None
    desk.touch(420, 421)
    desk.trade(420, 1, TradeLogType.BUY)
    assert desk.order(entry.order_id + 1).stop_ticks == 410


@pytest.mark.parametrize(
    ("side", "stop_ticks", "target_ticks", "message"),
    [
        (BUY, 40, 80, "Invalid stop loss ticks (40). Ticks should be less than zero when longing."),
        (BUY, -40, -80, "Invalid take profit ticks (-80). Ticks should be greater than zero when longing."),
        (SELL, -40, -80, "Invalid stop loss ticks (-40). Ticks should be greater than zero when shorting."),
        (SELL, 40, 80, "Invalid take profit ticks (80). Ticks should be less than zero when shorting."),
        (BUY, -3, None, "Invalid stop loss ticks (-3). Must be at least 4 ticks away."),
        (BUY, None, 3, "Invalid take profit ticks (3). Must be at least 4 ticks away."),
    ],
)
def test_bracket_ticks_are_signed_and_not_too_near(
    side: OrderSide, stop_ticks: int | None, target_ticks: int | None, message: str
) -> None:
    desk = Desk()
    reply = desk.place(side, stop_ticks=stop_ticks, target_ticks=target_ticks)
    assert (reply.code, reply.message) == (2, message)
    assert desk.net_qty == 0


def test_position_brackets_mode_refuses_order_brackets() -> None:
    desk = Desk()
    desk.account.auto_oco = False
    reply = desk.place(BUY, stop_ticks=-10)
    assert reply.code == 2
    assert (
        reply.message == "Brackets cannot be used with Position Brackets. You must enable Auto OCO Brackets."
    )


@pytest.mark.parametrize(("cancels", "left"), [(False, OPEN), (True, CANCELLED)])
def test_children_after_close(cancels: bool, left: OrderStatus) -> None:
    desk = Desk(close_cancels_brackets=cancels)
    entry = desk.place(BUY, stop_ticks=-10, target_ticks=20)
    assert entry.order_id is not None
    assert desk.close().code == 0
    assert desk.net_qty == 0
    assert [desk.status(entry.order_id + n) for n in (1, 2)] == [left, left]
