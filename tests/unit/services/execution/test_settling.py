"""What has ended leaves memory, and nothing that anybody could ask changes by it."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.execution.books import Book, SettledChanged
from services.execution.records import FillRecord
from shared.domain.execution import OrderFilled
from shared.domain.order import CancelOrder, OrderStatus, Side
from tests.support.execution import MES, Desk, make_rules, make_submit

AFTER_S = 60.0


def settling_desk() -> Desk:
    desk = Desk(make_rules(settle_after_s=AFTER_S))
    desk.ready()
    return desk


def rest(desk: Desk, sweeps: int = 3) -> None:
    """Let so many sweeps pass while nothing happens."""
    for _ in range(sweeps):
        desk.pass_time(AFTER_S)
        desk.ready()


def round_trip(desk: Desk, name: str = "o1") -> int:
    """Buy, and be stopped out; return the entry's broker id."""
    number = desk.opened(name)
    desk.report(desk.broker.fill(number + 1, px="4998"))
    desk.show(number)
    assert desk.net_qty() == 0
    return number


def test_a_closed_family_leaves_memory_and_its_id_stays() -> None:
    desk = settling_desk()
    round_trip(desk)
    day_pnl = desk.state.day_pnl(desk.now_ns)
    assert set(desk.state.orders) == {"o1", "o1:sl", "o1:tp"}
    rest(desk)
    assert not desk.state.orders and not desk.state.fills and not desk.state.by_broker_id
    assert not desk.state.children and not desk.state.accepted_ns
    assert desk.state.day_pnl(desk.now_ns) == day_pnl != 0
    assert desk.state.contract_qty(MES) == 0
    assert desk.refusal(make_submit("o1")) == ""  # not decided again
    assert "intent_repeated" in desk.alarm_names()
    late = CancelOrder(
        client_order_id="o1", strategy_id="s1", symbol="MES", cause="m", ts_cause_ns=desk.now_ns
    )
    assert desk.refusal(late) == "order_ended"
    assert not desk.to_send


def test_what_is_held_or_young_stays() -> None:
    desk = settling_desk()
    number = desk.opened("held")
    rest(desk, 5)
    assert set(desk.state.orders) == {"held", "held:sl", "held:tp"}
    desk.report(desk.broker.fill(number + 1, px="4998"))
    desk.show(number)
    rest(desk, 1)
    assert "held" in desk.state.orders  # it ended since the last sweep but one
    rest(desk, 2)
    assert not desk.state.orders


def test_what_was_given_up_stays_on_watch() -> None:
    desk = settling_desk()
    round_trip(desk)
    order = desk.state.orders["o1"]
    desk.state.put_order(msgspec.structs.replace(order, status=OrderStatus.ABSENT))
    rest(desk, 5)
    assert "o1" in desk.state.orders


def test_the_broker_may_repeat_itself() -> None:
    desk = settling_desk()
    number = round_trip(desk)
    rest(desk)
    told = len(desk.messages(OrderFilled))
    desk.show(number)
    desk.report(*desk.broker.fills)
    assert len(desk.messages(OrderFilled)) == told
    assert not desk.state.orders and not desk.state.external_working and not desk.state.unmatched


@pytest.mark.parametrize("news", ["late fill", "void", "fees", "it works again"])
def test_news_end_the_process_and_the_next_start_takes_them(news: str) -> None:
    desk = settling_desk()
    number = round_trip(desk)
    rest(desk)
    fill = desk.broker.fills[0]
    match news:
        case "late fill":
            reports = [msgspec.structs.replace(fill, fill_id=99)]
        case "void":
            reports = [msgspec.structs.replace(fill, voided=True)]
        case "fees":
            reports = [msgspec.structs.replace(fill, fees=Decimal("9.99"))]
        case _:
            desk.broker.set(number, status=OrderStatus.PARTIALLY_FILLED)
            reports = [desk.broker.orders[number]]
    with pytest.raises(SettledChanged):
        desk.report(*reports)
    desk.restart()
    assert set(desk.state.orders) == {"o1", "o1:sl", "o1:tp"}
    desk.report(*reports)
    fees = {part.fees for parts in desk.state.fills.values() for part in parts}
    assert (Decimal("9.99") in fees) is (news == "fees")
    assert (fill.fill_id in desk.state.fills) is (news != "void")


def test_memory_does_not_grow_with_what_was_traded() -> None:
    desk = settling_desk()
    sizes = []
    for n in range(8):
        round_trip(desk, f"o{n}")
        rest(desk, 1)
        book = desk.state.book("s1", MES)
        sizes.append(len(desk.state.orders) + len(desk.state.fills) + len(book.lots))
    assert max(sizes[4:]) <= max(sizes[:4])


SIDES = st.sampled_from(list(Side))


@given(st.lists(st.tuples(SIDES, st.integers(1, 3), st.integers(19_990, 20_010)), max_size=30), st.data())
def test_a_book_that_folds_is_the_book_that_does_not(
    trades: list[tuple[Side, int, int]], data: st.DataObject
) -> None:
    plain, folding = Book(22), Book(22)
    for n, (side, qty, ticks) in enumerate(trades):
        fill = FillRecord(
            fill_id=n, broker_order_id=n, contract_id=MES, side=side, qty=qty, px=Decimal(ticks) / 4,
            fees=Decimal("0.37"), multiplier=Decimal(5), ts_event_ns=n * 3_600_000_000_000,
            client_order_id=f"o{n}",
        )  # fmt: skip
        assert plain.add(fill) == folding.add(fill)
        if data.draw(st.booleans()):
            folding.mark()
        folding.settle(data.draw(st.integers(0, 5)))
        assert folding.position == plain.position
        assert folding.lots == plain.lots and list(folding.lots) == list(plain.lots)
        assert folding.pnl_of_day == plain.pnl_of_day
        assert folding.newest_ns == plain.newest_ns
        assert all(folding.newest_of_ns(name) == plain.newest_of_ns(name) for name in plain.lots)


def test_a_row_without_the_commissions_is_no_news() -> None:
    """The hub's rows lack them, and the search's have them: each search would have ended the process."""
    desk = settling_desk()
    number = desk.opened("o1")
    whole = [msgspec.structs.replace(one, fees=one.fees + Decimal("0.25")) for one in desk.broker.fills]
    desk.report(*whole)
    fees = desk.state.fills[whole[0].fill_id][0].fees
    assert fees == whole[0].fees
    desk.report(*desk.broker.fills)
    assert desk.state.fills[whole[0].fill_id][0].fees == fees, "what is known stays"
    desk.report(desk.broker.fill(number + 1, px="4998"))
    desk.show(number)
    rest(desk)
    assert "o1" not in desk.state.orders
    desk.report(*desk.broker.fills)
