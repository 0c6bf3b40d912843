from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from shared.broker.port import FrameRefused, MarketEvent
from shared.broker.projectx.market import GRID_PRICES_MAX, MarketTranslator
from shared.domain.instrument import Instrument
from shared.domain.market import Aggressor, BookSide, Depth, DepthKind, Quote, Trade

MES = Instrument(
    symbol="MES",
    contract_id="CON.F.US.MES.U25",
    contract_name="MESU5",
    tick_size=Decimal("0.25"),
    tick_value=Decimal("1.25"),
)
TIME = "2025-07-21T13:45:00.1234567+00:00"
TIME_NS = 1_753_105_500_123_456_700


def translate(target: str, data: Any, contract_id: str = MES.contract_id) -> list[MarketEvent | FrameRefused]:
    raw = Raw(json.dumps([contract_id, data]).encode())
    return MarketTranslator([MES]).events(target, raw, 7)


def refusal(events: list[MarketEvent | FrameRefused]) -> FrameRefused:
    assert len(events) == 1
    assert isinstance(events[0], FrameRefused), events
    return events[0]


def make_quote(**fields: Any) -> Quote:
    return Quote(**{"symbol": "MES", "ts_event_ns": TIME_NS, "ts_recv_ns": 7, **fields})


# -- quotes


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, make_quote()),  # all unchanged
        ({"bestBid": 6335.250000000}, make_quote(bid_px=6335.25)),
        ({"bestBid": 6335.2500000001}, make_quote(bid_px=6335.25)),  # printed from binary
        ({"bestAsk": 6335, "lastPrice": 6335.5}, make_quote(ask_px=6335.0, last_px=6335.5)),
        ({"volume": 12345}, make_quote(volume=12345)),
        ({"volume": 12345.0}, make_quote(volume=12345)),
        ({"bestBid": 10.5, "bestAsk": 10.25}, make_quote(bid_px=10.5, ask_px=10.25, crossed=True)),
        ({"bestBid": 10.25, "bestAsk": 10.25}, make_quote(bid_px=10.25, ask_px=10.25)),  # locked, not crossed
        ({"change": 1.3, "open": None, "later": {"a": 1}}, make_quote()),
    ],
)
def test_quote_is_as_sparse_as_it_came(fields: dict[str, Any], expected: Quote) -> None:
    assert translate("GatewayQuote", {"symbol": "F.US.MES", "lastUpdated": TIME, **fields}) == [expected]


def test_quote_time_falls_back_to_timestamp() -> None:
    assert translate("GatewayQuote", {"symbol": "F.US.MES", "timestamp": TIME}) == [make_quote()]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"bestBid": 6335.30}, "bestBid"),  # between two ticks
        ({"bestAsk": 0}, "bestAsk"),
        ({"bestAsk": -6335.25}, "bestAsk"),
        ({"lastPrice": 1e300}, "lastPrice"),
        ({"lastPrice": 1e-320}, "lastPrice"),
        ({"volume": -1}, "volume"),
        ({"volume": 1.5}, "volume"),
        ({"lastUpdated": "now"}, "lastUpdated"),
        ({"lastUpdated": None}, "lastUpdated"),
        ({"bestBid": "6335.25"}, ""),
        ({"symbol": None}, ""),
    ],
)
def test_quote_with_an_impossible_field_is_refused_whole(fields: dict[str, Any], field: str) -> None:
    refused = refusal(
        translate("GatewayQuote", {"symbol": "F.US.MES", "lastUpdated": TIME, "bestBid": 1.25, **fields})
    )
    assert (refused.origin, refused.field) == ("GatewayQuote", field)
    assert refused.raw.startswith(b'["CON.F.US.MES.U25"')


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"null",
        b'["A"]',
        b'[5,{"symbol":"x"}]',
        b'["CON.F.US.MES.U25",{"symbol":"x","bestBid":NaN}]',
        b'["CON.F.US.MES.U25",{"symbol":"x","bestBid":1e999}]',
        b'["CON.F.US.MES.U25",{"symbol":"\xff"}]',
        b'["CON.F.US.MES.U25",' + b"[" * 50_000,
    ],
)
@pytest.mark.parametrize("target", ["GatewayQuote", "GatewayTrade", "GatewayDepth"])
def test_unreadable_arguments_are_refused(target: str, raw: bytes) -> None:
    refused = refusal(MarketTranslator([MES]).events(target, Raw(raw), 7))
    assert refused.raw == raw[:2_048]


def test_unknown_contract_and_unknown_target_are_refused() -> None:
    data = {"symbol": "F.US.MES", "lastUpdated": TIME}
    assert refusal(translate("GatewayQuote", data, "CON.F.US.MNQ.U25")).field == "contractId"
    assert refusal(translate("BarUpdate", data)).field == "target"


@pytest.mark.parametrize("target", ["GatewayTrade", "GatewayDepth"])
def test_unknown_contract_with_an_unreadable_element_is_refused_whole(target: str) -> None:
    raw = b'["CON.F.US.MNQ.U25",[{"timestamp":[]},null]]'
    assert refusal(MarketTranslator([MES]).events(target, Raw(raw), 7)).raw == raw


def test_price_cache_is_bounded() -> None:
    translator = MarketTranslator([MES])
    for step in range(GRID_PRICES_MAX + 10):
        arguments = Raw(
            b'["CON.F.US.MES.U25",{"symbol":"x","lastUpdated":"%s","bestBid":%f}]'
            % (TIME.encode(), 0.25 * (step + 1))
        )
        (quote,) = translator.events("GatewayQuote", arguments, 7)
        assert isinstance(quote, Quote)
        assert quote.bid_px == 0.25 * (step + 1)


@given(ticks=st.integers(min_value=1, max_value=200_000), noise=st.floats(-1e-7, 1e-7))
def test_prices_near_a_tick_become_exactly_that_tick(ticks: int, noise: float) -> None:
    data = {"symbol": "x", "lastUpdated": TIME, "bestBid": ticks * 0.25 + noise}
    assert translate("GatewayQuote", data) == [make_quote(bid_px=ticks * 0.25)]


# -- trades

TRADE = {"symbolId": "F.US.MES", "price": 6335.25, "timestamp": TIME, "type": 1, "volume": 2}
TRADED = Trade(symbol="MES", ts_event_ns=TIME_NS, ts_recv_ns=7, px=6335.25, qty=2, aggressor=Aggressor.SELL)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TRADE, [TRADED]),  # as documented
        ([TRADE], [TRADED]),  # as on the wire
        ([None, TRADE, None, TRADE], [TRADED, TRADED]),
        ([], []),
        (None, []),
    ],
)
def test_trades_as_object_and_as_array(data: Any, expected: list[Trade]) -> None:
    assert translate("GatewayTrade", data) == expected


@pytest.mark.parametrize(
    ("kind", "aggressor"), [(0, Aggressor.BUY), (1, Aggressor.SELL), (None, Aggressor.NONE)]
)
def test_aggressor(kind: int | None, aggressor: Aggressor) -> None:
    (trade,) = translate("GatewayTrade", [{**TRADE, "type": kind}])
    assert isinstance(trade, Trade)
    assert trade.aggressor is aggressor


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": 2}, "type"),
        ({"type": -1}, "type"),
        ({"volume": 0}, "volume"),
        ({"price": 6335.1}, "price"),
        ({"timestamp": ""}, "timestamp"),
        ({"volume": "2"}, ""),
        ({"price": None}, ""),
    ],
)
def test_bad_trade_is_refused_alone(fields: dict[str, Any], field: str) -> None:
    first, second, third = translate("GatewayTrade", [TRADE, {**TRADE, **fields}, TRADE])
    assert (first, third) == (TRADED, TRADED)
    assert isinstance(second, FrameRefused)
    assert second.field == field


# -- depth

DEPTH = {"timestamp": TIME, "type": 1, "price": 6335.25, "volume": 3, "currentVolume": 12}


@pytest.mark.parametrize(
    ("kind", "side", "meaning"),
    [
        (1, BookSide.ASK, DepthKind.LEVEL),
        (2, BookSide.BID, DepthKind.LEVEL),
        (3, BookSide.ASK, DepthKind.BEST),
        (4, BookSide.BID, DepthKind.BEST),
        (9, BookSide.BID, DepthKind.NEW_BEST),
        (10, BookSide.ASK, DepthKind.NEW_BEST),
    ],
)
def test_depth(kind: int, side: BookSide, meaning: DepthKind) -> None:
    expected = Depth(
        symbol="MES",
        ts_event_ns=TIME_NS,
        ts_recv_ns=7,
        side=side,
        kind=meaning,
        px=6335.25,
        resting_qty=12,
        change_qty=3,
    )
    assert translate("GatewayDepth", [{**DEPTH, "type": kind}]) == [expected]
    assert translate("GatewayDepth", {**DEPTH, "type": kind, "index": 4}) == [expected]


@pytest.mark.parametrize("fields", [{"price": 0}, {"price": 6335.1}, {"currentVolume": None}])
def test_reset_clears_whatever_else_it_carries(fields: dict[str, Any]) -> None:
    (event,) = translate("GatewayDepth", [{**DEPTH, "type": 6, **fields}])
    assert isinstance(event, Depth)
    assert (event.kind, event.side, event.px, event.resting_qty) == (DepthKind.RESET, None, 0.0, 0)


@pytest.mark.parametrize("kind", [5, 7, 8, 11])
def test_session_statistics_are_not_depth(kind: int) -> None:
    assert translate("GatewayDepth", [{**DEPTH, "type": kind}]) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": 0}, "type"),
        ({"type": 12}, "type"),
        ({"currentVolume": None}, "currentVolume"),
        ({"currentVolume": -1}, "currentVolume"),
        ({"price": 0}, "price"),
    ],
)
def test_bad_depth_is_refused(fields: dict[str, Any], field: str) -> None:
    assert refusal(translate("GatewayDepth", [{**DEPTH, **fields}])).field == field
