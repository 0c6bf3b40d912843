"""Open P&L and the readable picture of an account."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest

from services.broker_sync.picture import Picture, take_fill, trading_day
from services.broker_sync.view import fields, open_pnl
from shared.domain.market import FeedHealth, MarketState
from shared.domain.order import Side
from shared.domain.report import (
    AccountReport,
    FillReport,
    PositionReport,
    SyncHealth,
    SyncState,
)

S = 1_000_000_000
NOON_NS = 1_763_985_600 * S  # 2025-11-24 12:00 UTC, a Monday
MES = "CON.F.US.MES.Z25"


def mark(
    *,
    health: FeedHealth = FeedHealth.LIVE,
    bid: float | None = 5001.25,
    ask: float | None = 5001.5,
    crossed: bool = False,
    age_s: float = 0,
) -> MarketState:
    return MarketState(
        symbol="MES", contract_id=MES, health=health, bid_px=bid, ask_px=ask, last_px=5001.25,
        crossed=crossed, tick_size="0.25", tick_value="1.25", ts_event_ns=0,
        ts_asof_ns=NOON_NS - round(age_s * S),
    )  # fmt: skip


def position(net_qty: int) -> PositionReport:
    return PositionReport(
        account_id=1, contract_id=MES, net_qty=net_qty, avg_px=Decimal(5000), ts_event_ns=0, ts_recv_ns=0
    )


def make_fill(fill_id: int, ts_ns: int, pnl: str | None = None, *, voided: bool = False) -> FillReport:
    return FillReport(
        account_id=1, fill_id=fill_id, broker_order_id=1, contract_id=MES, side=Side.BUY, last_qty=1,
        last_px=Decimal(5000), fees=Decimal("0.37"), ts_event_ns=ts_ns, ts_recv_ns=0, voided=voided,
        realized_pnl=None if pnl is None else Decimal(pnl),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("net_qty", "quote", "expected"),
    [
        (2, mark(), Decimal("12.50")),  # 5 ticks up at the bid x 1.25 x 2
        (-1, mark(), Decimal("-7.50")),  # 6 ticks up at the ask x 1.25, against us
        (1, mark(health=FeedHealth.STALE), None),
        (1, mark(health=FeedHealth.CLOSED), None),
        (1, mark(age_s=6), None),
        (1, mark(age_s=-0.9), Decimal("6.25")),
        (1, mark(age_s=-3_600), None),  # our clock was set back, and the feed may be dead
        (1, mark(bid=None), None),
        (-1, mark(bid=None), Decimal("-7.50")),
        (1, mark(crossed=True), None),
        (1, None, None),
    ],
)
def test_open_pnl_is_what_closing_would_realize_or_unknown(
    net_qty: int, quote: MarketState | None, expected: Decimal | None
) -> None:
    marks = {} if quote is None else {MES: quote}
    pnl, unknown = open_pnl(position(net_qty), marks, now_ns=NOON_NS, fresh_within_ns=5 * S)
    assert pnl == expected
    assert bool(unknown) is (expected is None)


@pytest.mark.parametrize(
    ("ts_ns", "expected"),
    [
        (NOON_NS, date(2025, 11, 24)),
        (NOON_NS + 10 * 3_600 * S + 3_599 * S, date(2025, 11, 24)),  # 16:59:59 in Chicago
        (NOON_NS + 11 * 3_600 * S, date(2025, 11, 25)),  # 17:00:00
    ],
)
def test_the_trading_day_begins_at_17_00_in_chicago(ts_ns: int, expected: date) -> None:
    assert trading_day(ts_ns) == expected


def known_picture() -> Picture:
    picture = Picture()
    picture.account = AccountReport(
        account_id=1, name="SIM", balance=Decimal(50_000), can_trade=True, ts_recv_ns=0
    )
    picture.sync = SyncState(account_id=1, health=SyncHealth.IN_SYNC, reason="", ts_recv_ns=0)
    return picture


def shown(picture: Picture, marks: dict[str, MarketState] | None = None) -> dict[str, object]:
    found = fields(
        picture, marks or {}, account_id=1, now_ns=NOON_NS, venue_now_ns=NOON_NS, fresh_within_ns=5 * S
    )
    return {name: json.loads(value) for name, value in found.items()}


def test_an_account_never_read_is_unknown_and_not_flat() -> None:
    found = shown(Picture())
    assert found["positions"] is None
    assert found["working_orders"] is None
    assert found["open_pnl"] is None


def test_a_flat_account_has_no_open_pnl() -> None:
    found = shown(known_picture())
    assert found["positions"] == []
    assert found["open_pnl"] == "0"


def test_one_unknown_makes_the_sum_unknown() -> None:
    picture = known_picture()
    picture.positions[MES] = position(1)
    assert shown(picture, {MES: mark()})["open_pnl"] == "6.25"
    found = shown(picture)
    assert found["open_pnl"] is None
    assert MES in str(found["open_pnl_unknown"])


def test_realized_today_counts_the_trading_day_without_voided_fills() -> None:
    picture = known_picture()
    take_fill(make_fill(1, NOON_NS - 86_400 * S, "100"), picture, read=False)
    take_fill(make_fill(2, NOON_NS), picture, read=False)
    take_fill(make_fill(3, NOON_NS, "12.50"), picture, read=False)
    take_fill(make_fill(4, NOON_NS, "99"), picture, read=False)
    take_fill(make_fill(4, NOON_NS, "99", voided=True), picture, read=False)
    today = shown(picture)["realized_today"]
    assert isinstance(today, dict)
    assert (today["gross"], today["fees"], today["net"]) == ("12.50", "0.74", "11.76")
