"""Closing everything: by execution while it obeys, by guard's own hand when it does not."""

from __future__ import annotations

import msgspec
import pytest

from services.guard.events import ExecutionSaid, RemedyAnswered, Tick
from shared.domain.execution import FlattenFinished
from shared.domain.flat import Cancel, Close
from tests.support.guard_desk import MES, GuardDesk, S


def breached(*, working: int = 2, **limits: float) -> GuardDesk:
    """Ten contracts, two resting orders, and a daily loss that has just been reached."""
    desk = GuardDesk(**limits).started()
    desk.trade(10)
    desk.run(1)
    for number in range(5, 5 + working):
        desk.broker.order(number)
    desk.px -= 25
    desk.quote()
    assert desk.words[-2:] == ["halt", "flatten"]
    return desk


def own_way(desk: GuardDesk) -> str:
    return desk.state.enforcing.own_why if desk.state.enforcing is not None else ""


def test_execution_closes_and_guard_only_watches() -> None:
    desk = breached()
    desk.run(0.5)
    desk.execution_obeys()
    desk.run(5)
    assert desk.state.flat_seen
    assert desk.remedies == []
    assert desk.record_on_disk is not None
    breach = desk.record_on_disk.latch
    assert breach is not None
    assert breach.closed_by == "execution"
    assert breach.ts_breach_ns < breach.ts_halt_ns == breach.ts_cancel_ns < breach.ts_flat_ns
    assert desk.note_names()[-1] == "flat"


def test_no_sign_of_obedience() -> None:
    desk = breached()
    desk.run(2.9)
    assert own_way(desk) == ""
    desk.run(0.3)
    assert own_way(desk) == "no sign that execution obeys within 3 s"
    desk.run(5)
    assert desk.broker.net_qty == 0
    assert desk.broker.working == {}
    assert desk.state.flat_seen
    assert desk.record_on_disk is not None
    assert desk.record_on_disk.latch is not None
    assert desk.record_on_disk.latch.closed_by == "guard"


def test_silent_execution_is_not_waited_for() -> None:
    desk = GuardDesk().started()
    desk.trade(10)
    desk.execution_beats = False
    desk.run(2.5)
    desk.px -= 25
    desk.quote()
    assert own_way(desk).startswith("execution is silent for 2.")
    assert [one.remedy for one in desk.sent] == [Close(MES)], "in the same turn, on what is known"


@pytest.mark.parametrize("first", ["tick", "quote"])
def test_a_guard_that_was_frozen_does_not_call_execution_silent_for_that(first: str) -> None:
    """What execution said meanwhile waits for us; perhaps it has closed everything, under a newer guard."""
    desk = GuardDesk().started()
    desk.trade(10)
    desk.run(1)
    desk.px -= 25
    desk.pass_time(10)
    if first == "quote":
        desk.quote(polled=True)  # a live one, as the first thing that is heard
        desk.quote()
    desk.feed(Tick(bus_away=False, at=desk.at()))
    desk.quote()
    desk.feed(Tick(bus_away=False, at=desk.at()))
    assert desk.state.enforcing is not None
    assert own_way(desk) == ""
    desk.execution_beats = False
    desk.run(2.2)
    assert own_way(desk).startswith("execution is silent for 2."), "it is silent now"


def test_the_answer_to_an_older_try_is_not_that_of_the_newer_one() -> None:
    desk = breached(working=0)
    desk.run(3.2)
    enforcing = desk.state.enforcing
    assert enforcing is not None
    attempt = enforcing.making.attempts[Close(MES)]
    attempt.answered_ns = None
    late = RemedyAnswered(
        remedy=Close(MES), sent_ns=attempt.sent_ns - 10 * S, outcome="Accepted", at=desk.at()
    )
    desk.feed(late)
    assert attempt.answered_ns is None
    desk.feed(msgspec.structs.replace(late, sent_ns=attempt.sent_ns))
    assert attempt.answered_ns == desk.mono_ns


def test_a_bus_that_is_away_is_not_waited_for() -> None:
    desk = GuardDesk().started()
    desk.trade(10)
    desk.bus_away = True
    desk.run(0.2)
    desk.px -= 25
    desk.quote()
    assert own_way(desk) == "Redis is away"
    assert [one.remedy for one in desk.sent] == [Close(MES)]
    desk.run(5)
    assert desk.state.flat_seen


def test_an_execution_that_shows_the_halt_and_closes_nothing() -> None:
    desk = breached()
    desk.run(0.5)
    desk.execution_obeys(closes=False)
    desk.run(5)
    assert own_way(desk) == ""
    desk.run(5)
    assert "nothing was closed or cancelled for 5 s" in [note.text for note in desk.notes]
    assert desk.broker.net_qty == 0


def test_an_execution_that_gets_less_and_less_is_left_alone() -> None:
    desk = breached(working=12)
    desk.run(0.5)
    desk.execution_obeys(closes=False)
    for _ in range(12):
        desk.broker.working.popitem()
        desk.run(2)
        assert own_way(desk) == ""


def test_an_execution_that_gives_up() -> None:
    desk = breached()
    desk.execution_obeys(closes=False)
    given_up = FlattenFinished(flat=False, rounds=20, reason="left", ts_ns=desk.now_ns)
    desk.feed(ExecutionSaid(message=given_up, at=desk.at()))
    assert own_way(desk) == "execution gave up"


def test_own_closing_cancels_first_and_never_repeats_without_a_look() -> None:
    desk = breached()
    desk.run(3.2)
    assert desk.remedies == [Cancel(5), Cancel(6), Close(MES)]


def test_it_does_not_stop_before_the_broker_shows_flat() -> None:
    desk = breached()
    desk.broker.closes_work = False
    desk.run(60)
    assert not desk.state.flat_seen
    closes = desk.remedies.count(Close(MES))
    assert 5 <= closes <= 12, "again and again, with pauses"
    desk.broker.closes_work = True
    desk.run(15)
    assert desk.state.flat_seen


def test_a_broker_that_does_not_answer_is_not_flat() -> None:
    desk = breached()
    desk.rest = False
    desk.broker.working.clear()
    desk.run(30)
    assert not desk.state.flat_seen
    desk.rest = True
    desk.run(15)
    assert desk.state.flat_seen


def test_a_stop_that_fills_beside_the_close_is_closed_too() -> None:
    desk = breached()
    desk.run(3.3)
    desk.trade(-1)
    desk.run(6)
    assert desk.broker.net_qty == 0
    assert desk.state.flat_seen


def test_a_restart_in_the_middle_goes_on() -> None:
    desk = breached()
    desk.run(0.5)
    desk.restart()
    desk.run(15)
    assert desk.broker.net_qty == 0
    assert desk.state.flat_seen
    assert desk.record_on_disk is not None
    assert desk.record_on_disk.latch is not None


def test_looks_while_closing_are_bounded() -> None:
    """Two requests a look: a closed market must not eat the credential's budget."""
    desk = breached()
    desk.broker.closes_work = False
    desk.run(30)
    before = desk.flat_looks
    desk.run(60)
    assert desk.flat_looks - before <= 120
    desk.run(600)
    before = desk.flat_looks
    desk.run(60)
    assert desk.flat_looks - before <= 40


@pytest.mark.parametrize("own", [False, True])
def test_the_time_of_the_first_empty_look_is_when_it_was_flat(own: bool) -> None:
    desk = breached()
    if own:
        desk.run(3.5)
    else:
        desk.execution_obeys()
    gone_ns = desk.now_ns
    desk.run(6)
    assert desk.record_on_disk is not None
    assert desk.record_on_disk.latch is not None
    assert 0 <= desk.record_on_disk.latch.ts_flat_ns - gone_ns <= 1.1 * S
