"""A prop firm's rules: when an account must be flat, when it may not trade, when it is lost."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from services.simulator.closing import Liquidate
from services.simulator.firm import equity_of, is_flat
from services.simulator.firm_rules import FirmRules, Standing, Verdict, begin, judge
from shared.broker.projectx.enums import OrderStatus, OrderType
from tests.support.venue import ACCOUNT_ID, BUY, SELL, Desk

FLAT_AT_S = 15 * 3600 + 10 * 60
RULES = FirmRules(flat_at_s=FLAT_AT_S, daily_loss=Decimal(1000), max_loss=Decimal(2000))
MONDAY = "2026-03-02T10:00:00-06:00"
TUESDAY = "2026-03-03T10:00:00-06:00"
WEDNESDAY = "2026-03-04T10:00:00-06:00"
FINE = Verdict(True, "")


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


def at(standing: Standing, moment: str, balance: int, equity: int | None = None) -> Verdict:
    shown = Decimal(balance if equity is None else equity)
    return judge(RULES, standing, balance=Decimal(balance), equity=shown, now_ns=ns(moment))


@pytest.fixture
def standing() -> Standing:
    return begin(RULES, Decimal(50_000), ns(MONDAY))


def test_daily_loss_counts_open_losses_and_locks_until_the_next_day(standing: Standing) -> None:
    assert at(standing, MONDAY, 50_000, 49_001) == FINE
    assert at(standing, MONDAY, 50_000, 49_000) == Verdict(False, "daily loss")
    assert at(standing, MONDAY, 49_000) == Verdict(False, "daily loss")
    assert at(standing, "2026-03-02T17:00:00-06:00", 49_000) == FINE  # Tuesday has begun
    assert at(standing, TUESDAY, 49_000, 48_000) == Verdict(False, "maximum loss")  # the floor is nearer


def test_floor_follows_the_end_of_the_day_and_stops_at_the_first_balance(standing: Standing) -> None:
    at(standing, MONDAY, 51_500)
    assert standing.floor == 48_000  # nothing rises during the day
    at(standing, TUESDAY, 51_500)
    assert standing.floor == 49_500
    at(standing, WEDNESDAY, 54_000)
    assert standing.floor == 50_000
    at(standing, "2026-03-05T10:00:00-06:00", 53_500)
    assert standing.floor == 50_000


def test_maximum_loss_is_for_good(standing: Standing) -> None:
    assert at(standing, MONDAY, 50_000, 48_000) == Verdict(False, "maximum loss")
    assert at(standing, WEDNESDAY, 60_000) == Verdict(False, "maximum loss")


@pytest.mark.parametrize(
    ("moment", "flat"),
    [
        ("2026-03-02T15:09:59-06:00", False),
        ("2026-03-02T15:10:00-06:00", True),
        ("2026-03-02T16:59:59-06:00", True),
        ("2026-03-02T17:00:00-06:00", False),
        ("2026-07-06T15:10:00-05:00", True),
    ],
)
def test_flat_by_ten_past_three_in_chicago(standing: Standing, moment: str, flat: bool) -> None:
    assert at(standing, moment, 50_000) == Verdict(True, "flat by" if flat else "")


def test_no_rules_no_verdict() -> None:
    standing = begin(FirmRules(), Decimal(50_000), ns(MONDAY))
    told = judge(FirmRules(), standing, balance=Decimal(0), equity=Decimal(0), now_ns=ns(MONDAY))
    assert told == FINE


def test_equity_takes_the_price_at_which_it_could_be_closed() -> None:
    desk = Desk(bid=400, ask=402)
    desk.place(BUY, size=2)  # at 402, worth 400: two contracts, two ticks of 1.25 USD, fees of 0.74
    assert equity_of(desk.state, ACCOUNT_ID) == Decimal("49994.26")
    desk.touch(410, 412)
    assert equity_of(desk.state, ACCOUNT_ID) == Decimal("50019.26")


def test_liquidation_leaves_nothing_and_refuses_what_comes() -> None:
    desk = Desk()
    desk.place(BUY, size=3, stop_ticks=-40, target_ticks=40)
    resting = desk.place(BUY, OrderType.LIMIT, limit=300, stop_ticks=-40)
    assert not is_flat(desk.state, ACCOUNT_ID)
    desk.decide(Liquidate(now_ns=desk.now_ns, account_id=ACCOUNT_ID, can_trade=False))
    assert is_flat(desk.state, ACCOUNT_ID)
    assert desk.net_qty == 0
    assert desk.status(resting.order_id) is OrderStatus.CANCELLED
    left = {one.status for one in desk.state.orders.values()}
    assert left == {OrderStatus.FILLED, OrderStatus.CANCELLED}
    assert desk.place(SELL).code == 4


def test_liquidation_waits_for_a_market() -> None:
    desk = Desk()
    desk.place(BUY)
    desk.touch(None, 401)
    event = Liquidate(now_ns=desk.now_ns, account_id=ACCOUNT_ID, can_trade=True)
    desk.decide(event)
    assert desk.net_qty == 1
    desk.touch(398, 399)
    desk.decide(event)
    assert desk.net_qty == 0
