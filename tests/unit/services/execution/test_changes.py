"""Trailing stops and changes of working orders: what is sent, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.execution.events import MarketRead, Modify, ModifyAnswered, OrderQueried, QueryOrder
from services.execution.exposure import NEVER_MS, reference_age_ms
from services.execution.holds import CANCELED, FROZEN, GONE, HALTED, NOT_LIVE, STALE, hold, hold_change
from shared.broker.port import Accepted, NotSent, Outcome, Rejected, Unknown
from shared.domain.control import Halt, HaltKind
from shared.domain.execution import OrderDenied
from shared.domain.market import FeedHealth
from shared.domain.order import CancelOrder, ClosePosition, ModifyOrder, OrderStatus, OrderType, Side
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


# -- a greater size, from the moment it is asked for ----------------------------------------------------

LIMIT = {"order_type": OrderType.LIMIT, "limit_price": Decimal(4990)}


def enlarging(qty: int = 3) -> tuple[Desk, int, Modify]:
    """Return a desk whose one working contract is being made `qty`, its number, and the change."""
    desk = Desk(make_rules(limits={"position_max": 4}))
    desk.ready()
    number = working(desk, **LIMIT)
    desk.intent(change(order_qty=qty))
    (sent,) = desk.take(Modify)
    return desk, number, sent


def answered(desk: Desk, outcome: Outcome, name: str = "o1") -> None:
    desk.feed(ModifyAnswered(client_order_id=name, outcome=outcome, at=desk.at()))


@pytest.mark.proves("I-10")
@pytest.mark.parametrize("answer", [None, Accepted(), Unknown(reason="a timeout")])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_size_that_may_be_at_the_broker_counts(answer: Outcome | None, restarted: bool) -> None:
    """One contract that is made three, and three more: six, with a limit of four."""
    desk, _, _ = enlarging()
    if answer is not None:
        answered(desk, answer)
    if restarted:
        desk.restart()
    assert denied(desk, make_submit("o2", qty=3)) == "position_max"
    desk.pass_time(1)
    assert desk.refusal(make_submit("o3", qty=1)) == ""


@pytest.mark.parametrize(
    "answer", [Rejected(code=3, reason="no"), NotSent(reason="trading was halted before it could be sent")]
)
def test_a_size_that_was_refused_counts_no_more(answer: Outcome) -> None:
    desk, _, _ = enlarging()
    answered(desk, answer)
    assert desk.refusal(make_submit("o2", qty=3)) == ""


def test_a_refused_change_says_nothing_of_an_earlier_one_that_is_unknown() -> None:
    desk, _, _ = enlarging()
    answered(desk, Unknown(reason="a timeout"))
    desk.run(1.0)
    desk.intent(change(limit_price=Decimal(4991)))
    assert desk.take(Modify)
    answered(desk, Rejected(code=3, reason="no"))
    assert denied(desk, make_submit("o2", qty=3)) == "position_max"


def test_a_size_of_unknown_fate_is_given_up_when_its_quarantine_is_over() -> None:
    """Whatever is reported of it meanwhile; and nothing waits for that look."""
    desk, number, _ = enlarging()
    answered(desk, Unknown(reason="a timeout"))
    for _ in range(10):
        desk.run(10, step_s=5.0)
        desk.order_reports(number)
    assert desk.order().wanted_qty == 3
    assert number not in desk.state.checks
    for _ in range(4):
        desk.run(10, step_s=5.0)
        desk.order_reports(number)
    assert desk.order().wanted_qty == 0


def test_an_order_that_vanished_is_not_asked_for_again_and_again() -> None:
    desk, number, _ = enlarging()
    answered(desk, Unknown(reason="a timeout"))
    desk.run(2)
    del desk.broker.orders[number]
    asked = 0
    for _ in range(300):
        desk.pass_time(0.5)
        desk.tick()
        desk.answer_searches()
        for query in desk.take(QueryOrder):
            asked += 1
            gone = OrderQueried(
                broker_order_id=query.broker_order_id, report=None, failure=None, at=desk.at()
            )
            desk.feed(gone)
    assert asked == 1


def test_a_cancel_is_sent_again_after_a_restart_though_the_size_is_in_doubt() -> None:
    desk, number, _ = enlarging()
    answered(desk, Unknown(reason="a timeout"))
    desk.intent(
        CancelOrder(client_order_id="o1", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=T0_NS)
    )
    desk.start()  # the cancel had not left
    desk.snapshot()
    desk.run(10)
    assert desk.broker.orders[number].status is OrderStatus.CANCELED


def test_of_two_changes_that_were_taken_the_second_counts() -> None:
    desk, number, _ = enlarging()
    answered(desk, Accepted())
    desk.run(3.0)
    desk.ready()
    desk.intent(change(order_qty=2))
    assert desk.take(Modify)
    answered(desk, Accepted())
    desk.broker.set(number, order_qty=2)
    desk.order_reports(number)
    assert (desk.order().order_qty, desk.order().wanted_qty) == (2, 0)


def test_a_size_that_a_report_shows_is_the_order_s_own() -> None:
    desk, number, _ = enlarging()
    answered(desk, Accepted())
    desk.broker.set(number, order_qty=3)
    desk.order_reports(number)
    assert (desk.order().order_qty, desk.order().wanted_qty) == (3, 0)


def test_filled_at_the_old_size_it_is_not_full_while_the_new_one_may_come() -> None:
    desk, number, _ = enlarging()
    desk.report(desk.broker.fill(number))
    assert desk.status() is OrderStatus.PARTIALLY_FILLED
    assert denied(desk, make_submit("o2", qty=2)) == "position_max"
    answered(desk, Rejected(code=3, reason="Order is not open."))
    assert desk.status() is OrderStatus.FILLED
    desk.pass_time(1)
    assert desk.refusal(make_submit("o3", qty=2)) == ""


def test_an_order_that_the_broker_shows_filled_as_it_was_is_full() -> None:
    desk, number, _ = enlarging()
    answered(desk, Unknown(reason="a timeout"))
    desk.report(desk.broker.fill(number))
    assert desk.status() is OrderStatus.PARTIALLY_FILLED
    desk.show(number)
    assert (desk.status(), desk.order().wanted_qty) == (OrderStatus.FILLED, 0)


def test_more_filled_than_was_shown_is_the_new_size() -> None:
    desk, number, _ = enlarging()
    desk.broker.set(number, order_qty=3)
    desk.report(desk.broker.fill(number, 2))
    assert (desk.status(), desk.order().order_qty) == (OrderStatus.PARTIALLY_FILLED, 3)
    desk.report(desk.broker.fill(number))
    assert desk.status() is OrderStatus.FILLED
    assert "overfilled" not in desk.alarm_names()


# -- what waited too long to be sent -------------------------------------------------------------------


@pytest.mark.proves("I-4")
def test_a_change_that_comes_too_late_is_refused() -> None:
    desk = ready_desk()
    working(desk, **LIMIT)
    desk.pass_time(5)
    assert denied(desk, change(limit_price=Decimal(4991), expires_at_ns=desk.now_ns)) == "change_expired"
    assert not desk.take(Modify)


def test_a_change_is_sent_with_its_expiry() -> None:
    desk = ready_desk()
    working(desk, **LIMIT)
    desk.intent(change(limit_price=Decimal(4991), expires_at_ns=desk.now_ns + 7))
    assert [one.expires_at_ns for one in desk.take(Modify)] == [desk.now_ns + 7]


@pytest.mark.proves("I-4", "I-26")
def test_a_change_that_waited_is_asked_about_once_more() -> None:
    desk, _, sent = enlarging()
    assert hold_change(desk.state, sent, desk.at()) is None
    desk.pass_time(3)
    assert hold_change(desk.state, sent, desk.at()) == STALE
    desk.feed(MarketRead(market=make_market(ts_asof_ns=desk.now_ns), at=desk.at()))
    assert hold_change(desk.state, sent, desk.at()) is None
    desk.control(Halt(kind=HaltKind.LIVENESS, reason="t", issuer="t", ts_ns=desk.now_ns))
    assert hold_change(desk.state, sent, desk.at()) == HALTED
    cheaper = Modify(
        client_order_id="o1",
        broker_order_id=100,
        order_qty=None,
        limit_price=Decimal(4980),
        stop_price=None,
    )
    assert hold_change(desk.state, cheaper, desk.at()) is None, "reducing: no new exposure"
    fewer = msgspec.structs.replace(cheaper, order_qty=1, limit_price=None)
    assert hold_change(desk.state, fewer, desk.at()) is None
    desk.control(Halt(kind=HaltKind.OPERATOR, reason="t", issuer="t", ts_ns=desk.now_ns))
    assert hold_change(desk.state, fewer, desk.at()) == HALTED, "asked for by a strategy"


def test_a_stop_follows_its_position_whatever_holds_trading() -> None:
    desk = ready_desk()
    desk.opened("o1")
    desk.intent(change("o1:sl", stop_price=Decimal("4999.75")))
    (sent,) = desk.take(Modify)
    desk.pass_time(3)
    desk.control(Halt(kind=HaltKind.OPERATOR, reason="t", issuer="t", ts_ns=desk.now_ns))
    assert hold_change(desk.state, sent, desk.at()) is None


@pytest.mark.proves("I-4")
def test_an_order_does_not_follow_another_one_into_the_unknown() -> None:
    """Both were claimed; then nobody knew what had become of the first."""
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    desk.intent(make_submit("o2", qty=2))
    second = desk.order("o2")
    assert hold(desk.state, second, desk.at()) is None
    desk.answer("o1", Unknown(reason="a timeout"))
    assert hold(desk.state, second, desk.at()) == FROZEN
    desk.answer("o2", NotSent(reason="no connection"))
    assert desk.status("o2") is OrderStatus.REJECTED


@pytest.mark.proves("I-4")
def test_an_order_that_waited_does_not_meet_a_market_nobody_sees() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    desk.pass_time(3)
    assert hold(desk.state, desk.order("o1"), desk.at()) == STALE


@pytest.mark.proves("I-4")
def test_nor_one_of_which_the_feed_says_that_it_sees_nothing() -> None:
    """It says so just now, and as often as it told prices before."""
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    assert hold(desk.state, desk.order("o1"), desk.at()) is None
    lost = make_market(ts_asof_ns=desk.now_ns, health=FeedHealth.DISCONNECTED, bid_px=None, ask_px=None)
    desk.feed(MarketRead(market=lost, at=desk.at()))
    assert hold(desk.state, desk.order("o1"), desk.at()) == NOT_LIVE


def set_back(desk: Desk, seconds: int) -> None:
    desk.pass_time(seconds)
    desk.now_ns -= seconds * 1_000_000_000


@pytest.mark.proves("I-4")
def test_a_market_that_still_lies_under_its_key_grows_old_though_the_clock_was_set_back() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    set_back(desk, 3)
    desk.feed(MarketRead(market=desk.state.markets["MES"], at=desk.at(), polled=True))
    assert hold(desk.state, desk.order("o1"), desk.at()) == STALE
    again = msgspec.structs.replace(desk.state.markets["MES"], ts_asof_ns=desk.now_ns + 1)
    desk.feed(MarketRead(market=again, at=desk.at(), polled=True))
    assert hold(desk.state, desk.order("o1"), desk.at()) is None


@pytest.mark.proves("I-4")
def test_a_market_that_lay_under_its_key_when_we_started_is_not_fresh() -> None:
    """By the clock it is of this moment; nobody has heard it."""
    desk = Desk()
    desk.feed(MarketRead(market=make_market(ts_asof_ns=desk.now_ns), at=desk.at(), polled=True))
    assert reference_age_ms(desk.state, "MES", desk.at()) == NEVER_MS
    desk.pass_time(0.5)
    desk.feed(MarketRead(market=make_market(ts_asof_ns=desk.now_ns), at=desk.at(), polled=True))
    assert reference_age_ms(desk.state, "MES", desk.at()) == 0


@pytest.mark.parametrize(("silent_s", "taken"), [(0.9, False), (1.1, True)])
def test_a_market_of_before_is_taken_only_where_nothing_newer_was_for_a_second(
    silent_s: float, taken: bool
) -> None:
    """It came late; or the feed's clock was set back, and everything it says is of before."""
    desk = ready_desk()
    known = desk.state.markets["MES"]
    before = msgspec.structs.replace(known, ts_asof_ns=known.ts_asof_ns - 1)
    desk.pass_time(silent_s)
    desk.feed(MarketRead(market=before, at=desk.at()))
    assert (desk.state.markets["MES"] == before) is taken


# -- exits ----------------------------------------------------------------------------------------------


def resting_exit(desk: Desk, name: str = "x1", qty: int = 1) -> int:
    """Let the strategy, long, rest an exit above the market; return its number."""
    desk.pass_time(1)
    desk.ready()
    wish = make_submit(
        name,
        side=Side.SELL,
        qty=qty,
        order_type=OrderType.LIMIT,
        limit_price=Decimal(5010),
        reduce_only=True,
        bracket=None,
    )
    assert desk.refusal(wish) == ""
    (number,) = desk.place_all()
    desk.pass_time(1)
    desk.ready()
    return number


@pytest.mark.proves("I-10")
def test_an_exit_is_not_made_larger_than_what_is_held() -> None:
    desk = ready_desk()
    entry = desk.opened("o1", qty=3)
    resting_exit(desk)
    assert denied(desk, change("x1", order_qty=4)) == "not_reducing"
    desk.intent(change("x1", order_qty=3))
    (sent,) = desk.take(Modify)
    assert hold_change(desk.state, sent, desk.at()) is None
    desk.report(desk.broker.fill(entry + 1, 1, px="4998"))
    assert hold_change(desk.state, sent, desk.at()) == GONE, "a stop has filled meanwhile"


def test_an_exit_that_rests_goes_with_its_position() -> None:
    """The stop had filled; the exit stayed, and would have opened a position without a stop."""
    desk = ready_desk()
    entry = desk.opened("o1")
    number = resting_exit(desk)
    desk.report(desk.broker.fill(entry + 1, px="4998"))
    desk.show(entry)
    desk.run(4)
    assert desk.broker.orders[number].status is OrderStatus.CANCELED


def test_an_exit_that_rests_is_made_as_small_as_what_is_left() -> None:
    desk = ready_desk()
    entry = desk.opened("o1", qty=2)
    number = resting_exit(desk, qty=2)
    desk.report(desk.broker.fill(entry + 1, 1, px="4998"))
    desk.show(entry)
    desk.run(4)
    assert (desk.broker.orders[number].status, desk.broker.orders[number].order_qty) == (OrderStatus.NEW, 1)


def test_an_exit_that_rests_does_not_stand_in_the_way_of_closing() -> None:
    desk = ready_desk()
    desk.opened("o1")
    number = resting_exit(desk)
    wish = ClosePosition(
        client_order_id="c1",
        strategy_id="s1",
        symbol="MES",
        cause="c",
        ts_cause_ns=0,
        expires_at_ns=desk.now_ns + 10**10,
    )
    assert denied(desk, wish) == "exits_canceled"
    desk.run(4)
    assert desk.broker.orders[number].status is OrderStatus.CANCELED
    desk.ready()
    assert desk.refusal(msgspec.structs.replace(wish, client_order_id="c2")) == ""


def test_what_no_exit_covers_is_closed_at_once() -> None:
    desk = ready_desk()
    desk.opened("o1", qty=3)
    number = resting_exit(desk)
    wish = ClosePosition(
        client_order_id="c1",
        strategy_id="s1",
        symbol="MES",
        cause="c",
        ts_cause_ns=0,
        expires_at_ns=desk.now_ns + 10**10,
    )
    assert desk.refusal(wish) == ""
    assert desk.order("c1").order_qty == 2
    desk.run(2)
    assert desk.broker.orders[number].status is OrderStatus.NEW


def test_an_exit_that_rests_stays_when_there_can_be_no_close() -> None:
    desk = ready_desk()
    desk.opened("o1")
    number = resting_exit(desk)
    desk.control(Halt(kind=HaltKind.OPERATOR, reason="t", issuer="t", ts_ns=desk.now_ns))
    wish = ClosePosition(
        client_order_id="c1",
        strategy_id="s1",
        symbol="MES",
        cause="c",
        ts_cause_ns=0,
        expires_at_ns=desk.now_ns + 10**10,
    )
    assert denied(desk, wish) != ""
    desk.run(4)
    assert desk.broker.orders[number].status is OrderStatus.NEW


def test_an_exit_is_made_smaller_whatever_holds_trading_and_once() -> None:
    """Held back, it was tried twice a second, and used up the messages of all."""
    desk = ready_desk()
    entry = desk.opened("o1", qty=2)
    number = resting_exit(desk, qty=2)
    desk.control(Halt(kind=HaltKind.OPERATOR, reason="t", issuer="t", ts_ns=desk.now_ns))
    desk.report(desk.broker.fill(entry + 1, 1, px="4998"))
    desk.show(entry)
    sent: list[Modify] = []
    for _ in range(60):
        desk.pass_time(0.5)
        desk.tick()
        desk.answer_searches()
        for one in desk.take(Modify):
            assert one.urgent and hold_change(desk.state, one, desk.at()) is None
            sent.append(one)
            answered(desk, Rejected(code=3, reason="no"), one.client_order_id)
        desk.obey_cancels()
        for query in desk.take(QueryOrder):
            seen = desk.broker.orders.get(query.broker_order_id)
            desk.feed(
                OrderQueried(broker_order_id=query.broker_order_id, report=seen, failure=None, at=desk.at())
            )
    assert [one.order_qty for one in sent if one.client_order_id == "x1"] == [1]
    assert desk.broker.orders[number].status is OrderStatus.CANCELED


def test_exits_that_rest_close_no_more_than_is_left_together() -> None:
    desk = ready_desk()
    entry = desk.opened("o1", qty=2)
    first, second = resting_exit(desk, "x1"), resting_exit(desk, "x2")
    desk.report(desk.broker.fill(entry + 1, 1, px="4998"))
    desk.show(entry)
    desk.run(5)
    states = [desk.broker.orders[number].status for number in (first, second)]
    assert states == [OrderStatus.NEW, OrderStatus.CANCELED]


def test_what_was_canceled_before_it_left_does_not_leave() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    desk.intent(
        CancelOrder(client_order_id="o1", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=T0_NS)
    )
    assert hold(desk.state, desk.order("o1"), desk.at()) == CANCELED


def test_an_order_of_the_old_month_is_not_judged_by_the_market_of_the_new_one() -> None:
    """The symbol had rolled, fifty points higher: the stop of the old month would have executed at once."""
    desk = ready_desk()
    desk.opened("o1")
    desk.pass_time(1)
    desk.ready()
    rolled = make_market(
        contract_id=MES.replace("H26", "M26"),
        bid_px=5050.0,
        ask_px=5050.25,
        last_px=5050.0,
        ts_asof_ns=desk.now_ns,
    )
    desk.feed(MarketRead(market=rolled, at=desk.at()))
    assert denied(desk, change("o1:sl", stop_price=Decimal(5040))) == "reference_missing"
    assert not desk.take(Modify)
