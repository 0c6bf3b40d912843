"""The firm's day: when a trading day turns, how long entries are taken, when the account must be flat. Pure.

A trading day runs from `reopen` of the evening before to `reopen` of its own date, Monday to Friday, by the
wall clock of the firm's zone: never by a fixed offset. Where the exchange closes early, the account is flat
that much earlier.
"""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from shared.domain.calendar import Open, open_of_date, session_state

NS_PER_S = 1_000_000_000
_SATURDAY = 5


class Hours(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes:
    flat_by: None: positions may be held over the close.
    symbols: Whose sessions may close early.
    early_close_lead_s: Flat this long before an early close, market seconds.
    entries_end_s: New exposure ends this long before `flat_by`, market seconds.
    flat_lead_s: Closing begins this long before `flat_by`, market seconds.
    """

    flat_by: time | None
    reopen: time
    zone: str
    symbols: tuple[str, ...] = ()
    early_close_lead_s: float = 900.0
    entries_end_s: float = 180.0
    flat_lead_s: float = 60.0


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """One trading day in market time.

    Attributes:
        start_ns: `reopen` of the evening before.
        end_ns: `reopen` of its own date: the balance then is the end-of-day balance.
        flat_ns: Flat by then; None without such a rule.
        reopens_ns: When trading may begin again after `flat_ns`.
    """

    trading_date: date
    start_ns: int
    end_ns: int
    entries_end_ns: int | None
    flatten_ns: int | None
    flat_ns: int | None
    reopens_ns: int


def brokers_time(told_ns: int | None, now_ns: int, *, waited_s: float, patience_s: float) -> int | None:
    """Return the broker's clock as it told it; None while it has not.

    Ours may be set wrong, and an hour ahead would close everything at a start. But a broker that has told
    nothing for `patience_s` must not end the closing hours: then ours is the best there is.
    """
    if told_ns is not None:
        return told_ns
    return now_ns if waited_s >= patience_s else None


def day_at(market_ns: int, hours: Hours) -> Day:
    """Return the trading day that `market_ns` counts for; a weekend counts for the Monday."""
    local = datetime.fromtimestamp(market_ns / NS_PER_S, UTC).astimezone(ZoneInfo(hours.zone))
    found = local.date() + timedelta(days=1) if local.time() >= hours.reopen else local.date()
    return day_of(_weekday(found), hours)


@functools.lru_cache(maxsize=64)
def day_of(trading_date: date, hours: Hours) -> Day:
    """Return the trading day of a date, Monday to Friday."""
    assert trading_date.weekday() < _SATURDAY, trading_date
    start_ns = _at(trading_date - timedelta(days=1), hours.reopen, hours)
    flat_ns = _flat_ns(trading_date, hours)
    following = _weekday(trading_date + timedelta(days=1))
    return Day(
        trading_date=trading_date,
        start_ns=start_ns,
        end_ns=_at(trading_date, hours.reopen, hours),
        entries_end_ns=None if flat_ns is None else flat_ns - round(hours.entries_end_s * NS_PER_S),
        flatten_ns=None if flat_ns is None else flat_ns - round(hours.flat_lead_s * NS_PER_S),
        flat_ns=flat_ns,
        reopens_ns=_at(following - timedelta(days=1), hours.reopen, hours),
    )


def next_day(day: Day, hours: Hours) -> Day:
    return day_of(_weekday(day.trading_date + timedelta(days=1)), hours)


def local_time(ts_ns: int, hours: Hours) -> str:
    """Return a time as people of the firm's zone read it: `Mon 15:10 CST`."""
    return (
        datetime.fromtimestamp(ts_ns / NS_PER_S, UTC).astimezone(ZoneInfo(hours.zone)).strftime("%a %H:%M %Z")
    )


def _weekday(day: date) -> date:
    while day.weekday() >= _SATURDAY:
        day += timedelta(days=1)
    return day


def _flat_ns(day: date, hours: Hours) -> int | None:
    if hours.flat_by is None:
        return None
    flat_ns = _at(day, hours.flat_by, hours)
    for symbol in hours.symbols:
        open_ns = open_of_date(symbol, day)
        session = session_state(symbol, open_ns) if open_ns is not None else None
        # Without a session on that date the next one is found: it says nothing about this day.
        if isinstance(session, Open) and session.session.trading_date == day:
            lead_ns = round(hours.early_close_lead_s * NS_PER_S)
            flat_ns = min(flat_ns, session.session.close_ns - lead_ns)
    return flat_ns


def _at(day: date, at: time, hours: Hours) -> int:
    return round(datetime.combine(day, at, ZoneInfo(hours.zone)).timestamp()) * NS_PER_S
