"""A request budget of one process alone: sliding windows with a reserve for exits.

The broker allows 200 requests in 60 s over all endpoints and 50 in 30 s for history,
and does not say whether its windows slide. A sliding window of ours never sends more
than either kind would take. Part of the general one is kept for what gets us out of
positions: a burst of polling must never stand in the way of a cancel.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from shared.broker.port import Clock, LimitKind

GENERAL_WINDOW_S: Final = 60.0
GENERAL_MAX: Final = 190  # of 200: our window and the broker's do not begin together
HISTORY_WINDOW_S: Final = 30.0
HISTORY_MAX: Final = 45  # of 50
URGENT_RESERVE: Final = 30
SECOND_NS: Final = 1_000_000_000


class SlidingWindow:
    """At most `requests_max` grants in any `window_s`; the last `reserve` of them only when urgent."""

    def __init__(self, *, requests_max: int, window_s: float, reserve: int) -> None:
        assert 0 <= reserve < requests_max
        assert window_s > 0
        self._requests_max = requests_max
        self._reserve = reserve
        self._window_ns = int(window_s * SECOND_NS)
        self._granted: deque[int] = deque()
        self._paused_until_ns = 0

    def take(self, now_ns: int, *, urgent: bool) -> int:
        """Grant one request and return 0, or return how many nanoseconds to wait before asking again."""
        if now_ns < self._paused_until_ns:
            return self._paused_until_ns - now_ns  # also what is urgent: it would get a 429, no more
        while self._granted and self._granted[0] <= now_ns - self._window_ns:
            self._granted.popleft()
        room = self._requests_max - (0 if urgent else self._reserve)
        if len(self._granted) < room:
            self._granted.append(now_ns)
            return 0
        # Free again when so many have left the window that fewer than `room` remain.
        leaving = self._granted[len(self._granted) - room]
        return leaving + self._window_ns - now_ns

    def pause(self, now_ns: int, pause_s: float) -> None:
        self._paused_until_ns = max(self._paused_until_ns, now_ns + int(pause_s * SECOND_NS))


class LocalLimiter:
    """See `shared.broker.port.Limiter`. Ordinary requests are granted in the order they came."""

    def __init__(
        self,
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        general_max: int = GENERAL_MAX,
        history_max: int = HISTORY_MAX,
        urgent_reserve: int = URGENT_RESERVE,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._windows: dict[LimitKind, SlidingWindow] = {
            "general": SlidingWindow(
                requests_max=general_max, window_s=GENERAL_WINDOW_S, reserve=urgent_reserve
            ),
            "history": SlidingWindow(requests_max=history_max, window_s=HISTORY_WINDOW_S, reserve=0),
        }
        self._turns: dict[LimitKind, asyncio.Lock] = {"general": asyncio.Lock(), "history": asyncio.Lock()}

    async def acquire(self, kind: LimitKind, urgent: bool) -> None:
        if urgent:
            await self._wait(kind, urgent=True)  # does not queue behind polling
            return
        async with self._turns[kind]:
            await self._wait(kind, urgent=False)

    def take(self, kind: LimitKind, urgent: bool) -> float:
        """Take a place if there is one now and return 0, else how many seconds to wait for the next."""
        return self._windows[kind].take(self._clock.monotonic_ns(), urgent=urgent) / SECOND_NS

    async def pause(self, kind: LimitKind, pause_s: float) -> None:
        self._windows[kind].pause(self._clock.monotonic_ns(), pause_s)

    async def _wait(self, kind: LimitKind, *, urgent: bool) -> None:
        while (wait_s := self.take(kind, urgent)) > 0:
            await self._sleep(wait_s)
