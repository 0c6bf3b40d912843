"""Time as a port: nothing below the shells' border reads a clock, and a simulated one fits in here."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Two clocks: wall time is data, monotonic time decides timeouts and schedules."""

    def now_ns(self) -> int:
        """Return UTC nanoseconds; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds that only rise, from an arbitrary start."""
        ...

    def boot(self) -> str:
        """Return what names this start of the machine, in which `monotonic_ns` counts; empty if unknown."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """This machine's clocks."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def boot(self) -> str:
        try:
            return BOOT_ID.read_text().strip()
        except OSError:
            return ""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
