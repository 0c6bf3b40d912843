"""Requests and their codes, tags, positions, money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.simulator.orders import Bracket
from shared.broker.projectx.enums import OrderSide, OrderStatus, OrderType
from tests.support.venue import BUY, MES, SELL, Desk, kinds_said, statuses_said

LIMIT, STOP, TRAIL = OrderType.LIMIT, OrderType.STOP, OrderType.TRAILING_STOP


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"account_id": 1}, 1, "Account not found."),
        ({"contract_id": "CON.F.US.MES.X99"}, 8, "Contract not found."),
        ({"contract_id": "CON.F.US.MES.Z25"}, 9, "Contract is not active."),
        ({"size": 0}, 2, "Invalid order size (0)."),
        ({"size": 501}, 2, "Invalid order size (501)."),
        ({"side": 2}, 2, "Invalid order side (2)."),
        ({"type": 3}, 2, "Invalid order type (3)."),
        ({"type": 99}, 2, "Invalid order type (99)."),
        ({"type": 1}, 2, "Limit price not set."),
        (
            {"type": 1, "limit_price": Decimal("100.1")},
            2,
            "Invalid limit price. Price is not aligned to tick size.",
        ),
        ({"type": 4}, 2, "Stop price not set."),
        ({"type": 4, "stop_price": Decimal("100")}, 2, "Invalid stop price. Price must be above the market."),
        ({"type": 5}, 2, "Trail Distance not set."),
        (
            {"type": 5, "trail_price": Decimal("99.9")},
            2,
            "Invalid trail price. Price is not aligned to tick size.",
        ),
        ({"type": 5, "trail_price": Decimal("351")}, 2, "Trail Distance exceeds maximum (1000)"),
        ({"stop_loss": Bracket(ticks=-10, type=OrderType.LIMIT)}, 2, "Invalid stop loss type (1)."),
    ],
)
def test_place_refusals(changes: dict[str, Any], code: int, message: str) -> None:
    desk = Desk()
    reply = desk.place(**changes)
    assert (reply.code, reply.message) == (code, message)
    assert desk.net_qty == 0
    stored = [one.status for one in desk.state.orders.values()]
    assert stored == ([] if code in (1, 8) else [OrderStatus.REJECTED])


def test_account_that_may_not_trade() -> None:
    desk = Desk()
    desk.account.can_trade = False
    assert desk.place(BUY).code == 4


def test_closed_market_refuses_and_forgets_its_prices() -> None:
    from services.simulator.core import SessionChanged

    desk = Desk()
    desk.place(BUY)
    resting = desk.place(BUY, LIMIT, limit=390)
    assert desk.decide(SessionChanged(desk.now_ns, False)) == []
    reply = desk.place(BUY, LIMIT, limit=380)
    assert (reply.code, reply.message) == (5, "Market is closed.")
    assert desk.close().code == 5
    assert resting.order_id is not None
    assert desk.cancel(resting.order_id).code == 0
    desk.decide(SessionChanged(desk.now_ns, True))
    assert desk.close().code == 5  # open, but no price yet
    desk.touch(410, 411)
    assert desk.close().code == 0


def test_trailing_stop_without_a_last_price() -> None:
    desk = Desk()
    desk.state.books[MES].last = None
    assert desk.place(SELL, TRAIL, trail=390).message == "Cannot trail without a last price"


def test_sell_stop_must_lie_below_the_market() -> None:
    assert Desk().place(SELL, STOP, stop=400).message == "Invalid stop price. Price must be below the market."


def test_custom_tag_is_burnt_by_a_refusal_and_by_a_fill() -> None:
    desk = Desk()
    assert desk.place(BUY, size=0, tag="a").code == 2
    again = desk.place(BUY, tag="a")
    assert (again.code, again.message) == (2, "Custom tag already in use: a")
    assert desk.order(again.order_id).custom_tag is None
    assert desk.place(BUY, tag="b").code == 0
    assert desk.place(BUY, tag="b").code == 2
    assert desk.net_qty == 1


def test_refusal_stores_an_order_and_gives_its_id() -> None:
    desk = Desk()
    reply = desk.place(BUY, size=0)
    assert desk.order(reply.order_id).reason == "Invalid order size (0)."


def test_life_of_a_resting_order_on_the_hub() -> None:
    desk = Desk()
    reply = desk.place(BUY, LIMIT, limit=390)
    assert reply.order_id is not None
    desk.cancel(reply.order_id)
    assert statuses_said(desk.said, reply.order_id) == [6, 1, 3]


def test_reports_of_a_fill_in_order() -> None:
    desk = Desk()
    desk.said.clear()
    desk.place(BUY)
    assert kinds_said(desk.said) == ["order", "fill", "position"]


@pytest.mark.parametrize(
    ("order_id", "account_id", "code"),
    [(99, 7, 2), (1, 8, 1)],
)
def test_cancel_and_modify_of_what_is_not_there(order_id: int, account_id: int, code: int) -> None:
    from services.simulator.core import CancelOrder, ModifyOrder

    desk = Desk()
    for event in (CancelOrder, ModifyOrder):
        reply = desk.decide(event(now_ns=desk.now_ns, account_id=account_id, order_id=order_id))[-1]
        assert reply.code == code  # type: ignore[union-attr]


def test_cancel_and_modify_of_what_has_ended() -> None:
    desk = Desk()
    reply = desk.place(BUY)
    assert reply.order_id is not None
    assert desk.cancel(reply.order_id).code == 3
    assert desk.modify(reply.order_id, size=2).code == 3


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"size": 0}, 3), ({"limit_price": None, "size": 5}, 0), ({"limit_price": 391}, 0)],
)
def test_modify(changes: dict[str, Any], code: int) -> None:
    desk = Desk()
    reply = desk.place(BUY, LIMIT, size=2, limit=390)
    assert reply.order_id is not None
    assert desk.modify(reply.order_id, **changes).code == code


def test_modify_keeps_what_is_omitted() -> None:
    desk = Desk()
    reply = desk.place(BUY, LIMIT, size=2, limit=390)
    assert reply.order_id is not None
    desk.modify(reply.order_id, size=3)
    assert (desk.order(reply.order_id).limit_ticks, desk.order(reply.order_id).size) == (390, 3)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"account_id": 1}, 1),
        ({"contract_id": "CON.F.US.MNQ.H26"}, 2),
        ({"contract_id": "nonsense"}, 3),
        ({"size": 4}, 5),
        ({"size": 0}, 5),
        ({"size": 2}, 0),
    ],
)
def test_close_codes(changes: dict[str, Any], code: int) -> None:
    desk = Desk()
    desk.place(BUY, size=3)
    assert desk.close(**changes).code == code


@pytest.mark.parametrize(("size", "code"), [(None, 5), (1, 6)])
def test_close_without_a_market(size: int | None, code: int) -> None:
    desk = Desk()
    desk.place(BUY)
    desk.touch(None, 401)
    reply = desk.close(size)
    assert (reply.code, reply.message) == (code, None)


def test_average_moves_with_the_position_and_profit_is_booked_against_it() -> None:
    desk = Desk()
    desk.place(BUY)  # 401
    desk.touch(404, 405)
    desk.place(BUY)  # 405: average 403
    assert desk.position is not None
    assert desk.position.avg_ticks == 403
    desk.touch(410, 411)
    desk.place(SELL)  # 410: 7 ticks of 1.25
    assert [fill.profit_and_loss for fill in desk.fills] == [None, None, Decimal("8.75")]
    assert desk.account.balance == Decimal("50000") + Decimal("8.75") - 3 * Decimal("0.37")
    assert desk.position.avg_ticks == 403


def test_reversal_is_two_half_turns() -> None:
    desk = Desk()
    desk.place(BUY)  # 401
    desk.place(SELL, size=3)  # 400: closes one, opens two short
    assert [(fill.size, fill.profit_and_loss) for fill in desk.fills] == [
        (1, None),
        (1, Decimal("-1.25")),
        (2, None),
    ]
    assert desk.net_qty == -2
    assert desk.position is not None
    assert desk.position.id == 2


@given(
    st.lists(
        st.tuples(st.sampled_from([BUY, SELL]), st.integers(1, 5), st.integers(380, 420)),
        min_size=1,
        max_size=25,
    )
)
def test_money_and_position_equal_the_fills(orders: list[tuple[OrderSide, int, int]]) -> None:
    """Balance change = realized P&L - fees; with the open P&L it is the worth of all fills."""
    desk = Desk(qty=3)
    for side, size, bid in orders:
        desk.touch(bid, bid + 1, 3, 3)
        desk.place(side, size=size)
    signed = [fill.size if fill.side is BUY else -fill.size for fill in desk.fills]
    assert desk.net_qty == sum(signed)
    assert desk.net_qty == sum(size if side is BUY else -size for side, size, _ in orders)
    fees = sum((fill.fees for fill in desk.fills), Decimal(0))
    pnl = sum((fill.profit_and_loss or Decimal(0) for fill in desk.fills), Decimal(0))
    assert desk.account.balance == 50_000 + pnl - fees
    cash = -sum(fill.price_ticks * qty for fill, qty in zip(desk.fills, signed, strict=True))
    held = desk.net_qty * desk.position.avg_ticks if desk.position else Decimal(0)
    worth = (cash + held) * Decimal("1.25")
    assert abs(worth - pnl) < Decimal("0.01") * len(desk.fills)
