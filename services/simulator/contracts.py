"""The venue's contract catalogue: roots, months, ids and which month is active.

Ids are made by the grammar seen at the gateway (`CON.F.US.<root>.<month><yy>`,
`F.US.<root>`, names with a one-digit year). Clients should treat them as opaque;
the venue is the one place that may know how they are spelled.

The active month follows the customary rule since June 2022: the lead month moves
on the Monday before the third Friday of the quarter month. The day is the CME
trading date, which begins at 17:00 Chicago time.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

MONTH_CODES = "FGHJKMNQUVXZ"
QUARTER_MONTHS = (3, 6, 9, 12)
YEARS_BACK = 10
CHICAGO = ZoneInfo("America/Chicago")
_CONTRACT_ID = re.compile(r"CON\.F\.US\.([A-Z0-9]{1,5})\.([FGHJKMNQUVXZ])(\d{2})")


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """One product the venue lists.

    Attributes:
        symbol: The exchange's ticker, e.g. `ES`.
        root: The gateway's root, e.g. `EP`.
        title: Words for the contract's description.
        tick_size: Price of one tick in points.
        tick_value: Worth of one tick of one contract in USD.
    """

    symbol: str
    root: str
    title: str
    tick_size: Decimal
    tick_value: Decimal


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """One contract month.

    Attributes:
        year: Four digits.
        month: 1 to 12.
    """

    id: str
    product: Product
    name: str
    description: str
    year: int
    month: int

    @property
    def symbol_id(self) -> str:
        return f"F.US.{self.product.root}"

    @property
    def tick_size(self) -> Decimal:
        return self.product.tick_size

    @property
    def tick_value(self) -> Decimal:
        return self.product.tick_value


def _product(symbol: str, root: str, title: str, tick_size: str, tick_value: str) -> Product:
    return Product(
        symbol=symbol, root=root, title=title, tick_size=Decimal(tick_size), tick_value=Decimal(tick_value)
    )


PRODUCTS: dict[str, Product] = {
    product.symbol: product
    for product in (
        _product("ES", "EP", "E-mini S&P 500", "0.25", "12.50"),
        _product("NQ", "ENQ", "E-mini NASDAQ-100", "0.25", "5.00"),
        _product("RTY", "RTY", "E-mini Russell 2000", "0.10", "5.00"),
        _product("YM", "YM", "E-mini Dow", "1.00", "5.00"),
        _product("MES", "MES", "Micro E-mini S&P 500", "0.25", "1.25"),
        _product("MNQ", "MNQ", "Micro E-mini NASDAQ-100", "0.25", "0.50"),
        _product("M2K", "M2K", "Micro E-mini Russell 2000", "0.10", "0.50"),
        _product("MYM", "MYM", "Micro E-mini Dow", "1.00", "0.50"),
    )
}
_BY_ROOT = {product.root: product for product in PRODUCTS.values()}


def third_friday(year: int, month: int) -> date:
    """Return the expiry day of an equity index contract."""
    fifteenth = date(year, month, 15)
    return fifteenth + timedelta(days=(4 - fifteenth.weekday()) % 7)


def trading_date(now_ns: int) -> date:
    """Return the CME trading date at `now_ns` (UTC nanoseconds): it turns at 17:00 Chicago."""
    chicago = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).astimezone(CHICAGO)
    return (chicago + timedelta(hours=7)).date()


def lead_month(day: date) -> tuple[int, int]:
    """Return (year, month) of the active quarterly contract on a trading date."""
    for month in QUARTER_MONTHS:
        if day < third_friday(day.year, month) - timedelta(days=4):
            return day.year, month
    return day.year + 1, QUARTER_MONTHS[0]


def contract(symbol: str, year: int, month: int) -> Contract:
    """Build one contract month of a listed product.

    Raises:
        KeyError: If `symbol` is not listed in `PRODUCTS`.
    """
    product = PRODUCTS[symbol]
    code = MONTH_CODES[month - 1]
    return Contract(
        id=f"CON.F.US.{product.root}.{code}{year % 100:02d}",
        product=product,
        name=f"{symbol}{code}{year % 10}",
        description=f"{product.title}: {date(year, month, 1):%B %Y}",
        year=year,
        month=month,
    )


def active_contract(symbol: str, now_ns: int) -> Contract:
    """Return the month of `symbol` that is active at `now_ns`."""
    year, month = lead_month(trading_date(now_ns))
    return contract(symbol, year, month)


def is_active(one: Contract, now_ns: int) -> bool:
    return (one.year, one.month) == lead_month(trading_date(now_ns))


def resolve(contract_id: str, now_ns: int) -> Contract | None:
    """Return the contract with this id, past and coming months included, or None.

    Months further back than `YEARS_BACK` years, or not listed yet (beyond two
    years), are unknown to the venue, as are months outside the quarterly cycle.
    """
    match = _CONTRACT_ID.fullmatch(contract_id)
    if match is None or match[1] not in _BY_ROOT:
        return None
    year, month = 2000 + int(match[3]), MONTH_CODES.index(match[2]) + 1
    this_year = trading_date(now_ns).year
    if month not in QUARTER_MONTHS or not this_year - YEARS_BACK <= year <= this_year + 2:
        return None
    return contract(_BY_ROOT[match[1]].symbol, year, month)


def search(text: str, now_ns: int) -> list[Contract]:
    """Return the active contracts whose name, root or description contains `text`.

    Like the gateway's search it is generous: `ES` also finds MES, and `NQ` also
    finds MNQ, so a client that takes the first result trades the wrong contract.
    """
    wanted = text.strip().casefold()
    found = []
    for symbol in PRODUCTS:
        one = active_contract(symbol, now_ns)
        words = (one.id, one.name, one.symbol_id, one.description, symbol)
        if any(wanted in word.casefold() for word in words):
            found.append(one)
    return found


def available(now_ns: int) -> list[Contract]:
    """Return every active contract."""
    return [active_contract(symbol, now_ns) for symbol in PRODUCTS]
