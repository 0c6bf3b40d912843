"""What happens to the feed, and what it wants done.

Market data comes as one event per received frame and leaves as one command per run of a symbol: at forty
thousand quotes a second an object around each of them is the difference between keeping up and not.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from shared.domain.instrument import Instrument
from shared.domain.market import Bar, Depth, MarketMessage, MarketState, Quote, Trade

# -- events -----------------------------------------------------------------------


class MarketBatch(Struct, frozen=True, gc=False):
    """Everything one frame said about the market, in order. Quotes are sparse: None means unchanged.

    Attributes:
        mono_ns: Monotonic time of its receipt.
    """

    events: Sequence[Quote | Trade | Depth]
    mono_ns: int


class _At(Struct, frozen=True, kw_only=True):
    """Attributes: now_ns: wall clock. mono_ns: monotonic clock."""

    now_ns: int
    mono_ns: int


class Tick(_At, frozen=True, kw_only=True):
    """Attributes: venue_now_ns: the broker's wall clock as its last answer told; None before one."""

    venue_now_ns: int | None = None


class Resumed(_At, frozen=True, kw_only=True):
    """What the symbol's stream already holds, read once at start.

    Attributes:
        bars_out_ns: Interval -> opening time of its last published bar.
        last_event_ns: Event time of the newest market event; None for an empty stream.
        read_from_ns: Event time of the oldest entry that was looked at: of bars that were over before it,
            nobody knows whether they are out. None when the whole stream was looked at.
        view: The last feed's newest word about the symbol.
    """

    symbol: str
    bars_out_ns: dict[int, int]
    last_event_ns: int | None
    read_from_ns: int | None = None
    view: MarketState | None = None


class LinkChanged(_At, frozen=True, kw_only=True):
    up: bool
    reason: str
    planned: bool = False


class IntervalWanted(_At, frozen=True, kw_only=True):
    """A strategy instance asks for bars of this length. Attributes: who: its name, for people."""

    who: str
    interval_s: int
    symbols: Sequence[str]


class ContractsFound(_At, frozen=True, kw_only=True):
    """Attributes: found: whatever the broker's search returned."""

    symbol: str
    found: list[Instrument]


class ContractDoubted(_At, frozen=True, kw_only=True):
    """The hub refuses a subscription of the contract. Attributes: target: the hub's method."""

    contract_id: str
    target: str
    reason: str


class ContractTaken(_At, frozen=True, kw_only=True):
    """The hub has taken a subscription of the contract that it refused before."""

    contract_id: str
    target: str


class Purpose(StrEnum):
    RESOLVE = "resolve"
    BACKFILL = "backfill"
    PROBE = "probe"
    FOLD = "fold"  # minutes from before this feed's start, for an interval that was asked for since


class BarsFetched(_At, frozen=True, kw_only=True):
    """One-minute bars, oldest first, of [start, end)."""

    symbol: str
    purpose: Purpose
    contract_id: str
    start_ns: int
    end_ns: int
    bars: list[Bar]


class QueryFailed(_At, frozen=True, kw_only=True):
    """No answer: nothing is known, least of all that there is nothing."""

    symbol: str
    purpose: Purpose
    reason: str


class InputRefused(_At, frozen=True, kw_only=True):
    """Input that the border did not understand; it keeps the raw bytes."""

    origin: str
    field: str
    reason: str


class Shed(_At, frozen=True, kw_only=True):
    """The bus is away for longer than the buffer lasts: these messages are lost, and so is what follows.

    It ends with `Drained`.
    """

    symbol: str
    messages: Sequence[MarketMessage]


class Drained(_At, frozen=True, kw_only=True):
    symbol: str


Event = (
    MarketBatch
    | Tick
    | Resumed
    | IntervalWanted
    | LinkChanged
    | ContractsFound
    | ContractDoubted
    | ContractTaken
    | BarsFetched
    | QueryFailed
    | InputRefused
    | Shed
    | Drained
)

# -- commands ---------------------------------------------------------------------


class Append(Struct, frozen=True, gc=False):
    """Append to the symbol's stream, in this order."""

    symbol: str
    messages: list[MarketMessage]


class PublishState(Struct, frozen=True):
    state: MarketState


class FetchBars(Struct, frozen=True, kw_only=True):
    symbol: str
    purpose: Purpose
    instrument: Instrument
    start_ns: int
    end_ns: int


class ResolveContract(Struct, frozen=True):
    symbol: str


class Subscribe(Struct, frozen=True):
    instrument: Instrument


class Unsubscribe(Struct, frozen=True):
    contract_id: str


class Reconnect(Struct, frozen=True):
    reason: str


class Alarm(Struct, frozen=True, kw_only=True):
    """Something a person should see. Attributes: count: how often since it was last said."""

    name: str
    symbol: str
    text: str
    count: int = 1
    grave: bool = True


Command = Append | PublishState | FetchBars | ResolveContract | Subscribe | Unsubscribe | Reconnect | Alarm
