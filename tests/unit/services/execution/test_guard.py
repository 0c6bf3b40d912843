"""Guard's word: its halt is lifted by nobody else, and what it closes belongs to the strategies."""

from __future__ import annotations

import pytest

from services.execution.events import ControlRead
from shared.domain.control import Control, Flatten, Halt, HaltKind, Resume, TradingState
from shared.domain.execution import FlattenFinished, OrderFilled, TradingStateChanged
from shared.domain.order import Side
from tests.support.execution import T0_NS, Desk


def desk_of_guard(control: Control, desk: Desk) -> None:
    desk.feed(ControlRead(control=control, by_operator=False, by_guard=True, cause="", at=desk.at()))


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    return desk


def halt(reason: str = "daily loss") -> Halt:
    return Halt(kind=HaltKind.GUARD, reason=reason, issuer="guard", ts_ns=T0_NS)


def resume(kind: HaltKind = HaltKind.GUARD) -> Resume:
    return Resume(kind=kind, reason="test", issuer="guard", ts_ns=T0_NS)


@pytest.mark.parametrize("kind", [HaltKind.GUARD, HaltKind.OPERATOR, HaltKind.LIVENESS])
@pytest.mark.parametrize("by_operator", [True, False])
def test_nobody_else_lifts_it(kind: HaltKind, by_operator: bool) -> None:
    desk = ready_desk()
    desk_of_guard(halt(), desk)
    assert desk.state.trading_state is TradingState.REDUCING
    desk.control(resume(kind), by_operator=by_operator)
    assert HaltKind.GUARD in desk.state.standing.halts
    desk_of_guard(resume(), desk)
    assert desk.state.trading_state is TradingState.ACTIVE


def test_guard_lifts_nothing_else() -> None:
    desk = ready_desk()
    desk.control(Halt(kind=HaltKind.OPERATOR, reason="test", issuer="t", ts_ns=T0_NS))
    desk_of_guard(resume(HaltKind.OPERATOR), desk)
    desk_of_guard(resume(), desk)
    assert desk.state.trading_state is TradingState.HALTED


def test_its_newest_reason_is_told() -> None:
    desk = ready_desk()
    desk_of_guard(halt("first"), desk)
    desk_of_guard(halt("second"), desk)
    assert desk.messages(TradingStateChanged)[-1].halts == {HaltKind.GUARD: "second"}


def test_its_flatten_needs_no_person_afterwards() -> None:
    desk = ready_desk()
    desk.opened("o0", qty=2)
    desk_of_guard(halt("flat by 15:10"), desk)
    desk_of_guard(Flatten(reason="flat by 15:10", issuer="guard", ts_ns=desk.now_ns), desk)
    assert desk.state.trading_state is TradingState.HALTED, "while it is closing"
    desk.run(5)
    assert desk.messages(FlattenFinished)[-1].flat
    desk_of_guard(resume(), desk)
    assert desk.state.trading_state is TradingState.ACTIVE


def test_what_guard_closed_while_we_slept_is_the_strategies_exit() -> None:
    """Guard closed through its own path; its words and the fill come late and in one go."""
    desk = ready_desk()
    desk.opened("o0", qty=2)
    said = Flatten(reason="daily loss", issuer="guard", ts_ns=desk.now_ns)
    desk.pass_time(3_600)
    desk_of_guard(halt(), desk)
    desk_of_guard(said, desk)
    assert "flatten_too_old" in desk.alarm_names()
    assert desk.state.standing.flatten is None, "too old to begin one"
    number = desk.broker.external(side=Side.SELL, qty=2)
    desk.report(desk.broker.fill(number, 2))
    desk.snapshot()
    desk.run(5)
    assert desk.net_qty() == 0
    last = desk.messages(OrderFilled)[-1]
    assert (last.strategy_id, last.side, last.strategy_net_qty) == ("s1", Side.SELL, 0)
    desk.snapshot()
    desk.next_snapshot()
    assert "position_mismatch" not in desk.alarm_names()
