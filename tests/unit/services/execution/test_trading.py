"""Halts by kind, who may lift them, and what is still allowed under each."""

from __future__ import annotations

import pytest

from services.execution.events import Place
from shared.domain.control import HALTS, Flatten, Halt, HaltKind, Resume, TradingState
from shared.domain.execution import OrderDenied, TradingStateChanged
from shared.domain.order import CancelOrder, Side
from tests.support.execution import T0_NS, Desk, make_submit, only


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


@pytest.mark.proves("I-29")
def test_old_flatten_only_halts() -> None:
    desk = ready_desk()
    desk.pass_time(3_600)
    desk.control(Flatten(reason="yesterday", issuer="t", ts_ns=T0_NS))
    assert desk.state.standing.flatten is None
    assert desk.state.trading_state is TradingState.HALTED
    assert "flatten_too_old" in desk.alarm_names()
