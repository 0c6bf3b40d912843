"""What persons, other programs and flattens of other symbols do beside us, and must not do to our orders."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.execution.events import (
    Cancel,
    CancelAnswered,
    CloseAnswered,
    CloseContract,
    HeartbeatHeard,
    MarketRead,
    Place,
    Search,
    Searched,
)
from services.execution.holds import GONE, TOO_MUCH, hold
from services.execution.orders import want_search
from services.execution.records import EXIT, EXTERNAL
from services.execution.turn import Turn
from shared.broker.port import Accepted, NotSent
from shared.domain.control import Flatten, HaltKind, Resume
from shared.domain.execution import FlattenFinished
from shared.domain.order import OrderStatus, OrderType, Side
from shared.domain.report import FillReport, OrderReport, PositionReport
from tests.support.execution import ACCOUNT, MES, T0_NS, Desk, make_market, make_rules, make_submit

GC, MNQ = "CON.F.US.GCE.J26", "CON.F.US.MNQ.H26"


def ready_desk() -> Desk:
    desk = Desk()
    desk.ready()
    return desk


def flatten(desk: Desk, symbol: str | None = None) -> None:
    desk.control(Flatten(reason="test", issuer="t", ts_ns=desk.now_ns, symbol=symbol))


def position(contract_id: str, net_qty: int) -> PositionReport:
    return PositionReport(
        account_id=ACCOUNT,
        contract_id=contract_id,
        net_qty=net_qty,
        avg_px=Decimal(2000),
        ts_event_ns=T0_NS,
        ts_recv_ns=T0_NS,
    )


def filled_elsewhere(desk: Desk, contract_id: str, side: Side, *, number: int) -> None:
    """An order of somebody else's in another contract, with its fill."""
    desk.report(
        FillReport(
            account_id=ACCOUNT,
            fill_id=number,
            broker_order_id=number,
            contract_id=contract_id,
            side=side,
            last_qty=1,
            last_px=Decimal(2001),
            fees=Decimal(1),
            ts_event_ns=desk.now_ns,
            ts_recv_ns=desk.now_ns,
        ),
        OrderReport(
            account_id=ACCOUNT,
            broker_order_id=number,
            contract_id=contract_id,
            status=OrderStatus.FILLED,
            order_type=OrderType.MARKET,
            side=side,
            order_qty=1,
            cum_qty=1,
            ts_event_ns=desk.now_ns,
            ts_recv_ns=desk.now_ns,
        ),
    )


def hold_elsewhere(desk: Desk, *held: PositionReport) -> list[PositionReport]:
    """Let the broker hold positions in other contracts as well; return the list to change."""
    others, own = list(held), desk.broker.positions
    desk.broker.positions = lambda: own() + others  # type: ignore[method-assign]
    return others


def by_hand(desk: Desk, side: Side) -> int:
    number = desk.broker.external(side=side)
    desk.order_reports(number)
    desk.report(desk.broker.fill(number))
    desk.show(number)
    return number


def test_the_books_of_a_contract_that_none_of_ours_trades_are_ended_too() -> None:
    """Each start died at its first tick: nobody has told what a point of that contract is worth."""
    desk = Desk()
    others = hold_elsewhere(desk, position(GC, 1))
    desk.ready()
    filled_elsewhere(desk, GC, Side.SELL, number=77)
    others.clear()
    desk.report(position(GC, 0))
    desk.run(5)
    flatten(desk)
    desk.run(6)
    assert desk.messages(FlattenFinished)[-1].flat
    assert desk.state.standing.crossing == []
    assert desk.state.net_qty(EXTERNAL, GC) == 0


@pytest.mark.proves("I-6", "I-8")
def test_what_was_done_by_hand_before_closes_nothing_that_was_opened_after() -> None:
    """A short by hand became the close of a long that a strategy opened a minute later; its stop went."""
    desk = ready_desk()
    by_hand(desk, Side.SELL)
    desk.pass_time(60)
    desk.ready()
    desk.intent(make_submit("o1"))
    (place,) = desk.take(Place)
    number = desk.broker.place(place.ticket)
    desk.report(desk.broker.fill(number, at_ns=desk.now_ns))  # it overtakes the answer
    desk.answer("o1", Accepted(broker_order_id=number))
    desk.show(number)
    desk.run(4)
    assert (desk.net_qty(), desk.net_qty(EXTERNAL)) == (1, -1)
    assert desk.broker.orders[number + 1].status is OrderStatus.NEW


def test_what_is_done_by_hand_after_it_closes_what_a_strategy_holds() -> None:
    desk = ready_desk()
    desk.opened("o1")
    desk.pass_time(60)
    desk.ready()
    number = desk.broker.external(side=Side.SELL)
    desk.order_reports(number)
    desk.report(desk.broker.fill(number, at_ns=desk.now_ns))
    desk.show(number)
    assert (desk.net_qty(), desk.net_qty(EXTERNAL)) == (0, 0)


def flattening_another_symbol() -> tuple[Desk, int]:
    """Return a desk that holds MES, while the flatten of MNQ does not come to an end."""
    desk = Desk(make_rules(limits={"symbols": frozenset({"MES", "MNQ"})}))
    desk.ready()
    desk.feed(MarketRead(market=make_market(symbol="MNQ", contract_id=MNQ, tick_value="0.5"), at=desk.at()))
    number = desk.opened("o1")
    desk.report(desk.broker.position())
    desk.closes_work = False
    hold_elsewhere(desk, position(MNQ, 1))
    filled_elsewhere(desk, MNQ, Side.BUY, number=998)
    desk.report(position(MNQ, 1))
    flatten(desk, "MNQ")
    return desk, number


def lose_children(desk: Desk, number: int, status: OrderStatus = OrderStatus.CANCELED) -> None:
    for child in (number + 1, number + 2):
        desk.broker.set(child, status=status)
    desk.show(number)


@pytest.mark.proves("I-6")
def test_a_flatten_of_another_symbol_holds_no_stop_back() -> None:
    desk, number = flattening_another_symbol()
    lose_children(desk, number)
    desk.run(4)
    (place,) = desk.take(Place)
    stop = desk.order(place.ticket.client_order_id)
    assert stop.order_type is OrderType.STOP
    assert hold(desk.state, stop, desk.at()) is None


@pytest.mark.proves("I-6")
def test_what_never_left_is_tried_again_and_not_counted_as_a_failure() -> None:
    """The broker could not be reached for a minute: after a stop and three exits nobody tried any more."""
    desk = ready_desk()
    number = desk.opened("o1")
    desk.report(desk.broker.position())
    lose_children(desk, number)
    unsent = 0
    for _ in range(120):
        desk.run(0.5)
        for place in desk.take(Place):
            assert place.ticket.order_type is OrderType.STOP
            desk.answer(place.ticket.client_order_id, NotSent(reason="no connection"))
            unsent += 1
    assert 5 <= unsent <= 40, "again and again, and less often"
    desk.run(40, places=True)
    assert desk.broker.working()[-1].order_type is OrderType.STOP
    assert HaltKind.INVARIANT not in desk.state.standing.halts


def test_nobody_enters_while_the_end_of_a_flatten_is_still_to_be_booked() -> None:
    """Protection leaves a contract alone that a flatten is at: a new position would have gone without."""
    desk = ready_desk()
    desk.opened("o1")
    desk.report(desk.broker.position())
    flatten(desk)
    known = list(desk.broker.fills)
    for _ in range(8):
        desk.pass_time(0.5)
        desk.tick()
        desk.obey_cancels()
        desk.obey_closes()
        for _ in desk.take(Search):  # the search for fills lags behind
            desk.feed(
                Searched(
                    started=desk.at(),
                    at=desk.at(),
                    orders=list(desk.broker.orders.values()),
                    working=desk.broker.working(),
                    fills=known,
                    positions=desk.broker.positions(),
                )
            )
    assert desk.state.standing.flatten is None and desk.state.standing.crossing == [MES]
    desk.control(Resume(kind=HaltKind.OPERATOR, reason="r", issuer="t", ts_ns=desk.now_ns))
    desk.feed(MarketRead(market=make_market(ts_asof_ns=desk.now_ns), at=desk.at()))
    assert desk.refusal(make_submit("o2", strategy_id="s2")) == "contract_frozen"
    desk.run(5)
    desk.ready()
    assert desk.state.standing.crossing == []
    assert desk.refusal(make_submit("o3", strategy_id="s2")) == ""


@pytest.mark.proves("I-26")
def test_a_second_flatten_closes_nothing_again_without_a_look() -> None:
    """The first close had filled, and its fill was not told yet: another would have turned the position."""
    desk = ready_desk()
    desk.opened("o1")
    desk.report(desk.broker.position())
    desk.take(Search)
    flatten(desk)
    assert len(desk.take(CloseContract)) == 1
    desk.feed(CloseAnswered(contract_id=MES, outcome=Accepted(), at=desk.at()))
    desk.obey_cancels()
    desk.pass_time(0.2)
    flatten(desk)
    assert not desk.take(CloseContract)
    desk.obey_cancels()
    desk.pass_time(0.6)
    desk.tick()
    assert desk.take(Search), "it looks first"


def test_a_flatten_closes_again_what_provably_was_not_closed() -> None:
    """A person asks again because nothing happens, and no look at the account is answered."""
    desk = ready_desk()
    desk.opened("o1")
    desk.report(desk.broker.position())
    flatten(desk)
    assert len(desk.take(CloseContract)) == 1
    desk.feed(CloseAnswered(contract_id=MES, outcome=NotSent(reason="no connection"), at=desk.at()))
    desk.run(5, failure="503")
    flatten(desk)
    assert len(desk.take(CloseContract)) == 1


def test_asking_again_and_again_uses_up_no_round() -> None:
    """Those are for fresh looks: it gave up with the position open."""
    desk = ready_desk()
    number = desk.opened("o1")
    desk.report(desk.broker.position())
    for _ in range(30):
        flatten(desk)
        for close in desk.take(CloseContract):
            away = NotSent(reason="no connection")
            desk.feed(CloseAnswered(contract_id=close.contract_id, outcome=away, at=desk.at()))
        for cancel in desk.take(Cancel):
            away = NotSent(reason="no connection")
            desk.feed(CancelAnswered(broker_order_id=cancel.broker_order_id, outcome=away, at=desk.at()))
        desk.pass_time(1)
        desk.tick()
        desk.answer_searches(failure="503")
    desk.run(10)
    assert desk.messages(FlattenFinished)[-1].flat
    assert desk.broker.net_qty == 0
    assert not desk.broker.orders[number + 1].status.may_fill


def test_books_are_not_called_ended_before_their_last_fills_are_heard() -> None:
    """Two strategies stood against each other, and their entries' fills were told after the flatten."""
    desk = ready_desk()
    desk.opened("o0")
    desk.report(desk.broker.fill(101, px="4998"))  # its stop: there is a book, and it is flat
    desk.show(100)
    desk.pass_time(1)
    desk.ready()
    desk.intent(make_submit("o1"))
    (first,) = desk.place_all()
    desk.pass_time(1)
    desk.ready()
    desk.intent(make_submit("o2", side=Side.SELL, strategy_id="s2"))
    (second,) = desk.place_all()
    late = [desk.broker.fill(first), desk.broker.fill(second)]
    desk.order_reports(first, second)
    lose_children(desk, first)
    lose_children(desk, second)
    known = [one for one in desk.broker.fills if one not in late]
    flatten(desk)
    all_fills, desk.broker.fills = desk.broker.fills, known
    desk.broker.positions = list  # type: ignore[method-assign]
    desk.run(4)
    assert desk.state.standing.flatten is None
    assert desk.state.standing.crossing == [MES]
    desk.broker.fills = all_fills
    desk.report(*late)
    desk.run(5)
    assert (desk.net_qty("s1"), desk.net_qty("s2")) == (0, 0)
    assert desk.state.standing.crossing == []


@pytest.mark.proves("I-11")
def test_exits_that_never_left_are_no_runaway() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    desk.report(desk.broker.position())
    through = make_market(bid_px=4990.0, ask_px=4990.25, last_px=4990.0)
    lose_children(desk, number)
    tried = 0
    for _ in range(180):
        desk.pass_time(0.5)
        desk.feed(MarketRead(market=msgspec.structs.replace(through, ts_asof_ns=desk.now_ns), at=desk.at()))
        desk.tick()
        desk.answer_searches()
        for place in desk.take(Place):
            desk.answer(place.ticket.client_order_id, NotSent(reason="no connection"))
            tried += 1
    assert tried > 10
    assert HaltKind.RUNAWAY not in desk.state.standing.halts


def test_a_flatten_that_is_widened_begins_with_the_rest_at_once() -> None:
    desk, _ = flattening_another_symbol()
    assert [one.contract_id for one in desk.take(CloseContract)] == [MNQ]
    flatten(desk)
    assert [one.contract_id for one in desk.take(CloseContract)] == [MES]


def test_a_look_that_did_not_ask_for_working_orders_ends_no_flatten() -> None:
    """It had been asked for in the tick in which the flatten came."""
    desk = ready_desk()
    want_search(Turn(state=desk.state, at=desk.at()), delay_s=0.0)
    desk.tick()
    (search,) = desk.take(Search)
    assert not search.working
    desk.pass_time(0.001)
    flatten(desk)
    desk.pass_time(0.001)
    seen: dict[str, Any] = {"orders": [], "fills": [], "positions": [], "working": None}
    desk.feed(Searched(started=desk.at(), at=desk.at(), **seen))
    assert not desk.messages(FlattenFinished)
    desk.run(2)
    assert desk.messages(FlattenFinished)


def test_a_difference_that_a_fill_does_not_explain_is_still_there_to_be_accepted() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    desk.report(desk.broker.position())
    hidden = desk.broker.fill(desk.broker.external())
    desk.broker.fills.remove(hidden)
    net = desk.broker.net_qty

    def positions() -> list[PositionReport]:
        return [position(MES, desk.broker.net_qty + 1)]

    desk.broker.positions = positions  # type: ignore[method-assign]
    desk.report(position(MES, net + 1))
    desk.snapshot()
    desk.next_snapshot()
    assert desk.state.standing.mismatches == {MES: 1}
    desk.report(desk.broker.fill(number + 1, px="4998"), position(MES, 1))
    desk.show(number)
    assert desk.state.standing.mismatches == {MES: 1}


def test_a_difference_that_a_fill_explains_before_it_is_lifted_is_not_accepted_as_well() -> None:
    desk = ready_desk()
    desk.opened("o1")
    desk.report(desk.broker.position())
    late = desk.broker.fill(desk.broker.external())
    pushed, real = desk.broker.position(), desk.broker.fills
    desk.broker.fills = real[:1]
    desk.broker.positions = lambda: [pushed]  # type: ignore[method-assign]
    desk.snapshot()
    desk.next_snapshot()
    assert desk.state.standing.mismatches == {MES: 1}
    desk.broker.fills = real
    desk.report(late)
    desk.control(Resume(kind=HaltKind.INVARIANT, reason="looked", issuer="t", ts_ns=desk.now_ns))
    assert desk.state.standing.baselines.get(MES, 0) == 0
    assert desk.state.contract_qty(MES) == 2


@pytest.mark.proves("I-6", "I-8")
def test_a_close_by_hand_that_is_heard_before_the_position_closes_it_all_the_same() -> None:
    """It stayed by hand for ever, and the stop of a position that was gone still worked."""
    desk = ready_desk()
    desk.intent(make_submit("o1"))
    (number,) = desk.place_all()
    late = desk.broker.fill(number, at_ns=desk.now_ns)
    desk.pass_time(0.5)
    by_hand_number = desk.broker.external(side=Side.SELL)
    desk.order_reports(by_hand_number)
    desk.report(desk.broker.fill(by_hand_number, at_ns=desk.now_ns))
    desk.show(by_hand_number)
    assert (desk.net_qty(), desk.net_qty(EXTERNAL)) == (0, -1)
    desk.report(late)
    desk.show(number)
    assert (desk.net_qty(), desk.net_qty(EXTERNAL)) == (0, 0)


@pytest.mark.proves("I-6", "I-8")
def test_what_the_baseline_holds_is_closed_by_hand_before_what_strategies_hold() -> None:
    desk = Desk()
    own = desk.broker.fills
    desk.broker.positions = lambda: [position(MES, 2 + sum(f.side.sign * f.last_qty for f in own))]  # type: ignore[method-assign]
    desk.ready()
    assert desk.state.standing.baselines == {MES: 2}
    number = desk.opened("o1")
    desk.pass_time(60)
    desk.ready()
    sold = desk.broker.external(side=Side.SELL, qty=2)
    desk.order_reports(sold)
    desk.report(desk.broker.fill(sold, at_ns=desk.now_ns))
    desk.show(sold)
    desk.run(4)
    assert (desk.net_qty(), desk.net_qty(EXTERNAL)) == (1, -2)
    assert desk.broker.orders[number + 1].status is OrderStatus.NEW, "its stop still works"


@pytest.mark.proves("I-2")
def test_a_trade_by_hand_from_before_a_settled_position_ends_nothing() -> None:
    """Execution ended at each answer to an order, as long as both positions stood."""
    desk = Desk(make_rules(settle_after_s=10.0))
    desk.ready()
    by_hand(desk, Side.SELL)
    desk.pass_time(60)
    desk.ready()
    desk.opened("o1")
    desk.report(desk.broker.position())
    desk.run(40)
    desk.ready()
    desk.intent(make_submit("o2", strategy_id="s2"))
    (place,) = desk.take(Place)
    desk.answer("o2", Accepted(broker_order_id=desk.broker.place(place.ticket)))
    assert (desk.net_qty(), desk.net_qty(EXTERNAL)) == (1, -1)


@pytest.mark.proves("I-26")
def test_no_exit_leaves_while_the_end_of_a_flatten_is_still_to_be_booked() -> None:
    """The fill that made the account flat has not been heard: an exit would open a position."""
    desk = ready_desk()
    desk.opened("o1")
    desk.report(desk.broker.position())
    known = list(desk.broker.fills)
    flatten(desk)
    for _ in range(4):
        desk.pass_time(0.5)
        desk.feed(HeartbeatHeard(at=desk.at()))
        desk.tick()
        desk.obey_cancels()
        desk.obey_closes()
        for _ in desk.take(Search):
            shown = {"orders": list(desk.broker.orders.values()), "working": desk.broker.working()}
            look = Searched(
                started=desk.at(), at=desk.at(), fills=known, positions=desk.broker.positions(), **shown
            )
            desk.feed(look)
    assert desk.state.standing.crossing == [MES]
    assert desk.broker.net_qty == 0
    order = msgspec.structs.replace(desk.order("o1"), client_order_id="c1", role=EXIT, side=Side.SELL)
    assert desk.net_qty() == 1
    assert hold(desk.state, order, desk.at()) == GONE


@pytest.mark.proves("I-10")
def test_an_order_that_turns_a_position_is_held_back_when_the_stop_has_filled_meanwhile() -> None:
    desk = Desk(make_rules(limits={"position_max": 1, "order_qty_max": 2}))
    desk.ready()
    number = desk.opened("o1")
    desk.report(desk.broker.position())
    desk.pass_time(1)
    desk.ready()
    assert desk.refusal(make_submit("o2", side=Side.SELL, qty=2)) == ""
    assert hold(desk.state, desk.order("o2"), desk.at()) is None
    desk.report(desk.broker.fill(number + 1))
    assert hold(desk.state, desk.order("o2"), desk.at()) == TOO_MUCH


@pytest.mark.proves("I-6")
def test_a_stop_of_ours_is_held_back_when_the_target_has_filled_meanwhile() -> None:
    desk = ready_desk()
    number = desk.opened("o1")
    desk.report(desk.broker.position())
    desk.broker.set(number + 1, status=OrderStatus.CANCELED)
    desk.show(number)
    desk.run(3)
    (place,) = [one for one in desk.to_send if isinstance(one, Place)]
    stop = desk.order(place.ticket.client_order_id)
    assert (stop.order_type, hold(desk.state, stop, desk.at())) == (OrderType.STOP, None)
    desk.report(desk.broker.fill(number + 2))
    assert hold(desk.state, stop, desk.at()) == GONE


@pytest.mark.proves("I-8")
def test_fees_that_come_later_are_shared_out_over_the_books_that_a_fill_closed() -> None:
    """The hub's row lacked the commission, and a close of two books never got it."""
    desk = ready_desk()
    desk.opened("o1")
    desk.pass_time(1)
    desk.ready()
    desk.opened("o2", strategy_id="s2")
    number = desk.broker.external(side=Side.SELL, qty=2)
    desk.order_reports(number)
    fill = desk.broker.fill(number, at_ns=desk.now_ns)
    desk.report(fill)
    desk.show(number)
    assert (desk.net_qty("s1"), desk.net_qty("s2")) == (0, 0)
    whole = msgspec.structs.replace(fill, fees=fill.fees + 2)
    desk.report(whole)
    desk.report(whole)
    assert [part.fees for part in desk.state.fills[fill.fill_id]] == [whole.fees / 2] * 2
