"""Sliding-window request limits of one user."""

from __future__ import annotations

from collections import deque


class SlidingWindow:
    """Allow `requests_max` requests in any `window_s` seconds."""

    def __init__(self, *, requests_max: int, window_s: float) -> None:
        assert requests_max > 0 and window_s > 0
        self._requests_max = requests_max
        self._window_ns = int(window_s * 1e9)
        self._taken_ns: deque[int] = deque()

    def take(self, now_ns: int) -> int:
        """Count one request; return 0, or how many nanoseconds until one is allowed again."""
        while self._taken_ns and self._taken_ns[0] <= now_ns - self._window_ns:
            self._taken_ns.popleft()
        if len(self._taken_ns) >= self._requests_max:
            return self._taken_ns[0] + self._window_ns - now_ns
        self._taken_ns.append(now_ns)
        return 0
