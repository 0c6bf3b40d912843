"""Pre-trade limits: one line a limit, and never beyond one whatever is drawn."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.control import TradingState
from shared.domain.market import FeedHealth
from shared.domain.order import Bracket, OrderType, Side, StopPlan, SubmitOrder
from shared.domain.risk import Approved, Denied, Exposure, Limits, check
from tests.support.execution import MES, T0_NS, make_market, make_submit

LIMITS = Limits(symbols=frozenset({"MES"}), position_max=4, order_qty_max=3)


S_NS = 1_000_000_000
DAY_NS = 86_400 * S_NS
CLOSE_NS = T0_NS + 7 * 3_600 * S_NS + 1_800 * S_NS
"""16:00 in Chicago on the day of T0_NS."""


def make_exposure(**changes: Any) -> Exposure:
    return Exposure(
        **{
            "contract_id": MES,
            "trading_state": TradingState.ACTIVE,
            "reference_age_ms": 100,
            "market_ns": T0_NS,
            **changes,
        }
    )


def verdict_of(
    submit: dict[str, Any] | None = None,
    exposure: dict[str, Any] | None = None,
    market: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
) -> str:
    """Return the code, `ok`, or `reduces`."""
    verdict = check(
        make_submit(**(submit or {})),
        make_exposure(**(exposure or {})),
        make_market(**(market or {})),
        msgspec.structs.replace(LIMITS, **(limits or {})),
    )
    if isinstance(verdict, Denied):
        return verdict.code
    return "reduces" if verdict.reduces else "ok"


@pytest.mark.parametrize(
    ("submit", "expected"),
    [
        ({}, "ok"),
        ({"qty": 3}, "ok"),
        ({"qty": 4}, "order_qty_max"),
        ({"qty": 0}, "order_qty"),  # no order, never a market order of the broker's choice
        ({"qty": -1}, "order_qty"),
        ({"symbol": "MNQ"}, "symbol_not_configured"),
        ({"bracket": None}, "bracket_missing"),
        ({"bracket": Bracket(stop_loss_ticks=3)}, "bracket_too_near"),
        ({"bracket": Bracket(stop_loss_ticks=4)}, "ok"),
        ({"bracket": Bracket(stop_loss_ticks=4, take_profit_ticks=0)}, "bracket_too_near"),
        ({"bracket": Bracket(stop_loss_ticks=-8)}, "bracket_too_near"),
        ({"reduce_only": True}, "not_reducing"),  # there is nothing to reduce
        ({"order_type": OrderType.LIMIT}, "limit_price_missing"),
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("5000")}, "ok"),
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("5000.1")}, "off_tick"),
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("NaN")}, "limit_price"),
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("-5")}, "limit_price"),
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("9" * 400)}, "limit_price"),
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("5025.25")}, "ok"),  # ask + 100 ticks
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("5025.5")}, "price_collar"),
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("4975")}, "ok"),  # bid - 100 ticks
        ({"order_type": OrderType.LIMIT, "limit_price": Decimal("4974.75")}, "price_collar"),
        ({"order_type": OrderType.STOP, "stop_price": Decimal("5010")}, "ok"),
        ({"order_type": OrderType.STOP, "stop_price": Decimal("50100")}, "price_collar"),
        ({"order_type": OrderType.STOP}, "stop_price_missing"),
        ({"order_type": OrderType.STOP, "stop_price": Decimal(0)}, "stop_price"),
        ({"stop_price": Decimal("5000")}, "stop_price_unused"),
        ({"limit_price": Decimal("5000")}, "limit_price_unused"),  # a market order has none
        ({"order_type": OrderType.STOP_LIMIT, "stop_price": Decimal("5010")}, "limit_price_missing"),
        (
            {
                "order_type": OrderType.STOP_LIMIT,
                "stop_price": Decimal("5010"),
                "limit_price": Decimal("5011"),
            },
            "ok",
        ),
        ({"order_type": OrderType.TRAILING_STOP}, "trail_ticks_missing"),
        ({"order_type": OrderType.TRAILING_STOP, "trail_ticks": 0}, "trail_ticks"),
        ({"order_type": OrderType.TRAILING_STOP, "trail_ticks": 1001}, "trail_ticks"),
        ({"order_type": OrderType.TRAILING_STOP, "trail_ticks": 12}, "ok"),
        ({"trail_ticks": 12}, "trail_ticks_unused"),
        ({"order_type": OrderType.JOIN_BID}, "ok"),
        ({"bracket": Bracket(stop_loss_ticks=4, plan=StopPlan())}, "stop_plan"),
        ({"bracket": Bracket(stop_loss_ticks=4, plan=StopPlan(break_even_after_ticks=4))}, "ok"),
    ],
)
def test_orders(submit: dict[str, Any], expected: str) -> None:
    assert verdict_of(submit) == expected


@pytest.mark.parametrize(
    ("exposure", "expected"),
    [
        ({"trading_state": TradingState.REDUCING}, "trading_reducing"),
        ({"trading_state": TradingState.HALTED}, "trading_halted"),
        ({"contract_id": ""}, "contract_unknown"),
        ({"in_sync": False}, "not_in_sync"),
        ({"session_active": False}, "session_inactive"),
        ({"account_can_trade": False}, "account_cannot_trade"),
        ({"heartbeat_silent_ms": 5_000}, "ok"),
        ({"heartbeat_silent_ms": 5_001}, "heartbeat_silent"),
        ({"frozen": True}, "contract_frozen"),
        ({"net_qty": 3}, "ok"),
        ({"net_qty": 4}, "position_max"),
        ({"net_qty": 2, "buy_qty": 2}, "position_max"),  # what works may fill
        ({"net_qty": -3}, "reduces"),
        ({"net_qty": -1, "buy_qty": 1}, "ok"),  # covered already: this one opens
        ({"net_qty": -4, "buy_qty": 4}, "ok"),
        ({"net_qty": -4, "buy_qty": 4, "buy_rests_qty": 3, "rests": True}, "ok"),
        # The stop of what is held may fill before what rests: then no position makes room for it.
        ({"net_qty": -4, "buy_qty": 4, "buy_rests_qty": 4, "rests": True}, "position_max"),
        ({"net_qty": -4, "buy_qty": 5, "buy_rests_qty": 5}, "position_max"),
        ({"net_qty": 1, "buy_qty": 2, "buy_rests_qty": 2, "rests": True}, "ok"),
        ({"net_qty": 2, "buy_qty": 2, "buy_rests_qty": 2, "rests": True}, "position_max"),
        ({"others_long_qty": 3}, "ok"),
        ({"others_long_qty": 4}, "position_max"),
        ({"others_short_qty": 9}, "ok"),  # what others hold against us makes no room, and takes none
        ({"net_qty": 4, "others_short_qty": 9}, "position_max"),
        ({"working_orders": 19}, "ok"),
        ({"working_orders": 20}, "working_orders_max"),
        ({"day_pnl": Decimal("-999.99")}, "ok"),
        ({"day_pnl": Decimal("-1000")}, "daily_loss_max"),
        ({"messages_last_s": 10}, "messages_per_s_max"),
        ({"messages_last_min": 100}, "messages_per_min_max"),
        ({"messages_last_s": 9, "messages_last_min": 99}, "ok"),
        ({"messages_last_s": 11}, "messages_per_s_max"),
        ({"messages_last_min": 101}, "messages_per_min_max"),
        ({"duplicate_of": "o0"}, "duplicate"),
        ({"day_pnl": Decimal("-1000.01")}, "daily_loss_max"),
        ({"day_pnl": Decimal(-400), "open_pnl": Decimal("-599.99")}, "ok"),
        ({"day_pnl": Decimal(-400), "open_pnl": Decimal(-600)}, "open_loss_max"),
        ({"open_pnl": Decimal("-1000.01")}, "open_loss_max"),
        ({"day_pnl": Decimal(500), "open_pnl": Decimal(-1_400)}, "ok"),
        ({"open_pnl": None}, "open_loss_unknown"),
        ({"market_ns": None}, "market_time_unknown"),
        ({"market_ns": T0_NS + 5 * DAY_NS}, "market_closed"),  # a Saturday
        ({"market_ns": T0_NS + 9_999 * DAY_NS}, "session_unknown"),
        ({"market_ns": CLOSE_NS - 60 * S_NS}, "ok"),
        ({"market_ns": CLOSE_NS - 60 * S_NS + 1}, "near_close"),
        ({"market_ns": CLOSE_NS}, "market_closed"),
        ({"latched": "entries_max: 50"}, "strategy_latched"),
        ({"mixed": "feed runs build b2"}, "mixed_build"),
        ({"intents": 600}, "ok"),
        ({"intents": 601}, "intents_max"),
        ({"entries": 49}, "ok"),
        ({"entries": 50}, "entries_max"),
        ({"entries": 51}, "entries_max"),
        ({"flips": 20}, "ok"),
        ({"flips": 21}, "flips_max"),
        ({"exits_last_min": 99}, "ok"),  # an entry is no exit
        ({"net_qty": -3, "exits_last_min": 9}, "reduces"),
        ({"net_qty": -3, "exits_last_min": 10}, "exits_per_min_max"),
        ({"net_qty": -3, "exits_last_min": 11}, "exits_per_min_max"),
        ({"reference_age_ms": None}, "reference_missing"),
        ({"reference_age_ms": 2_000}, "ok"),
        ({"reference_age_ms": 2_001}, "reference_stale"),
        ({"reference_age_ms": -1}, "reference_stale"),
    ],
)
def test_exposures(exposure: dict[str, Any], expected: str) -> None:
    assert verdict_of(exposure=exposure) == expected


@pytest.mark.parametrize(
    ("market", "expected"),
    [
        *[
            ({"health": health}, "reference_not_live")
            for health in FeedHealth
            if health is not FeedHealth.LIVE
        ],
        ({"bid_px": None}, "reference_missing"),
        ({"ask_px": None}, "reference_missing"),
        ({"crossed": True}, "reference_crossed"),
        ({"bid_px": 5000.5}, "reference_crossed"),
        ({"bid_px": 5000.25}, "ok"),  # locked
    ],
)
def test_markets(market: dict[str, Any], expected: str) -> None:
    assert verdict_of(market=market) == expected


def test_no_market_at_all() -> None:
    verdict = check(make_submit(), make_exposure(), None, LIMITS)
    assert isinstance(verdict, Denied) and verdict.code == "reference_missing"


def test_bracket_may_be_a_choice() -> None:
    assert verdict_of({"bracket": None}, limits={"require_bracket": False}) == "ok"


TROUBLE = {
    "trading_state": TradingState.REDUCING,
    "in_sync": False,
    "session_active": False,
    "heartbeat_silent_ms": 99_999,
    "frozen": True,
    "working_orders": 99,
    "day_pnl": Decimal(-99_999),
    "open_pnl": None,
    "market_ns": None,
    "latched": "rejects_max",
    "mixed": "feed",
    "intents": 9_999,
    "entries": 9_999,
    "flips": 9_999,
    "messages_last_s": 99,
    "reference_age_ms": None,
}


@pytest.mark.parametrize(
    ("net_qty", "sell_qty", "qty", "expected"),
    [
        (5, 0, 5, "reduces"),  # more than one order may hold: an exit is never too big
        (5, 3, 2, "reduces"),
        (5, 3, 3, "trading_reducing"),  # three are on their way out already
        (5, 0, 6, "trading_reducing"),
        (0, 0, 1, "trading_reducing"),
    ],
)
def test_exits_pass_in_all_trouble(net_qty: int, sell_qty: int, qty: int, expected: str) -> None:
    submit = {"side": Side.SELL, "qty": qty, "bracket": None}
    exposure = {**TROUBLE, "net_qty": net_qty, "sell_qty": sell_qty}
    assert verdict_of(submit, exposure) == expected


def test_numbers_tell_the_reason() -> None:
    verdict = check(make_submit(qty=2), make_exposure(net_qty=3), make_market(), LIMITS)
    assert isinstance(verdict, Denied)
    assert verdict.numbers["worst_case"] == "5" and verdict.numbers["most"] == "4"


quantities = st.integers(0, 12)


@given(
    qty=st.integers(-2, 12),
    side=st.sampled_from(Side),
    net_qty=st.integers(-12, 12),
    buy_qty=quantities,
    sell_qty=quantities,
    longs=quantities,
    shorts=quantities,
    at_once=quantities,
    rests=st.booleans(),
    reduce_only=st.booleans(),
)
@pytest.mark.proves("I-10")
def test_never_beyond_the_limit(
    qty: int,
    side: Side,
    net_qty: int,
    buy_qty: int,
    sell_qty: int,
    longs: int,
    shorts: int,
    at_once: int,
    rests: bool,
    reduce_only: bool,
) -> None:
    command: SubmitOrder = make_submit(side=side, qty=qty, reduce_only=reduce_only)
    exposure = make_exposure(
        net_qty=net_qty,
        buy_qty=buy_qty,
        sell_qty=sell_qty,
        buy_rests_qty=max(0, buy_qty - at_once),
        sell_rests_qty=max(0, sell_qty - at_once),
        others_long_qty=longs,
        others_short_qty=shorts,
        rests=rests,
    )
    verdict = check(command, exposure, make_market(), LIMITS)
    if not isinstance(verdict, Approved):
        return
    assert qty >= 1
    if verdict.reduces:
        # The exits together can at most make the strategy flat.
        exits = (sell_qty if net_qty > 0 else buy_qty) + qty
        assert net_qty * side.sign < 0 and exits <= abs(net_qty)
        return
    assert not reduce_only and qty <= LIMITS.order_qty_max
    held, working, others = (net_qty, buy_qty, longs) if side is Side.BUY else (-net_qty, sell_qty, shorts)
    assert others + max(0, held + working + qty) <= LIMITS.position_max
    # And if the stop of what is held against it has ended that first.
    waiting = max(0, working - at_once) + (qty if rests else 0)
    assert others + max(0, held) + waiting <= LIMITS.position_max
