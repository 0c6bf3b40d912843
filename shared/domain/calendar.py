"""When a product trades: Globex sessions, trading dates, holidays and early closes.

The week of CME Globex is one rule with exceptions: each trading date (Monday to Friday) opens at 17:00
Chicago the evening before and closes at 16:00; the hour between is the daily break. What deviates is in
`calendar_table.py`, made from pandas-market-calendars, so that no process needs pandas.

Outside the table the answer is `UnknownSession`, not a guess: a calendar that runs out silently would make
a feed call every silence a weekend.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import NamedTuple

from shared.domain.calendar_table import EARLY_CLOSES, FIRST_DAY, LAST_DAY, NO_SESSION, SUMMER_TIMES

NS_PER_S = 1_000_000_000
OPEN_HOUR = 17
CLOSE_HOUR = 16
DAY_SESSION_FROM_S = 15 * 3600 + 30 * 60
"""From the open at 17:00 to 08:30 Chicago, when the stock market opens."""
DAY_SESSION_TO_S = 22 * 3600
"""From the open at 17:00 to 15:00 Chicago, when the stock market closes."""

GROUPS: dict[str, str] = {
    **dict.fromkeys(("ES", "NQ", "RTY", "YM", "EMD", "MES", "MNQ", "M2K", "MYM"), "equity"),
    **dict.fromkeys(("6A", "6B", "6C", "6E", "6J", "6N", "6S", "E7", "M6A", "M6B", "M6E"), "fx"),
}
"""Exchange ticker -> product group; a group is a row of exceptions in the table."""

REMEDY = "rebuild the table with tools/build_calendar.py"


class Session(NamedTuple):
    """One trading date's session: [`open_ns`, `close_ns`), UTC."""

    open_ns: int
    close_ns: int
    trading_date: date


class Open(NamedTuple):
    until_ns: int
    session: Session


class Closed(NamedTuple):
    """Attributes: until_ns: next open. next_date: trading date that opens then."""

    until_ns: int
    next_date: date


class UnknownSession(NamedTuple):
    """The table does not say. Neither open nor closed may be concluded."""

    why: str


SessionState = Open | Closed | UnknownSession


def group_of(symbol: str) -> str | None:
    """Return the product group of an exchange ticker, None when the calendar does not know it."""
    return GROUPS.get(symbol)


@cache
def sessions(group: str) -> tuple[Session, ...]:
    """Return every session of a product group, oldest first."""
    none = frozenset(NO_SESSION[group])
    early = EARLY_CLOSES[group]
    found = []
    day = date.fromisoformat(FIRST_DAY)
    last = date.fromisoformat(LAST_DAY)
    while day <= last:
        name = day.isoformat()
        if day.weekday() < 5 and name not in none:
            hour, minute = map(int, early.get(name, f"{CLOSE_HOUR}:00").split(":"))
            eve = day - timedelta(days=1)
            found.append(Session(_chicago_ns(eve, OPEN_HOUR, 0), _chicago_ns(day, hour, minute), day))
        day += timedelta(days=1)
    return tuple(found)


@cache
def _closes(group: str) -> tuple[int, ...]:
    return tuple(session.close_ns for session in sessions(group))


def session_state(symbol: str, now_ns: int) -> SessionState:
    """Return whether `symbol` trades at `now_ns` (UTC), and until when."""
    group = GROUPS.get(symbol)
    if group is None:
        return UnknownSession(f"no calendar for {symbol}: add it to GROUPS in shared/domain/calendar.py")
    if not is_on_table(now_ns):
        return UnknownSession(f"{_utc(now_ns):%Y-%m-%d} is outside the calendar table: {REMEDY}")
    following = sessions(group)[bisect_right(_closes(group), now_ns)]
    if following.open_ns <= now_ns:
        return Open(following.close_ns, following)
    return Closed(following.open_ns, following.trading_date)


def is_on_table(now_ns: int) -> bool:
    """Return whether every group's table reaches `now_ns`: after its first open, before its last close."""
    return all(sessions(group)[0].open_ns <= now_ns < sessions(group)[-1].close_ns for group in NO_SESSION)


def trading_date(symbol: str, now_ns: int) -> date | None:
    """Return the date that `now_ns` counts for: it turns at the close, None when unknown."""
    match session_state(symbol, now_ns):
        case Open(session=session):
            return session.trading_date
        case Closed(next_date=next_date):
            return next_date
        case _:
            return None


def next_open_ns(symbol: str, now_ns: int) -> int | None:
    """Return when the next session after `now_ns` opens, None when unknown."""
    match session_state(symbol, now_ns):
        case Closed(until_ns=until_ns):
            return until_ns
        case Open(until_ns=until_ns):
            after = session_state(symbol, until_ns)
            return after.until_ns if isinstance(after, Closed) else None
        case _:
            return None


def open_of_date(symbol: str, day: date) -> int | None:
    """Return when the first session of trading date `day` or later opens, None when unknown."""
    group = GROUPS.get(symbol)
    if group is None or not FIRST_DAY <= day.isoformat() <= LAST_DAY:
        return None
    return next((s.open_ns for s in sessions(group) if s.trading_date >= day), None)


def in_day_session(session: Session, now_ns: int) -> bool:
    """Return whether the stock market's hours (08:30 to 15:00 Chicago) are on: when it is never quiet."""
    since_s = (now_ns - session.open_ns) // NS_PER_S
    return DAY_SESSION_FROM_S <= since_s < DAY_SESSION_TO_S


def back_by_open_time(symbol: str, now_ns: int, span_s: int) -> int:
    """Return the time before `now_ns` since when the market was open for `span_s` seconds.

    Where the calendar does not know, the span is taken from the clock.
    """
    group = GROUPS.get(symbol)
    left_ns = span_s * NS_PER_S
    if group is None or not is_on_table(now_ns):
        return now_ns - left_ns
    table = sessions(group)
    at = min(bisect_right(_closes(group), now_ns), len(table) - 1)
    while at >= 0:
        session = table[at]
        end_ns = min(now_ns, session.close_ns)
        if end_ns > session.open_ns:
            if end_ns - session.open_ns >= left_ns:
                return end_ns - left_ns
            left_ns -= end_ns - session.open_ns
        at -= 1
    return table[0].open_ns


def session_open_before(symbol: str, ts_ns: int) -> int | None:
    """Return when the session that holds `ts_ns` opened, None between sessions or when unknown."""
    state = session_state(symbol, ts_ns)
    return state.session.open_ns if isinstance(state, Open) else None


def minute_of_day(now_ns: int, zone: str) -> int | None:
    """Return the minutes since midnight in `zone`, None outside the table.

    Args:
        now_ns: UTC.
        zone: `UTC`, `America/Chicago` or `America/New_York`; the latter two change their clocks together.
    """
    if zone == "UTC":
        return now_ns // (60 * NS_PER_S) % 1_440
    if not is_on_table(now_ns):
        return None
    behind_h = {"America/Chicago": 6, "America/New_York": 5}[zone]
    # The clocks change at 02:00 local time of a Sunday, when nothing trades; the day is near enough.
    day = _utc(now_ns - behind_h * 3600 * NS_PER_S).date()
    local_ns = now_ns - (behind_h - _is_summer(day)) * 3600 * NS_PER_S
    return local_ns // (60 * NS_PER_S) % 1_440


def _is_summer(day: date) -> bool:
    return any(first <= day.isoformat() < after for first, after in SUMMER_TIMES)


def _chicago_ns(day: date, hour: int, minute: int) -> int:
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
    return int((local + timedelta(hours=6 - _is_summer(day))).timestamp()) * NS_PER_S


def _utc(now_ns: int) -> datetime:
    return datetime.fromtimestamp(now_ns // NS_PER_S, UTC)
