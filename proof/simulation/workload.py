"""A strategy that does what its seed says: enters, adds, flips, closes, cancels, moves, and runs away.

It is a strategy like any other. Its chances are made from the event in hand, so a worker that reads the same
entries again comes to the same wishes.
"""

from __future__ import annotations

from functools import cache
from zlib import crc32

from services.strategy.loading import Loaded, load
from shared.strategy import Order, OrderStatus, Quote, Strategy

SCALE = 1 << 32
WORKING = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class Scripted(Strategy):
    seed: int = 0
    pace: float = 0.35
    style: str = "mixed"
    until_ns: int = 0

    def on_start(self) -> None:
        self.asked = 0

    def on_quote(self, quote: Quote) -> None:
        if quote.ts_event_ns >= self.until_ns or quote.bid_px is None or quote.ask_px is None:
            return
        if self.market().tick_size is None:
            return  # Redis was emptied: the contract is told again soon
        chances = [crc32(b"%d %d %d" % (self.seed, quote.ts_event_ns, n)) / SCALE for n in range(4)]
        if self.style == "runaway":
            self.asked += 1
            self.buy(1, stop=self.ticks(6), add=True)
            return
        if chances[0] > self.pace:
            return
        what, size = chances[1], 1 + int(chances[2] * 2)
        if self.style == "flipper" and not self.flat:
            side = self.sell if self.position > 0 else self.buy
            side(abs(self.position) + size, stop=self.ticks(6), target=self.ticks(8), add=True)
        elif not self.flat and what < 0.45:
            self.close(reason="enough")
        elif self._working() and what < 0.75:
            self._touch_working(what, quote)
        elif what < 0.9:
            self._enter(chances[3], size, quote)
        else:  # a burst: the same wish twice, one of them too many
            for _ in range(2):
                self.buy(size, stop=self.ticks(5), target=self.ticks(7), add=True)

    def _enter(self, how: float, size: int, quote: Quote) -> None:
        assert quote.bid_px is not None and quote.ask_px is not None
        buys = how < 0.5
        act = self.buy if buys else self.sell
        stop, target = self.ticks(4 + int(how * 4)), self.ticks(5)
        if how % 0.1 < 0.03:
            limit = self.on_tick(quote.bid_px - 0.5 if buys else quote.ask_px + 0.5)
            act(size, stop=stop, target=target, limit=limit)
        elif how % 0.1 < 0.045:
            trigger = self.on_tick(quote.ask_px + 1 if buys else quote.bid_px - 1)
            act(size, stop=stop, trigger=trigger)
        else:
            act(size, stop=stop, target=target)

    def _working(self) -> list[Order]:
        return [order for order in self.working_orders if order.role == "entry" and order.status in WORKING]

    def _touch_working(self, what: float, quote: Quote) -> None:
        assert quote.bid_px is not None
        order = self._working()[0]
        if what < 0.6 or order.limit_price is None:
            self.cancel(order, "changed my mind")
        else:
            self.modify(order, limit=self.on_tick(quote.bid_px))


def loaded(strategy_id: str, seed: int, pace: float, style: str, until_ns: int) -> Loaded:
    """Return the class with its settings; what files it comes from is looked at once."""
    settings = {"seed": seed, "pace": pace, "style": style, "until_ns": until_ns}
    checked = _template()
    return Loaded(checked.cls, {**checked.settings, **settings}, f"{strategy_id} {seed}")


@cache
def _template() -> Loaded:
    return load("template", "proof.simulation.workload:Scripted", {})
