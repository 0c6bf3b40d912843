"""Time as a port: nothing below the shells' border reads a clock, and a simulated one fits in here."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """Two clocks: wall time is data, monotonic time decides timeouts and schedules."""

    def now_ns(self) -> int:
        """Return UTC nanoseconds; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds that only rise, from an arbitrary start."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """This machine's clocks."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
