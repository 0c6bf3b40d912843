"""What guard's core hears, and what it wants done."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.guard.record import Record
from shared.domain.control import Flatten, Halt, Resume
from shared.domain.execution import OrderMessage
from shared.domain.flat import Look, Remedy
from shared.domain.market import MarketState
from shared.domain.report import AccountReport, FillReport, OrderReport, PositionReport, Report


class Moment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The clocks at one event.

    Attributes:
        now_ns: Wall clock, stamped on messages.
        mono_ns: Decides every timeout of ours.
        market_ns: The market's time, for trading days and closing hours; None while nothing told it.
    """

    now_ns: int
    mono_ns: int
    market_ns: int | None


# -- events -----------------------------------------------------------------------


class _At(msgspec.Struct, frozen=True, kw_only=True):
    at: Moment


class Looked(_At, frozen=True, kw_only=True):
    """The account as the broker showed it in answer to one question after the other.

    Attributes:
        started: Before the first question.
        fills: Of the window that `AskLook` named.
        fills_from_ns: As there.
        working: Asked for only while the account has to be flat; None otherwise.
    """

    started: Moment
    account: AccountReport
    positions: Sequence[PositionReport]
    fills: Sequence[FillReport]
    fills_from_ns: int | None
    working: Sequence[OrderReport] | None = None


class LookFailed(_At, frozen=True, kw_only=True):
    reason: str


class Reported(_At, frozen=True, kw_only=True):
    """A push that broker_sync passed on: faster than our looks, and checked by them."""

    report: Report


class Marked(_At, frozen=True, kw_only=True):
    """Attributes: polled: read under the feed's key, where it may have lain for long."""

    market: MarketState
    polled: bool = False


class Priced(_At, frozen=True, kw_only=True):
    """A price that guard asked the broker's history for, because the feed's are away.

    Attributes:
        multiplier: Account currency per point of one contract.
    """

    contract_id: str
    symbol: str
    px: Decimal
    multiplier: Decimal


class ExecutionSaid(_At, frozen=True, kw_only=True):
    message: OrderMessage


class ExecutionBeat(_At, frozen=True, kw_only=True):
    """Attributes: held: The kinds of halt that it shows; None: it shows nothing."""

    held: frozenset[str] | None = None


class ReArmed(_At, frozen=True, kw_only=True):
    """A person wants the latch lifted."""

    order: Resume


class FlatLooked(_At, frozen=True, kw_only=True):
    """Orders and positions alone, while everything is being closed."""

    look: Look


class RemedyAnswered(_At, frozen=True, kw_only=True):
    """Attributes: sent_ns: of the `Send` that this is the answer to."""

    remedy: Remedy
    sent_ns: int
    outcome: str


class RecordUnwritten(_At, frozen=True, kw_only=True):
    """Attributes: reason: None: it is on disk again."""

    reason: str | None


class Tick(_At, frozen=True, kw_only=True):
    """Attributes: bus_away: nothing we say reaches execution, nothing it says reaches us."""

    bus_away: bool


Event = (
    Looked
    | LookFailed
    | Reported
    | Marked
    | Priced
    | ExecutionSaid
    | ExecutionBeat
    | ReArmed
    | FlatLooked
    | RemedyAnswered
    | RecordUnwritten
    | Tick
)


# -- commands ---------------------------------------------------------------------


class Say(msgspec.Struct, frozen=True, kw_only=True):
    """For `control:guard`."""

    control: Halt | Resume | Flatten


class AskLook(msgspec.Struct, frozen=True, kw_only=True):
    """Read account, positions and fills at the broker.

    Attributes:
        fills_from_ns: Market time; None: as far back as the settings say.
        working: Also every order that works.
    """

    fills_from_ns: int | None
    working: bool


class AskFlatLook(msgspec.Struct, frozen=True, kw_only=True):
    """Read working orders and positions, each as far as it can be had."""


class AskPrice(msgspec.Struct, frozen=True, kw_only=True):
    contract_id: str


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """Cancel or close through guard's own way to the broker.

    Attributes:
        sent_ns: Monotonic; which try of the remedy this is.
    """

    remedy: Remedy
    sent_ns: int


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """Write to disk."""

    record: Record


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """For people. Attributes: alarm: something that should not be."""

    name: str
    text: str
    alarm: bool = False


Command = Say | AskLook | AskFlatLook | AskPrice | Send | Keep | Note
