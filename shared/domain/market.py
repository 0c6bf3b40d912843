"""What the market says: quotes, depth, trades, bars, and how far the feed can be trusted.

Prices are floats on the instrument's tick grid: they are looked at a million times for each time
they are traded on, and the grid makes float equality safe. What is traded on (order prices, fills,
money) is `Decimal`; see `order.py`.

Times are UTC nanoseconds: `ts_event_ns` is the venue's, `ts_recv_ns` is ours.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache

import msgspec

AMOUNT_MIN, AMOUNT_MAX = Decimal("1e-9"), Decimal("1e9")
"""Of a tick, in points or money."""


class Aggressor(StrEnum):
    """Who crossed the spread. `none` is a real value: opening prints have no aggressor."""

    BUY = "buy"
    SELL = "sell"
    NONE = "none"


class BookSide(StrEnum):
    BID = "bid"
    ASK = "ask"


class DepthKind(StrEnum):
    """What a depth record speaks of; the gateway's DomType without its session statistics."""

    BEST = "best"
    NEW_BEST = "new_best"
    LEVEL = "level"
    RESET = "reset"


class FeedHealth(StrEnum):
    """How far a symbol's stream can be trusted right now. Only `live` may be traded on."""

    UNKNOWN = "unknown"
    LIVE = "live"
    STALE = "stale"
    CLOSED = "closed"
    DISCONNECTED = "disconnected"


class Quote(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="quote"):
    """The best bid and ask, already merged: the gateway sends only the fields that changed.

    Attributes:
        bid_px: Best bid, or None while the gateway has not told it yet.
        ask_px: Best ask, or None while unknown.
        last_px: Last traded price as the quote carries it.
        volume: Contracts traded in the session so far, when the gateway tells.
        crossed: Bid above ask, as in the pre-open. Never traded on.
    """

    symbol: str
    ts_event_ns: int
    ts_recv_ns: int
    bid_px: float | None = None
    ask_px: float | None = None
    last_px: float | None = None
    volume: int | None = None
    crossed: bool = False


class Depth(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="depth"):
    """One change of one side of the book.

    Attributes:
        px: Price level; 0.0 for `reset`.
        resting_qty: Contracts resting at `px` after the change.
        change_qty: The change itself as the gateway tells it (its meaning is not documented).
    """

    symbol: str
    ts_event_ns: int
    ts_recv_ns: int
    side: BookSide | None
    kind: DepthKind
    px: float
    resting_qty: int
    change_qty: int = 0


class Trade(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="trade"):
    symbol: str
    ts_event_ns: int
    ts_recv_ns: int
    px: float
    qty: int
    aggressor: Aggressor = Aggressor.NONE


class BarSource(StrEnum):
    TRADES = "trades"
    BACKFILL = "backfill"


class Bar(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="bar"):
    """Open, high, low, close and volume of [`ts_open_ns`, `ts_open_ns + interval_s`).

    A minute without trades has no bar, as at the gateway.

    Attributes:
        trades: Number of prints; 0 when the gateway's history, which does not tell, is the source.
        partial: The feed did not see the whole interval (it started or was cut inside it).
    """

    symbol: str
    interval_s: int
    ts_open_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    ts_recv_ns: int
    trades: int = 0
    source: BarSource = BarSource.TRADES
    partial: bool = False


class FeedGap(msgspec.Struct, frozen=True, kw_only=True, tag="feed_gap"):
    """Market data between the two times may be missing; nothing in between is traded on.

    Attributes:
        ts_from_ns: Event time of the last thing known before the gap; None at first start.
        ts_to_ns: Event time of the first thing after it; None while it lasts.
    """

    symbol: str
    reason: str
    ts_from_ns: int | None
    ts_to_ns: int | None
    ts_recv_ns: int


class FeedState(msgspec.Struct, frozen=True, kw_only=True, tag="feed_state"):
    """The feed's verdict on one symbol changed."""

    symbol: str
    health: FeedHealth
    reason: str
    contract_id: str
    ts_recv_ns: int


class ContractResolved(msgspec.Struct, frozen=True, kw_only=True, tag="contract"):
    """The symbol now means this contract month; everything before belongs to another month.

    Attributes:
        tick_size: Smallest price step, in price units, from the gateway.
        tick_value: Money one step is worth for one contract, from the gateway.
        roll_at_ns: When the feed resolves the front month again.
    """

    symbol: str
    contract_id: str
    contract_name: str
    tick_size: str
    tick_value: str
    roll_at_ns: int
    ts_recv_ns: int


class MarketState(msgspec.Struct, frozen=True, kw_only=True, tag="market_state"):
    """The conflated view of one symbol: only the newest counts, so it travels by pub/sub.

    Attributes:
        ts_asof_ns: Our clock when the feed vouched for this; in a quiet market the prices are older
            than this and still right.
        contract_name: With which the next feed goes on; "" of a build that did not tell it.
    """

    symbol: str
    contract_id: str
    health: FeedHealth
    bid_px: float | None
    ask_px: float | None
    last_px: float | None
    crossed: bool
    tick_size: str
    tick_value: str
    ts_event_ns: int
    ts_asof_ns: int
    contract_name: str = ""

    def __post_init__(self) -> None:
        for name, text in (("tick_size", self.tick_size), ("tick_value", self.tick_value)):
            if not is_amount(text):
                raise ValueError(f"{name} is {text!r}, not an amount above zero")


@lru_cache(maxsize=64)
def is_amount(text: str) -> bool:
    """Is `text` a decimal number above zero that can be counted with? The same few come all day."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return False
    return amount.is_finite() and AMOUNT_MIN <= amount <= AMOUNT_MAX


class BarsWanted(msgspec.Struct, frozen=True, kw_only=True, tag="bars_wanted"):
    """A strategy instance reads bars of this length: whoever publishes its symbols shall publish them."""

    interval_s: int
    symbols: list[str]


MarketMessage = Quote | Depth | Trade | Bar | FeedGap | FeedState | ContractResolved
