from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from shared.domain.calendar import (
    GROUPS,
    Closed,
    Open,
    UnknownSession,
    back_by_open_time,
    group_of,
    in_day_session,
    is_on_table,
    next_open_ns,
    session_state,
    trading_date,
)
from shared.domain.calendar_table import NO_SESSION


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("when", "is_open", "until"),
    [
        ("2024-01-10T15:00", True, "2024-01-10T22:00"),  # winter: 16:00 Chicago is 22:00 UTC
        ("2024-07-10T15:00", True, "2024-07-10T21:00"),  # summer: one hour earlier
        ("2024-01-10T22:00", False, "2024-01-10T23:00"),  # the close itself is closed
        ("2024-01-10T22:59:59", False, "2024-01-10T23:00"),  # daily break
        ("2024-01-10T23:00", True, "2024-01-11T22:00"),  # the open itself is open
        ("2024-01-12T22:30", False, "2024-01-14T23:00"),  # Friday evening to Sunday
        ("2024-03-08T23:00", False, "2024-03-10T22:00"),  # over the start of summer time
        ("2024-11-01T22:00", False, "2024-11-03T23:00"),  # over its end
        ("2024-11-28T17:59", True, "2024-11-28T18:00"),  # Thanksgiving closes at noon
        ("2024-11-28T18:00", False, "2024-11-28T23:00"),  # and Friday's session opens as ever
        ("2023-12-25T22:30", False, "2023-12-25T23:00"),  # the recorded pre-open
        ("2023-12-25T23:00", True, "2023-12-26T22:00"),  # the recorded hour's first trade
        ("2024-03-29T12:00", True, "2024-03-29T13:15"),  # Good Friday with figures: 08:15 Chicago
    ],
)
def test_session_of_equity(when: str, is_open: bool, until: str) -> None:
    state = session_state("MES", at(when))
    assert isinstance(state, Open if is_open else Closed)
    assert state.until_ns == at(until)


def test_products_close_differently_on_the_same_holiday() -> None:
    now_ns = at("2024-05-27T18:00")  # Memorial Day
    assert isinstance(session_state("ES", now_ns), Closed)
    assert isinstance(session_state("6E", now_ns), Open)


@pytest.mark.parametrize("when", ["2022-06-01T12:00", "2029-01-03T12:00", "2022-12-31T23:00"])
def test_outside_the_table_is_unknown(when: str) -> None:
    assert not is_on_table(at(when))
    state = session_state("ES", at(when))
    assert isinstance(state, UnknownSession)
    assert "tools/build_calendar.py" in state.why
    assert trading_date("ES", at(when)) is None
    assert next_open_ns("ES", at(when)) is None


def test_unknown_symbol() -> None:
    state = session_state("ZZZ", at("2024-01-10T15:00"))
    assert isinstance(state, UnknownSession)
    assert "ZZZ" in state.why


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2024-01-10T15:00", date(2024, 1, 10)),
        ("2024-01-10T22:30", date(2024, 1, 11)),  # the break counts for what opens next
        ("2024-01-10T23:00", date(2024, 1, 11)),
        ("2024-01-13T12:00", date(2024, 1, 15)),  # Saturday
        ("2023-12-25T23:30", date(2023, 12, 26)),
    ],
)
def test_trading_date(when: str, expected: date) -> None:
    assert trading_date("ES", at(when)) == expected


def test_next_open() -> None:
    assert next_open_ns("ES", at("2024-01-10T15:00")) == at("2024-01-10T23:00")
    assert next_open_ns("ES", at("2024-01-13T12:00")) == at("2024-01-14T23:00")


@pytest.mark.parametrize(
    ("when", "minutes", "expected"),
    [
        ("2024-01-10T15:00", 60, "2024-01-10T14:00"),
        ("2024-01-10T23:30", 60, "2024-01-10T21:30"),  # over the break
        ("2024-01-13T12:00", 120, "2024-01-12T20:00"),  # on Saturday: Friday's last two hours
        ("2024-01-14T23:10", 20, "2024-01-12T21:50"),  # over a weekend
    ],
)
def test_back_by_open_time(when: str, minutes: int, expected: str) -> None:
    assert back_by_open_time("ES", at(when), minutes * 60) == at(expected)


@pytest.mark.parametrize(
    ("when", "expected"),
    [("2024-01-10T14:29", False), ("2024-01-10T14:30", True), ("2024-01-10T21:00", False)],
)
def test_day_session(when: str, expected: bool) -> None:
    state = session_state("ES", at(when))
    assert isinstance(state, Open)
    assert in_day_session(state.session, at(when)) is expected


def test_groups_are_in_the_table() -> None:
    assert set(GROUPS.values()) == set(NO_SESSION)
    assert {group_of(s) for s in ("ES", "NQ", "MES", "MNQ", "RTY", "M2K", "YM", "MYM")} == {"equity"}
    assert group_of("6E") == "fx"
