"""The process dies at each boundary of one order's way; the ledger and the broker decide what is true."""

from __future__ import annotations

import pytest

from services.execution.events import Cancel, Place
from shared.broker.port import Accepted, NotSent
from shared.domain.order import CancelOrder, OrderStatus
from tests.support.execution import Crashed, Desk, durable, make_submit


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    return desk


@pytest.mark.proves("I-1", "I-18")
def test_before_the_claim_nothing_was_sent_and_the_intent_is_read_again() -> None:
    desk = ready_desk()
    desk.crash_before_commit = True
    with pytest.raises(Crashed):
        desk.intent(make_submit())
    desk.crash_before_commit = False
    assert not desk.broker.posts
    desk.restart()
    desk.intent(make_submit())  # its cursor was not committed either
    assert len(desk.place_all()) == 1
    assert len(desk.broker.posts) == 1


@pytest.mark.proves("I-1", "I-18")
def test_after_the_claim_it_is_never_sent() -> None:
    desk = ready_desk()
    desk.intent(make_submit())
    desk.restart()  # what was to be sent died with the process
    assert desk.status() is OrderStatus.UNKNOWN
    desk.intent(make_submit())
    desk.run(200)
    assert not desk.take(Place)
    assert desk.status() is OrderStatus.ABSENT
    assert not desk.broker.posts


@pytest.mark.proves("I-1", "I-18")
def test_after_the_post_it_is_found() -> None:
    desk = ready_desk()
    desk.intent(make_submit())
    (place,) = desk.take(Place)
    number = desk.broker.place(place.ticket)
    desk.broker.fill(number)
    desk.restart()
    assert desk.status() is OrderStatus.FILLED
    assert desk.net_qty() == 1
    assert len(desk.broker.posts) == 1


@pytest.mark.proves("I-18")
def test_after_the_answer_nothing_is_lost() -> None:
    desk = ready_desk()
    desk.intent(make_submit())
    (place,) = desk.take(Place)
    number = desk.broker.place(place.ticket)
    desk.answer("o1", Accepted(broker_order_id=number))
    before = desk.status()
    desk.start()
    assert desk.status() is before is OrderStatus.NEW
    desk.broker.fill(number)
    desk.restart()
    assert desk.status() is OrderStatus.FILLED


@pytest.mark.proves("I-1")
def test_between_two_attempts() -> None:
    desk = ready_desk()
    desk.intent(make_submit())
    desk.take(Place)
    desk.answer("o1", NotSent(reason="refused"))
    desk.restart()  # the second attempt may have left
    assert desk.status() is OrderStatus.UNKNOWN
    desk.run(200)
    assert not desk.take(Place)


def test_in_the_middle_of_a_cancel() -> None:
    desk = ready_desk()
    desk.intent(make_submit())
    (number,) = desk.place_all()
    desk.intent(CancelOrder(client_order_id="o1", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=0))
    assert desk.take(Cancel)
    desk.restart()
    assert desk.status() is OrderStatus.PENDING_CANCEL
    desk.run(10)
    assert desk.status() is OrderStatus.CANCELED
    assert not desk.broker.orders[number].status.may_fill


@pytest.mark.proves("I-18")
def test_restart_at_any_time_gives_the_same_books() -> None:
    desk = ready_desk()
    for n in range(4):
        desk.opened(f"o{n}")
        desk.pass_time(1)  # two alike within half a second are one too many
        desk.restart()
        before = durable(desk.state)
        desk.restart()
        assert durable(desk.state) == before
    assert desk.net_qty() == 4
    assert not desk.state.standing.halts
