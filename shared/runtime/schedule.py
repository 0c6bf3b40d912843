"""Absolute schedules: turn `n` is due at `start + n * interval`, whatever the last one took.

Sleeping for an interval after each turn adds every delay to all that follow. Here a late turn is measured
and the next one is due when it always was; turns that passed entirely are skipped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from shared.domain.control import Duty
from shared.runtime.clock import NS_PER_MS, NS_PER_S, Clock

LATENESS_WINDOW_TURNS = 1_000


@dataclass(slots=True, kw_only=True)
class Progress:
    """How a duty gets on; `duty()` is its published form."""

    interval_s: float = 0.0
    done: int = 0
    ts_done_ns: int = 0
    waiting_since_ns: int = 0
    skipped: int = 0
    lateness_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENESS_WINDOW_TURNS))
    lateness_ms_max: float = 0.0

    def did(self, ts_ns: int, count: int = 1) -> None:
        """Record completed work: the only thing that counts as being alive."""
        self.done += count
        self.ts_done_ns = ts_ns
        self.waiting_since_ns = 0

    def waits(self, ts_ns: int) -> None:
        """Record that work is there and not yet done."""
        if not self.waiting_since_ns:
            self.waiting_since_ns = ts_ns

    def was_late(self, lateness_ms: float) -> None:
        self.lateness_ms.append(lateness_ms)
        self.lateness_ms_max = max(self.lateness_ms_max, lateness_ms)

    def duty(self) -> Duty:
        ordered = sorted(self.lateness_ms)
        p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] if ordered else 0.0
        return Duty(
            interval_s=self.interval_s,
            done=self.done,
            ts_done_ns=self.ts_done_ns,
            waiting_since_ns=self.waiting_since_ns,
            lateness_ms_last=round(self.lateness_ms[-1], 3) if self.lateness_ms else 0.0,
            lateness_ms_p99=round(p99, 3),
            lateness_ms_max=round(self.lateness_ms_max, 3),
        )


async def turns(clock: Clock, interval_s: float, progress: Progress | None = None) -> AsyncIterator[int]:
    """Yield turn numbers on an absolute schedule, the first at once.

    Args:
        interval_s: Period.
        progress: Where lateness and skipped turns are recorded.
    """
    interval_ns = round(interval_s * NS_PER_S)
    start_ns = clock.monotonic_ns()
    turn = 0
    while True:
        due_ns = start_ns + turn * interval_ns
        await clock.sleep((due_ns - clock.monotonic_ns()) / NS_PER_S)
        late_ns = max(0, clock.monotonic_ns() - due_ns)
        if progress is not None:
            progress.was_late(late_ns / NS_PER_MS)
        yield turn
        passed = (clock.monotonic_ns() - start_ns) // interval_ns + 1
        if progress is not None:
            progress.skipped += max(0, passed - turn - 1)
        turn = max(turn + 1, passed)
