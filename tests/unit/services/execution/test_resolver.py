"""Orders of unknown fate: what freezes, what proves, and what never does."""

from __future__ import annotations

from collections.abc import Coroutine
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from services.execution import orders
from services.execution.events import Cancel, CancelAnswered, OrderQueried, Place, QueryOrder
from services.execution.state import Check, Wanted
from services.execution.turn import Turn
from shared.broker.port import Accepted, LimitKind, NotSent, Outcome, Rejected, Unknown
from shared.broker.projectx.client import ProjectXOrders
from shared.broker.projectx.gateway import Gateway
from shared.broker.projectx.transport import Http, HttpReply, NoAnswerError, NotSentError
from shared.domain.execution import OrderDenied, OrderUpdated
from shared.domain.order import CancelOrder, OrderStatus, OrderType, Side
from tests.support.clocks import ManualClock
from tests.support.execution import MES, T0_NS, Desk, make_rules, make_submit, only

TIMEOUT = Unknown(reason="timeout")


def sent(desk: Desk, name: str = "o1", **changes: object) -> Place:
    desk.intent(make_submit(name, **changes))  # type: ignore[arg-type]
    (place,) = desk.take(Place)
    assert isinstance(place, Place)
    return place


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    return desk


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Accepted(broker_order_id=100), OrderStatus.NEW),
        (Accepted(), OrderStatus.UNKNOWN),  # no id: nothing to hold on to
        (Rejected(code=2, reason="Invalid stop price"), OrderStatus.REJECTED),
        (Unknown(reason="timeout"), OrderStatus.UNKNOWN),
        (Unknown(reason="HTTP 400", http_status=400), OrderStatus.UNKNOWN),
        (Unknown(reason="order pending", code=6), OrderStatus.UNKNOWN),
    ],
)
def test_outcome_table(outcome: Outcome, expected: OrderStatus) -> None:
    desk = ready_desk()
    sent(desk)
    desk.answer("o1", outcome)
    assert desk.status() is expected
    assert not desk.take(Place)


def test_not_sent_is_tried_once_more_under_the_same_id() -> None:
    desk = ready_desk()
    first = sent(desk)
    desk.answer("o1", NotSent(reason="refused"))
    (second,) = desk.take(Place)
    assert second == first
    assert desk.ledger.load().orders[0].attempts == 2  # on disk before it leaves
    desk.answer("o1", NotSent(reason="refused"))
    assert not desk.take(Place)
    assert desk.status() is OrderStatus.REJECTED


def test_not_sent_after_expiry_is_the_end() -> None:
    desk = ready_desk()
    sent(desk, expires_at_ns=T0_NS + 1_000_000_000)
    desk.pass_time(2)
    desk.answer("o1", NotSent(reason="no token"))
    assert not desk.take(Place)
    assert desk.status() is OrderStatus.REJECTED


def test_unknown_freezes_new_exposure_but_not_exits() -> None:
    desk = ready_desk()
    desk.opened("o0")
    desk.pass_time(1)
    desk.ready()
    sent(desk)
    desk.answer("o1", TIMEOUT)
    desk.pass_time(1)
    desk.ready()
    (denied,) = only(desk.intent(make_submit("o2")), OrderDenied)
    assert denied.code == "contract_frozen"
    assert only(desk.intent(make_submit("o3", side=Side.SELL, bracket=None)), Place)


def test_unknown_found_by_search_is_adopted_with_its_children() -> None:
    desk = ready_desk()
    place = sent(desk)
    number = desk.broker.place(place.ticket)
    desk.answer("o1", TIMEOUT)
    desk.broker.fill(number)
    desk.run(1)
    assert desk.status() is OrderStatus.FILLED
    assert desk.net_qty() == 1
    assert desk.status("o1:sl") is OrderStatus.NEW
    assert not desk.take(Place)


def test_unknown_found_by_the_user_hub() -> None:
    desk = ready_desk()
    number = desk.broker.place(sent(desk).ticket)
    desk.answer("o1", TIMEOUT)
    desk.show(number)
    assert desk.status() is OrderStatus.NEW
    assert not desk.state.doubts


def test_absent_needs_time_and_searches() -> None:
    desk = ready_desk()
    sent(desk)
    desk.answer("o1", TIMEOUT)
    desk.run(119)
    assert desk.status() is OrderStatus.UNKNOWN
    desk.run(20)
    assert desk.status() is OrderStatus.ABSENT
    assert not desk.take(Place)
    desk.ready()
    assert only(desk.intent(make_submit("o2")), Place)


def test_failed_searches_prove_nothing() -> None:
    desk = ready_desk()
    sent(desk)
    desk.answer("o1", TIMEOUT)
    desk.run(600, failure="503")
    assert desk.status() is OrderStatus.UNKNOWN
    desk.run(40)  # three that succeed
    assert desk.status() is OrderStatus.ABSENT


def test_absent_needs_an_explained_position() -> None:
    desk = ready_desk()
    place = sent(desk)
    desk.answer("o1", TIMEOUT)
    number = desk.broker.place(place.ticket)
    fill = desk.broker.fill(number)
    hidden = dict(desk.broker.orders), [fill]
    desk.broker.orders.clear()  # searches lag behind: no order, no trade, but the position
    positions = desk.broker.positions
    desk.broker.fills, held = [], positions()
    desk.broker.positions = lambda: held  # type: ignore[method-assign]
    desk.run(300)
    assert desk.status() is OrderStatus.UNKNOWN
    assert "unexplained_position" in desk.alarm_names()
    desk.broker.orders, desk.broker.fills = hidden
    desk.run(20)
    assert desk.status() is OrderStatus.FILLED


def test_late_landing_is_adopted_with_an_alarm() -> None:
    desk = ready_desk()
    place = sent(desk)
    desk.answer("o1", TIMEOUT)
    desk.run(140)
    assert desk.status() is OrderStatus.ABSENT
    number = desk.broker.land(place.ticket)
    desk.snapshot()
    assert desk.status() is OrderStatus.NEW
    assert "late_landing" in desk.alarm_names()
    desk.report(desk.broker.fill(number))
    assert desk.net_qty() == 1


@pytest.mark.parametrize(("given_up_s", "waits"), [(140, True), (300, False)])
def test_a_bracket_waits_for_the_entry_that_may_still_land(given_up_s: float, waits: bool) -> None:
    """Found by simulation: it was taken for the close of a flatten, and its fill was missed for ever."""
    desk = ready_desk()
    place = sent(desk)
    desk.answer("o1", TIMEOUT)
    desk.run(given_up_s)
    assert desk.status() is OrderStatus.ABSENT
    number = desk.broker.land(place.ticket)
    stop = desk.broker.orders[number + 1]
    desk.report(msgspec.structs.replace(stop, custom_tag="AutoBracket-SL", parent_order_id=None))
    assert ("external_order" not in desk.alarm_names()) is waits
    if waits:
        desk.snapshot()
        assert desk.order("o1:sl").broker_order_id == number + 1
        assert not desk.state.unmatched


def test_rejected_but_there_is_adopted_with_an_alarm() -> None:
    desk = ready_desk()
    place = sent(desk)
    desk.answer("o1", Rejected(code=2, reason="no"))
    number = desk.broker.land(place.ticket)
    desk.show(number)
    assert desk.status() is OrderStatus.NEW
    assert "late_landing" in desk.alarm_names()


def test_fill_that_overtakes_its_answer() -> None:
    desk = ready_desk()
    place = sent(desk)
    number = desk.broker.place(place.ticket)
    desk.report(desk.broker.fill(number))
    assert desk.net_qty() == 0
    assert desk.state.contract_qty(desk.order().contract_id) == 1  # counted for the account at once
    desk.answer("o1", Accepted(broker_order_id=number))
    assert desk.net_qty() == 1
    assert desk.status() is OrderStatus.FILLED


def test_cancel_of_an_unanswered_order_waits_for_its_id() -> None:
    desk = ready_desk()
    number = desk.broker.place(sent(desk).ticket)
    cancel = CancelOrder(client_order_id="o1", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=T0_NS)
    desk.intent(cancel)
    assert not desk.obey_cancels()
    desk.answer("o1", Accepted(broker_order_id=number))
    assert desk.obey_cancels() == [number]
    desk.run(3)
    assert desk.status() is OrderStatus.CANCELED


def test_cancel_refused_because_a_fill_was_faster() -> None:
    desk = ready_desk()
    number = desk.broker.place(sent(desk).ticket)
    desk.answer("o1", Accepted(broker_order_id=number))
    desk.intent(
        CancelOrder(client_order_id="o1", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=T0_NS)
    )
    desk.take(Cancel)
    desk.broker.fill(number)
    refused = Rejected(code=2, reason="OrderNotFound")
    desk.feed(CancelAnswered(broker_order_id=number, outcome=refused, at=desk.at()))
    desk.run(3)
    assert desk.status() is OrderStatus.FILLED
    assert desk.net_qty() == 1


def test_cancels_go_on_until_one_has_its_effect() -> None:
    """A leg that had nothing left to protect stayed at the broker for ever after three cancels."""
    desk = ready_desk()
    number = desk.broker.place(sent(desk).ticket)
    desk.answer("o1", Accepted(broker_order_id=number))
    desk.intent(
        CancelOrder(client_order_id="o1", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=T0_NS)
    )
    desk.obey_cancels = list  # type: ignore[method-assign]
    for _ in range(60):
        for cancel in desk.take(Cancel):
            desk.feed(CancelAnswered(broker_order_id=cancel.broker_order_id, outcome=TIMEOUT, at=desk.at()))
            desk.order_reports(number)
        desk.run(0.5)
    assert "cancel_without_effect" in desk.alarm_names()
    del desk.obey_cancels
    desk.run(15)
    assert desk.status() is OrderStatus.CANCELED


def test_cancels_that_the_broker_refuses_are_told_and_go_on_more_slowly() -> None:
    """What had nothing left to protect was canceled once a second for ever, and nobody heard of it."""
    desk = ready_desk()
    desk.opened("o1")
    refused = Rejected(code=5, reason="not now")
    asked = 0
    obey, desk.obey_cancels = desk.obey_cancels, list  # type: ignore[method-assign]
    desk.intent(make_submit("x", side=Side.SELL, bracket=None))
    desk.fill_markets(desk.place_all())
    assert desk.net_qty() == 0
    for _ in range(80):
        for cancel in desk.take(Cancel):
            asked += 1
            desk.feed(CancelAnswered(broker_order_id=cancel.broker_order_id, outcome=refused, at=desk.at()))
        desk.run(0.5)
    assert "cancel_without_effect" in desk.alarm_names()
    assert desk.status("o1:sl") is OrderStatus.NEW
    assert asked <= 24  # of two legs in 40 s
    desk.obey_cancels = obey  # type: ignore[method-assign]
    desk.run(15)
    assert desk.status("o1:sl") is OrderStatus.CANCELED


def vanished(desk: Desk, number: int) -> None:
    """Have a look at a working order answered with: there is none."""
    desk.state.checks[number] = Check(due_ns=desk.at().mono_ns, wanted=Wanted())
    desk.feed(OrderQueried(broker_order_id=number, report=None, failure=None, at=desk.at()))


def resting(desk: Desk, *, qty: int = 1) -> int:
    desk.intent(make_submit("o1", qty=qty, order_type=OrderType.LIMIT, limit_price=Decimal(4990)))
    (place,) = desk.take(Place)
    number = desk.broker.place(place.ticket)
    desk.answer("o1", Accepted(broker_order_id=number))
    desk.show(number)
    assert desk.status() is OrderStatus.NEW
    return number


@pytest.mark.proves("I-5", "I-7")
def test_an_order_that_one_look_does_not_show_is_in_doubt_until_a_search_shows_it() -> None:
    desk = ready_desk()
    number = resting(desk)
    vanished(desk, number)
    assert desk.status() is OrderStatus.UNKNOWN
    assert "order_vanished" in desk.alarm_names()
    assert desk.state.is_frozen(MES)
    desk.run(3)
    assert desk.status() is OrderStatus.NEW
    assert not desk.state.is_frozen(MES)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.proves("I-2", "I-5")
def test_an_order_that_is_gone_freezes_its_contract_for_a_quarantine(restarted: bool) -> None:
    """An account that was reset left it working in our books, and its contract frozen by a flatten."""
    desk = ready_desk()
    number = resting(desk)
    for gone in (number, number + 1, number + 2):
        desk.broker.orders.pop(gone, None)
    vanished(desk, number)
    if restarted:
        desk.restart()
        desk.ready()
        assert desk.status() is OrderStatus.UNKNOWN
    desk.run(desk.state.rules.quarantine_s - 10)
    assert desk.status() is OrderStatus.UNKNOWN
    desk.run(40)
    assert desk.status() is OrderStatus.ABSENT
    desk.run(desk.state.rules.quarantine_s + 60)  # then its bracket, whose cancels find nothing
    assert not desk.state.open
    assert not desk.state.is_frozen(MES)


def test_what_is_left_of_an_order_that_had_filled_in_part_is_canceled_when_it_is_gone() -> None:
    desk = ready_desk()
    number = resting(desk, qty=2)
    desk.report(desk.broker.fill(number, qty=1))
    desk.show(number)
    del desk.broker.orders[number]
    vanished(desk, number)
    assert desk.status() is OrderStatus.UNKNOWN
    desk.run(desk.state.rules.quarantine_s + 40)
    assert (desk.status(), desk.order().cum_qty) == (OrderStatus.CANCELED, 1)


def test_a_cancel_outlives_a_look_that_did_not_show_its_order() -> None:
    desk = ready_desk()
    number = resting(desk)
    desk.intent(
        CancelOrder(client_order_id="o1", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=T0_NS)
    )
    desk.take(Cancel)
    desk.feed(CancelAnswered(broker_order_id=number, outcome=TIMEOUT, at=desk.at()))
    vanished(desk, number)
    assert desk.status() is OrderStatus.UNKNOWN
    desk.run(10)
    assert desk.status() is OrderStatus.CANCELED


def test_cancel_that_never_left_counts_for_nothing() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    for _ in range(5):
        orders.send_cancel(Turn(state=desk.state, at=desk.at()), number + 2)
        away = NotSent(reason="connection refused")
        desk.feed(CancelAnswered(broker_order_id=number + 2, outcome=away, at=desk.at()))
    assert not desk.state.cancels_sent


def test_refusal_that_the_hub_shows_first_gets_its_reason() -> None:
    desk = ready_desk()
    place = sent(desk)
    number = desk.broker.land(place.ticket)
    desk.broker.set(number, status=OrderStatus.REJECTED)
    desk.order_reports(number)
    desk.answer("o1", Rejected(code=2, reason="Invalid order size (9)."))
    last = desk.messages(OrderUpdated)[-1]
    assert (last.status, last.reason) == (OrderStatus.REJECTED, "Invalid order size (9). (code 2)")


def test_brackets_refused_says_the_remedy() -> None:
    desk = ready_desk()
    sent(desk)
    reason = "Brackets cannot be used with Position Brackets. You must enable Auto OCO Brackets."
    desk.answer("o1", Rejected(code=2, reason=reason))
    assert "Risk Settings" in desk.messages(OrderUpdated)[-1].reason
    assert desk.status() is OrderStatus.REJECTED


def test_shorter_quarantine_is_a_setting() -> None:
    desk = Desk(make_rules(quarantine_s=5.0))
    desk.ready()
    sent(desk)
    desk.answer("o1", TIMEOUT)
    desk.run(12)
    assert desk.status() is OrderStatus.ABSENT


def test_fill_of_an_order_that_nobody_has_shown_blocks_absence() -> None:
    desk = ready_desk()
    place = sent(desk)
    desk.answer("o1", TIMEOUT)
    number = desk.broker.place(place.ticket)
    desk.broker.fill(number)
    hidden = dict(desk.broker.orders)
    desk.broker.orders.clear()  # the search for orders lags; fills and position are there and agree
    for _ in range(60):
        desk.pass_time(5)
        desk.tick()
        desk.answer_searches()
        for query in desk.take(QueryOrder):
            desk.feed(
                OrderQueried(broker_order_id=query.broker_order_id, report=None, failure="503", at=desk.at())
            )
    assert desk.status() is OrderStatus.UNKNOWN
    desk.broker.orders.update(hidden)
    desk.run(20)
    assert desk.status() is OrderStatus.FILLED
    assert desk.net_qty() == 1


def test_one_question_at_a_time_for_each_order() -> None:
    """Found by simulation: under a broker that was slow they queued up and left no place for the searches."""
    desk = ready_desk()
    number = desk.opened("o1")
    desk.state.checks[number] = Check(due_ns=desk.mono_ns, wanted=Wanted())
    for _ in range(60):
        desk.pass_time(5)
        desk.tick()
    assert len([one for one in desk.take(QueryOrder) if one.broker_order_id == number]) == 1
    desk.feed(OrderQueried(broker_order_id=number, report=None, failure="503", at=desk.at()))
    desk.tick()
    assert [one.broker_order_id for one in desk.take(QueryOrder)] == [number], "asked again"


def test_fill_of_a_known_stranger_does_not_block_absence() -> None:
    desk = ready_desk()
    by_hand = desk.broker.external()
    desk.report(desk.broker.fill(by_hand))
    desk.order_reports(by_hand)
    sent(desk)
    desk.answer("o1", TIMEOUT)
    desk.run(140)
    assert desk.status() is OrderStatus.ABSENT


class Answering:
    """The one thing that a gateway's transport does: an answer, or none."""

    def __init__(self, answer: HttpReply | Exception) -> None:
        self.answer = answer

    async def post(self, *args: object, **kwargs: object) -> HttpReply:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Free:
    """A rate limit with room for everything."""

    async def acquire(self, kind: LimitKind, urgent: bool) -> None: ...

    async def pause(self, kind: LimitKind, pause_s: float) -> None: ...


def finished(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Return what a coroutine returns that never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    raise AssertionError("it waits")


def reply(status: int, body: bytes = b"") -> HttpReply:
    return HttpReply(status=status, body=body, retry_after_s=None)


def business(code: int, *, success: bool = False, order_id: int | None = None) -> HttpReply:
    body = {"success": success, "errorCode": code, "errorMessage": None, "orderId": order_id}
    return reply(200, msgspec.json.encode(body))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (business(0, success=True, order_id=100), OrderStatus.NEW),
        *((business(code), OrderStatus.REJECTED) for code in (1, 2, 3, 4, 5, 8, 9, 10)),
        (business(2, order_id=100), OrderStatus.REJECTED),  # a refused order may have a number
        (business(6), OrderStatus.UNKNOWN),  # order pending
        (business(7), OrderStatus.UNKNOWN),  # unknown error
        (business(11), OrderStatus.UNKNOWN),  # in no list
        (business(0), OrderStatus.UNKNOWN),  # neither success nor a reason
        (business(0, success=True), OrderStatus.UNKNOWN),  # no number to hold on to
        (reply(200, b""), OrderStatus.UNKNOWN),
        (reply(200, b"<html>busy</html>"), OrderStatus.UNKNOWN),
        *((reply(status), OrderStatus.UNKNOWN) for status in (400, 401, 403, 404, 429, 500, 502, 503)),
        (NoAnswerError("timeout"), OrderStatus.UNKNOWN),
        (NotSentError("connection refused"), OrderStatus.REJECTED),  # proven, twice
    ],
)
def test_outcome_of_every_answer_of_the_gateway(answer: HttpReply | Exception, expected: OrderStatus) -> None:
    """The whole way from bytes to status: whatever does not say no is not taken for a no."""
    clock = ManualClock(now_s=T0_NS / 1e9)
    gateway = Gateway(http=cast(Http, Answering(answer)), limiter=Free(), clock=clock, token=lambda: "token")
    desk = ready_desk()
    place = sent(desk)
    for _ in range(2):
        outcome = finished(ProjectXOrders(gateway).place(place.ticket))
        if desk.status() is OrderStatus.PENDING_NEW:
            desk.answer("o1", outcome)
    assert desk.status() is expected
    assert (desk.state.is_frozen(MES)) is (expected is OrderStatus.UNKNOWN)
