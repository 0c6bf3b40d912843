"""Strategies that misbehave in every way a host has to survive."""

from __future__ import annotations

import random
import time

from shared.strategy import Bar, Quote, Strategy


class Obedient(Strategy):
    """Buys on every tenth quote; what it did can be counted."""

    count: int

    def on_start(self) -> None:
        self.count = 0

    def on_quote(self, quote: Quote) -> None:
        self.count += 1
        if self.count % 10 == 0:
            self.buy(1, stop=self.ticks(8), target=self.ticks(8), add=True, reason=f"quote {self.count}")


class BuysAlways(Strategy):
    """Buys on every quote on which it may."""

    def on_quote(self, quote: Quote) -> None:
        self.buy(1, stop=self.ticks(8), target=self.ticks(16), add=True)


class Spin(Strategy):
    def on_quote(self, quote: Quote) -> None:
        while True:
            pass


class Sleep(Strategy):
    def on_quote(self, quote: Quote) -> None:
        time.sleep(3_600)


class Burn(Strategy):
    """Uses a whole core, but returns in time."""

    burn_ms: int = 200

    def on_quote(self, quote: Quote) -> None:
        end = time.perf_counter() + self.burn_ms / 1000
        while time.perf_counter() < end:
            pass


class Leak(Strategy):
    def on_start(self) -> None:
        LEAKED.clear()

    def on_quote(self, quote: Quote) -> None:
        for _ in range(16):
            LEAKED.append(bytearray(b"x" * (1 << 20)))


class Raise(Strategy):
    def on_quote(self, quote: Quote) -> None:
        raise ZeroDivisionError("on purpose")


class HangsAtStart(Strategy):
    def on_start(self) -> None:
        time.sleep(3_600)


class NotSaved(Strategy):
    def on_start(self) -> None:
        self.handle = object()

    def on_bar(self, bar: Bar) -> None: ...


LEAKED: list[bytearray] = []


class Drawing(Strategy):
    """Draws from the generator that everybody shares, as an author may."""

    def on_start(self) -> None:
        raise RuntimeError(f"drew {random.getrandbits(64)}")
