"""When new exposure may be taken, by the venue's time."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from shared.domain.calendar import minute_of_day
from shared.domain.hours import ZONES, Blackout, hours

CHICAGO = "America/Chicago"


def at(text: str, zone: str = CHICAGO) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000_000


def code(now_ns: int | None, symbol: str = "MES", *, before_close_s: int = 60, always: bool = False) -> str:
    found = hours(symbol, now_ns, always_open=always, before_close_s=before_close_s, blackouts=())
    return found.code if found is not None else ""


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-03-02 16:59:59", "market_closed"),  # Monday's break
        ("2026-03-02 17:00:00", ""),
        ("2026-03-03 15:58:59", ""),
        ("2026-03-03 15:59:00", ""),  # 60 s are left
        ("2026-03-03 15:59:01", "near_close"),
        ("2026-03-03 15:59:59", "near_close"),
        ("2026-03-03 16:00:00", "market_closed"),
        ("2026-03-07 12:00:00", "market_closed"),  # Saturday
        ("2026-12-25 10:00:00", "market_closed"),  # Christmas
        ("2030-01-02 10:00:00", "session_unknown"),  # beyond the table
    ],
)
def test_sessions(when: str, expected: str) -> None:
    assert code(at(when)) == expected


def test_what_is_not_known_denies() -> None:
    assert code(None) == "market_time_unknown"
    assert code(None, always=True) == "market_time_unknown"
    assert code(at("2026-03-03 10:00"), "ZZZ") == "session_unknown"


def test_a_venue_that_never_closes_asks_no_calendar() -> None:
    assert code(at("2026-03-07 12:00:00"), always=True) == ""
    assert code(at("2026-03-03 15:59:59"), before_close_s=0) == ""


@pytest.mark.parametrize("zone", ZONES)
def test_minutes_of_the_day_are_those_of_the_zone(zone: str) -> None:
    for day in ("2026-01-15", "2026-03-08", "2026-03-09", "2026-07-01", "2026-11-01", "2026-11-02"):
        for time in ("00:00", "08:30", "12:00", "23:59"):
            now_ns = at(f"{day} {time}", zone)
            local = datetime.fromtimestamp(now_ns // 1_000_000_000, ZoneInfo(zone))
            if day in ("2026-03-08", "2026-11-01") and time == "00:00":
                continue  # a Sunday before the clocks change: nothing trades
            assert minute_of_day(now_ns, zone) == local.hour * 60 + local.minute, (day, time)


def test_minutes_of_a_day_that_is_not_on_the_table() -> None:
    assert minute_of_day(at("2031-07-01 10:00"), CHICAGO) is None
    found = hours(
        "MES",
        at("2031-07-01 10:00"),
        always_open=True,
        before_close_s=0,
        blackouts=(Blackout.parse("08:25-08:35 America/Chicago"),),
    )
    assert found is not None and found.code == "session_unknown"


@pytest.mark.parametrize(
    ("window", "when", "held"),
    [
        ("08:25-08:35 America/Chicago", "2026-03-03 08:24:59", False),
        ("08:25-08:35 America/Chicago", "2026-03-03 08:25:00", True),
        ("08:25-08:35 America/Chicago", "2026-07-03 08:34:59", True),
        ("08:25-08:35 America/Chicago", "2026-07-03 08:35:00", False),
        ("09:25-09:35 America/New_York", "2026-03-03 08:30:00", True),
        ("14:25-14:35 UTC", "2026-03-03 08:30:00", True),  # six hours behind in winter
        ("14:25-14:35 UTC", "2026-07-01 08:30:00", False),
        ("23:55-00:05 America/Chicago", "2026-03-03 23:55:00", True),
        ("23:55-00:05 America/Chicago", "2026-03-04 00:04:59", True),
        ("23:55-00:05 America/Chicago", "2026-03-04 00:05:00", False),
        ("23:55-00:05 America/Chicago", "2026-03-04 12:00:00", False),
    ],
)
def test_blackouts(window: str, when: str, held: bool) -> None:
    blackouts = (Blackout.parse("03:00-03:01 UTC"), Blackout.parse(window))
    found = hours("MES", at(when), always_open=False, before_close_s=60, blackouts=blackouts)
    assert (found is not None) is held
    if found is not None:
        assert found.code == "blackout" and found.numbers["window"] == window


@pytest.mark.parametrize(
    "text",
    ["", "8:25-8:35 UTC", "08:25-08:35", "08:25-08:35 Europe/Paris", "24:00-01:00 UTC", "10:60-11:00 UTC",
     "10:00-10:00 UTC", "10:00 - 11:00 UTC"],
)  # fmt: skip
def test_windows_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"'.*'"):
        Blackout.parse(text)
