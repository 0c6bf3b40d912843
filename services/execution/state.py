"""Everything execution knows. What must last is in records that the ledger keeps; the rest is heard again.

`put_order`, `put_fill` and `change_standing` note what changed, so that the shell can commit exactly that
together with the cursors, in one transaction, before anything leaves the process.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

import msgspec

from services.execution.books import Book, trading_day
from services.execution.events import Moment
from services.execution.records import BEFORE, EXTERNAL, FillRecord, OrderRecord, Stamp, Standing
from services.execution.settled import Settled
from shared.domain.control import CONTROL_AGE_S_MAX, HaltKind, SessionHealth, TradingState, strictest
from shared.domain.denials import Denied, deny
from shared.domain.market import MarketState
from shared.domain.order import OrderStatus, OrderType
from shared.domain.position import ZERO
from shared.domain.report import OrderReport
from shared.domain.risk import Limits

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


LOOK_AGAIN_S = 2.5
"""Between two looks at the broker while its position and our fills are apart."""
STARTING = "execution is looking at what the broker holds"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that the core decides by; each is described in `config.py`."""

    account_id: int
    limits: Limits
    order_types: frozenset[OrderType] = frozenset(OrderType)
    market_speed: float = 1.0
    venue_clock: bool = False
    quarantine_s: float = 120.0
    searches_min: int = 3
    day_starts_at_utc_h: int = 22
    flatten_rounds_max: int = 20
    cancels_max: int = 3
    orphan_after_s: float = 1.0
    protect_after_s: float = 1.0
    protect_within_s: float = 4.5
    plan_pause_s: float = 1.0
    control_age_s_max: float = CONTROL_AGE_S_MAX
    snapshot_age_s_max: float = 45.0
    mismatch_after_s: float = 25.0
    settle_after_s: float = 600.0
    clock_offset_ms_max: int = 2_000
    build: str = ""
    settings: str = ""


@dataclass(slots=True)
class Pace:
    """What a strategy did in the window, by the monotonic clock; entries with the sign of their side."""

    intents: deque[int] = field(default_factory=deque)
    entries: deque[tuple[int, int]] = field(default_factory=deque)


@dataclass(slots=True)
class Doubt:
    """The resolver's progress on one order of unknown fate; starts afresh with every restart."""

    since_ns: int
    good_searches: int = 0


class Wanted(NamedTuple):
    """What a report must show to make a look at the order needless; None: does not matter.

    Attributes:
        over: Nothing more may come of the order.
    """

    over: bool = False
    order_qty: int | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


@dataclass(slots=True)
class Check:
    """A fresh look at one order that is due, again and again with growing pauses.

    Reports come first: one that shows what is wanted makes the question needless.
    """

    due_ns: int
    wanted: Wanted
    attempt: int = 0


@dataclass(slots=True)
class Gap:
    """What protects an entry's position is not of its size.

    Attributes:
        since_ns: Since when execution knows of it and could mend it.
        bare_ns: Since when the account lacks stops in this contract, as far as can be told.
        bare: Does it lack them? The other way round they are too many.
        looked_ns: When a fresh look was last asked for because of it.
        acted_ns: When something was last done about it; what was looked at before proves nothing any more.
    """

    contract_id: str
    since_ns: int
    bare_ns: int
    bare: bool = True
    looked_ns: int = 0
    acted_ns: int = 0
    alarmed: bool = False
    given_up: bool = False


@dataclass(slots=True)
class Apart:
    """What the broker says about a contract and what our fills make are apart."""

    why: str
    since_ns: int
    look_ns: int
    """When the broker is looked at next: a search may lag behind what a push has said."""
    told: bool = False


class HeardLate(NamedTuple):
    """A fill that was told long after it happened. Attributes: mono_ns: when; late_ns: by how much."""

    mono_ns: int
    late_ns: int


class Look(NamedTuple):
    """The newest search that succeeded."""

    started_ns: int
    positions: dict[str, int]


@dataclass(slots=True)
class Move:
    """A stop on its way after the market. Attributes: best_price: the furthest that its plan has wanted."""

    best_price: Decimal
    sent_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What a contract's fills make, what the broker holds instead, and since when that is so."""

    ours: int
    theirs: int
    since_ns: int


@dataclass(slots=True)
class Sync:
    """The account as broker_sync tells it.

    Attributes:
        looked_ns: Our monotonic clock when a search of our own was answered last.
    """

    in_sync: bool = False
    can_trade: bool = True
    complete: bool = False  # one whole snapshot has been seen since the start or the last gap
    begun_ns: int | None = None
    looked_ns: int | None = None
    seen_orders: set[int] = field(default_factory=set)
    building: dict[str, int] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    pushed_ns: dict[str, int] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)


@dataclass(slots=True)
class Dirty:
    """Changed since the last commit."""

    orders: dict[str, OrderRecord] = field(default_factory=dict)
    fills: dict[tuple[int, int], FillRecord | None] = field(default_factory=dict)
    standing: bool = False

    def __bool__(self) -> bool:
        return bool(self.orders or self.fills or self.standing)


class Change(NamedTuple):
    """A change under way. Attributes: before_qty: size that an earlier one may still make, 0 for none."""

    before_qty: int
    order_qty: int | None


class State:
    """One owner, mutable, rebuilt by `load` from what the ledger kept."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.standing = Standing()
        self.orders: dict[str, OrderRecord] = {}
        self.open: dict[str, OrderRecord] = {}
        self.children: dict[str, list[str]] = {}
        self.by_broker_id: dict[int, str] = {}
        self.fills: dict[int, list[FillRecord]] = {}
        self.ownerless: dict[int, list[FillRecord]] = {}
        self.books: dict[tuple[str, str], Book] = {}
        self.net_of_fills: dict[str, int] = {}
        self.settled = Settled()
        self.ended: dict[str, None] = {}  # since the last sweep of `settling`
        self.ended_before: dict[str, None] = {}  # since the one before
        self.rested: list[str] = []  # still to be looked at in this one
        self.sweeping = False
        self.sweep_due_ns: int | None = None
        self.dirty = Dirty()
        # Heard, not kept: it is told again after a restart.
        self.markets: dict[str, MarketState] = {}
        self.market_heard_ns: dict[str, int] = {}
        self.sync = Sync()
        self.session = SessionHealth.UNKNOWN
        self.heartbeat_ns: int | None = None
        self.builds: dict[str, tuple[str, str]] = {}
        self.paces: dict[str, Pace] = {}
        self.exits: dict[str, deque[int]] = {}
        self.own_halts: dict[HaltKind, str] = {HaltKind.STARTING: STARTING}
        self.sent_ns: deque[int] = deque()
        self.recent: deque[tuple[int, OrderRecord]] = deque(maxlen=256)
        self.unmatched: dict[int, OrderReport] = {}
        self.closing: set[int] = set()  # orders shown that are nobody's, where we have sent a close
        self.external_working: dict[int, OrderReport] = {}
        self.doubts: dict[str, Doubt] = {}
        self.checks: dict[int, Check] = {}
        self.cancels_sent: dict[int, int] = {}
        self.accepted_ns: dict[str, int] = {}
        self.gaps: dict[str, Gap] = {}
        self.heard_late: dict[str, HeardLate] = {}  # entry -> its newest fill, until it is looked after
        self.watched = False  # what is held has been compared with what protects it since the start
        self.apart: dict[str, Apart] = {}
        self.began_ns: int | None = None
        self.blind_told = False
        self.alone_since_ns: dict[str, int] = {}
        self.moves: dict[str, Move] = {}
        self.look: Look | None = None
        self.search_due_ns: int | None = None
        self.fills_due_ns: int | None = None
        self.search_attempt = 0
        self.search_running = False
        self.searched = False
        self.unread_ns: int | None = None  # since when reports are missing that no search made up for
        self.cancels_running: set[int] = set()
        self.modifies_running: dict[int, Change] = {}
        self.sizes_unknown_ns: dict[str, int] = {}  # order -> since when a change of its size is in doubt
        self.exits_fitted: set[str] = set()
        self.unclosed: set[str] = set()  # contracts whose close, in a flatten, provably never left
        self.queries_running: set[int] = set()
        self.places_running: set[str] = set()
        self.closes_running: set[str] = set()
        self.flatten_due_ns: int | None = None
        self.recovered = False

    @property
    def ready(self) -> bool:
        """May intents be read? Everything that was in doubt at the start has been asked about once."""
        return self.recovered and self.searched and self.sync.complete

    @property
    def trading_state(self) -> TradingState:
        return TradingState.HALTED if self.standing.flatten is not None else strictest(self.halts)

    @property
    def halts(self) -> dict[HaltKind, str]:
        """Every halt with its reason: those that the ledger keeps, and those that are measured again."""
        return {**self.standing.halts, **self.own_halts}

    def halt_reason(self) -> str:
        return "; ".join(f"{kind}: {why}" for kind, why in sorted(self.halts.items()))

    def latched(self) -> dict[str, str]:
        """Return which strategies may take no new exposure, and why."""
        return {name: one.latch for name, one in sorted(self.standing.conduct.items()) if one.latch}

    # -- records ----------------------------------------------------------------

    def put_order(self, order: OrderRecord) -> None:
        self._index(order)
        self.dirty.orders[order.client_order_id] = order

    def put_fill(self, fill: FillRecord) -> Decimal:
        """Count a fill; return what it realized for its strategy."""
        self.dirty.fills[fill.fill_id, fill.part] = fill
        return self._count(fill)

    def drop_fill(self, fill: FillRecord) -> None:
        """Stop counting a fill that is void, or about to be counted differently."""
        parts = self.fills[fill.fill_id]
        parts.remove(fill)
        if not parts:
            del self.fills[fill.fill_id]
        if not fill.client_order_id and fill.strategy_id == EXTERNAL:
            self.ownerless[fill.broker_order_id].remove(fill)
        if fill.strategy_id != BEFORE:
            self.book(fill.strategy_id, fill.contract_id).remove(fill)
            self.net_of_fills[fill.contract_id] -= fill.signed_qty
        self.dirty.fills[fill.fill_id, fill.part] = None

    def change_standing(self) -> Standing:
        """Return the standing record to be changed; it will be written with this commit."""
        self.dirty.standing = True
        return self.standing

    def stamp(self, at: Moment) -> Stamp:
        return Stamp(at.now_ns, at.mono_ns, self.standing.boots)

    def load(self, standing: Standing | None, orders: list[OrderRecord], fills: list[FillRecord]) -> None:
        """Take over what the ledger kept; nothing of it is dirty."""
        assert not self.orders and not self.fills, "state is loaded once, at the start"
        if standing is not None:
            self.standing = standing
        for order in orders:
            self._index(order)
        # In the order in which books keep them; those that a flatten made have numbers of their own.
        for fill in sorted(fills, key=lambda one: (one.ts_event_ns, one.fill_id, one.part)):
            self._count(fill)

    def _index(self, order: OrderRecord) -> None:
        name = order.client_order_id
        if order.parent is not None and name not in self.orders:
            self.children.setdefault(order.parent, []).append(name)
        self.orders[name] = order
        if order.broker_order_id is not None:
            self.by_broker_id[order.broker_order_id] = name
        if order.status.may_fill or order.missing_qty:
            self.open[name] = order
        else:
            self.open.pop(name, None)
            self.ended[name] = None
            self.ended_before.pop(name, None)

    def _count(self, fill: FillRecord) -> Decimal:
        self.fills.setdefault(fill.fill_id, []).append(fill)
        if fill.strategy_id == BEFORE:
            return ZERO
        if not fill.client_order_id and fill.strategy_id == EXTERNAL:
            self.ownerless.setdefault(fill.broker_order_id, []).append(fill)
        net = self.net_of_fills.get(fill.contract_id, 0)
        self.net_of_fills[fill.contract_id] = net + fill.signed_qty
        return self.book(fill.strategy_id, fill.contract_id).add(fill)

    # -- questions --------------------------------------------------------------

    def is_known(self, client_order_id: str) -> bool:
        """Has this id ever had an order?"""
        return client_order_id in self.orders or self.settled.has(client_order_id)

    def why_not_here(self, client_order_id: str) -> Denied:
        """Return the refusal of what is asked of an order that is not in memory."""
        return deny("order_ended") if self.settled.has(client_order_id) else deny("order_unknown")

    def book(self, strategy_id: str, contract_id: str) -> Book:
        key = (strategy_id, contract_id)
        found = self.books.get(key)
        if found is None:
            found = self.books[key] = Book(self.rules.day_starts_at_utc_h)
        return found

    def net_qty(self, strategy_id: str, contract_id: str) -> int:
        found = self.books.get((strategy_id, contract_id))
        return found.position.net_qty if found is not None else 0

    def contract_qty(self, contract_id: str) -> int:
        """Return the account's position in a contract as the fills and the baseline make it."""
        return self.standing.baselines.get(contract_id, 0) + self.net_of_fills.get(contract_id, 0)

    def day_pnl(self, ts_ns: int) -> Decimal:
        """Return what all strategies have realized in the trading day, after fees."""
        day = trading_day(ts_ns, self.rules.day_starts_at_utc_h)
        own = (book for (strategy_id, _), book in self.books.items() if strategy_id != EXTERNAL)
        return sum((book.pnl_of_day.get(day, ZERO) for book in own), ZERO)

    def open_of(self, strategy_id: str, symbol: str) -> list[OrderRecord]:
        return [
            order
            for order in self.open.values()
            if order.strategy_id == strategy_id and order.symbol == symbol
        ]

    def is_frozen(self, contract_id: str) -> bool:
        """Is new exposure frozen? By an order of unknown fate, or a flatten whose end is to be booked yet."""
        return contract_id in self.standing.crossing or any(
            order.status is OrderStatus.UNKNOWN and order.contract_id == contract_id
            for order in self.open.values()
        )

    def is_doubtful(self, contract_id: str) -> bool:
        """Is an order of ours in the contract unanswered, so that a stranger may turn out to be it?"""
        unanswered = (OrderStatus.PENDING_NEW, OrderStatus.UNKNOWN)
        return any(
            order.contract_id == contract_id and order.status in unanswered for order in self.open.values()
        )

    def in_flight(self, contract_id: str) -> bool:
        """Is anything on its way that could explain a difference to the broker's position?"""
        if self.standing.flatten is not None:
            return True
        waiting = (OrderStatus.PENDING_NEW, OrderStatus.UNKNOWN, OrderStatus.PENDING_CANCEL)
        return any(
            order.contract_id == contract_id and (order.status in waiting or order.missing_qty)
            for order in self.open.values()
        )
