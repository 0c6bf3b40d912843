"""A clock that tests move."""

from __future__ import annotations

from shared.runtime.clock import NS_PER_S


class ManualClock:
    """See `shared.runtime.clock.Clock`; sleeping moves it."""

    def __init__(self, *, now_s: float = 1_795_379_000.0) -> None:
        self.elapsed_ns = 0
        self.start_ns = round(now_s * NS_PER_S)
        self.slept_s: list[float] = []

    def now_ns(self) -> int:
        return self.start_ns + self.elapsed_ns

    def monotonic_ns(self) -> int:
        return self.elapsed_ns

    def boot(self) -> str:
        return "first"

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        self.elapsed_ns += round(seconds * NS_PER_S)
