"""Market messages: sparse quotes, depth arrays, seven fraction digits."""

from __future__ import annotations

import json
from typing import Any

from services.simulator.contracts import active_contract
from services.simulator.core import MarketTraded
from services.simulator.market_wire import ContractWire, IsoClock
from shared.broker.projectx.enums import TradeLogType
from tests.support.venue import MES, NOW_NS

TS_NS = NOW_NS + 123_456_789


def wire() -> ContractWire:
    return ContractWire(active_contract("MES", NOW_NS), IsoClock())


def data(record: bytes | None) -> Any:
    assert record is not None
    assert record.endswith(b"\x1e")
    message = json.loads(record[:-1])
    assert message["type"] == 1
    assert message["arguments"][0] == MES
    return message["arguments"][1]


def test_timestamp_has_seven_digits() -> None:
    assert IsoClock().text(TS_NS) == b"2026-03-02T14:30:00.1234567+00:00"


def test_quote_carries_only_what_changed() -> None:
    one = wire()
    first = data(one.quote(400, 401, TS_NS))
    one.keep(400, 5, 401, 6)
    assert (first["symbol"], first["bestBid"], first["bestAsk"]) == ("F.US.MES", 100.0, 100.25)
    second = data(one.quote(400, 402, TS_NS))
    assert "bestBid" not in second
    assert second["bestAsk"] == 100.5
    one.keep(400, 5, 402, 6)
    assert one.quote(400, 402, TS_NS) is None


def test_depth_tells_new_prices_from_new_sizes() -> None:
    one = wire()
    first = data(one.depth(400, 5, 401, 6, TS_NS))
    one.keep(400, 5, 401, 6)
    assert [(row["type"], row["price"], row["volume"], row["currentVolume"]) for row in first] == [
        (9, 100.0, 5, 5),
        (10, 100.25, 6, 6),
    ]
    second = data(one.depth(400, 8, 402, 6, TS_NS))
    assert [(row["type"], row["price"], row["volume"], row["currentVolume"]) for row in second] == [
        (4, 100.0, 3, 8),
        (10, 100.5, 6, 6),
    ]
    assert one.depth(400, 5, 401, 6, TS_NS) is None


def test_side_that_empties_is_its_old_price_with_nothing_left() -> None:
    one = wire()
    one.keep(400, 5, 401, 6)
    assert one.quote(400, None, TS_NS) is None
    rows = data(one.depth(400, 5, None, 0, TS_NS))
    assert [(row["type"], row["price"], row["currentVolume"]) for row in rows] == [(3, 100.25, 0)]


def test_trade_without_a_known_aggressor_is_type_0() -> None:
    one = wire()
    rows = data(one.trade(MarketTraded(TS_NS, MES, 400, 3, None)))
    assert (rows[0]["type"], rows[0]["volume"], rows[0]["price"]) == (0, 3, 100.0)
    assert data(one.trade(MarketTraded(TS_NS, MES, 400, 3, TradeLogType.SELL)))[0]["type"] == 1


def test_objects_instead_of_arrays() -> None:
    one = ContractWire(active_contract("MES", NOW_NS), IsoClock(), arrays=False)
    assert data(one.trade(MarketTraded(TS_NS, MES, 400, 3, None)))["volume"] == 3
    record = one.depth(400, 5, 401, 6, TS_NS)
    assert record is not None
    assert [json.loads(part)["arguments"][1]["type"] for part in record.split(b"\x1e")[:-1]] == [9, 10]


def test_snapshots_carry_everything_known() -> None:
    one = wire()
    assert one.quote_snapshot(TS_NS) is None
    assert one.depth_snapshot(TS_NS) is None
    one.keep(400, 5, 401, 6)
    one.trade(MarketTraded(TS_NS, MES, 399, 3, None))
    one.trade(MarketTraded(TS_NS, MES, 401, 2, None))
    quote = data(one.quote_snapshot(TS_NS))
    assert (quote["lastPrice"], quote["high"], quote["low"], quote["volume"]) == (100.25, 100.25, 99.75, 5)
    assert quote["change"] == 0.5
    assert [row["currentVolume"] for row in data(one.depth_snapshot(TS_NS))] == [5, 6]
