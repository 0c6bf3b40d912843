"""What is traded: symbols, contract months, the tick grid.

Exchange tickers and the gateway's roots differ (ES is EP, NQ is ENQ), and nothing may guess between
them: a search for MES lists other contracts too. Tick size and value always come from the gateway; a
hard-coded point value is how real P&L bugs happen.
"""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec

MONTH_CODES = "FGHJKMNQUVXZ"
"""January to December, as in every futures month code."""

GATEWAY_ROOTS: dict[str, str] = {
    "ES": "EP",
    "NQ": "ENQ",
    "EMD": "EMD",
    "6E": "EU6",
    "E7": "EEU",
    "6B": "BP6",
    "6C": "CA6",
    "6A": "DA6",
}
"""Exchange ticker -> the gateway's root where they differ; every other symbol is its own root."""


class OffTick(ValueError):
    """A price that no order and no trade of this instrument can have."""

    def __init__(self, symbol: str, price: object, tick_size: Decimal) -> None:
        super().__init__(symbol, price, tick_size)
        self.symbol, self.price, self.tick_size = symbol, price, tick_size

    def __str__(self) -> str:
        return f"{self.symbol}: price {self.price} is not a finite multiple of the tick {self.tick_size}"


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One contract month of one symbol.

    Attributes:
        tick_value: Account currency that one tick of one contract is worth.
    """

    symbol: str
    contract_id: str
    contract_name: str
    tick_size: Decimal
    tick_value: Decimal
    active: bool = True

    @property
    def multiplier(self) -> Decimal:
        """Account currency per whole point of one contract."""
        return self.tick_value / self.tick_size

    def snap(self, price: float) -> float:
        """Return `price` as the exact float of its tick.

        The gateway prints prices with nine decimals; binary rounding of that may be off by an ulp, and
        grid equality must hold. More than 1 % of a tick away from the grid is refused.

        Raises:
            OffTick: If `price` is not finite or lies between two ticks.
        """
        tick = float(self.tick_size)
        if not math.isfinite(price):
            raise OffTick(self.symbol, price, self.tick_size)
        steps = price / tick
        nearest = round(steps)
        if abs(steps - nearest) > 0.01:
            raise OffTick(self.symbol, price, self.tick_size)
        return float(self.tick_size * nearest)

    def price(self, value: Decimal | float | int | str) -> Decimal:
        """Return `value` as an order price on the grid.

        Raises:
            OffTick: If it is not a finite multiple of the tick.
        """
        exact = value if isinstance(value, Decimal) else Decimal(str(value))
        if not exact.is_finite() or exact % self.tick_size:
            raise OffTick(self.symbol, value, self.tick_size)
        return exact

    def ticks(self, distance: Decimal) -> int:
        """Return how many whole ticks cover `distance` (price units), rounding away from zero."""
        steps = distance / self.tick_size
        return int(steps.to_integral_value(rounding="ROUND_UP"))


def gateway_root(symbol: str) -> str:
    """Return the gateway's root for an exchange ticker: ES -> EP, MES -> MES."""
    return GATEWAY_ROOTS.get(symbol, symbol)


def symbol_of_root(root: str) -> str:
    """Return the exchange ticker for the gateway's root: EP -> ES, MES -> MES."""
    for symbol, gateway in GATEWAY_ROOTS.items():
        if gateway == root:
            return symbol
    return root
