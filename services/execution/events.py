"""What happens to execution, and what it wants done: the shell makes the first and obeys the second."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from shared.broker.port import OrderTicket, Outcome
from shared.domain.control import Control, SessionHealth
from shared.domain.execution import OrderMessage
from shared.domain.market import MarketState
from shared.domain.order import Intent
from shared.domain.report import FillReport, OrderReport, PositionReport, Report


class Moment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The clocks at one event.

    Attributes:
        now_ns: Wall clock; it is data, and what crosses processes (expiry) counts by it.
        mono_ns: Decides every timeout of ours; never jumps.
        venue_ns: The broker's wall clock, for time windows of its searches; None while unknown.
    """

    now_ns: int
    mono_ns: int
    venue_ns: int | None = None


class IntentRead(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: strategy_id: whose stream it came from; an intent may speak for nobody else."""

    intent: Intent
    strategy_id: str
    cause: str
    at: Moment


class ReportRead(msgspec.Struct, frozen=True, kw_only=True):
    report: Report
    cause: str
    at: Moment


class ControlRead(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: by_operator, by_guard: from their streams; a message's own word for that proves nothing."""

    control: Control
    by_operator: bool
    by_guard: bool = False
    cause: str
    at: Moment


class StreamGap(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of a stream that execution must not miss are missing.

    Attributes:
        set_back: Numbers that were read before come again: what stood there is lost.
    """

    stream: str
    what: str
    missing: str
    at: Moment
    set_back: bool = False


class MarketRead(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: polled: it lay under its key, since when nobody knows; else it was just published."""

    market: MarketState
    at: Moment
    polled: bool = False


class HeartbeatHeard(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: age_ns: how long ago it was said: beats wait for us while we are frozen."""

    at: Moment
    age_ns: int = 0


class ProcessSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A process beats with another build or other settings than before."""

    process: str
    build: str
    settings: str
    at: Moment


class KillSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A person has used the switch that needs no bus: the flag file, or the signal."""

    why: str
    at: Moment


class PlaceAnswered(msgspec.Struct, frozen=True, kw_only=True):
    client_order_id: str
    outcome: Outcome
    at: Moment


class CancelAnswered(msgspec.Struct, frozen=True, kw_only=True):
    broker_order_id: int
    outcome: Outcome
    at: Moment


class ModifyAnswered(msgspec.Struct, frozen=True, kw_only=True):
    client_order_id: str
    outcome: Outcome
    at: Moment


class CloseAnswered(msgspec.Struct, frozen=True, kw_only=True):
    contract_id: str
    outcome: Outcome
    at: Moment


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's answer to a `Search`, or why there is none (`failure`): that proves nothing."""

    started: Moment
    at: Moment
    failure: str | None = None
    orders: Sequence[OrderReport] = ()
    working: Sequence[OrderReport] | None = None
    fills: Sequence[FillReport] = ()
    positions: Sequence[PositionReport] = ()


class OrderQueried(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: report: None with `failure` None: the broker says there is no such order."""

    broker_order_id: int
    report: OrderReport | None
    failure: str | None
    at: Moment


class BusDiffers(msgspec.Struct, frozen=True, kw_only=True):
    """Our own stream is not as the ledger says; it has not been made whole yet.

    Attributes:
        what: In words, what it lacks or has too much of.
    """

    what: str
    at: Moment


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger has been read; what was claimed and not answered is unknown from here on.

    Attributes:
        lost: In words, what the streams that we read lack; None when they are as the ledger says.
        boot: The machine's start; see `Clock.boot`.
    """

    lost: str | None
    boot: str
    at: Moment


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: clock_offset_ms: our clock minus the broker's, the least that is proven; None: unknown."""

    session: SessionHealth
    at: Moment
    clock_offset_ms: int | None = None


Event = (
    IntentRead
    | ReportRead
    | ControlRead
    | StreamGap
    | MarketRead
    | HeartbeatHeard
    | ProcessSeen
    | KillSeen
    | PlaceAnswered
    | CancelAnswered
    | ModifyAnswered
    | CloseAnswered
    | Searched
    | OrderQueried
    | BusDiffers
    | Recovered
    | Tick
)


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    """One step for the ledger, and from there for `orders:{acct}`."""

    message: OrderMessage
    cause: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Send once. The claim is in the same commit that this command follows."""

    ticket: OrderTicket


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    broker_order_id: int


class Modify(msgspec.Struct, frozen=True, kw_only=True):
    client_order_id: str
    broker_order_id: int
    order_qty: int | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_price: Decimal | None = None
    expires_at_ns: int | None = None
    urgent: bool = False


class CloseContract(msgspec.Struct, frozen=True, kw_only=True):
    contract_id: str


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """Orders (closed ones too), fills and positions of the account; one question for all doubts.

    Attributes:
        start_ns: Begin of the window in the broker's time.
        working: Also ask for every order that works now, whoever placed it.
    """

    start_ns: int
    working: bool = False


class QueryOrder(msgspec.Struct, frozen=True, kw_only=True):
    broker_order_id: int


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """For a person: something that should not be, in words."""

    name: str
    text: str


Command = Publish | Place | Cancel | Modify | CloseContract | Search | QueryOrder | Alarm
