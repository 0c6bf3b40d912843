"""Halts by kind, who may lift them, and what is still allowed under each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from services.execution import holds
from services.execution.events import HeartbeatHeard, KillSeen, Place, ProcessSeen, StreamGap, Tick
from services.execution.shell import Shell
from services.execution.state import NS_PER_S
from shared.broker.port import NotSent
from shared.domain.control import HALTS, Flatten, Halt, HaltKind, Resume, SessionHealth, TradingState
from shared.domain.execution import OrderDenied, TradingStateChanged
from shared.domain.order import CancelOrder, Side
from tests.support.execution import T0_NS, Desk, make_rules, make_submit, only


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    return desk


def halt(kind: HaltKind) -> Halt:
    return Halt(kind=kind, reason="test", issuer="t", ts_ns=T0_NS)


def resume(kind: HaltKind) -> Resume:
    return Resume(kind=kind, reason="test", issuer="operator, it says", ts_ns=T0_NS)


@pytest.mark.parametrize(
    ("halted", "resumed", "by_operator", "expected"),
    [
        (HaltKind.LIVENESS, HaltKind.LIVENESS, False, TradingState.ACTIVE),
        (HaltKind.LIVENESS, HaltKind.OPERATOR, True, TradingState.ACTIVE),
        (HaltKind.LIVENESS, HaltKind.OPERATOR, False, TradingState.REDUCING),
        (HaltKind.INVARIANT, HaltKind.LIVENESS, False, TradingState.REDUCING),
        (HaltKind.INVARIANT, HaltKind.INVARIANT, False, TradingState.REDUCING),
        (HaltKind.INVARIANT, HaltKind.INVARIANT, True, TradingState.ACTIVE),
        (HaltKind.INVARIANT, HaltKind.OPERATOR, True, TradingState.ACTIVE),
        (HaltKind.OPERATOR, HaltKind.LIVENESS, False, TradingState.HALTED),
        (HaltKind.OPERATOR, HaltKind.OPERATOR, False, TradingState.HALTED),
        (HaltKind.OPERATOR, HaltKind.OPERATOR, True, TradingState.ACTIVE),
    ],
)
@pytest.mark.proves("I-29")
def test_who_lifts_what(
    halted: HaltKind, resumed: HaltKind, by_operator: bool, expected: TradingState
) -> None:
    desk = ready_desk()
    desk.control(halt(halted))
    desk.control(resume(resumed), by_operator=by_operator)
    assert desk.state.trading_state is expected


@pytest.mark.parametrize("kind", [kind for kind, rule in HALTS.items() if rule.latched])
def test_halts_are_latched_across_restarts(kind: HaltKind) -> None:
    desk = ready_desk()
    desk.control(halt(kind), by_operator=False)
    desk.restart()
    assert kind in desk.state.standing.halts
    assert desk.messages(TradingStateChanged)[-1].halts == {kind: "test (t)"}


def test_reducing_allows_exits_and_halted_only_cancels() -> None:
    desk = ready_desk()
    desk.opened("o0")
    desk.intent(make_submit("resting", qty=2))
    (resting,) = desk.place_all()
    desk.control(halt(HaltKind.LIVENESS), by_operator=False)
    (denied,) = only(desk.intent(make_submit("more")), OrderDenied)
    assert denied.code == "trading_reducing"
    assert only(desk.intent(make_submit("exit", side=Side.SELL, bracket=None)), Place)
    desk.control(halt(HaltKind.OPERATOR))
    (denied,) = only(desk.intent(make_submit("e2", side=Side.SELL, bracket=None)), OrderDenied)
    assert denied.code == "trading_halted"
    desk.intent(
        CancelOrder(client_order_id="resting", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=0)
    )
    assert desk.obey_cancels() == [resting]


def test_silent_heartbeat_stops_new_exposure() -> None:
    desk = ready_desk()
    desk.opened("o0")
    desk.pass_time(6)
    desk.tick()
    (denied,) = only(desk.intent(make_submit("o1")), OrderDenied)
    assert denied.code == "heartbeat_silent"
    assert only(desk.intent(make_submit("exit", side=Side.SELL, bracket=None)), Place)


@pytest.mark.proves("I-20")
def test_a_beat_that_waited_while_we_were_frozen_is_as_old_as_it_is() -> None:
    desk = ready_desk()
    desk.pass_time(6)
    desk.tick()
    desk.feed(HeartbeatHeard(at=desk.at(), age_ns=5_500_000_000))
    (denied,) = only(desk.intent(make_submit("o1")), OrderDenied)
    assert denied.code == "heartbeat_silent"
    desk.feed(HeartbeatHeard(at=desk.at(), age_ns=100_000_000))
    desk.feed(HeartbeatHeard(at=desk.at(), age_ns=5_000_000_000))  # an older one after it takes nothing back
    assert desk.state.heartbeat_ns == desk.at().mono_ns - 100_000_000


@pytest.mark.proves("I-20")
def test_what_is_heard_in_the_first_moment_after_a_pause_had_waited_whatever_the_wall_clock_says() -> None:
    shell = cast(Shell, SimpleNamespace(_ran_ns=0, _woke_ns=-NS_PER_S))
    heard_ms = [(250, False), (1_200, False), (6_000, True), (6_200, True), (6_260, False), (6_700, False)]
    assert [(ms, Shell._waking(shell, ms * 1_000_000)) for ms, _ in heard_ms] == heard_ms


@pytest.mark.proves("I-20")
def test_heartbeat_that_fell_silent_holds_what_waited_to_be_sent() -> None:
    desk = ready_desk()
    (place,) = only(desk.intent(make_submit("o1")), Place)
    order = desk.state.orders[place.ticket.client_order_id]
    assert holds.hold(desk.state, order, desk.at()) is None
    desk.pass_time(5.1)
    assert holds.hold(desk.state, order, desk.at()) == holds.UNJUDGED


@pytest.mark.proves("I-29")
def test_old_flatten_only_halts() -> None:
    desk = ready_desk()
    desk.pass_time(3_600)
    desk.control(Flatten(reason="yesterday", issuer="t", ts_ns=T0_NS))
    assert desk.state.standing.flatten is None
    assert desk.state.trading_state is TradingState.HALTED
    assert "flatten_too_old" in desk.alarm_names()


def fresh(desk: Desk, *, age_s: float = 0.0, issuer: str = "t") -> Resume:
    ts_ns = desk.now_ns - round(age_s * 1e9)
    return Resume(kind=HaltKind.OPERATOR, reason="looked", issuer=issuer, ts_ns=ts_ns)


def test_every_kind_of_halt_has_its_rule() -> None:
    assert set(HALTS) == set(HaltKind)
    assert all(rule.lifted_by for rule in HALTS.values())


@pytest.mark.parametrize("kind", [kind for kind, rule in HALTS.items() if not rule.latched])
def test_what_execution_lifts_itself_waits_for_a_person_when_others_ask_for_it(kind: HaltKind) -> None:
    desk = ready_desk()
    desk.control(halt(kind), by_operator=False)
    desk.tick()
    assert desk.state.trading_state is TradingState.HALTED
    assert set(desk.state.halts) == {HaltKind.OPERATOR}


@pytest.mark.proves("I-29")
@pytest.mark.parametrize(
    ("age_s", "lifted"),
    [(0, True), (60, True), (60.001, False), (3_600, False), (-5, True), (-5.001, False), (-3_600, False)],
)
def test_only_a_fresh_resume_lifts(age_s: float, lifted: bool) -> None:
    desk = ready_desk()
    desk.pass_time(3_600)
    desk.control(halt(HaltKind.OPERATOR))
    desk.control(fresh(desk, age_s=age_s))
    assert (desk.state.trading_state is TradingState.ACTIVE) is lifted
    assert ("resume_refused" in desk.alarm_names()) is not lifted


@pytest.mark.proves("I-29")
def test_a_resume_that_is_played_again_does_nothing() -> None:
    desk = ready_desk()
    desk.control(halt(HaltKind.OPERATOR))
    resumed = fresh(desk)
    desk.control(resumed)
    assert desk.state.trading_state is TradingState.ACTIVE
    desk.control(halt(HaltKind.OPERATOR))
    desk.control(resumed)
    assert desk.state.trading_state is TradingState.HALTED
    desk.restart()
    desk.control(resumed)
    assert desk.state.trading_state is TradingState.HALTED  # also after a restart
    desk.pass_time(1)
    desk.control(fresh(desk))
    assert desk.state.trading_state is TradingState.ACTIVE


def test_resumes_are_not_kept_for_ever() -> None:
    desk = ready_desk()
    for _ in range(300):
        desk.pass_time(1)
        desk.control(fresh(desk))
    assert len(desk.state.standing.resumes) <= 121


def test_a_start_is_halted_until_the_broker_has_been_seen() -> None:
    desk = Desk()
    assert desk.state.trading_state is TradingState.HALTED
    assert set(desk.messages(TradingStateChanged)[-1].halts) == {HaltKind.STARTING}
    desk.control(fresh(desk))
    assert desk.state.trading_state is TradingState.HALTED  # no person can know better
    desk.tick()
    desk.answer_searches()
    assert desk.state.trading_state is TradingState.HALTED
    desk.snapshot()
    assert desk.state.trading_state is TradingState.ACTIVE
    assert desk.messages(TradingStateChanged)[-1].halts == {}
    assert HaltKind.STARTING not in desk.state.standing.halts  # nothing of it is kept


def tick(desk: Desk, offset_ms: int | None) -> TradingState:
    desk.feed(Tick(session=SessionHealth.ACTIVE, at=desk.at(), clock_offset_ms=offset_ms))
    return desk.state.trading_state


@pytest.mark.proves("I-21")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_wrong_clock_takes_no_new_exposure_until_it_is_right(sign: int) -> None:
    desk = ready_desk()
    assert tick(desk, 2_000 * sign) is TradingState.ACTIVE
    assert tick(desk, 2_001 * sign) is TradingState.REDUCING
    said = len(desk.messages(TradingStateChanged))
    assert tick(desk, 9_000 * sign) is TradingState.REDUCING
    assert tick(desk, None) is TradingState.REDUCING  # unknown lifts nothing
    assert tick(desk, 1_001 * sign) is TradingState.REDUCING  # nor does a reading near the limit
    desk.control(fresh(desk))
    assert desk.state.trading_state is TradingState.REDUCING
    assert len(desk.messages(TradingStateChanged)) == said  # told once
    assert tick(desk, 1_000 * sign) is TradingState.ACTIVE


@pytest.mark.proves("I-26")
def test_the_switch_halts_latched_and_again_after_every_resume() -> None:
    desk = ready_desk()
    for _ in range(2):
        desk.feed(KillSeen(why="the file data/halt: enough", at=desk.at()))
    assert desk.state.trading_state is TradingState.HALTED
    assert len(desk.messages(TradingStateChanged)) == 3  # starting, active, halted
    desk.restart()
    assert desk.state.trading_state is TradingState.HALTED
    desk.control(fresh(desk))
    assert desk.state.trading_state is TradingState.ACTIVE
    desk.feed(KillSeen(why="the file data/halt: enough", at=desk.at()))
    assert desk.state.trading_state is TradingState.HALTED


@pytest.mark.proves("I-4")
@pytest.mark.parametrize(
    ("kind", "side", "again"),
    [
        (HaltKind.OPERATOR, Side.BUY, False),
        (HaltKind.LIVENESS, Side.BUY, False),
        (HaltKind.OPERATOR, Side.SELL, False),
        (HaltKind.LIVENESS, Side.SELL, True),
    ],
)
def test_nothing_is_sent_again_against_a_halt(kind: HaltKind, side: Side, again: bool) -> None:
    desk = ready_desk()
    desk.opened("o0", qty=2)
    desk.pass_time(1)
    desk.ready()
    desk.intent(make_submit("o1", side=side))
    (place,) = desk.take(Place)
    desk.control(halt(kind), by_operator=False)
    desk.answer(place.ticket.client_order_id, NotSent(reason="refused"))
    assert bool(desk.take(Place)) is again


@pytest.mark.proves("I-30")
@pytest.mark.parametrize(
    ("process", "build", "settings", "code"),
    [
        ("feed", "b1", "s1", ""),
        ("feed", "b2", "s1", "mixed_build"),
        ("broker_sync", "b1", "s2", "mixed_build"),
        ("heartbeat", "", "", "mixed_build"),
        ("strategy:s1", "b2", "s1", "mixed_build"),
        ("strategy:s2", "b2", "s1", ""),  # another's worker
        ("recorder", "b2", "s1", ""),
    ],
)
def test_a_mixed_system_takes_no_new_exposure(process: str, build: str, settings: str, code: str) -> None:
    desk = Desk(make_rules(build="b1", settings="s1"))
    desk.ready()
    desk.opened("o0", qty=2)
    desk.pass_time(1)
    desk.ready()
    desk.feed(ProcessSeen(process=process, build=build, settings=settings, at=desk.at()))
    assert desk.refusal(make_submit("o1")) == code
    assert desk.refusal(make_submit("exit", side=Side.SELL)) == ""
    desk.feed(ProcessSeen(process=process, build="b1", settings="s1", at=desk.at()))
    desk.pass_time(1)
    desk.ready()
    assert desk.refusal(make_submit("o2")) == ""


def test_cancels_and_changes_count_as_messages() -> None:
    desk = Desk(make_rules(limits={"messages_per_s_max": 3}))
    desk.ready()
    desk.intent(make_submit("a", qty=1))
    desk.place_all()
    cancel = CancelOrder(client_order_id="a", strategy_id="s1", symbol="MES", cause="c", ts_cause_ns=0)
    desk.intent(cancel)
    assert desk.refusal(make_submit("b", qty=2)) == ""
    assert desk.refusal(make_submit("c", side=Side.SELL)) == "messages_per_s_max"


@pytest.mark.proves("I-16")
@pytest.mark.parametrize("set_back", [True, False])
def test_numbers_that_come_again_tell_of_a_redis_that_was_set_back(set_back: bool) -> None:
    """Found by simulation: the new stream was as long as the one that was read, and no start could tell."""
    desk = Desk()
    desk.ready()
    missing = "after entry 2 comes 2" if set_back else "after entry 2 comes 4"
    desk.feed(StreamGap(stream="intents", what="intents", missing=missing, set_back=set_back, at=desk.at()))
    assert "stream_gap" in desk.alarm_names()
    assert (HaltKind.INVARIANT in desk.state.standing.halts) is set_back


@pytest.mark.proves("I-8")
def test_fills_of_reports_that_are_missing_are_searched_for() -> None:
    """Found by simulation: the next whole picture holds no fills, and its positions agree."""
    desk = Desk()
    desk.ready()
    for side in (Side.BUY, Side.SELL):
        desk.broker.fill(desk.broker.external(side=side))  # by hand, and told in what is missing
    shown, desk.broker.fills = desk.broker.fills, []
    desk.feed(StreamGap(stream="reports", what="reports", missing="after entry 2 comes 9", at=desk.at()))
    desk.run(1, failure="busy")
    desk.run(1)  # the search lags
    assert not desk.state.fills
    desk.broker.fills = shown
    desk.run(desk.state.rules.quarantine_s)
    assert len(desk.state.fills) == 2
    desk.run(15)
    assert desk.state.unread_ns is None, "it asks no further"
