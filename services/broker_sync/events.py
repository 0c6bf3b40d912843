"""What broker_sync's core hears, and what it wants done."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.domain.report import AccountReport, FillReport, OrderReport, PositionReport, Report

Push = AccountReport | PositionReport | OrderReport | FillReport


# -- events -----------------------------------------------------------------------


class _At(msgspec.Struct, frozen=True, kw_only=True):
    now_ns: int
    ts_ns: int


class Recalled(_At, frozen=True, kw_only=True):
    """A report of our own stream, read back at start."""

    report: Report


class Due(_At, frozen=True, kw_only=True):
    """A turn of the absolute schedule."""


class Tick(_At, frozen=True, kw_only=True): ...


class Pushed(_At, frozen=True, kw_only=True):
    reports: Sequence[Push]


class LinkRose(_At, frozen=True, kw_only=True):
    """The user hub is up; what it would have said before is lost."""


class LinkFell(_At, frozen=True, kw_only=True):
    reason: str


class PushesRefused(_At, frozen=True, kw_only=True):
    """Part of what the hub says does not reach us, or could not be understood.

    Attributes:
        lasting: Until the link fell and rose again, or as good as (a refused subscription).
    """

    reason: str
    lasting: bool


class Gathered(_At, frozen=True, kw_only=True):
    """One complete read of the broker.

    Attributes:
        looked_up: Orders of ours that no list had, asked for one by one; None: the broker has none.
    """

    accounts: Sequence[AccountReport]
    positions: Sequence[PositionReport]
    orders: Sequence[OrderReport]
    fills: Sequence[FillReport]
    looked_up: dict[int, OrderReport | None] = {}


class GatherFailed(_At, frozen=True, kw_only=True):
    reason: str


Event = Recalled | Due | Tick | Pushed | LinkRose | LinkFell | PushesRefused | Gathered | GatherFailed


# -- commands ---------------------------------------------------------------------


class Gather(msgspec.Struct, frozen=True, kw_only=True):
    """Read everything over REST."""

    why: str


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """Cancel the read that is under way."""


class Reconnect(msgspec.Struct, frozen=True, kw_only=True):
    """Drop the link to the user hub and build a new one: it is up and says nothing."""

    reason: str


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person may want to know. Attributes: name: of the counter too."""

    name: str
    why: str


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    reports: list[Report]


Command = Gather | GiveUp | Reconnect | Note | Publish
