"""Bars: from trades, summed to longer units, newest first."""

from __future__ import annotations

import pytest

from services.simulator.bars import Bar, BarBook, period_end, period_start, select
from shared.broker.projectx.enums import AggregateBarUnit as Unit
from tests.support.venue import NOW_NS

MINUTE_NS = 60_000_000_000


def book() -> BarBook:
    bars = BarBook()
    for minute, price, qty in [(0, 10, 1), (0, 14, 2), (0, 9, 1), (1, 11, 5), (4, 12, 1)]:
        bars.add(NOW_NS + minute * MINUTE_NS, price, qty)
    return bars


def ask(
    bars: BarBook, *, limit: int = 100, partial: bool = True, number: int = 1, minutes: int = 5
) -> list[Bar]:
    return select(
        list(bars.minutes),
        unit=Unit.MINUTE,
        number=number,
        start_ns=NOW_NS,
        end_ns=NOW_NS + 60 * MINUTE_NS,
        now_ns=NOW_NS + minutes * MINUTE_NS - 1,
        limit=limit,
        partial=partial,
    )


def test_minutes_without_trades_have_no_bar() -> None:
    assert [(bar.open_ns - NOW_NS) // MINUTE_NS for bar in ask(book())] == [4, 1, 0]


def test_bar_of_trades() -> None:
    first = ask(book())[-1]
    assert (first.open, first.high, first.low, first.close, first.volume) == (10, 14, 9, 9, 4)


def test_forming_bar_only_on_request() -> None:
    assert len(ask(book(), partial=False)) == 2
    assert len(ask(book(), partial=False, minutes=6)) == 3


def test_limit_keeps_the_newest() -> None:
    assert [(bar.open_ns - NOW_NS) // MINUTE_NS for bar in ask(book(), limit=2)] == [4, 1]


def test_longer_bars_are_sums() -> None:
    summed = ask(book(), number=5)
    assert len(summed) == 1
    assert (summed[0].open, summed[0].high, summed[0].low, summed[0].close) == (10, 14, 9, 12)
    assert summed[0].volume == 10


@pytest.mark.parametrize(
    ("unit", "number", "start", "end"),
    [
        (Unit.SECOND, 5, 1_772_461_835, 1_772_461_840),
        (Unit.MINUTE, 15, 1_772_461_800, 1_772_462_700),
        (Unit.HOUR, 1, 1_772_460_000, 1_772_463_600),
        (Unit.DAY, 1, 1_772_409_600, 1_772_496_000),
        (Unit.WEEK, 1, 1_772_409_600, 1_773_014_400),  # a Monday
        (Unit.MONTH, 1, 1_772_323_200, 1_775_001_600),
    ],
)
def test_periods(unit: Unit, number: int, start: int, end: int) -> None:
    moment_ns = NOW_NS + 37_500_000_000
    begins_ns = period_start(moment_ns, unit, number)
    assert begins_ns == start * 1_000_000_000
    assert period_end(begins_ns, unit, number) == end * 1_000_000_000


def test_closed_minutes_wait_to_be_saved() -> None:
    bars = book()
    assert [(bar.open_ns - NOW_NS) // MINUTE_NS for bar in bars.unsaved] == [0, 1]
