"""One entry, one readable line."""

from __future__ import annotations

from decimal import Decimal

from rich.text import Text

from julie.tail import _in_words, line_of
from shared.bus.port import Entry
from shared.domain.control import HaltKind, TradingState
from shared.domain.execution import OrderDenied, OrderFilled, OrderUpdated, TradingStateChanged
from shared.domain.order import OrderStatus, Side
from shared.wire.codec import encode, kind_of

AT = b"1700000000123-42"
"""2023-11-14T22:13:20.123Z, the writer's entry 42."""


def entry(kind: bytes, value: bytes) -> Entry:
    return Entry("orders:{1001}", AT, kind, value)


def plain(markup: str) -> str:
    return Text.from_markup(markup).plain


def test_a_line_has_time_sequence_type_and_fields() -> None:
    value = (
        b'{"type":"quote","symbol":"MES","bid_px":6700.25,"ask_px":null,"ts_event_ns":1700000000000000000}'
    )
    assert plain(line_of(entry(b"quote", value))) == (
        "22:13:20.123       42 quote            "
        "symbol=MES bid_px=6700.25 ts_event_ns=2023-11-14T22:13:20.000000Z"
    )


def test_what_is_not_json_is_shown_as_it_is() -> None:
    assert plain(line_of(entry(b"x", b"\xff{"))).endswith(r"b'\xff{'")
    assert plain(line_of(entry(b"x", b"[1,2]"))).endswith("[1, 2]")


def test_brackets_in_a_value_are_text_and_no_markup() -> None:
    line = line_of(entry(b"halt", b'{"reason":"[red]not a color[/red]"}'))
    assert "reason=[red]not a color[/red]" in plain(line)


def words(message: OrderFilled | OrderDenied | OrderUpdated | TradingStateChanged) -> str:
    told = _in_words(entry(kind_of(message), encode(message)))
    return plain(told or "")


def test_orders_in_words() -> None:
    common = {"client_order_id": "c1", "strategy_id": "s1", "symbol": "MES", "ts_ns": 1}
    filled = OrderFilled(
        **common, fill_id=1, side=Side.SELL, last_qty=2, last_px=Decimal("6700.25"), cum_qty=2, leaves_qty=0,
        fees=Decimal("0.74"), realized_pnl=Decimal("-5"), strategy_net_qty=0, strategy_avg_px=Decimal(0),
        ts_event_ns=1, role="stop_loss",
    )  # fmt: skip
    assert "s1: sell 2 MES @ 6700.25 (stop_loss), position +0  realized -5.00" in words(filled)
    denied = OrderDenied(**common, code="position_max", numbers={}, cause="x@1-1")
    assert "denied" in words(denied)
    assert "s1: MES position_max" in words(denied)
    updated = {**common, "reason": "close above", "side": Side.BUY, "order_qty": 1}
    assert "new      s1: buy 1 MES close above" in words(OrderUpdated(**updated, status=OrderStatus.NEW))
    assert words(OrderUpdated(**updated, status=OrderStatus.FILLED)) == "", "its fills have been told"
    assert words(OrderUpdated(**updated, status=OrderStatus.NEW, role="take_profit")) == ""
    halted = TradingStateChanged(state=TradingState.HALTED, halts={HaltKind.OPERATOR: "by hand"}, ts_ns=1)
    assert "trading halted operator: by hand" in words(halted)


def test_what_cannot_be_read_has_no_words() -> None:
    assert _in_words(entry(b"order_filled", b"{}")) is None
