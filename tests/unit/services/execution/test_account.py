"""Our fills against the broker's position, and what was there before us."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.execution import fills
from services.execution.events import Place, Search
from services.execution.turn import Turn
from shared.broker.port import Accepted
from shared.domain.control import HaltKind, Resume
from shared.domain.execution import ExternalOrderSeen, OrderDenied, PositionMismatch
from shared.domain.order import ClosePosition, OrderStatus, Side
from shared.domain.report import SnapshotBegun, SnapshotTaken
from tests.support.execution import ACCOUNT, MES, T0_NS, Desk, durable, make_submit, only


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    return desk


def hide_fills(desk: Desk) -> None:
    """Let the broker hold one contract and show no fill of it."""
    hidden, desk.broker.fills = desk.broker.fills, []
    held = [msgspec.structs.replace(one, net_qty=1) for one in _positions(desk, hidden)]
    desk.broker.positions = lambda: held  # type: ignore[method-assign]


def test_difference_counts_from_the_second_picture_on() -> None:
    desk = ready_desk()
    desk.broker.fill(desk.broker.external())
    hide_fills(desk)
    desk.snapshot()
    assert not desk.messages(PositionMismatch)
    desk.snapshot()  # a reconnect takes two
    assert not desk.messages(PositionMismatch)
    desk.next_snapshot()
    (mismatch,) = desk.messages(PositionMismatch)
    assert (mismatch.from_fills, mismatch.at_broker) == (0, 1)
    assert HaltKind.INVARIANT in desk.state.standing.halts
    desk.snapshot()
    assert len(desk.messages(PositionMismatch)) == 1
    desk.control(Resume(kind=HaltKind.INVARIANT, reason="looked", issuer="t", ts_ns=T0_NS))
    desk.snapshot()
    desk.next_snapshot()
    assert not desk.state.standing.halts
    assert desk.state.contract_qty(MES) == 1


def test_a_difference_is_none_while_we_cannot_look_by_ourselves() -> None:
    """Found by simulation: pictures came, the search for the fill was held up, and trading halted."""
    desk = ready_desk()
    desk.broker.fill(desk.broker.external())
    hide_fills(desk)
    desk.snapshot()
    for _ in range(3):
        desk.pass_time(30)
        desk.tick()
        desk.answer_searches(failure="no answer")
        desk.snapshot()
    assert not desk.messages(PositionMismatch) and not desk.state.standing.halts
    desk.next_snapshot()
    assert len(desk.messages(PositionMismatch)) == 1


def test_same_difference_after_other_fills_is_another() -> None:
    desk = ready_desk()
    fills_of_others = [
        desk.broker.fill(desk.broker.external(side=side)) for side in (Side.BUY, Side.SELL, Side.BUY)
    ]
    hide_fills(desk)
    desk.snapshot()
    for late in fills_of_others[:2]:
        desk.report(late)
    desk.next_snapshot()
    assert not desk.messages(PositionMismatch)
    desk.next_snapshot()
    assert len(desk.messages(PositionMismatch)) == 1


def test_difference_that_a_late_fill_explains_is_not_accepted_once_more() -> None:
    desk = ready_desk()
    fill = desk.broker.fill(desk.broker.external())
    hide_fills(desk)
    desk.snapshot()
    desk.next_snapshot()
    assert HaltKind.INVARIANT in desk.state.standing.halts
    desk.report(fill)
    desk.snapshot()
    desk.control(Resume(kind=HaltKind.INVARIANT, reason="looked", issuer="t", ts_ns=T0_NS))
    assert desk.state.contract_qty(MES) == 1
    desk.snapshot()
    desk.next_snapshot()
    assert not desk.state.standing.halts


def test_pictures_older_than_a_search_of_ours_prove_no_difference() -> None:
    desk = ready_desk()
    desk.opened("o1", qty=2)
    old = msgspec.structs.replace(desk.broker.positions()[0], net_qty=2)
    exit_fill = desk.broker.fill(desk.broker.external(side=Side.SELL, qty=2))
    then_ns = desk.now_ns
    desk.pass_time(3)
    desk.restart()  # its search brings the exit; the pictures on the bus are of before
    assert exit_fill.fill_id in desk.state.fills
    for _ in range(2):
        desk.report(
            SnapshotBegun(account_id=ACCOUNT, ts_recv_ns=then_ns),
            old,
            SnapshotTaken(account_id=ACCOUNT, positions=1, working_orders=0, ts_recv_ns=then_ns),
        )
    assert not desk.messages(PositionMismatch)
    assert not desk.state.standing.halts


def _positions(desk: Desk, fills: list[object]) -> list[object]:
    desk.broker.fills, kept = fills, desk.broker.fills  # type: ignore[assignment]
    positions: list[object] = list(desk.broker.positions())
    desk.broker.fills = kept
    return positions


def test_position_from_before_the_ledger_is_a_baseline() -> None:
    desk = Desk()
    desk.broker.fill(desk.broker.external(qty=2), at_ns=T0_NS - 10_000_000_000)
    desk.ready()
    assert "baseline" in desk.alarm_names()
    assert desk.state.standing.baselines == {MES: 2}
    desk.snapshot()
    desk.next_snapshot()
    assert not desk.state.standing.halts
    assert desk.net_qty() == 0
    desk.ready()
    (denied,) = only(desk.intent(make_submit(qty=4)), OrderDenied)
    assert denied.code == "position_max"  # 2 + 4 > 5


@pytest.mark.parametrize(("after_s", "baseline"), [(1.0, {}), (-1.0, {MES: 1})])
def test_fill_heard_before_a_picture_that_is_older_is_not_in_the_baseline(
    after_s: float, baseline: dict[str, int]
) -> None:
    """The picture was three seconds old; a fill of that time was taken to be in it, and never counted."""
    desk = Desk()
    if after_s < 0:
        desk.broker.fill(desk.broker.external(), at_ns=desk.now_ns + round(after_s * 1e9))
    picture = [
        SnapshotBegun(account_id=ACCOUNT, ts_recv_ns=desk.now_ns),
        *desk.broker.positions(),
        SnapshotTaken(
            account_id=ACCOUNT,
            positions=len(desk.broker.positions()),
            working_orders=0,
            ts_recv_ns=desk.now_ns,
        ),
    ]
    if after_s > 0:
        desk.broker.fill(desk.broker.external(), at_ns=desk.now_ns + round(after_s * 1e9))
    desk.pass_time(3)
    desk.tick()
    desk.answer_searches()  # shows the fill first
    desk.report(*picture)
    assert desk.state.standing.baselines == baseline
    assert desk.state.contract_qty(MES) == desk.broker.net_qty == 1
    again = Desk(desk.rules, ledger=desk.ledger)
    assert again.state.contract_qty(MES) == 1
    desk.snapshot()
    desk.next_snapshot()
    assert not desk.messages(PositionMismatch)


def test_what_was_filled_after_an_old_picture_is_not_in_its_baseline() -> None:
    desk = Desk()
    desk.tick()
    desk.answer_searches()
    taken_ns = desk.now_ns
    desk.report(SnapshotBegun(account_id=ACCOUNT, ts_recv_ns=taken_ns))
    desk.pass_time(4.0)
    by_hand = desk.broker.external(qty=2)
    fill = desk.broker.fill(by_hand, at_ns=taken_ns + 1_000_000_000)
    desk.report(SnapshotTaken(account_id=ACCOUNT, positions=0, working_orders=0, ts_recv_ns=taken_ns), fill)
    assert desk.state.standing.baselined and not desk.state.standing.baselines
    assert desk.state.contract_qty(MES) == 2


def test_order_of_another_is_seen_once_and_counted() -> None:
    desk = ready_desk()
    number = desk.broker.external(qty=3)
    desk.order_reports(number)
    desk.order_reports(number)
    assert len(desk.messages(ExternalOrderSeen)) == 1
    desk.report(desk.broker.fill(number))
    desk.snapshot()
    desk.next_snapshot()
    assert not desk.messages(PositionMismatch)
    assert desk.state.contract_qty(MES) == 3
    assert desk.net_qty() == 0


def test_a_fill_shared_out_in_two_steps_keeps_all_its_parts_in_the_ledger() -> None:
    """Found by chaos: the second share took the first one's number, and a restart missed a contract."""
    desk = ready_desk()
    desk.opened("o1", strategy_id="s1")
    by_hand = desk.broker.external(side=Side.SELL, qty=2)
    desk.order_reports(by_hand)
    fill = desk.broker.fill(by_hand)
    desk.report(fill)
    assert desk.net_qty("s1") == 0  # one contract closed it, the other was opened by hand
    desk.opened("o2", strategy_id="s2")
    fills.attribute_closes(Turn(state=desk.state, at=desk.at()))
    desk.tick()
    again = Desk(desk.rules, ledger=desk.ledger)
    for state in (desk.state, again.state):
        assert sum(part.qty for part in state.fills[fill.fill_id]) == 2
        assert sum((part.fees for part in state.fills[fill.fill_id]), Decimal(0)) == fill.fees
    assert durable(again.state)["net_of_fills"] == durable(desk.state)["net_of_fills"]


def test_close_position_then_its_children_go() -> None:
    desk = ready_desk()
    desk.opened("o0", qty=2)
    close = ClosePosition(
        client_order_id="x",
        strategy_id="s1",
        symbol="MES",
        cause="c",
        ts_cause_ns=0,
        expires_at_ns=T0_NS + 10**10,
    )
    desk.intent(close)
    (place,) = desk.take(Place)
    assert (place.ticket.side, place.ticket.order_qty, place.ticket.bracket) == (Side.SELL, 2, None)
    assert not desk.obey_cancels()  # until the exit has filled they are the protection
    number = desk.broker.place(place.ticket)
    desk.report(desk.broker.fill(number))
    desk.show(number)
    desk.tick()
    assert len(desk.obey_cancels()) == 2
    desk.run(3)
    assert not desk.state.open
    assert desk.net_qty() == 0


def test_two_closes_do_not_turn_the_position() -> None:
    desk = ready_desk()
    desk.opened("o0", qty=2)
    for name in ("x", "y"):
        close = ClosePosition(
            client_order_id=name,
            strategy_id="s1",
            symbol="MES",
            cause="c",
            ts_cause_ns=0,
            expires_at_ns=T0_NS + 10**10,
        )
        desk.intent(close)
    assert len(desk.take(Place)) == 1
    assert desk.status("y") is OrderStatus.DENIED


def test_stop_left_alone_is_canceled_after_a_moment() -> None:
    desk = ready_desk()
    number = desk.opened("o0")
    target = desk.broker.fill(number + 2)
    desk.broker.set(number + 1, status=OrderStatus.NEW)  # the broker's OCO fails
    desk.report(target)
    desk.show(number)
    assert not desk.obey_cancels()
    desk.run(2)
    assert not desk.broker.orders[number + 1].status.may_fill


def test_stop_that_filled_before_anyone_saw_it() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o0"))
    (place,) = desk.take(Place)
    number = desk.broker.place(place.ticket)
    desk.answer("o0", Accepted(broker_order_id=number))
    desk.report(desk.broker.fill(number))
    desk.report(desk.broker.fill(number + 1, px="4998"))  # the hub never showed the children
    desk.start()
    assert desk.net_qty() == 1
    desk.run(3)
    assert desk.net_qty() == 0
    assert desk.status("o0:sl") is OrderStatus.FILLED
    assert not desk.messages(ExternalOrderSeen)


def test_filled_report_without_fills_still_counts_as_exposure() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o0", qty=4))
    (number,) = desk.place_all()
    desk.broker.fill(number)
    desk.show(number)  # the fill itself got lost
    assert desk.order("o0").missing_qty == 4
    desk.pass_time(1)
    desk.ready()
    assert desk.net_qty() == 4  # a search brought it


def test_voided_fill_is_taken_back_and_halts() -> None:
    desk = ready_desk()
    number = desk.opened("o0")
    fill = desk.broker.fills[-1]
    assert fill.broker_order_id == number
    desk.report(msgspec.structs.replace(fill, voided=True))
    assert desk.net_qty() == 0
    assert HaltKind.INVARIANT in desk.state.standing.halts


def test_fees_that_come_later() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o0"))
    (number,) = desk.place_all()
    fill = desk.broker.fill(number)
    desk.report(msgspec.structs.replace(fill, fees=Decimal(0)))
    desk.report(fill)
    assert desk.state.book("s1", MES).position.fees == Decimal("0.37")


def scenario() -> tuple[Desk, list[object]]:
    """Two entries, partly filled twice each, one stop; everything the hub says of it."""
    desk = ready_desk()
    desk.intent(make_submit("a", qty=2))
    desk.intent(make_submit("b", qty=3, side=Side.SELL, strategy_id="s2"))
    first, second = desk.place_all()
    told: list[object] = []
    for number, qty, px in (
        (first, 1, "5000.25"),
        (second, 2, "5000"),
        (first, 1, "5001"),
        (second, 1, "5002"),
    ):
        told.append(desk.broker.fill(number, qty, px))
        told += [desk.broker.orders[n] for n in (number, number + 1, number + 2)]
    told.append(desk.broker.fill(first + 1, px="4998"))
    told += [desk.broker.orders[n] for n in (first + 1, first + 2)]
    return desk, told


@settings(max_examples=150, deadline=None)
@given(data=st.data())
@pytest.mark.proves("I-9")
def test_any_order_and_any_repetition_end_the_same(data: st.DataObject) -> None:
    desk, told = scenario()
    repeated = told + data.draw(st.lists(st.sampled_from(told), max_size=10))
    shuffled = data.draw(st.permutations(repeated))
    desk.report(*shuffled)  # type: ignore[arg-type]
    straight, words = scenario()
    straight.report(*words)  # type: ignore[arg-type]
    ours, theirs = durable(desk.state), durable(straight.state)
    for name in ("positions", "fills", "net_of_fills", "days"):
        assert ours[name] == theirs[name], name
    assert desk.net_qty("s1") == 0
    assert {n: o.status for n, o in desk.state.orders.items()} == {
        n: o.status for n, o in straight.state.orders.items()
    }
    assert all(order.cum_qty <= order.order_qty for order in desk.state.orders.values())


@settings(max_examples=100, deadline=None)
@given(data=st.data())
@pytest.mark.proves("I-7")
def test_filled_quantity_never_falls_and_never_exceeds_the_order(data: st.DataObject) -> None:
    desk, told = scenario()
    filled: dict[str, int] = {}
    for one in data.draw(st.lists(st.sampled_from(told), max_size=30)):
        desk.report(one)  # type: ignore[arg-type]
        for name, order in desk.state.orders.items():
            assert filled.get(name, 0) <= order.cum_qty <= order.order_qty
            filled[name] = order.cum_qty


def ended_scenario() -> tuple[Desk, list[object]]:
    """A cancel that a fill races, a refusal, a stop in two parts: everything the hub says of them."""
    desk = ready_desk()
    desk.intent(make_submit("a", qty=3))
    desk.intent(make_submit("b", qty=1, strategy_id="s2"))
    first, second = desk.place_all()
    broker = desk.broker
    told: list[object] = [broker.fill(first, 2), broker.orders[first]]
    for child in (first + 1, first + 2):
        broker.set(child, order_qty=2)
        told.append(broker.orders[child])
    broker.set(first, status=OrderStatus.CANCELED)
    told += [broker.orders[first], broker.orders[second]]
    for number in (second, second + 1, second + 2):
        broker.set(number, status=OrderStatus.REJECTED)
        told.append(broker.orders[number])
    for _ in range(2):
        told += [broker.fill(first + 1, 1, px="4998"), broker.orders[first + 1]]
    return desk, [*told, broker.orders[first + 2]]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
@pytest.mark.proves("I-9")
def test_cancels_and_refusals_in_any_order_end_the_same(data: st.DataObject) -> None:
    desk, told = ended_scenario()
    repeated = told + data.draw(st.lists(st.sampled_from(told), max_size=10))
    desk.report(*data.draw(st.permutations(repeated)))  # type: ignore[arg-type]
    straight, words = ended_scenario()
    straight.report(*words)  # type: ignore[arg-type]
    ours, theirs = durable(desk.state), durable(straight.state)
    for name in ("positions", "fills", "net_of_fills", "days"):
        assert ours[name] == theirs[name], name
    assert {n: o.status for n, o in desk.state.orders.items()} == {
        n: o.status for n, o in straight.state.orders.items()
    }
    assert "impossible_report" not in desk.alarm_names()


def test_push_that_our_fills_do_not_make_is_looked_at_and_said() -> None:
    desk = ready_desk()
    fill = desk.broker.fill(desk.broker.external())
    pushed, desk.broker.fills = desk.broker.position(), []
    desk.report(pushed)
    desk.tick()
    desk.take(Search)
    desk.pass_time(1.5)
    desk.tick()
    assert len(desk.take(Search)) == 1
    desk.pass_time(4)
    desk.tick()
    assert "fills_missing" in desk.alarm_names()
    desk.report(fill)
    desk.tick()
    assert not desk.state.apart


def test_first_fill_of_a_contract_that_only_its_order_tells_of_is_said() -> None:
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    (number,) = desk.place_all()
    desk.broker.fill(number)
    desk.broker.fills = []
    desk.show(number)
    assert not desk.state.sync.positions
    desk.run(6, failure="too many requests")
    assert "fills_missing" in desk.alarm_names()


def test_look_is_repeated_while_searches_lag_behind_a_push() -> None:
    desk = ready_desk()
    fill = desk.broker.fill(desk.broker.external())
    pushed, held = desk.broker.position(), desk.broker.positions()
    desk.broker.fills = []
    desk.broker.positions = lambda: held  # type: ignore[method-assign]
    desk.report(pushed)
    desk.run(2)
    assert desk.state.apart
    desk.broker.fills = [fill]
    desk.run(3)
    assert not desk.state.apart
    assert "fills_missing" not in desk.alarm_names()


def test_search_after_a_push_says_what_is_held() -> None:
    desk = ready_desk()
    desk.report(msgspec.structs.replace(desk.broker.position(), net_qty=1))  # the push of its end was lost
    desk.run(8)
    assert desk.state.sync.positions[MES] == 0
    assert "fills_missing" not in desk.alarm_names()
