"""When the venue is open, and where its time begins."""

from __future__ import annotations

from datetime import datetime

import pytest

from services.simulator import sessions


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-03-02T09:30:00-05:00", True),
        ("2026-03-02T15:59:59-06:00", True),
        ("2026-03-02T16:00:00-06:00", False),
        ("2026-03-02T17:00:00-06:00", True),
        ("2026-03-06T16:00:00-06:00", False),  # Friday
        ("2026-03-06T17:00:00-06:00", False),
        ("2026-03-07T12:00:00-06:00", False),
        ("2026-03-08T16:59:59-05:00", False),  # Sunday, summer time since the morning
        ("2026-03-08T17:00:00-05:00", True),
        ("2026-11-26T11:59:59-06:00", True),  # Thanksgiving closes at noon
        ("2026-11-26T12:00:00-06:00", False),
        ("2026-12-25T10:00:00-06:00", False),
        ("2035-03-05T12:00:00-06:00", True),  # beyond the calendar: the week's rule
        ("2035-03-04T12:00:00-06:00", False),
    ],
)
def test_is_open(moment: str, is_open: bool) -> None:
    assert sessions.is_open(ns(moment)) is is_open


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-03-02T12:00:00-06:00", "2026-03-02T12:00:00-06:00"),
        ("2026-03-02T16:10:30-06:00", "2026-03-02T17:00:00-06:00"),
        ("2026-03-07T12:00:00-06:00", "2026-03-08T17:00:00-05:00"),
    ],
)
def test_next_open(now: str, opens: str) -> None:
    assert sessions.next_open_ns(ns(now)) == ns(opens)


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-03-04T20:00:00+00:00", "2026-03-04T09:30:00-05:00"),
        ("2026-03-04T09:00:00-05:00", "2026-03-03T09:30:00-05:00"),
        ("2026-03-06T20:00:00+00:00", "2026-03-05T09:30:00-05:00"),  # Friday begins on Thursday
        ("2026-03-08T20:00:00+00:00", "2026-03-05T09:30:00-05:00"),  # so does Sunday
        ("2026-03-09T20:00:00+00:00", "2026-03-09T09:30:00-04:00"),
        ("2025-12-26T20:00:00+00:00", "2025-12-24T09:30:00-05:00"),  # not on Christmas Day
    ],
)
def test_default_start(now: str, start: str) -> None:
    assert sessions.last_day_session_open_ns(ns(now)) == ns(start)
