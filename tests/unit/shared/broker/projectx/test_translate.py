from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from shared.broker.port import FrameRefused, OrderTicket
from shared.broker.projectx import payloads, translate
from shared.broker.projectx.market import Untranslatable
from shared.domain.instrument import Instrument
from shared.domain.market import BarSource
from shared.domain.order import Bracket, OrderStatus, OrderType, Side
from shared.domain.report import AccountReport, FillReport, OrderReport, PositionReport

MES = Instrument(
    symbol="MES",
    contract_id="CON.F.US.MES.U25",
    contract_name="MESU5",
    tick_size=Decimal("0.25"),
    tick_value=Decimal("1.25"),
)
KNOWN = {MES.contract_id: MES}
TIME = "2025-07-21T13:45:00.1234567+00:00"
TIME_NS = 1_753_105_500_123_456_700

ORDER = {
    "id": 9_056_000_111_222,
    "accountId": 1001,
    "contractId": MES.contract_id,
    "symbolId": "F.US.MES",
    "creationTimestamp": "2025-07-21T13:44:59Z",
    "updateTimestamp": TIME,
    "status": 1,
    "type": 1,
    "side": 0,
    "size": 3,
    "limitPrice": 6335.25,
    "stopPrice": None,
    "fillVolume": 0,
    "filledPrice": None,
    "customTag": "tag",
}
POSITION = {
    "id": 5,
    "accountId": 1001,
    "contractId": MES.contract_id,
    "creationTimestamp": TIME,
    "type": 1,
    "size": 2,
    "averagePrice": 6335.333333333,
}
TRADE = {
    "id": 77,
    "accountId": 1001,
    "contractId": MES.contract_id,
    "creationTimestamp": TIME,
    "price": 6335.250000000,
    "profitAndLoss": None,
    "fees": 0.37,
    "side": 1,
    "size": 1,
    "voided": False,
    "orderId": 12,
}
ACCOUNT = {"id": 1001, "name": "SIM", "balance": 50000.5, "canTrade": True, "isVisible": True}


def row(kind: type[Any], base: dict[str, Any], **fields: Any) -> Any:
    return msgspec.json.decode(json.dumps({**base, **fields}), type=kind)


def order(**fields: Any) -> OrderReport:
    return translate.order_report(row(payloads.OrderRow, ORDER, **fields), 7, KNOWN)


# -- orders


def test_order() -> None:
    assert order() == OrderReport(
        account_id=1001,
        broker_order_id=9_056_000_111_222,
        contract_id=MES.contract_id,
        status=OrderStatus.NEW,
        order_type=OrderType.LIMIT,
        side=Side.BUY,
        order_qty=3,
        cum_qty=0,
        ts_event_ns=TIME_NS,
        ts_recv_ns=7,
        limit_price=Decimal("6335.25"),
        custom_tag="tag",
    )


@pytest.mark.parametrize(
    ("fields", "status", "cum_qty"),
    [
        ({"status": 0}, OrderStatus.UNKNOWN, 0),
        ({"status": 1, "fillVolume": 0}, OrderStatus.NEW, 0),
        ({"status": 1, "fillVolume": None}, OrderStatus.NEW, 0),
        ({"status": 1, "fillVolume": 2}, OrderStatus.PARTIALLY_FILLED, 2),
        ({"status": 2, "fillVolume": 3}, OrderStatus.FILLED, 3),
        ({"status": 2, "fillVolume": None}, OrderStatus.FILLED, 3),
        ({"status": 3, "fillVolume": 1}, OrderStatus.CANCELED, 1),
        ({"status": 4}, OrderStatus.EXPIRED, 0),
        ({"status": 5}, OrderStatus.REJECTED, 0),
        ({"status": 6}, OrderStatus.PENDING_NEW, 0),
        ({"status": 7}, OrderStatus.PENDING_CANCEL, 0),
        ({"status": 8}, OrderStatus.SUSPENDED, 0),
    ],
)
def test_order_status(fields: dict[str, Any], status: OrderStatus, cum_qty: int) -> None:
    report = order(**{"filledPrice": 6335.25, **fields})
    assert (report.status, report.cum_qty) == (status, cum_qty)


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"side": 1}, "side", Side.SELL),
        ({"type": 0}, "order_type", None),
        ({"type": 2, "limitPrice": 0}, "limit_price", None),
        ({"type": 4, "limitPrice": None, "stopPrice": 6330.0}, "stop_price", Decimal(6330)),
        ({"type": 5}, "order_type", OrderType.TRAILING_STOP),
        ({"limitPrice": 6335.250000001}, "limit_price", Decimal("6335.25")),
        ({"filledPrice": 6335.333333333, "fillVolume": 3}, "avg_px", Decimal("6335.333333333")),
        ({"filledPrice": 0}, "avg_px", None),
        ({"customTag": ""}, "custom_tag", None),
        ({"parentOrderId": 5, "linkedOrderId": 6}, "parent_order_id", 5),
        ({"updateTimestamp": None}, "ts_event_ns", 1_753_105_499_000_000_000),
    ],
)
def test_order_fields(fields: dict[str, Any], name: str, expected: object) -> None:
    assert getattr(order(**fields), name) == expected


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"status": 9}, "status"),
        ({"type": 8}, "type"),
        ({"side": 2}, "side"),
        ({"side": -1}, "side"),
        ({"size": 0}, "size"),
        ({"size": -3}, "size"),
        ({"fillVolume": 4}, "fillVolume"),
        ({"fillVolume": -1}, "fillVolume"),
        ({"limitPrice": 6335.1}, "limitPrice"),
        ({"limitPrice": 0}, "limitPrice"),
        ({"limitPrice": "NaN"}, "limitPrice"),
        ({"limitPrice": "Infinity"}, "limitPrice"),
        ({"limitPrice": "1e400"}, "limitPrice"),
        ({"updateTimestamp": "soon"}, "updateTimestamp"),
    ],
)
def test_order_that_is_not_understood(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        order(**fields)
    assert caught.value.field == field


def test_order_of_a_foreign_contract_is_heard_without_a_tick_check() -> None:
    assert order(contractId="CON.F.US.XX.U25", limitPrice=1.1).limit_price == Decimal("1.1")


# -- positions, fills, accounts


@pytest.mark.parametrize(
    ("fields", "net_qty"),
    [
        ({"type": 1, "size": 2}, 2),
        ({"type": 2, "size": 2}, -2),
        ({"type": 1, "size": 0}, 0),
        ({"type": 0, "size": 0}, 0),
        ({"type": 9, "size": 0}, 0),
    ],
)
def test_position_direction_is_in_type(fields: dict[str, Any], net_qty: int) -> None:
    report = translate.position_report(row(payloads.PositionRow, POSITION, **fields), 7)
    assert report == PositionReport(
        account_id=1001,
        contract_id=MES.contract_id,
        net_qty=net_qty,
        avg_px=Decimal("6335.333333333"),
        ts_event_ns=TIME_NS,
        ts_recv_ns=7,
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"size": -2}, "size"),
        ({"type": 0}, "type"),
        ({"type": 3}, "type"),
        ({"averagePrice": "NaN"}, "averagePrice"),
    ],
)
def test_position_that_is_not_understood(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        translate.position_report(row(payloads.PositionRow, POSITION, **fields), 7)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("fields", "pnl", "fees"),
    [
        ({}, None, "0.37"),  # an opening fill
        ({"profitAndLoss": -12.5}, "-12.5", "0.37"),
        ({"profitAndLoss": 0, "commissions": 0.25}, "0", "0.62"),
    ],
)
def test_fill(fields: dict[str, Any], pnl: str | None, fees: str) -> None:
    report = translate.fill_report(row(payloads.TradeRow, TRADE, **fields), 7, KNOWN)
    assert report == FillReport(
        account_id=1001,
        fill_id=77,
        broker_order_id=12,
        contract_id=MES.contract_id,
        side=Side.SELL,
        last_qty=1,
        last_px=Decimal("6335.25"),
        fees=Decimal(fees),
        ts_event_ns=TIME_NS,
        ts_recv_ns=7,
        realized_pnl=None if pnl is None else Decimal(pnl),
    )


def test_fill_at_no_price() -> None:
    with pytest.raises(Untranslatable) as caught:
        translate.fill_report(row(payloads.TradeRow, TRADE, price=5e-324), 7, KNOWN)
    assert caught.value.field == "price"


def test_prices_and_money_print_plainly() -> None:
    report = translate.fill_report(row(payloads.TradeRow, TRADE, price=6000.000000000), 7, KNOWN)
    assert str(report.last_px) == "6000"
    account = translate.account_report(row(payloads.AccountRow, ACCOUNT, balance=50000.00), 7)
    assert str(account.balance) == "50000"


# -- contracts and bars


@pytest.mark.parametrize(
    ("symbol_id", "contract_id", "symbol"),
    [
        ("F.US.EP", "CON.F.US.EP.U25", "ES"),
        ("F.US.ENQ", "CON.F.US.ENQ.U25", "NQ"),
        ("F.US.MES", "CON.F.US.MES.U25", "MES"),
        (None, "CON.F.US.EP.U25", "ES"),
    ],
)
def test_contract_symbol(symbol_id: str | None, contract_id: str, symbol: str) -> None:
    contract = payloads.ContractRow(
        id=contract_id,
        name="X",
        tick_size=Decimal("0.250000000"),
        tick_value=Decimal("12.5"),
        active_contract=True,
        symbol_id=symbol_id,
    )
    found = translate.instrument(contract)
    assert (found.symbol, str(found.tick_size)) == (symbol, "0.25")


@pytest.mark.parametrize("tick_size", ["0", "-0.25", "NaN", "Infinity"])
def test_contract_without_a_possible_tick(tick_size: str) -> None:
    contract = payloads.ContractRow(
        id="C.A.B", name="X", tick_size=Decimal(tick_size), tick_value=Decimal(1), active_contract=True
    )
    with pytest.raises(Untranslatable, match="tickSize"):
        translate.instrument(contract)


BAR = {"t": "2025-07-21T13:45:00+00:00", "o": 10.25, "h": 11.0, "l": 10.0, "c": 10.5, "v": 12}


def test_bar() -> None:
    bar = translate.bar(row(payloads.BarRow, BAR), MES, 60, 7)
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (10.25, 11.0, 10.0, 10.5, 12)
    assert (bar.source, bar.interval_s, bar.ts_open_ns) == (BarSource.BACKFILL, 60, 1_753_105_500_000_000_000)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"h": 10.25}, "h"),
        ({"l": 10.75}, "h"),
        ({"o": 10.3}, "o"),
        ({"v": -1}, "v"),
        ({"c": 0}, "c"),
        ({"c": 1e308}, "c"),
    ],
)
def test_bar_that_is_none(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Untranslatable) as caught:
        translate.bar(row(payloads.BarRow, BAR, **fields), MES, 60, 7)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("interval_s", "expected"),
    [(1, (1, 1)), (30, (1, 30)), (60, (2, 1)), (900, (2, 15)), (3_600, (3, 1)), (86_400, (3, 24))],
)
def test_bar_unit(interval_s: int, expected: tuple[int, int]) -> None:
    assert translate.bar_unit(interval_s) == expected


# -- user hub


def user(target: str, arguments: Any) -> list[Any]:
    return translate.user_events(target, Raw(json.dumps(arguments).encode()), 7, KNOWN)


@pytest.mark.parametrize(
    "arguments",
    [
        [ORDER],
        [{"action": 1, "data": ORDER}],
        [{"data": ORDER, "action": 99, "more": 1}],
        [[ORDER]],
        [[{"action": 0, "data": ORDER}]],
        [{"action": 1, "data": [ORDER]}],
        [[None, ORDER]],
    ],
)
def test_user_event_in_every_wrapping(arguments: Any) -> None:
    assert user("GatewayUserOrder", arguments) == [order()]


@pytest.mark.parametrize(
    ("target", "data", "kind"),
    [
        ("GatewayUserAccount", ACCOUNT, AccountReport),
        ("GatewayUserOrder", ORDER, OrderReport),
        ("GatewayUserPosition", POSITION, PositionReport),
        ("GatewayUserTrade", TRADE, FillReport),
    ],
)
def test_user_targets(target: str, data: Any, kind: type[Any]) -> None:
    assert [type(event) for event in user(target, [[{"action": 1, "data": data}, data]])] == [kind, kind]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ([{**ORDER, "status": 42}], "status"),
        ([{**ORDER, "size": "many"}], ""),
        ([{**ORDER, "id": 2**63}], ""),
        ([{"action": 1, "data": 5}], ""),
        ([5], ""),
        ([{}], ""),
    ],
)
def test_bad_user_event_is_refused_and_the_next_one_heard(arguments: Any, field: str) -> None:
    refused, heard = user("GatewayUserOrder", [[*arguments, ORDER]])
    assert isinstance(refused, FrameRefused)
    assert refused.field == field
    assert heard == order()


@pytest.mark.parametrize("raw", [b"", b"{}", b"[{", b"[" * 50_000, b'["\xff"]'])
def test_unreadable_user_arguments(raw: bytes) -> None:
    (refused,) = translate.user_events("GatewayUserOrder", Raw(raw), 7, KNOWN)
    assert isinstance(refused, FrameRefused)
    assert len(refused.raw) <= 2_048


def test_unknown_user_target() -> None:
    (refused,) = user("GatewayUserSecret", [ORDER])
    assert refused.field == "target"


# -- requests


@pytest.mark.parametrize(
    ("side", "stop", "target"),
    [(Side.BUY, -8, 16), (Side.SELL, 8, -16)],
)
def test_bracket_ticks_are_signed_by_the_side(side: Side, stop: int, target: int) -> None:
    ticket = OrderTicket(
        account_id=1,
        client_order_id="t",
        contract_id="C",
        side=side,
        order_qty=2,
        bracket=Bracket(stop_loss_ticks=8, take_profit_ticks=16),
    )
    request = translate.place_request(ticket)
    assert request.stop_loss_bracket == payloads.Bracket(ticks=stop, type=4)
    assert request.take_profit_bracket == payloads.Bracket(ticks=target, type=1)
    assert request.side == (0 if side is Side.BUY else 1)


def test_place_request_on_the_wire() -> None:
    ticket = OrderTicket(
        account_id=1,
        client_order_id="t",
        contract_id="C",
        side=Side.BUY,
        order_qty=2,
        order_type=OrderType.LIMIT,
        limit_price=Decimal("6335.25"),
    )
    encoder = msgspec.json.Encoder(decimal_format="number")
    assert json.loads(encoder.encode(translate.place_request(ticket))) == {
        "accountId": 1,
        "contractId": "C",
        "type": 1,
        "side": 0,
        "size": 2,
        "limitPrice": 6335.25,
        "customTag": "t",
    }


@pytest.mark.parametrize("text", ["1E+1000025", "-1E+1000025", "NaN", "Infinity"])
def test_amount_beyond_all_arithmetic_is_refused(text: str) -> None:
    """Found by fuzzing: the magnitude alone raised what nobody caught."""
    with pytest.raises(Untranslatable, match="not a possible amount"):
        translate._amount(Decimal(text), "fees")


def test_time_that_its_zone_carries_before_1970_is_refused() -> None:
    with pytest.raises(Untranslatable, match="before 1970"):
        translate._time_ns("1970-01-01T00:00:00+14:00", "creationTimestamp")
