"""The life of an order through the whole core: intent, claim, answer, fills, protection, end."""

from __future__ import annotations

import copy
from decimal import Decimal

import pytest

from services.execution.events import Alarm, BusDiffers, Place, Recovered
from shared.domain.control import HaltKind
from shared.domain.execution import OrderClaimed, OrderDenied, OrderFilled, OrderUpdated
from shared.domain.order import ModifyOrder, OrderStatus, OrderType, Side
from tests.support.execution import Desk, durable, make_submit, only


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    assert desk.state.ready
    return desk


def test_intent_is_claimed_and_sent_once() -> None:
    desk = ready_desk()
    commands = desk.intent(make_submit("o1", qty=2))
    assert [type(one) for one in commands][-1] is Place
    (claimed,) = only(commands, OrderClaimed)
    assert (claimed.client_order_id, claimed.order_qty, claimed.stop_loss_ticks) == ("o1", 2, 8)
    assert "o1" in desk.ledger.orders  # in the commit that comes before what is to be sent
    assert not only(desk.intent(make_submit("o1", qty=2)), Place)
    assert len(desk.take(Place)) == 1


def test_entry_fills_protected_and_target_closes() -> None:
    desk = ready_desk()
    number = desk.opened("o1", qty=2)
    assert desk.status("o1") is OrderStatus.FILLED
    assert desk.status("o1:sl") is desk.status("o1:tp") is OrderStatus.NEW
    assert desk.net_qty() == 2
    fill = desk.broker.fill(number + 2, px="5004.25")
    desk.report(fill)
    desk.show(number)
    assert desk.net_qty() == 0
    assert desk.status("o1:tp") is OrderStatus.FILLED
    assert desk.status("o1:sl") is OrderStatus.CANCELED
    last = desk.messages(OrderFilled)[-1]
    assert last.realized_pnl == Decimal("4") * 2 * 5
    assert (last.strategy_id, last.role, last.strategy_net_qty) == ("s1", "take_profit", 0)


def test_denied_says_code_and_numbers() -> None:
    desk = ready_desk()
    (denied,) = only(desk.intent(make_submit("o1", qty=9)), OrderDenied)
    assert denied.code == "order_qty_max"
    assert denied.numbers == {"order_qty": "9", "most": "5"}
    assert not desk.take(Place)
    assert desk.status("o1") is OrderStatus.DENIED


def test_report_with_the_tag_of_an_order_that_was_never_sent_is_an_alarm() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1", qty=9))
    number = desk.broker.external()
    desk.broker.set(number, custom_tag="o1")
    desk.order_reports(number)
    assert desk.status("o1") is OrderStatus.DENIED
    assert desk.alarm_names() == {"external_order"}


def test_modify_to_a_price_beyond_arithmetic_is_denied() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1", order_type=OrderType.LIMIT, limit_price=Decimal(5000)))
    desk.place_all()
    change = ModifyOrder(
        client_order_id="o1",
        strategy_id="s1",
        symbol="MES",
        cause="c",
        ts_cause_ns=0,
        limit_price=Decimal("9" * 400),
    )
    (denied,) = only(desk.intent(change), OrderDenied)
    assert denied.code == "off_tick"


def test_state_is_the_ledger() -> None:
    desk = ready_desk()
    number = desk.opened("o1", qty=2)
    desk.intent(make_submit("o2", side=Side.SELL, qty=1, bracket=None))
    desk.place_all()
    desk.report(desk.broker.fill(number + 10, qty=1))
    desk.intent(make_submit("o3", qty=99))
    before = durable(desk.state)
    other = Desk(desk.rules, ledger=desk.ledger)
    assert durable(other.state) == before


def test_updates_are_published_once() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    count = len(desk.messages(OrderUpdated))
    desk.show(number)
    desk.report(*desk.broker.fills)
    desk.snapshot()
    assert len(desk.messages(OrderUpdated)) == count
    assert len(desk.messages(OrderFilled)) == 1


def test_whoever_lifts_a_halt_is_told_what_redis_lost_meanwhile() -> None:
    """Found by simulation: the full disk's halt hid the loss, and a person lifted both in one word."""
    desk = ready_desk()
    desk.state.change_standing().halts = {HaltKind.INVARIANT: "the ledger failed: disk full"}
    desk.feed(Recovered(lost="orders:{1} stands at 0 and had acknowledged 1", boot=desk.boot, at=desk.at()))
    told = "the ledger failed: disk full; orders:{1} stands at 0 and had acknowledged 1"
    standing = desk.ledger.load().standing
    assert standing is not None
    assert standing.halts == {HaltKind.INVARIANT: told}
    assert "bus_differs" in desk.alarm_names()


@pytest.mark.proves("I-16")
def test_a_kill_before_the_stream_is_whole_again_does_not_hide_that_it_was_lost() -> None:
    desk = ready_desk()
    told = desk.feed(BusDiffers(what="Redis has lost entries", at=desk.at()))
    assert [type(one) for one in told] == [Alarm]  # nothing can be published before what comes before it
    desk.restart()
    assert desk.state.halts[HaltKind.INVARIANT] == "Redis has lost entries"


def test_an_older_row_about_a_sleeping_child_does_not_wake_it() -> None:
    """It would count as a stop that works, and one that never wakes would go unnoticed."""
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    (number,) = desk.place_all()
    older = desk.broker.orders[number + 1]
    desk.broker.set(number + 1, status=OrderStatus.SUSPENDED)
    desk.order_reports(number + 1)
    desk.report(older)
    assert desk.status("o1:sl") is OrderStatus.SUSPENDED


def test_a_fill_heard_after_the_rest_was_refused_is_no_late_landing() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1", qty=4))
    (number,) = desk.place_all()
    desk.report(desk.broker.fill(number, 1))
    desk.show(number)
    late = desk.broker.fill(number, 1)
    desk.broker.set(number, status=OrderStatus.REJECTED)
    desk.order_reports(number)
    desk.report(late)
    assert not desk.order().unwanted
    assert "late_landing" not in desk.alarm_names()
    assert (desk.status(), desk.order().leaves_qty) == (OrderStatus.REJECTED, 0), "nothing of it works"
    desk.report(desk.broker.fill(number, 1))  # more than the refusal had told
    assert not desk.order().unwanted


@pytest.mark.proves("I-4")
def test_an_entry_whose_cause_lies_ahead_is_expired_and_an_exit_is_not() -> None:
    """The clock was set back since: how old the signal is, nobody knows."""
    desk = ready_desk()
    ahead = {"ts_cause_ns": desk.now_ns + 2 * 10**9, "expires_at_ns": desk.now_ns + 7 * 10**9}
    desk.intent(make_submit("o1", **ahead))
    assert (desk.status("o1"), desk.take(Place)) == (OrderStatus.EXPIRED, [])
    desk.opened("o2")
    desk.intent(make_submit("o3", side=Side.SELL, reduce_only=True, bracket=None, **ahead))
    assert desk.status("o3") is OrderStatus.PENDING_NEW


@pytest.mark.proves("I-16")
def test_an_order_of_a_time_the_ledger_has_not_seen_is_not_taken_for_a_buried_intent() -> None:
    """An old copy of the ledger came back and the intent is read again: its order holds a position by now."""
    desk = ready_desk()
    old = copy.deepcopy(desk.ledger)
    wish = make_submit("o1", expires_at_ns=desk.now_ns + 5 * 10**9)
    desk.intent(wish)
    (number,) = desk.place_all()
    desk.report(desk.broker.fill(number))
    desk.ledger = old
    desk.pass_time(20)
    desk.start()
    desk.ready()
    desk.intent(wish)
    assert desk.status("o1") is OrderStatus.EXPIRED
    desk.show(number)
    assert desk.status("o1") is OrderStatus.EXPIRED
    assert (desk.net_qty(), desk.net_qty("")) == (0, 1)
    assert "external_order" in desk.alarm_names()
