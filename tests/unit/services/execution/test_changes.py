"""Trailing stops and changes of working orders: what is sent, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from services.execution.events import MarketRead, Modify
from shared.domain.execution import OrderDenied
from shared.domain.order import ModifyOrder, OrderType, Side
from tests.support.execution import MES, T0_NS, Desk, make_market, make_rules, make_submit, only


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    return desk


def change(name: str = "o1", **changes: Any) -> ModifyOrder:
    return ModifyOrder(
        client_order_id=name, strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=T0_NS, **changes
    )


def denied(desk: Desk, intent: Any) -> str:
    (message,) = only(desk.intent(intent), OrderDenied)
    assert isinstance(message, OrderDenied)
    return message.code


@pytest.mark.parametrize(("side", "level"), [(Side.SELL, "4997.5"), (Side.BUY, "5002.5")])
def test_trailing_stop_is_a_level_so_far_from_the_last_trade(side: Side, level: str) -> None:
    desk = ready_desk()
    desk.intent(make_submit(side=side, order_type=OrderType.TRAILING_STOP, trail_ticks=10))
    ticket = desk.broker.posts[-1] if desk.place_all() else None
    assert ticket is not None
    assert (ticket.trail_price, ticket.stop_price) == (Decimal(level), None)


@pytest.mark.parametrize(
    ("market", "code"),
    [
        ({"last_px": None}, "reference_missing"),
        ({"contract_id": MES.replace("H26", "M26")}, "reference_missing"),
        ({"ts_asof_ns": T0_NS}, "reference_stale"),
    ],
)
def test_trailing_exit_needs_a_last_price_of_its_contract(market: dict[str, Any], code: str) -> None:
    desk = ready_desk()
    desk.opened("o0")
    desk.pass_time(3)
    exit_ = make_submit(side=Side.SELL, order_type=OrderType.TRAILING_STOP, trail_ticks=10, bracket=None)
    desk.feed(MarketRead(market=make_market(**{"ts_asof_ns": desk.now_ns, **market}), at=desk.at()))
    assert denied(desk, exit_) == code


def test_stop_limit_only_where_the_broker_has_it() -> None:
    wish = make_submit(
        order_type=OrderType.STOP_LIMIT, stop_price=Decimal(5010), limit_price=Decimal("5010.5")
    )
    without = Desk(make_rules(order_types=frozenset(OrderType) - {OrderType.STOP_LIMIT}))
    without.ready()
    assert denied(without, wish) == "order_type"
    desk = ready_desk()
    desk.intent(wish)
    desk.place_all()
    ticket = desk.broker.posts[-1]
    assert (ticket.stop_price, ticket.limit_price) == (Decimal(5010), Decimal("5010.5"))


def working(desk: Desk, **how: Any) -> int:
    desk.intent(make_submit(**how))
    (number,) = desk.place_all()
    return number


def test_trail_is_changed_to_a_new_level() -> None:
    desk = ready_desk()
    number = working(desk, order_type=OrderType.TRAILING_STOP, trail_ticks=10)
    desk.intent(change(trail_ticks=6))
    (sent,) = desk.take(Modify)
    assert (sent.broker_order_id, sent.trail_price, sent.stop_price) == (number, Decimal("5001.5"), None)
    assert desk.order().trail_ticks == 6


def test_prices_and_quantity_are_changed() -> None:
    desk = ready_desk()
    working(desk, order_type=OrderType.LIMIT, limit_price=Decimal(4990))
    desk.intent(change(limit_price=Decimal(4991), order_qty=2))
    (sent,) = desk.take(Modify)
    assert (sent.limit_price, sent.order_qty) == (Decimal(4991), 2)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "nothing_to_change"),
        ({"trail_ticks": 4}, "trail_ticks_unused"),
        ({"stop_price": Decimal(4990)}, "stop_price_unused"),
        ({"limit_price": Decimal("4990.1")}, "off_tick"),
        ({"limit_price": Decimal(4000)}, "price_collar"),
        ({"order_qty": 9}, "order_qty_max"),
        ({"order_qty": 0}, "order_qty"),
    ],
)
def test_changes_that_are_refused(changes: dict[str, Any], code: str) -> None:
    desk = ready_desk()
    working(desk, order_type=OrderType.LIMIT, limit_price=Decimal(4990))
    assert denied(desk, change(**changes)) == code
    assert not desk.take(Modify)


def test_stop_is_not_moved_through_the_market() -> None:
    desk = ready_desk()
    desk.opened("o1")
    assert denied(desk, change("o1:sl", stop_price=Decimal(5000))) == "stop_through_market"
    desk.intent(change("o1:sl", stop_price=Decimal("4999.75")))
    (sent,) = desk.take(Modify)
    assert sent.stop_price == Decimal("4999.75")
