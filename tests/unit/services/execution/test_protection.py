"""What protects is always as much as what is held, however it came to be different."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.execution.events import Cancel, Modify, Place, Search
from services.execution.exposure import exposure
from services.execution.holds import GONE, hold
from services.execution.records import EXIT, STOP_LOSS
from shared.broker.port import Accepted, NotSent, Rejected, Unknown
from shared.domain.control import HaltKind
from shared.domain.execution import OrderClaimed, OrderFilled
from shared.domain.order import ClosePosition, OrderStatus, OrderType, Side
from tests.support.execution import MES, T0_NS, Desk, make_rules, make_submit


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    return desk


def stops(desk: Desk) -> int:
    """Return the contracts of working stops at the broker."""
    return sum(
        order.order_qty - order.cum_qty
        for order in desk.broker.orders.values()
        if order.order_type is OrderType.STOP
        and order.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
    )


def closing(name: str = "x", **changes: Any) -> ClosePosition:
    return ClosePosition(
        client_order_id=name,
        strategy_id="s1",
        symbol="MES",
        cause="c",
        ts_cause_ns=0,
        expires_at_ns=T0_NS + 10**11,
        **changes,
    )


def settled(desk: Desk) -> None:
    desk.run(8, places=True)
    assert stops(desk) == abs(desk.broker.net_qty) == abs(desk.net_qty())
    assert not desk.state.gaps
    assert not desk.state.standing.halts


def test_look_that_shows_another_position_is_repeated() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    desk.broker.set(number + 1, status=OrderStatus.CANCELED)
    desk.show(number + 1)
    held = desk.broker.positions
    desk.broker.positions = list  # type: ignore[method-assign]
    desk.run(3, places=True)
    assert stops(desk) == 0
    desk.broker.positions = held  # type: ignore[method-assign]
    settled(desk)


def test_waiting_for_a_fill_and_for_its_stop_is_one_patience() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    (number,) = desk.place_all()
    late = desk.broker.fill(number, at_ns=desk.now_ns)
    pushed, desk.broker.fills = desk.broker.position(), []
    for child in (number + 1, number + 2):
        desk.broker.set(child, status=OrderStatus.REJECTED)
    desk.report(pushed)
    desk.show(number)
    desk.run(4, failure="too many requests")
    desk.report(late)
    assert "unprotected" not in desk.alarm_names()
    desk.run(1, failure="too many requests")
    assert "unprotected" in desk.alarm_names()


def test_a_fill_that_is_heard_late_has_waited_already() -> None:
    """Fill and position came together, seconds late, so that nobody had spoken of anything before."""
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    (number,) = desk.place_all()
    late = desk.broker.fill(number, at_ns=desk.now_ns)
    for child in (number + 1, number + 2):
        desk.broker.set(child, status=OrderStatus.REJECTED)
    desk.pass_time(4)
    desk.report(late, desk.broker.position())
    desk.show(number)
    desk.run(1.5, failure="too many requests")
    assert "unprotected" in desk.alarm_names()


def test_young_fill_is_not_blamed_for_what_was_apart_before() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    (number,) = desk.place_all()
    desk.report(msgspec.structs.replace(desk.broker.position(), net_qty=1))  # somebody else's
    desk.run(4, failure="too many requests")
    assert desk.state.apart
    desk.report(desk.broker.fill(number, at_ns=desk.now_ns))
    desk.broker.set(number + 1, status=OrderStatus.CANCELED)
    desk.show(number)
    desk.report(msgspec.structs.replace(desk.broker.position(), net_qty=2))
    desk.run(1, failure="too many requests")
    assert desk.state.gaps
    assert desk.state.apart
    assert "unprotected" not in desk.alarm_names()


def test_position_that_a_restart_finds_bare_is_said_at_once() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    for child in (number + 1, number + 2):
        desk.broker.set(child, status=OrderStatus.CANCELED)
    desk.pass_time(6)
    desk.restart()
    desk.run(1)
    assert "unprotected" in desk.alarm_names()


def test_start_that_cannot_look_says_so() -> None:
    desk = ready_desk()
    desk.opened("o1")
    desk.start()
    desk.run(4, failure="503")
    assert "blind" not in desk.alarm_names()
    desk.run(2, failure="503")
    assert "blind" in desk.alarm_names()


def test_start_that_is_not_over_claims_no_stop() -> None:
    desk = ready_desk()
    number = vanished(desk)
    desk.start()
    desk.tick()
    desk.show(number)
    desk.run(20, places=True)  # searches are answered; broker_sync has not shown its picture yet
    assert [one.client_order_id for one in desk.messages(OrderClaimed)] == ["o1"]
    assert "unprotected" in desk.alarm_names()
    assert desk.net_qty() == 1
    desk.ready()
    settled(desk)
    assert desk.net_qty() == 1  # no try was counted before it could leave: a stop now, not an exit


def test_entry_partly_filled() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1", qty=4, order_type=OrderType.LIMIT, limit_price=Decimal(5000)))
    (number,) = desk.place_all()
    desk.report(desk.broker.fill(number, 1))
    desk.show(number)  # the children woke up with the entry's whole size
    assert stops(desk) == 4
    settled(desk)
    assert stops(desk) == 1
    desk.report(desk.broker.fill(number, 3, at_ns=desk.now_ns))
    desk.show(number)
    settled(desk)
    assert stops(desk) == 4
    assert "unprotected" not in desk.alarm_names()


def test_exit_partly_filled() -> None:
    desk = ready_desk()
    desk.opened("o1", qty=3)
    desk.intent(make_submit("x", side=Side.SELL, qty=1, bracket=None))
    (exit_,) = desk.place_all()
    desk.report(desk.broker.fill(exit_))
    settled(desk)
    assert stops(desk) == 2
    assert desk.order("o1:tp").order_qty == 2  # the target would have turned the position too


def test_nothing_is_changed_while_an_exit_is_on_its_way() -> None:
    desk = ready_desk()
    desk.opened("o1", qty=3)
    desk.intent(closing())
    (exit_,) = desk.place_all()
    desk.report(desk.broker.fill(exit_, 1))
    desk.run(4)
    assert stops(desk) == 3
    settled(desk)  # it got stuck: what is left is protected, and no second exit turns the position
    assert stops(desk) == 2


def test_child_partly_filled() -> None:
    desk = ready_desk()
    number = desk.opened("o1", qty=3)
    desk.report(desk.broker.fill(number + 1, 1, px="4998"))
    desk.show(number)
    settled(desk)
    assert stops(desk) == 2 == desk.order("o1:tp").order_qty


def test_entry_filled_after_its_cancel() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    (number,) = desk.place_all()
    fill = desk.broker.fill(number)
    for child in (number + 1, number + 2):
        desk.broker.set(child, status=OrderStatus.CANCELED)  # they went with the entry's cancel
    desk.broker.set(number, status=OrderStatus.CANCELED, cum_qty=0)
    desk.show(number)
    desk.report(fill)
    settled(desk)
    (own,) = [one for one in desk.broker.posts if one.order_type is OrderType.STOP]
    assert (own.side, own.order_qty, own.stop_price) == (Side.SELL, 1, Decimal("4998.25"))
    assert own.urgent
    assert len(own.client_order_id) <= 36


def test_external_partial_close() -> None:
    desk = ready_desk()
    desk.opened("o1", qty=3)
    by_hand = desk.broker.external(side=Side.SELL, qty=1)
    desk.report(desk.broker.fill(by_hand, px="5001"))
    desk.order_reports(by_hand)
    assert desk.net_qty() == 2
    last = desk.messages(OrderFilled)[-1]
    assert (last.strategy_id, last.role, last.strategy_net_qty) == ("s1", "exit", 2)
    settled(desk)
    assert stops(desk) == 2


def test_what_was_opened_by_hand_is_closed_by_hand_first() -> None:
    desk = ready_desk()
    desk.opened("o1", qty=1)
    for side in (Side.BUY, Side.SELL):
        by_hand = desk.broker.external(side=side, qty=2)
        desk.order_reports(by_hand)
        desk.report(desk.broker.fill(by_hand))
        desk.order_reports(by_hand)
    assert desk.net_qty() == 1
    assert desk.state.net_qty("", MES) == 0


def test_each_entry_has_its_own_stop() -> None:
    desk = ready_desk()
    first = desk.opened("o1", qty=1)
    desk.pass_time(1)
    desk.opened("o2", qty=2)
    desk.report(desk.broker.fill(first + 2, px="5004"))
    desk.show(first)
    settled(desk)
    assert stops(desk) == 2
    assert desk.status("o2:sl") is OrderStatus.NEW


def test_exits_close_the_oldest_entry() -> None:
    desk = ready_desk()
    desk.opened("o1", qty=2)
    desk.pass_time(1)
    desk.opened("o2", qty=2)
    desk.intent(make_submit("x", side=Side.SELL, qty=3, bracket=None))
    (exit_,) = desk.place_all()
    desk.report(desk.broker.fill(exit_))
    settled(desk)
    assert stops(desk) == 1
    assert desk.status("o1:sl") is OrderStatus.CANCELED
    assert desk.order("o2:sl").order_qty == 1


def test_turned_position_is_as_large_as_its_stop() -> None:
    desk = ready_desk()
    desk.opened("o1", qty=1)
    desk.opened("o2", side=Side.SELL, qty=3)  # broker made children for three, two are open
    settled(desk)
    assert stops(desk) == 2 == -desk.net_qty()


def vanished(desk: Desk, name: str = "o1", **changes: Any) -> int:
    """Open a position whose stop the broker refuses to work."""
    number = desk.opened(name, **changes)
    desk.broker.set(number + 1, status=OrderStatus.REJECTED)
    desk.show(number)
    return number


def test_missing_stop_is_replaced_after_a_fresh_look() -> None:
    desk = ready_desk()
    vanished(desk, qty=2)
    desk.tick()
    desk.pass_time(0.9)
    desk.tick()
    assert not desk.to_send  # the broker has a moment to work it out
    desk.pass_time(0.2)
    desk.tick()
    assert [type(one) for one in desk.to_send] == [Search]  # before the look nothing is placed
    settled(desk)
    (own,) = [name for name, one in desk.state.orders.items() if one.role == STOP_LOSS and not one.native]
    assert desk.order(own).parent == "o1"
    assert [one.client_order_id for one in desk.messages(OrderClaimed)] == ["o1", own]
    assert "own_stop" in desk.alarm_names()


def test_own_stop_and_target_end_each_other() -> None:
    desk = ready_desk()
    number = vanished(desk)
    desk.run(4, places=True)
    desk.report(desk.broker.fill(number + 2, px="5004"))
    desk.show(number)
    desk.run(4)
    assert desk.net_qty() == 0
    assert not desk.broker.working()


def test_own_stop_that_is_refused_ends_the_position() -> None:
    desk = ready_desk()
    number = vanished(desk, qty=2)
    desk.run(2)
    (own,) = desk.take(Place)
    desk.answer(own.ticket.client_order_id, Rejected(code=2, reason="Invalid stop price"))
    desk.run(2)
    (exit_,) = desk.take(Place)
    assert (exit_.ticket.order_type, exit_.ticket.side, exit_.ticket.order_qty) == (
        OrderType.MARKET,
        Side.SELL,
        2,
    )
    sold = desk.broker.place(exit_.ticket)
    desk.answer(exit_.ticket.client_order_id, Accepted(broker_order_id=sold))
    desk.report(desk.broker.fill(sold))
    desk.show(sold)
    desk.run(5)
    assert desk.net_qty() == 0
    assert not desk.broker.working()
    assert not desk.broker.orders[number + 2].status.may_fill
    assert "position_left" in desk.alarm_names()
    assert len(desk.state.exits[MES]) == 1  # counted against liquidation loops


def test_market_beyond_the_stop_ends_the_position_at_once() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    (number,) = desk.place_all()
    desk.broker.set(number + 1, status=OrderStatus.REJECTED)
    desk.report(desk.broker.fill(number, px="5003"))  # stop at 5001, the market is at 5000
    desk.show(number)
    desk.run(2)
    (exit_,) = desk.take(Place)
    assert exit_.ticket.order_type is OrderType.MARKET


def test_exits_that_change_nothing_call_for_a_person() -> None:
    desk = ready_desk()
    vanished(desk)
    for _ in range(12):
        desk.run(2)
        for place in desk.take(Place):
            desk.answer(place.ticket.client_order_id, Rejected(code=4, reason="violation"))
    exits = [one for one in desk.state.orders.values() if one.role == EXIT]
    assert len(exits) == 3
    assert HaltKind.INVARIANT in desk.state.standing.halts
    assert {"exit_failed", "unprotected"} <= desk.alarm_names()


def test_unknown_own_stop_is_waited_for_with_an_alarm() -> None:
    desk = ready_desk()
    vanished(desk)
    desk.run(2)
    (own,) = desk.take(Place)
    desk.answer(own.ticket.client_order_id, Unknown(reason="timeout"))
    desk.run(20)
    assert not desk.take(Place)
    assert "unprotected" in desk.alarm_names()
    desk.run(120)
    (exit_,) = desk.take(Place)  # proven absent: out
    assert exit_.ticket.order_type is OrderType.MARKET


def test_no_look_no_order() -> None:
    desk = ready_desk()
    vanished(desk)
    desk.run(30, failure="503")
    assert not desk.take(Place)
    assert "unprotected" in desk.alarm_names()
    settled(desk)


@pytest.mark.proves("I-6")
def test_gaps_of_two_strategies_one_after_the_other_are_one() -> None:
    """Each would be over before its alarm, and the account would lack a stop all the time."""
    desk = ready_desk()
    first, second = desk.opened("o1"), desk.opened("o2", strategy_id="s2")
    desk.snapshot()
    desk.broker.set(first + 1, status=OrderStatus.REJECTED)
    desk.show(first)
    desk.run(3, failure="503")
    desk.broker.set(second + 1, status=OrderStatus.REJECTED)
    desk.show(second)
    desk.run(0.5, failure="503")
    desk.report(desk.broker.fill(first + 2, px="5004"))
    desk.show(first)
    desk.snapshot()
    assert "unprotected" not in desk.alarm_names()
    desk.run(1.5, failure="503")
    (alarm,) = [one for one in desk.alarms if one.name == "unprotected"]
    assert alarm.text.startswith("o2: 0 of 1 contracts have a stop after ")


def test_difference_to_the_broker_is_not_traded_on() -> None:
    desk = ready_desk()
    vanished(desk, qty=2)
    held = [msgspec.structs.replace(one, net_qty=1) for one in desk.broker.positions()]
    desk.broker.positions = lambda: held  # type: ignore[method-assign]
    desk.run(10)
    assert not desk.take(Place)
    assert "unprotected" in desk.alarm_names()


def test_restart_between_claim_and_answer_places_no_second_stop() -> None:
    desk = ready_desk()
    vanished(desk)
    desk.run(2)
    (own,) = desk.take(Place)
    desk.broker.place(own.ticket)
    desk.restart()
    settled(desk)
    assert len([one for one in desk.broker.posts if one.order_type is OrderType.STOP]) == 1


def test_restart_before_the_stop_left_ends_the_position_at_last() -> None:
    desk = ready_desk()
    vanished(desk)
    desk.run(2)
    desk.restart()  # claimed, never sent
    desk.run(150, step_s=1)
    (exit_,) = desk.take(Place)
    assert exit_.ticket.order_type is OrderType.MARKET


def test_stop_that_a_strategy_cancels_comes_back() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    desk.broker.set(number + 1, status=OrderStatus.CANCELED)
    desk.show(number)
    settled(desk)


def test_exit_and_stop_at_once_turn_the_position_and_it_is_closed() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    desk.intent(closing())
    (exit_,) = desk.place_all()
    desk.report(desk.broker.fill(exit_), desk.broker.fill(number + 1, px="4998"))
    desk.show(number)
    desk.show(exit_)
    assert desk.net_qty() == -1
    desk.run(3)
    (back,) = desk.take(Place)
    assert (back.ticket.side, back.ticket.order_type) == (Side.BUY, OrderType.MARKET)
    assert "position_left" in desk.alarm_names()


@pytest.mark.proves("I-6")
def test_of_two_exits_that_wait_together_only_what_is_left_is_closed() -> None:
    """Each alone closes no more than there is; together they would turn the position."""
    desk = ready_desk()
    number = desk.opened(qty=3)
    desk.intent(make_submit("a", side=Side.SELL, qty=1, reduce_only=True))
    desk.intent(make_submit("b", side=Side.SELL, qty=2, reduce_only=True))
    first, second = (desk.state.orders[one.ticket.client_order_id] for one in desk.take(Place))
    assert (hold(desk.state, first, desk.at()), hold(desk.state, second, desk.at())) == (None, None)
    desk.report(desk.broker.fill(number + 1, 1))  # a third of the stop: two are left
    assert (hold(desk.state, first, desk.at()), hold(desk.state, second, desk.at())) == (None, GONE)


@pytest.mark.proves("I-6")
def test_exit_that_waited_while_the_stop_filled_is_held_back() -> None:
    desk = ready_desk()
    number = desk.opened(qty=2)
    desk.intent(closing())
    (exit_order,) = desk.take(Place)
    order = desk.state.orders[exit_order.ticket.client_order_id]
    assert hold(desk.state, order, desk.at()) is None
    desk.report(desk.broker.fill(number + 1, 1))  # half of the stop: the exit would turn the rest
    assert hold(desk.state, order, desk.at()) == GONE
    desk.report(desk.broker.fill(number + 1))
    assert hold(desk.state, order, desk.at()) == GONE
    desk.answer(order.client_order_id, NotSent(reason=GONE))
    assert not desk.take(Place)  # not once more either
    assert desk.status(order.client_order_id) is OrderStatus.REJECTED
    assert desk.state.net_qty("s1", MES) == 0


def test_exit_in_doubt_of_the_other_side_keeps_no_turned_position_open() -> None:
    desk = ready_desk()
    number = desk.opened("o1", qty=2)
    desk.intent(make_submit("x", side=Side.SELL, bracket=None))
    desk.take(Place)
    desk.answer("x", Unknown(reason="timeout"))
    desk.intent(make_submit("y", side=Side.SELL, bracket=None))
    (exit_,) = desk.place_all()
    desk.report(desk.broker.fill(exit_), desk.broker.fill(number + 1, px="4998"))
    desk.show(number)
    desk.show(exit_)
    assert desk.net_qty() == -1
    desk.run(3)
    assert desk.status("x") is OrderStatus.UNKNOWN
    (back,) = desk.take(Place)
    assert back.ticket.side is Side.BUY


def test_late_landing_is_ended() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1", qty=2))
    (place,) = desk.take(Place)
    desk.answer("o1", Unknown(reason="timeout"))
    desk.run(140)
    assert desk.status() is OrderStatus.ABSENT
    number = desk.broker.land(place.ticket)
    desk.report(desk.broker.fill(number, 1))
    desk.snapshot()
    assert desk.order().unwanted
    desk.tick()
    assert desk.take(Cancel)[0].broker_order_id == number
    desk.broker.set(number, status=OrderStatus.CANCELED)
    desk.show(number)
    desk.run(3)
    (exit_,) = desk.take(Place)
    assert (exit_.ticket.side, exit_.ticket.order_qty) == (Side.SELL, 1)
    sold = desk.broker.place(exit_.ticket)
    desk.answer(exit_.ticket.client_order_id, Accepted(broker_order_id=sold))
    desk.report(desk.broker.fill(sold))
    desk.run(5)
    assert desk.net_qty() == 0 == desk.broker.net_qty
    assert not desk.broker.working()
    assert {"late_landing", "position_left"} <= desk.alarm_names()


@pytest.mark.parametrize("restarts", [False, True])
def test_strategies_do_not_share_protection(restarts: bool) -> None:
    desk = ready_desk()
    desk.opened("o1", qty=2)
    desk.opened("o2", qty=1, side=Side.SELL, strategy_id="s2")
    if restarts:
        desk.restart()
    desk.run(8)
    assert not desk.take(Modify)
    sides = {
        side: sum(
            one.order_qty
            for one in desk.broker.working()
            if one.side is side and one.order_type is OrderType.STOP
        )
        for side in Side
    }
    assert sides == {Side.SELL: 2, Side.BUY: 1}


@pytest.mark.proves("I-10")
def test_a_stop_of_more_than_is_held_counts_for_what_it_would_trade() -> None:
    """Found by simulation: a buy of 3 turned a short of 2; its stop of 3 filled beside a new sale of 3."""
    desk = Desk(make_rules(limits={"position_max": 4}))
    desk.ready()
    desk.opened("short", side=Side.SELL, qty=2)
    desk.pass_time(1)
    desk.ready()
    desk.opened("turn", side=Side.BUY, qty=3)
    assert desk.net_qty() == 1
    before = exposure(
        desk.state, make_submit("sale", side=Side.SELL, qty=1), MES, desk.at(), OrderType.MARKET
    )
    assert before.sell_qty == 2  # its stop is of 3, and 1 is held
    assert desk.refusal(make_submit("sale", side=Side.SELL, qty=3)) == ""
    assert desk.refusal(make_submit("more", side=Side.SELL, qty=1)) == "position_max"


def test_a_stop_of_the_wrong_size_does_not_wait_behind_others() -> None:
    desk = ready_desk()
    number = desk.opened("o1", qty=2)
    desk.broker.set(number + 1, order_qty=1)
    desk.show(number)
    desk.run(0.5)
    for _ in range(20):
        desk.pass_time(0.2)
        desk.tick()
        desk.answer_searches()
    (sent,) = desk.take(Modify)
    assert (sent.order_qty, sent.urgent) == (2, True)
