"""The synthetic market's past: one-minute bars made backward from where it began.

Each minute's chance comes from the seed and the minute alone, so the same past is told
every time, as far back as somebody asks (up to `HISTORY_DAYS`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from services.simulator.bars import Bar
from services.simulator.contracts import Contract
from services.simulator.market_synthetic import CHARACTERS, VOLATILITY
from services.simulator.sessions import MINUTE_NS, activity, is_open

HISTORY_DAYS = 30
QUIET_MINUTE = 0.02  # chance that a minute outside the day session has no trade


class PastBars:
    """One contract's bars before `end_ns`, made when they are first asked for."""

    def __init__(
        self,
        contract: Contract,
        *,
        seed: int,
        end_ns: int,
        close_ticks: int,
        open_at: Callable[[int], bool] = is_open,
        chance: Callable[[str], Random] = Random,
    ) -> None:
        self._contract = contract
        self._character = CHARACTERS[contract.product.symbol]
        self._seed = seed
        self._chance = chance
        self._open_at = open_at
        self._next_ns = end_ns // MINUTE_NS * MINUTE_NS - MINUTE_NS
        self._first_ns = end_ns - HISTORY_DAYS * 1440 * MINUTE_NS
        self._close_ticks = float(close_ticks)
        self._backward: list[Bar] = []

    def since(self, start_ns: int) -> list[Bar]:
        """Return the bars from `start_ns` on, oldest first."""
        until_ns = max(start_ns, self._first_ns)
        while self._next_ns >= until_ns:
            if self._open_at(self._next_ns):
                self._make(self._next_ns)
            self._next_ns -= MINUTE_NS
        return [bar for bar in reversed(self._backward) if bar.open_ns >= start_ns]

    def _make(self, open_ns: int) -> None:
        common = self._chance(f"{self._seed}:past:{open_ns}")
        own = self._chance(f"{self._seed}:{self._contract.product.symbol}:{open_ns}")
        busy = activity(open_ns)
        if busy < 0.5 and own.random() < QUIET_MINUTE:
            return
        width = self._close_ticks * VOLATILITY * math.sqrt(60 * busy)
        change = width * (self._character.beta * common.gauss(0.0, 1.0) + 0.25 * own.gauss(0.0, 1.0))
        close, opened = round(self._close_ticks), round(self._close_ticks - change)
        volume = max(1, int(self._character.trades_per_s * busy * 120 * own.lognormvariate(0.0, 0.5)))
        self._backward.append(
            Bar(
                open_ns=open_ns,
                open=opened,
                high=max(opened, close) + int(abs(own.gauss(0.0, 0.4)) * width),
                low=min(opened, close) - int(abs(own.gauss(0.0, 0.4)) * width),
                close=close,
                volume=volume,
            )
        )
        self._close_ticks -= change
