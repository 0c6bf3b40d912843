"""Strategies that trade often, in every way there is, so that faults meet orders in flight."""

from __future__ import annotations

import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from shared.strategy import Meta, Order, OrderFilled, Quote, Strategy

NS_PER_S = 1_000_000_000


class Churn(Strategy):
    """Enters, changes, cancels and closes in a fixed round; one step each `every_s` of market time."""

    every_s: Annotated[int, Meta(ge=1)] = 40
    stop_ticks: Annotated[int, Meta(ge=4)] = 40
    target_ticks: Annotated[int, Meta(ge=4)] = 60
    qty: Annotated[int, Meta(ge=1, le=3)] = 1

    def on_start(self) -> None:
        self.step = 0
        self.next_ns = 0

    def on_quote(self, quote: Quote) -> None:
        if self.now_ns < self.next_ns or self.market().tick_size is None:
            return
        self.next_ns = self.now_ns + self.every_s * NS_PER_S
        self.step += 1
        if self.market().quote is None:
            return
        for order in self.working_orders:
            if order.role == "entry" and order.limit_price is not None:
                self.cancel(order, reason="the round goes on")
                return
        if not self.flat:
            if self.step % 3:
                self.close(reason="end of the round")
            else:
                self._trail()
        elif self.step % 4 == 3:
            self._rest_behind(quote)
        else:
            side = self.buy if self.step % 2 else self.sell
            side(self.qty, stop=self.ticks(self.stop_ticks), target=self.ticks(self.target_ticks))

    def _rest_behind(self, quote: Quote) -> None:
        """A limit order that may fill or not."""
        if quote.bid_px is None:
            return
        limit = self.on_tick(quote.bid_px)
        self.buy(
            self.qty, limit=limit, stop=self.ticks(self.stop_ticks), target=self.ticks(self.target_ticks)
        )

    def _trail(self) -> None:
        for order in self.working_orders:
            if order.role == "stop_loss" and order.stop_price is not None:
                tick = self.market().tick_size or Decimal(0)
                price = order.stop_price + (tick if self.position > 0 else -tick)
                self.modify(order, trigger=price, reason="trail")
                return

    def on_fill(self, fill: OrderFilled) -> None: ...

    def on_order(self, order: Order) -> None: ...


class Rogue(Strategy):
    """Behaves until a file says otherwise: `run` (an intent per quote), `slow`, `spin`."""

    file: str = ""

    def on_start(self) -> None:
        self.quotes = 0
        self.word = ""

    def on_quote(self, quote: Quote) -> None:
        self.quotes += 1
        if self.quotes % 10 == 1:
            with suppress(OSError):
                self.word = Path(self.file).read_text()
        if self.word == "run" and self.market().tick_size is not None:
            side = self.buy if self.quotes % 2 else self.sell
            side(1, stop=self.ticks(40), target=self.ticks(60), add=True)
        elif self.word == "slow":
            time.sleep(0.5)
        elif self.word == "spin":
            while True:
                pass
