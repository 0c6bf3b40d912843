"""When the venue's market is open: the sessions, holidays and early closes of Globex equity futures.

Where the calendar does not reach, the week's rule holds: Sunday 17:00 to Friday 16:00 Chicago, with a break
from 16:00 to 17:00.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from services.simulator.contracts import CHICAGO
from shared.domain.calendar import Open, UnknownSession, session_state

NEW_YORK = ZoneInfo("America/New_York")
MINUTE_NS = 60_000_000_000
QUARTER_NS = 15 * MINUTE_NS
CALENDAR_OF = "ES"  # all products listed here keep its calendar
_SUNDAY, _FRIDAY, _SATURDAY = 6, 4, 5


def _chicago(now_ns: int) -> datetime:
    return datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).astimezone(CHICAGO)


def is_open(now_ns: int) -> bool:
    """Return whether the market trades at `now_ns` (UTC nanoseconds)."""
    return _is_open(now_ns // QUARTER_NS)


@lru_cache(maxsize=4096)
def _is_open(quarter: int) -> bool:
    """Return whether the market trades in a quarter of an hour: sessions begin and end with one."""
    session = session_state(CALENDAR_OF, quarter * QUARTER_NS)
    if not isinstance(session, UnknownSession):
        return isinstance(session, Open)
    local = _chicago(quarter * QUARTER_NS)
    day, hour = local.weekday(), local.hour
    if day == _SATURDAY or hour == 16:
        return False
    if day == _SUNDAY:
        return hour >= 17
    return day != _FRIDAY or hour < 16


def next_open_ns(now_ns: int) -> int:
    """Return `now_ns` when the market is open then, else the next opening."""
    minute_ns = now_ns
    while not is_open(minute_ns):
        minute_ns = (minute_ns // MINUTE_NS + 1) * MINUTE_NS
    return minute_ns


def activity(now_ns: int) -> float:
    """Return how busy the market is, 1.0 being an ordinary hour of the day session."""
    local = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).astimezone(NEW_YORK)
    minute = local.hour * 60 + local.minute
    if 570 <= minute < 600:
        return 1.8  # the first half hour
    if 600 <= minute < 690:
        return 1.2
    if 690 <= minute < 840:
        return 0.8  # lunch
    if 840 <= minute < 930:
        return 1.1
    if 930 <= minute < 960:
        return 1.6  # into the close
    return 0.35 if 180 <= minute < 570 else 0.2  # London, Asia


def last_day_session_open_ns(now_ns: int) -> int:
    """Return 09:30 New York time of the last Monday to Thursday on which it has passed.

    Not a Friday: whoever starts there at ten times the speed soon meets the weekend.
    """
    local = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).astimezone(NEW_YORK)
    day = local.date()
    while True:
        opening = datetime.combine(day, time(9, 30), NEW_YORK)
        opening_ns = int(opening.timestamp()) * 1_000_000_000
        if day.weekday() < _FRIDAY and opening <= local and is_open(opening_ns):
            return opening_ns
        day -= timedelta(days=1)
