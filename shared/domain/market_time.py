"""What time it is in the market, from the market's own timestamps.

Our wall clock is the market's only when both are set well and nothing is delayed: it counts until the broker
has told its own, and that until events have. The newest event time seen,
carried on by our monotonic clock, is never ahead of the venue, whatever its date, speed and delay: so a bar
that is closed by it is closed after its last trade was due. The largest such estimate of the last minute
counts: it belongs to the event that was delayed least.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_NS = 30_000_000_000
_NOTHING = -(2**63)


@dataclass(slots=True)
class MarketTime:
    """Attributes: venue: the venue's date may be another than ours. speed: market seconds per second."""

    venue: bool
    speed: float = 1.0
    _offset_ns: int | None = None
    _newest_ns: int = _NOTHING
    _previous_ns: int = _NOTHING
    _window_end_ns: int = 0
    _told_ns: int | None = None

    def observe(self, ts_event_ns: int, mono_ns: int) -> None:
        """Take the time of an event received at `mono_ns`."""
        offset_ns = ts_event_ns - (mono_ns if self.speed == 1.0 else int(mono_ns * self.speed))
        if mono_ns >= self._window_end_ns:
            self._previous_ns, self._newest_ns = self._newest_ns, offset_ns
            self._window_end_ns = mono_ns + WINDOW_NS
            self._offset_ns = max(self._previous_ns, offset_ns)
        elif offset_ns > self._newest_ns:
            self._newest_ns = offset_ns
            self._offset_ns = max(self._previous_ns, offset_ns)

    def tell(self, venue_now_ns: int | None, mono_ns: int) -> None:
        """Take the broker's own word on its clock; it counts only until events tell better."""
        if self._offset_ns is None and venue_now_ns is not None:
            offset_ns = venue_now_ns - int(mono_ns * self.speed)
            # An answer that grows old would pull the estimate back.
            self._told_ns = offset_ns if self._told_ns is None else max(self._told_ns, offset_ns)

    def restart(self) -> None:
        """Forget the window: after a new connection the venue may live in another time."""
        self._newest_ns = self._previous_ns = _NOTHING
        self._window_end_ns = 0

    def now(self, now_ns: int, mono_ns: int) -> int | None:
        """Return the market's time for closing bars; None while nothing tells it."""
        offset_ns = self._offset_ns if self._offset_ns is not None else self._told_ns
        if offset_ns is not None:
            return offset_ns + (mono_ns if self.speed == 1.0 else int(mono_ns * self.speed))
        return None if self.venue else now_ns

    def calendar(self, now_ns: int, mono_ns: int) -> int | None:
        """Return the time to ask the calendar with: a delayed feed does not delay the exchange's day."""
        return self.now(now_ns, mono_ns) if self.venue else now_ns

    @property
    def known(self) -> bool:
        return self._offset_ns is not None
