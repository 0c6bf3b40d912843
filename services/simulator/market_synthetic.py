"""A seeded synthetic market that looks like index futures.

One common factor moves all symbols (so MES and MNQ go together), each with some noise
of its own. The factor has a slowly wandering drift, so there are trends both ways that
last minutes, and a weak pull home, so that the price stays believable for days. Busy
and quiet hours, bursts, a touch that is one tick wide nearly always, sizes that refill:
enough for strategies to meet what they will meet, not a model to fit anything to.

The chance of each minute comes from the seed and that minute alone, so a market that
continues after a restart goes on as if it had known the hour all along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from services.simulator.contracts import Contract
from services.simulator.core import MarketTraded, SessionChanged, TouchChanged
from services.simulator.sessions import MINUTE_NS, activity, is_open
from shared.broker.projectx.enums import TradeLogType

STEP_NS = 100_000_000
STEP_S = STEP_NS / 1e9
VOLATILITY = 4.5e-5  # of the common factor, per square root of a second
DRIFT = 4.0e-6  # standard deviation of the drift, per second
DRIFT_LIFE_S = 240.0  # how long a trend lasts
HOME_LIFE_S = 4 * 3600.0  # how long the price may stay away from where it began
MOVE_BEYOND_TICKS = 0.25  # how far the value must leave the touch before the touch follows

MarketEvent = TouchChanged | MarketTraded | SessionChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """How one symbol behaves.

    Attributes:
        price: Where it starts, points.
        beta: How strongly it follows the common factor.
        touch_qty: Typical displayed size.
        trades_per_s: Trades per second in an ordinary hour.
    """

    price: float
    beta: float
    touch_qty: int
    trades_per_s: float


CHARACTERS = {
    "MES": Character(price=6_700.0, beta=1.0, touch_qty=22, trades_per_s=3.0),
    "MNQ": Character(price=24_500.0, beta=1.3, touch_qty=9, trades_per_s=4.0),
    "ES": Character(price=6_700.0, beta=1.0, touch_qty=45, trades_per_s=4.0),
    "NQ": Character(price=24_500.0, beta=1.3, touch_qty=6, trades_per_s=3.0),
    "M2K": Character(price=2_400.0, beta=1.2, touch_qty=12, trades_per_s=1.0),
    "MYM": Character(price=46_500.0, beta=0.8, touch_qty=8, trades_per_s=1.0),
    "RTY": Character(price=2_400.0, beta=1.2, touch_qty=14, trades_per_s=1.5),
    "YM": Character(price=46_500.0, beta=0.8, touch_qty=10, trades_per_s=1.0),
}


class _Instrument:
    """One symbol's price and touch."""

    def __init__(self, contract: Contract, start_ticks: int) -> None:
        self.contract = contract
        self.character = CHARACTERS[contract.product.symbol]
        self.start_ticks = start_ticks
        self.own = 0.0  # its own deviation from the common factor, relative
        self.bid = start_ticks
        self.ask = start_ticks + 1
        self.bid_qty = self.ask_qty = self.character.touch_qty


class SyntheticMarket:
    """Generate the market of several contracts, step by step in venue time."""

    finished = False

    def __init__(
        self,
        contracts: list[Contract],
        *,
        seed: int,
        start_ns: int,
        last_ticks: dict[str, int],
        open_at: Callable[[int], bool] = is_open,
        chance: Callable[[str], Random] = Random,
    ) -> None:
        """Args:
        last_ticks: Prices to go on from, by contract id; others start at their own.
        open_at: Whether the market trades at a moment, asked once a minute.
        chance: Makes a generator from a text; seeded, so nothing here is left to luck.
        """
        self._seed = seed
        self._chance = chance
        self._open_at = open_at
        self._next_ns = start_ns // STEP_NS * STEP_NS + STEP_NS
        self._minute = -1
        self._rng = chance("")
        self._open = open_at(start_ns)
        self._activity = 0.0
        self._factor = self._drift = self._burst = 0.0
        self._instruments = [_Instrument(one, last_ticks.get(one.id, first_ticks(one))) for one in contracts]

    def opening(self, now_ns: int) -> list[MarketEvent]:
        """Return a trade and the touch of each contract, so that nobody meets an empty book."""
        if not self._open_at(now_ns):
            return []
        events: list[MarketEvent] = []
        for one in self._instruments:
            events.append(MarketTraded(now_ns, one.contract.id, one.bid, 1, TradeLogType.SELL))
            events.append(TouchChanged(now_ns, one.contract.id, one.bid, one.bid_qty, one.ask, one.ask_qty))
        return events

    def advance(self, until_ns: int, limit: int) -> list[MarketEvent]:
        """Return the events up to `until_ns`, at most about `limit` of them, in order."""
        events: list[MarketEvent] = []
        while self._next_ns <= until_ns and len(events) < limit:
            now_ns = self._next_ns
            self._next_ns += STEP_NS
            if now_ns // MINUTE_NS != self._minute:
                self._begin_minute(now_ns, events)
            if not self._open:
                self._next_ns = (self._minute + 1) * MINUTE_NS  # minutes are looked at one by one
            else:
                self._step(now_ns - STEP_NS, events)  # a step tells of the time that led to it
        return events

    def _begin_minute(self, now_ns: int, events: list[MarketEvent]) -> None:
        self._minute = now_ns // MINUTE_NS
        self._rng = self._chance(f"{self._seed}:{self._minute}")
        was_open, self._open = self._open, self._open_at(now_ns)
        if was_open is not self._open:
            events.append(SessionChanged(now_ns, self._open))
        self._activity = activity(now_ns)

    def _step(self, now_ns: int, events: list[MarketEvent]) -> None:
        rng, busy = self._rng, self._activity
        noise = rng.gauss(0.0, 1.0)
        self._drift += -self._drift * STEP_S / DRIFT_LIFE_S
        self._drift += DRIFT * math.sqrt(2 * STEP_S / DRIFT_LIFE_S) * rng.gauss(0.0, 1.0)
        self._burst *= 0.93
        if rng.random() < 0.003 * busy:
            self._burst += 3.0
        width = VOLATILITY * math.sqrt(busy * STEP_S) * (1.0 + 0.4 * self._burst)
        self._factor += self._drift * STEP_S + width * noise - self._factor * STEP_S / HOME_LIFE_S
        for index, one in enumerate(self._instruments):
            one.own += 0.25 * width * rng.gauss(0.0, 1.0) - one.own * STEP_S / 900.0
            value = one.start_ticks * (1.0 + one.character.beta * self._factor + one.own)
            self._trade(one, value, now_ns + 1_000_000 * index, events)
            self._quote(one, value, now_ns + 60_000_000 + 1_000_000 * index, events)

    def _trade(self, one: _Instrument, value: float, now_ns: int, events: list[MarketEvent]) -> None:
        rng = self._rng
        rate = one.character.trades_per_s * self._activity * (1.0 + self._burst) * STEP_S
        lean = max(-0.45, min(0.45, 0.4 * (value - (one.bid + one.ask) / 2)))
        count = int(rate) + (rng.random() < rate % 1.0)
        for number in range(min(count, 12)):
            buys = rng.random() < 0.5 + lean
            qty = 1 + int(rng.expovariate(0.7))
            price, side = (one.ask, TradeLogType.BUY) if buys else (one.bid, TradeLogType.SELL)
            stamp_ns = now_ns + 4_000_000 * number + rng.randrange(1_000_000)
            events.append(MarketTraded(stamp_ns, one.contract.id, price, qty, side))

    def _quote(self, one: _Instrument, value: float, now_ns: int, events: list[MarketEvent]) -> None:
        rng, typical = self._rng, one.character.touch_qty
        moved = value > one.ask + MOVE_BEYOND_TICKS or value < one.bid - MOVE_BEYOND_TICKS
        if moved:
            one.bid = math.floor(value)
            wide = rng.random() < 0.02 + 0.01 * self._burst
            one.ask = one.bid + (2 if wide else 1)
        elif one.ask - one.bid > 1:
            one.ask = one.bid + 1  # a wide touch closes at the next step
            moved = True
        if moved:
            one.bid_qty = _size(rng, typical)
            one.ask_qty = _size(rng, typical)
        elif rng.random() < 0.55:
            one.bid_qty = max(1, one.bid_qty + rng.randint(-3, 3) + (typical - one.bid_qty) // 8)
        elif rng.random() < 0.55:
            one.ask_qty = max(1, one.ask_qty + rng.randint(-3, 3) + (typical - one.ask_qty) // 8)
        else:
            return
        stamp_ns = now_ns + rng.randrange(20_000_000)
        events.append(TouchChanged(stamp_ns, one.contract.id, one.bid, one.bid_qty, one.ask, one.ask_qty))


def first_ticks(contract: Contract) -> int:
    """Return where a contract's price starts, in ticks."""
    return int(CHARACTERS[contract.product.symbol].price / float(contract.tick_size))


def _size(rng: Random, typical: int) -> int:
    return max(1, int(typical * rng.lognormvariate(-0.2, 0.6)))


class FloodMarket:
    """Quotes at a fixed rate of real time, for measuring what the system carries.

    Every event changes a bid or an ask, so each is exactly one quote message.
    """

    finished = False

    def __init__(self, contracts: list[Contract]) -> None:
        self._contracts = [(one.id, first_ticks(one)) for one in contracts]
        self._made = 0

    def make(self, count: int, now_ns: int) -> list[MarketEvent]:
        """Return the next `count` quotes, in turn over the symbols, stamped `now_ns`."""
        contracts, symbols = self._contracts, len(self._contracts)
        events: list[MarketEvent] = []
        for number in range(self._made, self._made + count):
            contract_id, base = contracts[number % symbols]
            turn = number // symbols
            bid = base + (turn >> 1) % 40
            ask = bid + 1 + (turn & 1)
            events.append(TouchChanged(now_ns, contract_id, bid, 10, ask, 10))
        self._made += count
        return events
