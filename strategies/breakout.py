"""Breakout: buy when a bar closes above the last few bars, sell when it closes below them.

One position at a time. Stop and target travel with the entry and live at the broker, so the position is
protected even when this process is not there. What neither of them ended is closed after a few bars.
"""

from __future__ import annotations

from typing import Annotated

from shared.strategy import Bar, Meta, OrderFilled, StopPlan, Strategy


class Breakout(Strategy):
    lookback_bars: Annotated[int, Meta(ge=1, le=29)] = 3
    stop_ticks: Annotated[int, Meta(ge=1)] = 8
    target_ticks: Annotated[int, Meta(ge=1)] = 12
    break_even_ticks: Annotated[int, Meta(ge=0)] = 0
    """Profit at which the stop goes to the entry price; 0: it stays."""
    hold_bars_max: Annotated[int, Meta(ge=1)] = 5
    qty: Annotated[int, Meta(ge=1, le=10)] = 1

    def on_start(self) -> None:
        self.bars_held = 0

    def on_bar(self, bar: Bar) -> None:
        if not self.flat:
            self.bars_held += 1
            if self.bars_held >= self.hold_bars_max:
                self.close(reason=f"held for {self.bars_held} bars")
            return

        before = self.bars[:-1][-self.lookback_bars :]
        if len(before) < self.lookback_bars:
            return
        highest = max(b.high for b in before)
        lowest = min(b.low for b in before)
        stop, target = self.ticks(self.stop_ticks), self.ticks(self.target_ticks)
        plan = StopPlan(break_even_after_ticks=self.break_even_ticks) if self.break_even_ticks else None
        if bar.close > highest:
            self.buy(
                self.qty, stop=stop, target=target, plan=plan, reason=f"close {bar.close} above {highest}"
            )
        elif bar.close < lowest:
            self.sell(
                self.qty, stop=stop, target=target, plan=plan, reason=f"close {bar.close} below {lowest}"
            )

    def on_fill(self, fill: OrderFilled) -> None:
        if fill.role == "entry":
            self.bars_held = 0
