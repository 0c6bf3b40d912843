"""Trading days and closing hours by Chicago's wall clock: summer time, weekends, early closes."""

from __future__ import annotations

from datetime import date

import pytest

from services.guard.hours import brokers_time, day_at, day_of, local_time, next_day
from tests.support.guard_desk import S, chicago, make_hours

HOURS = make_hours()


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-03-04 10:00", "2026-03-04"),
        ("2026-03-04 16:59:59", "2026-03-04"),
        ("2026-03-04 17:00", "2026-03-05"),
        ("2026-03-06 16:59:59", "2026-03-06"),  # a Friday
        ("2026-03-06 17:00", "2026-03-09"),
        ("2026-03-07 12:00", "2026-03-09"),
        ("2026-03-08 16:59:59", "2026-03-09"),
        ("2026-03-08 17:00", "2026-03-09"),  # the Sunday on which summer time began
        ("2026-11-01 17:00", "2026-11-02"),  # and on which it ended
    ],
)
def test_the_day_turns_at_17_00_and_a_weekend_counts_for_monday(at: str, expected: str) -> None:
    assert day_at(chicago(at), HOURS).trading_date == date.fromisoformat(expected)


@pytest.mark.parametrize(
    ("day", "start", "flat", "reopens"),
    [
        ("2026-03-04", "2026-03-03 17:00", "2026-03-04 15:10", "2026-03-04 17:00"),
        ("2026-03-06", "2026-03-05 17:00", "2026-03-06 15:10", "2026-03-08 17:00"),
        ("2026-03-09", "2026-03-08 17:00", "2026-03-09 15:10", "2026-03-09 17:00"),
        ("2026-11-02", "2026-11-01 17:00", "2026-11-02 15:10", "2026-11-02 17:00"),
    ],
)
def test_times_follow_the_wall_clock_through_summer_time(
    day: str, start: str, flat: str, reopens: str
) -> None:
    found = day_of(date.fromisoformat(day), HOURS)
    assert found.start_ns == chicago(start)
    assert found.flat_ns == chicago(flat)
    assert found.entries_end_ns == chicago(flat) - 120 * S
    assert found.flatten_ns == chicago(flat) - 30 * S
    assert found.reopens_ns == chicago(reopens)


def test_an_early_close_comes_earlier() -> None:
    """The day after Thanksgiving: Globex equity closes at 12:00 Chicago."""
    found = day_of(date(2026, 11, 27), HOURS)
    assert found.flat_ns == chicago("2026-11-27 11:45"), local_time(found.flat_ns or 0, HOURS)
    later = day_of(date(2026, 11, 27), make_hours(early_close_lead_s=0.0))
    assert later.flat_ns == chicago("2026-11-27 12:00")


def test_a_symbol_without_a_calendar_changes_nothing() -> None:
    found = day_of(date(2026, 11, 27), make_hours(symbols=("ZZZ",)))
    assert found.flat_ns == chicago("2026-11-27 15:10")


def test_outside_the_calendar_the_rule_stands() -> None:
    assert day_of(date(2050, 3, 2), HOURS).flat_ns == chicago("2050-03-02 15:10")


def test_positions_may_be_held_over_the_close_where_the_firm_allows_it() -> None:
    found = day_of(date(2026, 3, 4), make_hours(flat_by=None))
    assert (found.flat_ns, found.flatten_ns, found.entries_end_ns) == (None, None, None)


def test_the_next_day_skips_the_weekend() -> None:
    assert next_day(day_of(date(2026, 3, 6), HOURS), HOURS).trading_date == date(2026, 3, 9)


@pytest.mark.parametrize(
    ("told_ns", "waited_s", "expected"),
    [(None, 0.0, None), (None, 59.9, None), (None, 60.0, 7), (5, 0.0, 5), (5, 99.0, 5)],
)
def test_our_clock_counts_only_when_the_broker_tells_no_time_for_long(
    told_ns: int | None, waited_s: float, expected: int | None
) -> None:
    assert brokers_time(told_ns, 7, waited_s=waited_s, patience_s=60.0) == expected
