"""All that the feed knows. Only `core.decide` changes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from services.feed.recent import Recent
from shared.domain.bars import Folder, MinuteBuilder
from shared.domain.instrument import Instrument
from shared.domain.market import Bar, FeedHealth
from shared.domain.market_time import MarketTime

NEVER_NS = 2**63 - 1
FOREVER = float("inf")


class Settings(Struct, frozen=True, kw_only=True):
    """What the core needs of the settings; see `config.py` for what they mean. Times in ns."""

    intervals_s: tuple[int, ...] = (60,)
    venue_clock: bool = False
    speed: float = 1.0
    always_open: bool = False
    backfill_bars: int = 120
    backfill_attempts_max: int = 5
    backfill_hold_ns: int = 15_000_000_000
    backfill_delay_ns: int = 1_000_000_000
    bar_grace_ns: int = 1_000_000_000
    stall_ns: int = 250_000_000
    quote_margin_ns: int = 20_000_000
    stale_after_ns: int = 10_000_000_000
    stale_after_night_ns: int = 60_000_000_000
    probe_wait_ns: int = 5_000_000_000
    reconnect_pause_ns: int = 30_000_000_000
    price_jump_max: float = 0.10
    jump_confirm_ns: int = 5_000_000_000
    ts_ahead_max_ns: int = 60_000_000_000
    vouch_ns: int = 500_000_000
    resolve_retry_ns: int = 60_000_000_000
    resolve_before_open_ns: int = 600_000_000_000


@dataclass(slots=True)
class Wish:
    """An interval that was asked for and is not published yet.

    Attributes:
        asking: History is being asked.
        older: Its answer: minutes of [older_from_ns, older_until_ns) that are not among our own.
    """

    interval_s: int
    asking: bool = False
    attempts: int = 0
    ask_at_mono_ns: int = 0
    older: list[Bar] | None = None
    older_from_ns: int = 0
    older_until_ns: int = 0


@dataclass(slots=True)
class Market:
    """One symbol.

    Attributes:
        contract_since_mono_ns: When this contract was subscribed; what came before is of another. Our wall
            clock may be set back, and would then pass over everything.
        subscribe_at_mono_ns: When the chosen contract is to be subscribed; 0 when that is done.
        resumed: The contract is what the last feed had, to be resolved at `verify_at_mono_ns`.
        denied: Subscriptions that the hub refuses for now: its method -> why.
        bid_px, ask_px, last_px, volume: The merged quote; None while the gateway has not told.
        traded_px: The newest trade, from trades or quotes.
        last_mono_ns: When an event was taken last.
        quoted_mono_ns: When a quote was taken last, or the link rose.
        traded_mono_ns: When a trade was taken last.
        refused_mono_ns: When one was refused for its time last; while none was taken since, we are blind.
        gap_open: A `FeedGap` was appended whose end is not known yet.
        lo_px, hi_px, band_px: Prices outside, around the last trade, are a jump.
        minutes_out_ns: Opening time of the last published minute; -1 for none.
        bars_out_ns, read_from_ns: What the stream held at start; see `Resumed`.
        wishes: Intervals asked for and not begun yet, by their seconds.
        held: Closed minutes that wait for older ones from history.
        need_from_ns, need_until_ns: Minutes wanted from history; `need_from_ns` None for none.
        cover_from_ns: Market time when the link came up; minutes from there on are live.
        opened_mono_ns: When the session was seen to open; 0 when it was open at the first look.
        was_open: At the last look; None before one.
        verified_mono_ns: When a probe found the silence to be the market's.
        verified_bar: Opening time and volume of history's newest minute then.
        frozen_mono_ns: When a probe found the feed frozen; 0 when it is not.
    """

    symbol: str
    builder: MinuteBuilder
    folders: list[Folder]
    instrument: Instrument | None = None
    contract_since_mono_ns: int = NEVER_NS
    subscribe_at_mono_ns: int = 0
    resolving: bool = False
    resolve_retry_mono_ns: int = 0
    resolve_at_ns: int | None = None
    resumed: bool = False
    verify_at_mono_ns: int = 0
    trouble: str = "the contract is not resolved yet"
    denied: dict[str, str] = field(default_factory=dict)

    bid_px: float | None = None
    ask_px: float | None = None
    last_px: float | None = None
    volume: int | None = None
    traded_px: float | None = None
    last_event_ns: int = 0
    last_mono_ns: int = 0
    quoted_mono_ns: int = 0
    traded_mono_ns: int = 0
    refused_mono_ns: int = 0
    dirty: bool = True
    published_mono_ns: int = 0

    gap_open: bool = False
    gap_from_ns: int | None = None
    gap_reason: str = "start"
    shedding: bool = False
    shed_from_ns: int | None = None

    lo_px: float = 0.0
    hi_px: float = FOREVER
    band_px: float = 0.0
    jump_since_mono_ns: int = 0
    jump_reason: str = ""

    bar_due_ns: int = NEVER_NS
    minutes_out_ns: int = -1
    bars_out_ns: dict[int, int] = field(default_factory=dict)
    read_from_ns: int | None = None
    recent: Recent = field(default_factory=Recent)
    wishes: dict[int, Wish] = field(default_factory=dict)
    held: list[Bar] = field(default_factory=list)
    fetched: dict[int, Bar] = field(default_factory=dict)
    need_from_ns: int | None = None
    need_until_ns: int = 0
    need_tried_mono_ns: int = 0
    cover_from_ns: int | None = None
    fetching: bool = False
    fetch_at_mono_ns: int = 0
    fetch_attempts: int = 0
    backfill_wanted: bool = True

    health: FeedHealth = FeedHealth.UNKNOWN
    health_reason: str = ""
    opened_mono_ns: int = 0
    was_open: bool | None = None
    verified_mono_ns: int = 0
    verified_bar: tuple[int, int] = (0, 0)
    probe_mono_ns: int = 0
    probe_due_mono_ns: int = 0
    probe_failures: int = 0
    frozen_mono_ns: int = 0
    frozen_reason: str = ""

    quotes: int = 0
    trades: int = 0
    depths: int = 0
    unchanged: int = 0
    refused: int = 0


@dataclass(slots=True)
class State:
    """Everything.

    Attributes:
        link_up_mono_ns: 0 while the link is down.
        stalled_mono_ns: When this process last came back from a pause: what it should have read meanwhile is
            still in the socket, so nothing may be concluded from the clock yet.
        venue_offset_ns: The broker's wall clock less our monotonic one, as its answers tell; None before one.
        alarms: (name, symbol) -> (when last said, how often meant since).
    """

    settings: Settings
    markets: dict[str, Market]
    time: MarketTime
    ticked_mono_ns: int = 0
    stalled_mono_ns: int = 0
    link_up_mono_ns: int = 0
    link_was_up: bool = False
    link_reason: str = "the link has not been up yet"
    reconnect_mono_ns: int = 0
    venue_offset_ns: int | None = None
    refused: int = 0
    alarms: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


def make_state(symbols: tuple[str, ...], settings: Settings) -> State:
    """Return the state of a feed that knows nothing yet."""
    return State(
        settings=settings,
        markets={symbol: make_market(symbol, settings) for symbol in symbols},
        time=MarketTime(venue=settings.venue_clock, speed=settings.speed),
    )


def make_market(symbol: str, settings: Settings) -> Market:
    return Market(
        symbol=symbol,
        builder=MinuteBuilder(symbol),
        folders=[Folder(symbol, i) for i in settings.intervals_s if i != 60],
    )
