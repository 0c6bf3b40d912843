"""Bars from trades: one minute at a time, and larger intervals from those minutes.

Minutes are the only bars built from trades. Larger ones are folded from the minutes, so that they are made of
the same trades by construction, whether a minute came from the live stream or from the broker's history.

Alignment: an interval that divides an hour evenly lies on multiples of it in UTC, which is also on multiples
from the session's open, because every session opens on a full hour. Longer intervals are counted from the
session's open (a four-hour bar of a session that opens at 17:00 Chicago starts at 17:00), since the UTC day
has no meaning to the market.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.domain.calendar import session_open_before
from shared.domain.market import Bar, BarSource, Trade

NS_PER_S = 1_000_000_000
MINUTE_S = 60
MINUTE_NS = MINUTE_S * NS_PER_S
HOUR_S = 3_600
NEVER_NS = 2**63 - 1


def minute_open_ns(ts_ns: int) -> int:
    """Return the start of the UTC minute that holds `ts_ns`."""
    return ts_ns - ts_ns % MINUTE_NS


def interval_open_ns(symbol: str, ts_ns: int, interval_s: int) -> int:
    """Return the start of the interval that holds `ts_ns`; see the module for its alignment."""
    interval_ns = interval_s * NS_PER_S
    if HOUR_S % interval_s == 0:
        return ts_ns - ts_ns % interval_ns
    opened_ns = session_open_before(symbol, ts_ns)
    if opened_ns is None:  # between sessions or off the calendar: the clock's day is all there is
        return ts_ns - ts_ns % interval_ns
    return ts_ns - (ts_ns - opened_ns) % interval_ns


def last_over_ns(symbol: str, ts_ns: int, interval_s: int) -> int:
    """Return the start of the last interval that was over at `ts_ns`."""
    return interval_open_ns(symbol, ts_ns, interval_s) - interval_s * NS_PER_S


@dataclass(slots=True)
class MinuteBuilder:
    """Builds one minute at a time from trades in stream order.

    Attributes:
        end_ns: End of the minute that is being built; `NEVER_NS` while there is none.
        closed_ns: Trades before this belong to minutes already closed.
        seen_since_ns: Event time since when nothing was missed; `NEVER_NS` while the feed is cut. A minute
            that opened before it is partial.
        late_trades: Trades that came after their minute was closed.
    """

    symbol: str
    end_ns: int = NEVER_NS
    closed_ns: int = 0
    seen_since_ns: int = NEVER_NS
    late_trades: int = 0
    _open: float = 0.0
    _high: float = 0.0
    _low: float = 0.0
    _close: float = 0.0
    _volume: int = 0
    _trades: int = 0
    _cut: bool = False

    def add(self, trade: Trade) -> Bar | None:
        """Take one trade; return the minute that it ended, if any. A late trade changes nothing."""
        ts_ns, px = trade.ts_event_ns, trade.px
        if ts_ns < self.closed_ns:
            self.late_trades += 1
            return None
        end_ns = self.end_ns
        if ts_ns < end_ns and end_ns != NEVER_NS:
            if ts_ns < end_ns - MINUTE_NS:  # its minute was empty until now, and a later one is under way
                self.late_trades += 1
                return None
            if px > self._high:
                self._high = px
            elif px < self._low:
                self._low = px
            self._close = px
            self._volume += trade.qty
            self._trades += 1
            return None
        ended = self.close(trade.ts_recv_ns) if end_ns != NEVER_NS else None
        self.end_ns = ts_ns - ts_ns % MINUTE_NS + MINUTE_NS
        self._open = self._high = self._low = self._close = px
        self._volume, self._trades, self._cut = trade.qty, 1, False
        return ended

    def close(self, ts_recv_ns: int) -> Bar | None:
        """End the minute under way and return it; None when there is none."""
        if self.end_ns == NEVER_NS:
            return None
        opened_ns = self.end_ns - MINUTE_NS
        bar = Bar(
            symbol=self.symbol,
            interval_s=MINUTE_S,
            ts_open_ns=opened_ns,
            open=self._open,
            high=self._high,
            low=self._low,
            close=self._close,
            volume=self._volume,
            ts_recv_ns=ts_recv_ns,
            trades=self._trades,
            partial=self._cut or opened_ns < self.seen_since_ns,
        )
        self.closed_ns = self.end_ns
        self.end_ns = NEVER_NS
        return bar

    def cut(self) -> None:
        """The feed was cut: the minute under way will stay partial, and so will those until `resume`."""
        self._cut = True
        self.seen_since_ns = NEVER_NS

    def resume(self, ts_ns: int) -> None:
        """From `ts_ns` (event time) on nothing is missed."""
        self.seen_since_ns = ts_ns

    def volume_of(self, opened_ns: int) -> int | None:
        """Return what was counted so far in a minute under way, None if it is another or not whole."""
        if self.end_ns != opened_ns + MINUTE_NS or self._cut or opened_ns < self.seen_since_ns:
            return None
        return self._volume


@dataclass(slots=True)
class Folder:
    """Folds minutes, oldest first, into bars of one larger interval.

    Attributes:
        published_ns: Bars that opened at or before this are out already; -1 for none.
        end_ns: End of the interval under way; `NEVER_NS` while there is none.
    """

    symbol: str
    interval_s: int
    published_ns: int = -1
    end_ns: int = NEVER_NS
    _minutes: list[Bar] | None = None
    _last_minute_ns: int = -1
    _whole_from_ns: int = NEVER_NS

    def starts_whole_at(self, ts_ns: int) -> None:
        """Minutes are complete from here on: an interval that opened earlier is partial."""
        if self._whole_from_ns == NEVER_NS:
            self._whole_from_ns = ts_ns

    def unpublish(self, opened_ns: int) -> None:
        """The bar that opened at `opened_ns` did not reach the stream: fold it again from history."""
        self.published_ns = min(self.published_ns, opened_ns - 1)
        self._last_minute_ns = min(self._last_minute_ns, opened_ns - 1)
        self._minutes, self.end_ns = None, NEVER_NS

    def has_hole_before(self, ts_ns: int) -> None:
        """Minutes before `ts_ns` are missing for good."""
        self._whole_from_ns = ts_ns

    def add(self, minute: Bar) -> list[Bar]:
        """Take one minute; return the larger bars that it ended, oldest first.

        Minutes seen before are passed over. The last minute of an interval ends it at once.
        """
        if minute.ts_open_ns <= self._last_minute_ns:
            return []
        self._last_minute_ns = minute.ts_open_ns
        opened_ns = interval_open_ns(self.symbol, minute.ts_open_ns, self.interval_s)
        if opened_ns <= self.published_ns:
            return []
        ended = self.close(minute.ts_recv_ns) if minute.ts_open_ns >= self.end_ns else None
        if self._minutes is None:
            self._minutes = []
            self.end_ns = opened_ns + self.interval_s * NS_PER_S
        self._minutes.append(minute)
        full = None
        if minute.ts_open_ns + MINUTE_NS == self.end_ns:
            full = self.close(minute.ts_recv_ns)
        return [bar for bar in (ended, full) if bar is not None]

    def close(self, ts_recv_ns: int) -> Bar | None:
        """End the interval under way and return it; None when there is none."""
        minutes = self._minutes
        if minutes is None:
            return None
        opened_ns = self.end_ns - self.interval_s * NS_PER_S
        live = all(m.source is BarSource.TRADES for m in minutes)
        bar = Bar(
            symbol=self.symbol,
            interval_s=self.interval_s,
            ts_open_ns=opened_ns,
            open=minutes[0].open,
            high=max(m.high for m in minutes),
            low=min(m.low for m in minutes),
            close=minutes[-1].close,
            volume=sum(m.volume for m in minutes),
            ts_recv_ns=ts_recv_ns,
            trades=sum(m.trades for m in minutes) if live else 0,
            source=BarSource.TRADES if live else BarSource.BACKFILL,
            partial=any(m.partial for m in minutes) or opened_ns < self._whole_from_ns,
        )
        self._minutes = None
        self.end_ns = NEVER_NS
        self.published_ns = opened_ns
        return bar
