"""All that guard knows of its account."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum

import msgspec

from services.guard.events import Moment
from services.guard.hours import Hours
from services.guard.record import Fingerprint, Record
from services.guard.rules import Rules
from shared.domain.flat import MakingFlat
from shared.domain.market import MarketState
from shared.domain.report import FillReport, OrderReport, PositionReport, SyncHealth

NS_PER_S = 1_000_000_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds; the settings say what each is for."""

    look_interval_s: float = 15.0
    near_interval_s: float = 5.0
    near_share: Decimal = Decimal("0.25")
    truth_age_s_max: float = 45.0
    price_age_s_max: float = 10.0
    blind_s: float = 60.0
    blind_flattens: bool = True
    wedge_s: float = 3.0
    silent_s: float = 2.0
    shrink_s: float = 5.0
    resume_after_s: float = 2.0
    history_days: int = 30


class Level(IntEnum):
    """What guard demands, from nothing to everything closed."""

    CLEAR = 0
    HALT = 1
    FLAT = 2


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes:
    reason: Stays the same while nothing changes; said to execution.
    until_flat: What it was made for may pass: it ends when the broker has shown the account flat.
    """

    level: Level
    reason: str = ""
    until_flat: bool = False


@dataclass(slots=True, kw_only=True)
class Truth:
    """The account as the last look showed it, and what was pushed since.

    Attributes:
        base: contract -> position in the look; what was pushed since is in `positions`.
        fills: fill_id -> fill of the trading day, by looks and pushes.
        heard: fill_id -> receipt of a fill that was pushed and that no look has shown yet.
        pushed_ns: contract -> receipt of a position that was. Both by our monotonic clock.
        realized: (day, number of fills) -> the day's realized result.
    """

    looked: Moment
    balance: Decimal
    can_trade: bool
    base: dict[str, PositionReport]
    positions: dict[str, PositionReport]
    fills: dict[int, FillReport] = field(default_factory=dict)
    heard: dict[int, int] = field(default_factory=dict)
    pushed_ns: dict[str, int] = field(default_factory=dict)
    realized: tuple[tuple[int, int], Decimal] | None = None

    @property
    def later(self) -> list[int]:
        """Fills that were pushed after the look, in their order: its balance does not have them yet."""
        return sorted(n for n, heard_ns in self.heard.items() if heard_ns >= self.looked.mono_ns)


@dataclass(slots=True, kw_only=True)
class Mark:
    """The feed's newest of one contract.

    Attributes:
        mono_ns: When we heard it, which no set clock moves. None: it lay under its key when we first looked.
    """

    market: MarketState
    mono_ns: int | None


@dataclass(slots=True, kw_only=True)
class Price:
    """From the broker's history; used where the feed has none."""

    px: Decimal
    multiplier: Decimal
    symbol: str
    mono_ns: int


@dataclass(slots=True, kw_only=True)
class Enforcing:
    """The account is being made flat.

    Attributes:
        since: When it began.
        acked: Execution has shown that it obeys.
        gave_up: It has said that it could not make the account flat.
        acted: Guard has sent something.
        own_why: Guard closes by itself, because of this; empty: it watches execution do it.
        exposure: Contracts and orders at the last look that had less of them than the one before.
        ts_*: See `record.Breach`.
    """

    reason: str
    since: Moment
    acked: bool = False
    gave_up: bool = False
    acted: bool = False
    own_why: str = ""
    making: MakingFlat = field(default_factory=MakingFlat)
    look_due_ns: int = 0
    looking: bool = False
    exposure: tuple[int, int] | None = None
    shrunk_ns: int = 0
    ts_halt_ns: int = 0
    ts_cancel_ns: int = 0
    ts_flat_ns: int = 0


@dataclass(slots=True, kw_only=True)
class State:
    """Attributes:
    record: None until the first look, when nothing was recorded before.
    record_lost: Why an earlier record cannot be used; empty when it can, or when there was none.
    record_failure: Why the present one cannot be written; None when it can.
    fingerprint: Of the look that `truth` is of; `fingerprint_seen` of the newest.
    shown: The fills in that look.
    moved_ns: Since when looks say `fingerprint` and show the same fills, by our monotonic clock.
    trusted: One that no fill is missing in: looks that agree with it may end a day.
    whole: The look that `truth` is of agrees with it.
    look_failure: Why the newest look told nothing; empty when it did.
    refusal: Why a person's re-arm was refused last.
    said: The newest demand that was said on the stream; None: nothing yet.
    execution_ns: When execution's newest beat was heard.
    execution_holds: A halt of guard's, as that beat shows; None: it shows nothing.
    ticked_ns: When the newest tick came; None: none yet.
    woke_ns: When something came more than `core.OWN_PAUSE_S` after the newest tick, for we did not run in
        between; None: never.
    unheard_ns: Since when execution shows something else than was said.
    calm_ns: Since when the demand is lower than what was said.
    flat_seen: Flat was seen since the account has had to be flat.
    """

    account_id: int
    rules: Rules
    hours: Hours
    limits: Limits
    since: str
    began_ns: int
    record: Record | None = None
    record_lost: str = ""
    record_failure: str | None = None
    truth: Truth | None = None
    fingerprint: Fingerprint | None = None
    fingerprint_seen: Fingerprint | None = None
    shown: frozenset[int] = frozenset()
    moved_ns: int | None = None
    trusted: Fingerprint | None = None
    whole: bool = False
    looking: bool = False
    look_asked_ns: int | None = None
    look_failure: str = "it has not been read yet"
    sync: SyncHealth = SyncHealth.UNKNOWN
    working: dict[int, OrderReport] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    prices: dict[str, Price] = field(default_factory=dict)
    price_asked_ns: dict[str, int] = field(default_factory=dict)
    execution_ns: int | None = None
    execution_holds: bool | None = None
    ticked_ns: int | None = None
    woke_ns: int | None = None
    unheard_ns: int | None = None
    bus_away: bool = False
    blind_since_ns: int | None = None
    demand: Demand = field(default_factory=lambda: Demand(level=Level.CLEAR))
    said: Demand | None = None
    calm_ns: int | None = None
    enforcing: Enforcing | None = None
    flat_seen: bool = False
    refusal: str = ""

    def recall(self, record: Record | None) -> None:
        """Take over what an earlier life has recorded."""
        self.record = None if record is None else msgspec.structs.replace(record, lives=record.lives + 1)
        self.fingerprint = self.trusted = record.fingerprint if record is not None else None
