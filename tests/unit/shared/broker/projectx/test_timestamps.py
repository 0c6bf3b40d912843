from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.projectx.timestamps import format_ns, parse_ns

SECOND = 1_000_000_000
BASE = 1_753_105_500 * SECOND  # 2025-07-21T13:45:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-07-21T13:45:00.1234567+00:00", BASE + 123_456_700),
        ("2025-07-21T13:45:00.123456+00:00", BASE + 123_456_000),
        ("2025-07-21T13:45:00.123Z", BASE + 123_000_000),
        ("2025-07-21T13:45:00Z", BASE),
        ("2025-07-21T13:45:00z", BASE),
        ("2025-07-21T13:45:00", BASE),  # no zone: UTC
        ("2025-07-21 13:45:00.5", BASE + 500_000_000),
        ("2025-07-21T13:45:00.123456789123+00:00", BASE + 123_456_789),
        ("2025-07-21T08:45:00.25-05:00", BASE + 250_000_000),
        ("2025-07-21T19:15:00+0530", BASE),
    ],
)
def test_forms_of_the_gateway(text: str, expected: int) -> None:
    assert parse_ns(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-07-21",
        "2025-13-01T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2025-07-21T25:00:00Z",
        "2025-07-21T13:45:00.",
        "2025-07-21T13:45:00.12a4567+00:00",
        "2025-07-21T13:45:00.1_34567+00:00",
        "2025-07-21T13:45:00.١٢٣٤٥٦٧+00:00",
        "2025-07-21T13:45:00+00",
        "2025-W30-1T13:45:00",
        "0001-01-01T00:00:00+00:00",  # .NET's "no time"
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"begin|before 1970|zone|month|day|hour"):
        parse_ns(text)


@given(st.integers(min_value=0, max_value=4_102_444_800 * 10_000_000 - 1).map(lambda ticks: ticks * 100))
def test_what_is_formatted_is_parsed(time_ns: int) -> None:
    assert parse_ns(format_ns(time_ns)) == time_ns


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_agrees_with_datetime(microseconds: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert parse_ns(moment.isoformat()) == microseconds * 1_000
    assert parse_ns(moment.replace(tzinfo=None).isoformat()) == microseconds * 1_000
