"""A strategy that does what its seed says: enters, adds, flips, closes, cancels, moves, and runs away.

With `changes` it also leaves orders that wait, with stops that follow a plan, and changes all that works.

It is a strategy like any other. Its chances are made from the event in hand, so a worker that reads the same
entries again comes to the same wishes.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from hashlib import blake2b
from struct import unpack
from zlib import crc32

from services.strategy.loading import Loaded, load
from shared.strategy import Order, OrderStatus, Quote, Side, StopPlan, Strategy

SCALE = 1 << 32
WORKING = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})
CHANGE, EXIT, REST = 0.5, 0.58, 0.75
"""Up to which chance something that works is changed, an exit waits, an entry does; above: as ever."""
WAIT_TICKS = 10
"""So far from the market an order waits for a few seconds."""
PLAN = StopPlan(
    break_even_after_ticks=3,
    break_even_offset_ticks=1,
    trail_after_ticks=5,
    trail_ticks=3,
    trail_step_ticks=1,
)


class Scripted(Strategy):
    seed: int = 0
    pace: float = 0.35
    style: str = "mixed"
    until_ns: int = 0
    changes: bool = False

    def on_start(self) -> None:
        self.asked = 0

    def on_quote(self, quote: Quote) -> None:
        if quote.ts_event_ns >= self.until_ns or quote.bid_px is None or quote.ask_px is None:
            return
        if self.market().tick_size is None:
            return  # Redis was emptied: the contract is told again soon
        chances = self._chances(quote.ts_event_ns)
        if self.style == "runaway":
            self.asked += 1
            self.buy(1, stop=self.ticks(6), add=True)
            return
        if self.changes and self._changes(quote, *chances[4:]):
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

    def _chances(self, ts_ns: int) -> list[float]:
        if self.changes:
            # Of the crc32 below one chance follows from the other, and much would never come together.
            words = blake2b(b"%d %d" % (self.seed, ts_ns), digest_size=28).digest()
            return [word / SCALE for word in unpack(">7I", words)]
        return [crc32(b"%d %d %d" % (self.seed, ts_ns, n)) / SCALE for n in range(4)]

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

    # -- what waits, and is changed ----------------------------------------------

    def _changes(self, quote: Quote, what: float, which: float, how: float) -> bool:
        """Say whether this event was used to change something, or to leave what can be changed later."""
        entries = self._working()
        legs = [one for one in self.working_orders if one.status in WORKING and one not in entries]
        working = entries if entries and which < 0.7 else legs or entries
        if what < CHANGE and working:
            self._change(working[int(which * 100) % len(working)], how, quote)
        elif what < EXIT and not self.flat:
            self._leave_exit(quote)
        elif what < REST:
            self._leave_entry(which, how, quote)
        else:
            return False
        return True

    def _change(self, order: Order, how: float, quote: Quote) -> None:
        if order.role in ("entry", "exit") and how < 0.4:
            self.modify(order, qty=order.order_qty + 1)
            if order.role == "entry" and how < 0.2:  # what is asked for at once must know of it
                act = self.buy if order.side is Side.BUY else self.sell
                act(2, stop=self.ticks(5), add=True)
        elif order.role == "entry" and how < 0.5:
            self.modify(order, qty=max(1, order.filled_qty + 1, order.order_qty - 1))
        elif order.trail_ticks is not None:
            self.modify(order, trail=self.ticks(max(1, order.trail_ticks + (2 if how < 0.7 else -1))))
        elif order.stop_price is not None:
            self.modify(order, trigger=self._moved(order.stop_price, how))
        elif order.limit_price is not None:
            self.modify(order, limit=self._moved(order.limit_price, how))

    def _moved(self, px: Decimal, how: float) -> Decimal:
        return self.on_tick(float(px) + self.ticks(1 + int(how * 3)).distance * (1 if how < 0.75 else -1))

    def _leave_exit(self, quote: Quote) -> None:
        assert quote.bid_px is not None and quote.ask_px is not None
        distance = self.ticks(WAIT_TICKS).distance
        if self.position > 0:
            self.sell(self.position, limit=self.on_tick(quote.ask_px + distance), add=True)
        else:
            self.buy(-self.position, limit=self.on_tick(quote.bid_px - distance), add=True)

    def _leave_entry(self, which: float, how: float, quote: Quote) -> None:
        assert quote.bid_px is not None and quote.ask_px is not None
        buys, distance = which < 0.5, self.ticks(WAIT_TICKS).distance
        act = self.buy if buys else self.sell
        below, above = self.on_tick(quote.bid_px - distance), self.on_tick(quote.ask_px + distance)
        size, stop, plan = 1 + int(which * 10) % 2, self.ticks(5), PLAN if which % 0.2 < 0.12 else None
        if how < 0.4:
            act(size, stop=stop, limit=below if buys else above, plan=plan, add=True)
        elif how < 0.6:
            act(size, stop=stop, trigger=above if buys else below, plan=plan, add=True)
        elif how < 0.75:
            act(size, stop=stop, trail=self.ticks(WAIT_TICKS), plan=plan, add=True)
        else:
            act(size, stop=stop, target=self.ticks(12), plan=PLAN)


def loaded(
    strategy_id: str, seed: int, pace: float, style: str, until_ns: int, *, changes: bool = False
) -> Loaded:
    """Return the class with its settings; what files it comes from is looked at once."""
    settings = {"seed": seed, "pace": pace, "style": style, "until_ns": until_ns, "changes": changes}
    checked = _template()
    return Loaded(checked.cls, {**checked.settings, **settings}, f"{strategy_id} {seed}")


@cache
def _template() -> Loaded:
    return load("template", "proof.simulation.workload:Scripted", {})
