"""Indicators that take one value at a time and remember only what the next one needs.

Each is a struct, so it saves itself with the strategy: annotate it (`fast: EMA`), make it in `on_start`
(`self.fast = EMA(20)`), and feed it in a callback (`self.fast.add(bar.close)`). `value` is None until
enough has been seen.
"""

from __future__ import annotations

import msgspec

from shared.domain.market import Bar


class SMA(msgspec.Struct):
    """Simple moving average of the last `length` values."""

    length: int
    window: list[float] = []

    def add(self, x: float) -> float | None:
        self.window.append(x)
        if len(self.window) > self.length:
            del self.window[0]
        return self.value

    @property
    def value(self) -> float | None:
        # Summed anew: a running sum drifts, and a restart must give the same bits.
        return sum(self.window) / self.length if len(self.window) == self.length else None


class EMA(msgspec.Struct):
    """Exponential moving average, `alpha = 2 / (length + 1)`; starts at the first value."""

    length: int
    last: float = 0.0
    count: int = 0

    def add(self, x: float) -> float | None:
        self.count += 1
        self.last = x if self.count == 1 else self.last + (x - self.last) * 2.0 / (self.length + 1)
        return self.value

    @property
    def value(self) -> float | None:
        return self.last if self.count >= self.length else None


class ATR(msgspec.Struct):
    """Average true range over `length` bars, smoothed as by Wilder."""

    length: int
    last: float = 0.0
    count: int = 0
    close: float = 0.0

    def add(self, bar: Bar) -> float | None:
        spread = bar.high - bar.low
        if self.count:
            spread = max(spread, abs(bar.high - self.close), abs(bar.low - self.close))
        self.count += 1
        self.close = bar.close
        weight = min(self.count, self.length)
        self.last += (spread - self.last) / weight
        return self.value

    @property
    def value(self) -> float | None:
        return self.last if self.count >= self.length else None


class Highest(msgspec.Struct):
    """Highest of the last `length` values."""

    length: int
    window: list[float] = []

    def add(self, x: float) -> float | None:
        self.window.append(x)
        if len(self.window) > self.length:
            del self.window[0]
        return self.value

    @property
    def value(self) -> float | None:
        return max(self.window) if len(self.window) == self.length else None


class Lowest(msgspec.Struct):
    """Lowest of the last `length` values."""

    length: int
    window: list[float] = []

    def add(self, x: float) -> float | None:
        self.window.append(x)
        if len(self.window) > self.length:
            del self.window[0]
        return self.value

    @property
    def value(self) -> float | None:
        return min(self.window) if len(self.window) == self.length else None


class VWAP(msgspec.Struct):
    """Volume-weighted average price since it was made or `reset`."""

    volume: int = 0
    paid: float = 0.0

    def add(self, px: float, qty: int) -> float | None:
        self.volume += qty
        self.paid += px * qty
        return self.value

    def reset(self) -> None:
        self.volume, self.paid = 0, 0.0

    @property
    def value(self) -> float | None:
        return self.paid / self.volume if self.volume else None
