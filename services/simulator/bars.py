"""Bars from the market's own trades, kept for `retrieveBars`.

One-minute bars are the stock from which longer units are summed; one-second bars are
kept for the last two hours only. A period without trades has no bar.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import UTC, datetime, timedelta

import msgspec

from shared.broker.projectx.enums import AggregateBarUnit

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
SECONDS_KEPT = 7_200
MINUTES_KEPT = 60_000
UNIT_NS = {
    AggregateBarUnit.SECOND: SECOND_NS,
    AggregateBarUnit.MINUTE: MINUTE_NS,
    AggregateBarUnit.HOUR: 60 * MINUTE_NS,
    AggregateBarUnit.DAY: 1440 * MINUTE_NS,
}
SUB_HOUR = (AggregateBarUnit.SECOND, AggregateBarUnit.MINUTE)


class Bar(msgspec.Struct, kw_only=True):
    """Prices in ticks; `open_ns` is when the bar begins, UTC."""

    open_ns: int
    open: int
    high: int
    low: int
    close: int
    volume: int

    def add(self, price: int, qty: int) -> None:
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += qty

    def join(self, later: Bar) -> None:
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume


class BarBook:
    """One contract's bars, oldest first, the last one still forming."""

    def __init__(self, minutes: list[Bar] | None = None) -> None:
        self.seconds: deque[Bar] = deque(maxlen=SECONDS_KEPT)
        self.minutes: deque[Bar] = deque(minutes or (), maxlen=MINUTES_KEPT)
        self.unsaved: list[Bar] = []

    def add(self, ts_ns: int, price: int, qty: int) -> None:
        """Count one trade."""
        for bars, length_ns in ((self.seconds, SECOND_NS), (self.minutes, MINUTE_NS)):
            open_ns = ts_ns // length_ns * length_ns
            if bars and open_ns <= bars[-1].open_ns:
                bars[-1].add(price, qty)
                continue
            if bars and length_ns == MINUTE_NS:
                self.unsaved.append(bars[-1])
            bars.append(Bar(open_ns=open_ns, open=price, high=price, low=price, close=price, volume=qty))


def period_start(ts_ns: int, unit: AggregateBarUnit, number: int) -> int:
    """Return when the period holding `ts_ns` begins. Days begin at midnight UTC.

    The gateway's daily bars are reported to start at 19:00 Chicago time, which is
    that midnight in summer: not the session, as clients have to know.
    """
    length_ns = UNIT_NS.get(unit)
    if length_ns is not None:
        return ts_ns // (length_ns * number) * (length_ns * number)
    day = datetime.fromtimestamp(ts_ns // SECOND_NS, UTC).replace(hour=0, minute=0, second=0)
    if unit is AggregateBarUnit.WEEK:
        day -= timedelta(days=day.weekday())
        weeks = day.toordinal() // 7 % number
        return int((day - timedelta(weeks=weeks)).timestamp()) * SECOND_NS
    months = (day.year * 12 + day.month - 1) // number * number
    return int(datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC).timestamp()) * SECOND_NS


def period_end(start_ns: int, unit: AggregateBarUnit, number: int) -> int:
    """Return when the period that begins at `start_ns` ends."""
    length_ns = UNIT_NS.get(unit)
    if length_ns is not None:
        return start_ns + length_ns * number
    start = datetime.fromtimestamp(start_ns // SECOND_NS, UTC)
    if unit is AggregateBarUnit.WEEK:
        return int((start + timedelta(weeks=number)).timestamp()) * SECOND_NS
    months = start.year * 12 + start.month - 1 + number
    return int(datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC).timestamp()) * SECOND_NS


def select(
    source: list[Bar],
    *,
    unit: AggregateBarUnit,
    number: int,
    start_ns: int,
    end_ns: int,
    now_ns: int,
    limit: int,
    partial: bool,
) -> list[Bar]:
    """Return the bars that open in [start, end), newest first, the most recent `limit`."""
    summed: OrderedDict[int, Bar] = OrderedDict()
    for bar in source:
        if bar.open_ns >= end_ns:
            break
        open_ns = period_start(bar.open_ns, unit, number)
        if open_ns < start_ns:
            continue
        known = summed.get(open_ns)
        if known is None:
            summed[open_ns] = msgspec.structs.replace(bar, open_ns=open_ns)
        else:
            known.join(bar)
    bars = list(summed.values())
    if bars and not partial and period_end(bars[-1].open_ns, unit, number) > now_ns:
        bars.pop()
    return bars[-limit:][::-1]
