"""Rounds of making flat, on a clock of plain numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal

from shared.domain import flat
from shared.domain.flat import Cancel, Close, Look, MakingFlat
from shared.domain.order import OrderStatus, OrderType, Side
from shared.domain.report import OrderReport, PositionReport

S = 1_000_000_000
MES = "CON.F.US.MES.H26"
MNQ = "CON.F.US.MNQ.H26"


def order(number: int, status: OrderStatus = OrderStatus.NEW) -> OrderReport:
    return OrderReport(
        account_id=1, broker_order_id=number, contract_id=MES, status=status, order_type=OrderType.STOP,
        side=Side.SELL, order_qty=1, cum_qty=0, ts_event_ns=0, ts_recv_ns=0,
    )  # fmt: skip


def position(contract_id: str = MES, net_qty: int = 1) -> PositionReport:
    return PositionReport(
        account_id=1, contract_id=contract_id, net_qty=net_qty, avg_px=Decimal(5000), ts_event_ns=0,
        ts_recv_ns=0,
    )  # fmt: skip


def look(
    at_s: float,
    working: Sequence[OrderReport] | None = (),
    positions: Sequence[PositionReport] | None = (),
) -> Look:
    return Look(started_ns=round(at_s * S), working=working, positions=positions)


def decide(making: MakingFlat, seen: Look, took_s: float = 0.1) -> list[flat.Remedy]:
    return flat.decide(seen, making, seen.started_ns + round(took_s * S))


def answered(remedy: flat.Remedy, making: MakingFlat, now_ns: int) -> None:
    """Take the answer to the newest try."""
    flat.answered(remedy, making, now_ns, making.attempts[remedy].sent_ns)


def test_cancels_come_first_then_closes_and_only_of_what_lives() -> None:
    seen = look(
        0,
        [order(7), order(5), order(6, OrderStatus.FILLED)],
        [position(MNQ, -2), position(), position("X", 0)],
    )
    assert decide(MakingFlat(), seen) == [Cancel(5), Cancel(7), Close(MES), Close(MNQ)]


def test_flat_is_two_looks_in_a_row() -> None:
    making = MakingFlat()
    assert decide(making, look(0)) == []
    assert not making.is_flat
    decide(making, look(1, positions=[position()]))
    answered(Close(MES), making, 2 * S)
    decide(making, look(3))
    assert not making.is_flat, "the look before the position does not count any more"
    decide(making, look(4))
    assert making.is_flat
    assert making.rounds == 1


def test_half_a_look_is_acted_upon_and_never_flat() -> None:
    making = MakingFlat()
    assert decide(making, look(0, None, [position()])) == [Close(MES)]
    answered(Close(MES), making, S)
    for at_s in (2, 3, 4):
        decide(making, look(at_s, None, ()))
        decide(making, look(at_s + 0.5, (), None))
    assert making.flat_looks == 0


def test_nothing_is_sent_again_before_a_look_that_can_have_seen_its_effect() -> None:
    making = MakingFlat()
    assert decide(making, look(0, [order(5)], [position()])) == [Cancel(5), Close(MES)]
    assert decide(making, look(0.2, [order(5)], [position()])) == [], "no answer yet"
    assert making.waits(round(0.3 * S))
    answered(Cancel(5), making, S)
    answered(Close(MES), making, S)
    assert not making.waits(S)
    assert decide(making, look(1.4, [order(5)], [position()])) == [], "begun too soon after the answer"
    assert decide(making, look(1.5, [order(5)], [position()])) == [Cancel(5), Close(MES)]


def test_a_look_begun_before_the_answer_shows_nothing_flat() -> None:
    making = MakingFlat()
    decide(making, look(0, positions=[position()]))
    decide(making, look(0.5))
    answered(Close(MES), making, S)
    decide(making, look(1.4))
    assert making.flat_looks == 0
    decide(making, look(1.5))
    assert making.flat_looks == 1


def test_an_answer_that_never_comes_holds_nothing_up_for_ever() -> None:
    making = MakingFlat()
    decide(making, look(0, positions=[position()]), took_s=0)
    assert decide(making, look(9.9, positions=[position()]), took_s=0) == []
    assert decide(making, look(10, positions=[position()]), took_s=0) == [Close(MES)]
    decide(making, look(20))
    decide(making, look(21))
    assert making.is_flat


def test_a_late_answer_to_an_older_try_says_nothing_of_the_newer_one() -> None:
    """Else the newer close would count as over while it is under way, and be sent twice."""
    making = MakingFlat()
    decide(making, look(0, positions=[position()]), took_s=0)
    assert decide(making, look(10, positions=[position()]), took_s=0) == [Close(MES)]
    flat.answered(Close(MES), making, 11 * S, sent_ns=0)
    assert making.waits(11 * S)
    assert decide(making, look(12.5, positions=[position()])) == []
    flat.answered(Close(MES), making, 13 * S, sent_ns=10 * S)
    assert not making.waits(13 * S)
    assert decide(making, look(14, positions=[position()])) == [Close(MES)]


def test_pauses_double_up_to_a_limit() -> None:
    making, now_ns, sent = MakingFlat(), 0, []
    while len(sent) < 8:
        seen = Look(started_ns=now_ns, working=(), positions=[position()])
        if flat.decide(seen, making, now_ns):
            sent.append(now_ns / S)
            answered(Close(MES), making, now_ns)
        now_ns += S // 10
    assert [after - before for before, after in itertools.pairwise(sent)] == [
        0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0,
    ]  # fmt: skip


def test_what_lands_late_is_cancelled_too() -> None:
    making = MakingFlat()
    decide(making, look(0))
    assert decide(making, look(1, [order(9)])) == [Cancel(9)]
    assert not making.is_flat
