"""What the ledger keeps: one record per order, per fill, and one of everything else that must last."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from shared.domain.control import HaltKind
from shared.domain.order import OrderStatus, OrderType, Side, StopPlan

ENTRY, EXIT, STOP_LOSS, TAKE_PROFIT = "entry", "exit", "stop_loss", "take_profit"
PROTECTIVE = frozenset({STOP_LOSS, TAKE_PROFIT})

NOT_SENT = "not sent: "
"""How the reason of a rejected order begins that provably never left this machine."""

EXTERNAL = ""
"""Strategy of what was done on the account by others: by hand, by another program."""
BEFORE = "-"
"""Strategy of fills from before the ledger began: they are inside the baseline, counted nowhere else."""


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """A moment to which ages are measured across restarts.

    Attributes:
        now_ns: Our wall clock; it may have jumped since.
        mono_ns: Our monotonic clock; None where it was not noted.
        boot: Which start of the machine that was, as `Standing.boots` counts them: it begins anew with each.
    """

    now_ns: int = 0
    mono_ns: int | None = None
    boot: int = 0

    def age_ns(self, now: Stamp) -> int:
        """Return how long ago it was; by the wall clock only where nothing better can tell."""
        if self.mono_ns is None or now.mono_ns is None or self.boot != now.boot:
            return max(0, now.now_ns - self.now_ns)
        return max(0, now.mono_ns - self.mono_ns)


class OrderRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The latest state of one order.

    Attributes:
        ts_claimed_ns: Our wall clock at the claim, for people; it may have jumped since.
        mono_claimed_ns: Our monotonic clock at the claim, in start `boot` of the machine; see `Stamp`.
        venue_claimed_ns: The broker's clock at the claim, where it was known.
        broker_cum_qty: Filled as the broker says; what our fills lack of it is still exposure.
        attempts: POSTs that may have been made; a second one only after a proven failure to send.
        cancel_wanted: Cancel as soon as the broker's id is known.
        ts_broker_ns: The broker's time of the newest report; older ones change no price and no size.
        parent: The entry that a protective order guards, or that an exit of ours ends.
        native: The broker made it itself, with the entry; it cancels the other one of the pair.
        plan: How the stop of this entry moves.
        wanted_stop_price: Where the plan has last wanted this stop to be.
        unwanted: It landed after it had been given up: cancel what works, close what filled.
        trail_ticks: As asked for; the broker tells it in searches only.
        wanted_qty: Size that a change asked for and no report has shown; 0: none. It may be what works.
    """

    client_order_id: str
    strategy_id: str
    symbol: str
    contract_id: str
    side: Side
    order_qty: int
    order_type: OrderType
    cause: str
    tick_size: Decimal
    multiplier: Decimal
    ts_claimed_ns: int
    mono_claimed_ns: int | None = None
    boot: int = 0
    expires_at_ns: int = 0
    venue_claimed_ns: int | None = None
    status: OrderStatus = OrderStatus.PENDING_NEW
    reason: str = ""
    role: str = ENTRY
    parent: str | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    stop_loss_ticks: int | None = None
    take_profit_ticks: int | None = None
    trail_ticks: int | None = None
    plan: StopPlan | None = None
    native: bool = False
    wanted_stop_price: Decimal | None = None
    unwanted: bool = False
    reduce_only: bool = False
    cum_qty: int = 0
    broker_order_id: int | None = None
    broker_cum_qty: int = 0
    attempts: int = 1
    cancel_wanted: bool = False
    ts_broker_ns: int = 0
    wanted_qty: int = 0

    @property
    def missing_qty(self) -> int:
        """Contracts the broker says are filled and whose fills we have not seen."""
        return max(0, self.broker_cum_qty - self.cum_qty)

    @property
    def leaves_qty(self) -> int:
        """Contracts that may still change the position as we know it."""
        if self.status.may_fill:
            return max(0, self.order_qty - self.cum_qty)
        return self.missing_qty

    @property
    def most_leaves_qty(self) -> int:
        """The same when a change that is under way, or whose fate is unknown, has made it larger."""
        if self.status.may_fill:
            return max(0, max(self.order_qty, self.wanted_qty) - self.cum_qty)
        return self.missing_qty

    @property
    def is_protective(self) -> bool:
        return self.role in PROTECTIVE

    def age_ns(self, now: Stamp) -> int:
        """Return how long ago it was claimed, whatever the wall clock has done since."""
        return Stamp(self.ts_claimed_ns, self.mono_claimed_ns, self.boot).age_ns(now)


class FillRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fill, or one strategy's part of it. (`fill_id`, `part`) is unique.

    Attributes:
        client_order_id: Empty while nobody knows whose it is, and for what others did.
        closes: Entry whose contracts it closes first; empty: the oldest.
    """

    fill_id: int
    broker_order_id: int
    contract_id: str
    side: Side
    qty: int
    px: Decimal
    fees: Decimal
    multiplier: Decimal
    ts_event_ns: int
    part: int = 0
    client_order_id: str = ""
    strategy_id: str = EXTERNAL
    closes: str = ""

    @property
    def signed_qty(self) -> int:
        return self.side.sign * self.qty


class FlattenRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A flatten that is under way; it survives a restart and goes on from a fresh look."""

    reason: str
    ts_ns: int
    symbol: str | None = None
    rounds: int = 0


class ContractRecord(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    tick_size: Decimal
    multiplier: Decimal


class Conduct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a strategy has behaved, as far as it must last.

    Attributes:
        latch: Why it may take no new exposure; empty while it may.
        rejects, denials: In a row.
        armed: When a person armed it again; what was before does not count any more.
    """

    latch: str = ""
    rejects: int = 0
    denials: int = 0
    armed: Stamp = Stamp()


class Standing(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything else that lasts; small, and written whole.

    Attributes:
        baselined: The first complete picture of the account has been seen.
        baselines: contract -> position that our fills do not explain and a person or the start accepted.
        baseline_venue_ns: Fills of others before this lie inside the baselines.
        externals: Broker ids of orders of others that have been announced.
        closes: contract -> our clock when a close was sent last; its fills belong to the strategies.
        conduct: Strategy -> its conduct.
        exits_since: When a halt for too many exits was lifted; earlier ones do not count.
        resumes: Resumes that were obeyed, with the time they carry, for as long as one is accepted.
        crossing: Contracts whose books a finished flatten has still to end.
        crosses: How many closings were booked between strategies; numbers the next one.
        acked_seq: Up to where the bus had acknowledged `orders:{acct}`.
        boot: The start of the machine, as the operating system names it; empty where it does not.
        boots: How many of those this ledger has seen.
    """

    halts: dict[HaltKind, str] = {}
    baselined: bool = False
    baselines: dict[str, int] = {}
    baseline_venue_ns: int = 0
    externals: list[int] = []
    flatten: FlattenRecord | None = None
    closes: dict[str, int] = {}
    contracts: dict[str, ContractRecord] = {}
    mismatches: dict[str, int] = {}
    crossing: list[str] = []
    crosses: int = 0
    acked_seq: int = 0
    boot: str = ""
    boots: int = 0
    conduct: dict[str, Conduct] = {}
    exits_since: Stamp = Stamp()
    resumes: dict[str, int] = {}
