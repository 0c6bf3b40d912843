"""Stops that follow the market: toward it, never to it, one change at a time, and only as the plan says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.execution.events import MarketRead, Modify, ModifyAnswered, QueryOrder
from shared.broker.port import Rejected, Unknown
from shared.domain.control import Flatten, HaltKind
from shared.domain.market import FeedHealth
from shared.domain.order import Bracket, OrderStatus, Side, StopPlan
from tests.support.execution import BRACKET, Desk, make_market, make_rules, make_submit

EVEN = StopPlan(break_even_after_ticks=8, break_even_offset_ticks=1)
TRAIL = StopPlan(trail_after_ticks=12, trail_ticks=6, trail_step_ticks=2)
BOTH = StopPlan(break_even_after_ticks=8, trail_after_ticks=12, trail_ticks=6, trail_step_ticks=2)
ENTRY_PX = Decimal("5000.25")
TICK = Decimal("0.25")


def opened(plan: StopPlan, side: Side = Side.BUY, **rules: Any) -> tuple[Desk, int]:
    desk = Desk(make_rules(**rules))
    desk.ready()
    bracket = Bracket(stop_loss_ticks=8, take_profit_ticks=200, plan=plan)
    desk.intent(make_submit("o1", side=side, qty=2, bracket=bracket))
    (number,) = desk.place_all()
    stop_px = ENTRY_PX - side.sign * 8 * TICK
    desk.broker.set(number + 1, stop_price=stop_px)
    desk.report(desk.broker.fill(number, px=str(ENTRY_PX)))
    desk.show(number)
    return desk, number


def market(desk: Desk, ticks: int, side: Side = Side.BUY, **changes: Any) -> list[Modify]:
    """Let the market stand so many ticks in favor of the entry; return what is changed."""
    touch = ENTRY_PX + side.sign * ticks * TICK
    prices = (touch, touch + TICK) if side is Side.BUY else (touch - TICK, touch)
    values = {"bid_px": float(prices[0]), "ask_px": float(prices[1]), "ts_asof_ns": desk.now_ns, **changes}
    desk.feed(MarketRead(market=make_market(**values), at=desk.at()))
    return [one for one in desk.to_send if isinstance(one, Modify)]


@pytest.mark.parametrize("side", list(Side))
def test_break_even(side: Side) -> None:
    desk, number = opened(EVEN, side)
    assert not market(desk, 7, side)
    (change,) = market(desk, 8, side)
    assert (change.broker_order_id, change.order_qty) == (number + 1, None)
    assert change.stop_price == ENTRY_PX + side.sign * TICK
    desk.obey_modifies()
    assert desk.order("o1:sl").stop_price == ENTRY_PX + side.sign * TICK
    desk.pass_time(5)
    assert not market(desk, 30, side)  # once


@pytest.mark.parametrize("side", list(Side))
def test_trailing_follows_and_never_goes_back(side: Side) -> None:
    desk, _ = opened(TRAIL, side)
    seen = []
    for ticks in (12, 13, 14, 20, 15, 18, 21, 22):
        desk.pass_time(1)
        market(desk, ticks, side)
        seen += [int((one.stop_price - ENTRY_PX) * side.sign / TICK) for one in desk.obey_modifies()]
    assert seen == [6, 8, 14, 16]  # not for one tick, not backward


def test_pace_of_changes_is_bounded_and_the_best_is_not_forgotten() -> None:
    desk, _ = opened(TRAIL)
    assert len(market(desk, 12)) == 1
    desk.obey_modifies()
    assert not market(desk, 30)  # within a second of the last
    desk.pass_time(1)
    (change,) = market(desk, 28)
    assert change.stop_price == ENTRY_PX + 24 * TICK


def test_one_change_at_a_time() -> None:
    desk, _ = opened(TRAIL)
    assert len(market(desk, 12)) == 1
    desk.pass_time(5)
    assert len(market(desk, 30)) == 1  # unanswered


def test_stop_stays_a_tick_behind_the_market() -> None:
    desk, _ = opened(TRAIL)
    market(desk, 12)
    desk.obey_modifies()
    market(desk, 40)  # wanted at 34, too soon to send
    desk.pass_time(1)
    (change,) = market(desk, 20)
    assert change.stop_price == ENTRY_PX + 19 * TICK


def test_refused_change_is_looked_at_then_asked_for_again() -> None:
    desk, number = opened(EVEN)
    desk.take(Modify)
    market(desk, 8)
    desk.take(Modify)
    desk.feed(ModifyAnswered(client_order_id="o1:sl", outcome=Rejected(code=3, reason="no"), at=desk.at()))
    desk.pass_time(1.5)
    assert not market(desk, 9)
    desk.tick()
    (query,) = [one for one in desk.to_send if isinstance(one, QueryOrder)]
    assert query.broker_order_id == number + 1
    desk.run(1)
    assert len(market(desk, 9)) == 1


def test_lost_answer_is_settled_by_the_report() -> None:
    desk, number = opened(EVEN)
    market(desk, 8)
    (change,) = desk.take(Modify)
    desk.broker.set(number + 1, stop_price=change.stop_price)
    desk.feed(ModifyAnswered(client_order_id="o1:sl", outcome=Unknown(reason="timeout"), at=desk.at()))
    desk.show(number)
    desk.run(3)
    assert not [one for one in desk.to_send if isinstance(one, QueryOrder)]
    assert not market(desk, 9)


def test_plan_survives_restarts_and_halts() -> None:
    desk, _ = opened(BOTH)
    desk.restart()
    (change,) = market(desk, 8)
    assert change.stop_price == ENTRY_PX
    desk.start()  # it died with the process
    desk.ready()  # and the market is back, a tick below the entry: as near as a stop may go
    (again,) = desk.obey_modifies()
    assert again.stop_price == Decimal("4999.75")
    desk.pass_time(1)
    (last,) = market(desk, 3)
    assert last.stop_price == ENTRY_PX
    desk.obey_modifies()
    desk.state.change_standing().halts = {HaltKind.OPERATOR: "t"}
    desk.pass_time(1)
    assert len(market(desk, 14)) == 1


def test_nothing_moves_during_a_flatten_or_on_a_bad_market() -> None:
    desk, _ = opened(EVEN)
    assert not market(desk, 8, health=FeedHealth.STALE)
    assert not market(desk, 8, crossed=True)
    desk.control(Flatten(reason="t", issuer="t", ts_ns=desk.now_ns))
    assert not market(desk, 8)


def test_half_of_the_message_budget_is_left_to_strategies() -> None:
    desk, _ = opened(TRAIL, limits={"messages_per_min_max": 6})
    for ticks in (12, 20, 30, 40, 50):
        desk.pass_time(1)
        market(desk, ticks)
        desk.obey_modifies()
    assert len(desk.state.sent_ns) == 3  # the entry and two changes


def test_own_stop_follows_too_from_where_the_lost_one_stood() -> None:
    desk, number = opened(BOTH)
    market(desk, 8)
    desk.obey_modifies()
    desk.broker.set(number + 1, status=OrderStatus.CANCELED)
    desk.show(number)
    market(desk, 9)
    desk.run(4, places=True)
    own = desk.broker.posts[-1]
    assert own.stop_price == ENTRY_PX
    own_number = max(desk.broker.orders)
    desk.broker.set(own_number, stop_price=own.stop_price)
    desk.order_reports(own_number)
    (change,) = market(desk, 14)
    assert (change.broker_order_id, change.stop_price) == (own_number, ENTRY_PX + 8 * TICK)


def test_no_plan_no_change() -> None:
    desk = Desk()
    desk.ready()
    number = desk.opened("o1", bracket=BRACKET)
    desk.broker.set(number + 1, stop_price=Decimal("4998.25"))
    desk.show(number)
    assert not market(desk, 100)


@settings(max_examples=100, deadline=None)
@given(
    side=st.sampled_from(Side),
    plan=st.builds(
        StopPlan,
        break_even_after_ticks=st.none() | st.integers(3, 20),
        break_even_offset_ticks=st.integers(0, 2),
        trail_after_ticks=st.none() | st.integers(0, 20),
        trail_ticks=st.integers(1, 20),
        trail_step_ticks=st.integers(1, 5),
    ).filter(lambda one: not one.problem),
    walk=st.lists(
        st.tuples(st.integers(-12, 12), st.sampled_from([0.05, 0.5, 2.0]), st.booleans()), max_size=40
    ),
)
def test_any_walk(side: Side, plan: StopPlan, walk: list[tuple[int, float, bool]]) -> None:
    """Whatever the market does: closer each time, behind the market, at most one under way."""
    desk, number = opened(plan, side)
    stop = desk.broker.orders[number + 1].stop_price
    assert stop is not None
    ticks = 0
    for step, pause_s, answered in walk:
        ticks += step
        desk.pass_time(pause_s)
        changes = market(desk, ticks, side)
        assert len(changes) <= 1
        if answered and changes:
            (change,) = desk.obey_modifies()
            assert change.stop_price is not None
            assert (change.stop_price - stop) * side.sign > 0
            stop = change.stop_price
        elif changes and changes[0].stop_price is not None:
            behind = ENTRY_PX + side.sign * (ticks - 1) * TICK
            fresh = desk.state.moves["o1:sl"].sent_ns == desk.mono_ns
            assert not fresh or (behind - changes[0].stop_price) * side.sign >= 0
