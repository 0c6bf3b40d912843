"""Flatten: everything goes, seen at the broker, whatever stands in the way."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.execution.events import Cancel, CloseContract, Place
from services.execution.records import EXTERNAL
from shared.broker.port import Accepted
from shared.domain.control import Flatten, HaltKind, Resume, TradingState
from shared.domain.execution import FlattenFinished, FlattenProgressed, OrderFilled
from shared.domain.order import OrderStatus, Side
from tests.support.execution import MES, T0_NS, Desk, durable, make_rules, make_submit


def flatten(desk: Desk, symbol: str | None = None) -> None:
    desk.control(Flatten(reason="test", issuer="t", ts_ns=desk.now_ns, symbol=symbol))


def desk_with_orders() -> Desk:
    desk = Desk()
    desk.ready()
    desk.opened("o0", qty=2)
    desk.intent(make_submit("resting"))
    desk.place_all()
    return desk


def test_everything_is_canceled_and_closed() -> None:
    desk = desk_with_orders()
    flatten(desk)
    assert desk.state.trading_state is TradingState.HALTED
    kinds = [type(one) for one in desk.to_send]
    assert kinds.count(CloseContract) == 1
    assert kinds.count(Cancel) == 5  # the resting entry, its sleeping children, and those that protect
    desk.run(5)
    desk.snapshot()
    (finished,) = desk.messages(FlattenFinished)
    assert finished.flat
    assert not desk.broker.working()
    assert desk.broker.net_qty == 0
    assert not desk.state.open


def test_the_close_is_the_strategies_exit() -> None:
    desk = desk_with_orders()
    flatten(desk)
    desk.run(5)
    assert desk.net_qty() == 0
    last = desk.messages(OrderFilled)[-1]
    assert (last.strategy_id, last.role, last.strategy_net_qty) == ("s1", "exit", 0)
    desk.snapshot()
    desk.next_snapshot()
    assert "position_mismatch" not in desk.alarm_names()


def test_opposite_strategies_need_no_close() -> None:
    desk = Desk()
    desk.ready()
    desk.opened("o0")
    desk.opened("o1", side=Side.SELL, strategy_id="s2")
    flatten(desk)
    desk.run(5)
    assert desk.messages(FlattenFinished)[-1].flat
    assert not desk.take(CloseContract)  # what they hold against each other is no position at the broker
    assert (desk.net_qty("s1"), desk.net_qty("s2")) == (0, 0)
    ends = [fill for fill in desk.messages(OrderFilled) if fill.fill_id < 0]
    assert [(one.strategy_id, one.strategy_net_qty, one.role) for one in ends] == [
        ("s1", 0, "exit"),
        ("s2", 0, "exit"),
    ]
    assert {one.last_px for one in ends} == {Decimal(5000)}  # the market's last
    booked = sum(fill.side.sign * -fill.last_px * fill.last_qty * 5 for fill in desk.broker.fills)
    assert sum(one.realized_pnl for one in desk.messages(OrderFilled)) == booked
    again = Desk(desk.rules, ledger=desk.ledger)
    assert durable(again.state) == durable(desk.state)


def test_books_end_when_the_close_is_heard_late() -> None:
    desk = Desk()
    desk.ready()
    desk.opened("o0", qty=3)
    desk.opened("o1", side=Side.SELL, strategy_id="s2")
    flatten(desk)
    desk.obey_cancels()
    desk.obey_closes()
    close = desk.broker.fills.pop()  # trades lag behind positions
    positions = desk.broker.positions
    desk.broker.positions = list  # type: ignore[method-assign,assignment]
    desk.run(3)
    assert desk.messages(FlattenFinished)[-1].flat
    assert desk.net_qty("s1") == 3
    desk.broker.positions = positions  # type: ignore[method-assign]
    desk.broker.fills.append(close)
    desk.report(close)
    desk.run(3)
    assert (desk.net_qty("s1"), desk.net_qty("s2")) == (0, 0)
    assert desk.state.contract_qty(MES) == 0 == desk.broker.net_qty


@pytest.mark.parametrize("later_s", [1, 600])
def test_trade_by_hand_after_a_flatten_takes_no_position_from_a_strategy(later_s: float) -> None:
    """Found by chaos: since a close had once been sent, what was bought back closed a strategy's short."""
    desk = Desk()
    desk.ready()
    desk.opened("o0")
    flatten(desk)
    desk.run(5)
    desk.control(Resume(kind=HaltKind.OPERATOR, reason="go on", issuer="t", ts_ns=desk.now_ns))
    desk.pass_time(later_s)
    desk.ready()
    desk.opened("o1", side=Side.SELL)
    for side in (Side.SELL, Side.BUY):
        by_hand = desk.broker.external(side=side, qty=2)
        desk.report(desk.broker.fill(by_hand))
        desk.order_reports(by_hand)
    desk.run(3)
    assert (desk.net_qty(), desk.broker.net_qty) == (-1, -1)
    assert not desk.state.gaps  # its stop is still there
    assert ("external_order" in desk.alarm_names()) is (later_s > desk.rules.quarantine_s)


def test_flatten_closes_what_was_opened_by_hand_too() -> None:
    desk = Desk()
    desk.ready()
    desk.opened("o0")
    by_hand = desk.broker.external(qty=2)
    desk.report(desk.broker.fill(by_hand))
    desk.order_reports(by_hand)
    flatten(desk)
    desk.run(5)
    assert desk.messages(FlattenFinished)[-1].flat
    assert (desk.net_qty(), desk.net_qty(EXTERNAL), desk.broker.net_qty) == (0, 0, 0)


def test_a_stop_that_nobody_has_shown_is_no_close_of_ours() -> None:
    """After a flatten its fill went to another strategy, and the stop's order missed it for ever."""
    desk = Desk()
    desk.ready()
    desk.opened("o0")
    flatten(desk)
    desk.run(5)
    desk.control(Resume(kind=HaltKind.OPERATOR, reason="go on", issuer="t", ts_ns=desk.now_ns))
    desk.ready()
    desk.opened("o1", strategy_id="s2")
    desk.intent(make_submit("o2"))
    (place,) = desk.take(Place)
    number = desk.broker.place(place.ticket)
    desk.answer("o2", Accepted(broker_order_id=number))
    desk.report(desk.broker.fill(number))
    desk.report(desk.broker.fill(number + 1))
    assert desk.net_qty("s2") == 1
    desk.show(number)
    assert (desk.net_qty("s1"), desk.net_qty("s2")) == (0, 1)
    assert not desk.order("o2:sl").missing_qty


def test_flatten_uses_up_what_was_there_before_the_ledger() -> None:
    desk = Desk()
    desk.broker.fill(desk.broker.external(), at_ns=T0_NS - 10_000_000_000)
    desk.ready()
    desk.opened("o0", side=Side.SELL)
    assert desk.state.standing.baselines == {MES: 1}
    flatten(desk)
    desk.run(5)
    assert desk.net_qty() == 0
    assert desk.state.standing.baselines == {MES: 0}
    desk.snapshot()
    desk.next_snapshot()
    assert "position_mismatch" not in desk.alarm_names()


def test_restart_in_the_middle_goes_on() -> None:
    desk = desk_with_orders()
    flatten(desk)
    desk.restart()  # nothing of the first round has left
    assert desk.state.standing.flatten is not None
    desk.run(10)
    assert desk.messages(FlattenFinished)[-1].flat
    assert desk.broker.net_qty == 0
    assert not desk.broker.working()
    assert desk.state.trading_state is TradingState.HALTED


def test_position_that_will_not_go_calls_for_a_person() -> None:
    desk = Desk(make_rules(flatten_rounds_max=3))
    desk.closes_work = False
    desk.ready()
    desk.opened("o0")
    flatten(desk)
    desk.run(30)
    (finished,) = desk.messages(FlattenFinished)
    assert not finished.flat
    assert len(desk.messages(FlattenProgressed)) == 3
    assert "flatten_incomplete" in desk.alarm_names()


def test_external_orders_go_too() -> None:
    desk = Desk()
    desk.ready()
    number = desk.broker.external()
    desk.order_reports(number)
    assert "external_order" in desk.alarm_names()
    flatten(desk)
    desk.run(5)
    assert desk.broker.orders[number].status is OrderStatus.CANCELED


def test_failed_looks_do_not_end_it() -> None:
    desk = desk_with_orders()
    flatten(desk)
    desk.run(60, failure="503")
    assert not desk.messages(FlattenFinished)
    desk.run(20)
    assert desk.messages(FlattenFinished)[-1].flat
