"""Venue time: a clock of its own, at its own speed.

Venue time is apart from the host's: a newcomer on a Sunday sees a Monday's trading, a
recording has its own day. Clients learn it from timestamps and from HTTP `Date`.
"""

from __future__ import annotations

from collections.abc import Callable


class VenueTime:
    """UTC nanoseconds of the venue, running at `speed` once started."""

    def __init__(self, monotonic_ns: Callable[[], int], *, start_ns: int, speed: float) -> None:
        """Args:
        speed: Venue seconds per real second. At 0 it only moves through `reach`.
        """
        self._monotonic_ns = monotonic_ns
        self._base_ns = start_ns
        self._speed = speed
        self._since_ns: int | None = None  # None: stands still
        self._last_ns = start_ns

    def now_ns(self) -> int:
        """Return venue time; it never goes back."""
        if self._since_ns is not None:
            passed_ns = self._monotonic_ns() - self._since_ns
            self._last_ns = max(self._last_ns, self._base_ns + int(passed_ns * self._speed))
        return self._last_ns

    def start(self) -> None:
        """Let time run from where it stands."""
        self._base_ns, self._since_ns = self._last_ns, self._monotonic_ns()

    def reach(self, ts_ns: int) -> None:
        """Move on to `ts_ns`, if that is later."""
        self._last_ns = max(self._last_ns, ts_ns)

    def jump(self, ts_ns: int) -> None:
        """Go on from `ts_ns`, if that is later."""
        self._last_ns = max(self.now_ns(), ts_ns)
        self.start()

    def set_speed(self, speed: float) -> None:
        """Go on at another speed from now."""
        self._last_ns = self.now_ns()
        self._speed = speed
        self.start()
