"""What the market hub tells instead of the market's events. Orders go on meeting the true market."""

from __future__ import annotations

from msgspec.structs import replace

from services.simulator.core import MarketTraded, TouchChanged
from services.simulator.faults import Faults
from shared.broker.projectx.enums import TradeLogType

KINDS = (
    "market_freeze",
    "market_crossed",
    "market_spike",
    "market_zero",
    "market_negative",
    "market_stale",
    "market_after_hours",
)
CROSSED_BY_TICKS = 2
REMEMBERED = 50  # events after which the remembered stale one is replaced
Data = TouchChanged | MarketTraded


class MarketFaults:
    """Distort market data. Faults pick it by the symbol."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._old: dict[tuple[str, type[Data]], tuple[Data, int]] = {}

    @property
    def any(self) -> bool:
        return self._faults.has(*KINDS)

    def touch(self, event: TouchChanged, symbol: str) -> TouchChanged | None:
        """Return the touch that is told, None for silence."""
        draw = self._faults.draw
        if draw("market_freeze", symbol):
            return None
        told = self._stale(event, symbol)
        assert isinstance(told, TouchChanged)
        bid, ask = told.bid, told.ask
        if bid is None or ask is None:
            return told
        if draw("market_crossed", symbol):
            return replace(told, bid=ask + CROSSED_BY_TICKS, ask=bid)
        if spike := draw("market_spike", symbol):
            return replace(told, bid=_off(bid, spike.fault.percent), ask=_off(ask, spike.fault.percent))
        if draw("market_zero", symbol):
            return replace(told, bid=0, ask=0)
        if draw("market_negative", symbol):
            return replace(told, bid=-bid, ask=-ask)
        return told

    def trade(self, event: MarketTraded, symbol: str) -> MarketTraded | None:
        """Return the trade that is told, None for silence."""
        draw = self._faults.draw
        if draw("market_freeze", symbol):
            return None
        told = self._stale(event, symbol)
        assert isinstance(told, MarketTraded)
        if spike := draw("market_spike", symbol):
            return replace(told, price=_off(told.price, spike.fault.percent))
        if draw("market_zero", symbol):
            return replace(told, price=0)
        if draw("market_negative", symbol):
            return replace(told, price=-told.price, qty=-told.qty)
        return told

    def after_hours(
        self, contract_id: str, symbol: str, last: int | None, now_ns: int
    ) -> MarketTraded | None:
        """Return a trade that cannot be: the market is closed."""
        if last is None or not self._faults.draw("market_after_hours", symbol):
            return None
        return MarketTraded(now_ns, contract_id, last, 1, TradeLogType.BUY)

    def _stale(self, event: Data, symbol: str) -> Data:
        """Return an event of before, with its old time, when a fault says so."""
        if not self._faults.has("market_stale"):
            return event
        key = (event.contract_id, type(event))
        old, age = self._old.get(key, (event, 0))
        self._old[key] = (event, 0) if age >= REMEMBERED else (old, age + 1)
        return old if self._faults.draw("market_stale", symbol) else event


def _off(ticks: int, percent: float) -> int:
    return round(ticks * (1 + percent / 100))
