"""Strategies that measure or misbehave. They may look at the clock, which a real strategy may not."""

from __future__ import annotations

import time
from pathlib import Path

from shared.strategy import Bar, Quote, Strategy


class Hop(Strategy):
    """Notes how long each quote travelled: `ts_recv_ns` is the sender's monotonic clock."""

    out: str = ""

    def on_quote(self, quote: Quote) -> None:
        _HOPS.append((time.monotonic_ns() - quote.ts_recv_ns) / 1_000)

    def on_stop(self) -> None:
        Path(self.out).write_text("\n".join(f"{hop:.1f}" for hop in _HOPS))


_HOPS: list[float] = []


class Empty(Strategy):
    """Every quote is decoded and handed over; nothing is done with it."""

    def on_quote(self, quote: Quote) -> None:
        pass


class Burn(Strategy):
    """Never stops computing: each quote costs `busy_ms` of CPU."""

    busy_ms: int = 900

    def on_quote(self, quote: Quote) -> None:
        until = time.perf_counter() + self.busy_ms / 1_000
        while time.perf_counter() < until:
            pass


class Sleep(Strategy):
    """Blocks its process, as a careless HTTP call would."""

    sleep_s: float = 0.9

    def on_quote(self, quote: Quote) -> None:
        time.sleep(self.sleep_s)


class Flip(Strategy):
    """Trades on every `every`-th quote, for the time from tick to order."""

    every: int = 40

    def on_start(self) -> None:
        self.seen = 0

    def on_quote(self, quote: Quote) -> None:
        self.seen += 1
        if self.seen % self.every or self.pending:
            return
        if self.flat:
            self.buy(1, stop=self.ticks(400), target=self.ticks(400))
        else:
            self.close()


class Listen(Strategy):
    """An ordinary small strategy: looks at bars."""

    def on_start(self) -> None:
        self.high = 0.0

    def on_bar(self, bar: Bar) -> None:
        self.high = max(self.high, bar.high)
