"""What is known of one account, and how reports join it. Pure, and blind to order and repetition.

Pushes come twice, late and out of order, some never; REST answers lag. So joining two reports of one order
is a *maximum*, not an assignment: whichever comes first, the result is the same. A terminal status is never
left (but for a fill that beat a cancel), the filled quantity never falls, an older update never replaces a
newer one. Fills are a set. Only positions and the account itself have no time of their own in the
gateway's words (a position carries its creation only): there the last word counts, and REST corrects it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from shared.domain.order import OrderStatus
from shared.domain.report import (
    AccountReport,
    FillReport,
    OrderReport,
    PositionReport,
    Report,
    SnapshotTaken,
    SyncState,
)

SECOND_NS = 1_000_000_000
ORDERS_MAX = 2_000
"""Closed orders beyond this are forgotten, oldest first, but for those that the last read still listed.

A report of a forgotten one would be published again, with each read that lists it.
"""
FILLS_MAX = 20_000
"""Fills beyond this are forgotten, oldest first; one that is read once more would be counted once more.

Reconciles read from shortly before the last fill on; this is more than a day can have.
"""
CHICAGO = ZoneInfo("America/Chicago")
DAY_BEGINS_BEFORE_MIDNIGHT = timedelta(hours=7)
"""The trading date rolls at 17:00 Chicago time."""

_STEPS = {
    OrderStatus.UNKNOWN: 0,
    OrderStatus.PENDING_NEW: 1,
    OrderStatus.SUSPENDED: 2,
    OrderStatus.NEW: 3,
    OrderStatus.PARTIALLY_FILLED: 4,
    OrderStatus.PENDING_CANCEL: 5,
    OrderStatus.ABSENT: 6,
    OrderStatus.DENIED: 6,
    OrderStatus.EXPIRED: 7,
    OrderStatus.REJECTED: 8,
    OrderStatus.CANCELED: 9,
    OrderStatus.FILLED: 10,
}


class ToldFill(NamedTuple):
    """What of a fill may change after it was published."""

    voided: bool
    fees: Decimal


@dataclass(slots=True, kw_only=True)
class Picture:
    """Everything that was published of one account, in its newest form.

    Attributes:
        positions: contract_id -> last report; one with `net_qty` 0 says that it was closed.
        fills: fill_id -> what was last published of it.
        filled_qty: broker_order_id -> contracts in its fills.
        last_fill_ns: Venue's time of the newest fill.
        read_fill_ns: The same when the last complete read had ended: later ones are known from pushes only.
        day_fills: Fills of the newest trading day.
    """

    account: AccountReport | None = None
    positions: dict[str, PositionReport] = field(default_factory=dict)
    orders: dict[int, OrderReport] = field(default_factory=dict)
    fills: dict[int, ToldFill] = field(default_factory=dict)
    filled_qty: dict[int, int] = field(default_factory=dict)
    last_fill_ns: int | None = None
    read_fill_ns: int | None = None
    day: date | None = None
    day_fills: dict[int, FillReport] = field(default_factory=dict)
    sync: SyncState | None = None
    closed: deque[int] = field(default_factory=deque)

    @property
    def open_positions(self) -> list[PositionReport]:
        return [p for _, p in sorted(self.positions.items()) if p.net_qty]

    @property
    def working_orders(self) -> list[OrderReport]:
        return [o for _, o in sorted(self.orders.items()) if o.status.may_fill]

    def realized_on(self, day: date) -> tuple[Decimal, Decimal]:
        """Return what the fills of a trading day realized, gross, and their fees."""
        fills = [f for f in self.day_fills.values() if not f.voided] if day == self.day else []
        realized = sum((f.realized_pnl for f in fills if f.realized_pnl is not None), Decimal(0))
        return realized, sum((f.fees for f in fills), Decimal(0))


def trading_day(ts_ns: int) -> date:
    """Return the trading date: 17:00 in Chicago begins the next one."""
    local = datetime.fromtimestamp(ts_ns // SECOND_NS, UTC).astimezone(CHICAGO)
    return (local + DAY_BEGINS_BEFORE_MIDNIGHT).date()


def recall(report: Report, picture: Picture) -> None:
    """Take in one report from our own stream, at start: what was published is known."""
    match report:
        case AccountReport():
            picture.account = report
        case PositionReport():
            picture.positions[report.contract_id] = report
        case OrderReport():
            take_order(report, picture)
            forget_orders(picture)
        case FillReport():
            take_fill(report, picture, read=True)
        case SnapshotTaken():
            picture.read_fill_ns = picture.last_fill_ns
        case _:
            return


def take_order(report: OrderReport, picture: Picture) -> OrderReport | None:
    """Join one order report; return what is new about the order, None when nothing is."""
    known = picture.orders.get(report.broker_order_id)
    joined = report if known is None else join(known, report)
    if known is not None and same_order(known, joined):
        return None
    picture.orders[report.broker_order_id] = joined
    if joined.status.is_terminal and (known is None or not known.status.is_terminal):
        picture.closed.append(report.broker_order_id)
    return joined


def forget_orders(picture: Picture, listed: Set[int] = frozenset()) -> None:
    """Forget the oldest closed orders beyond `ORDERS_MAX`, but none that is `listed`."""
    kept: list[int] = []
    while picture.closed and len(picture.closed) + len(kept) > ORDERS_MAX:
        order_id = picture.closed.popleft()
        if order_id in listed:
            kept.append(order_id)
            continue
        picture.orders.pop(order_id, None)
        picture.filled_qty.pop(order_id, None)
    picture.closed.extendleft(reversed(kept))


def join(one: OrderReport, other: OrderReport) -> OrderReport:
    """Return the maximum of two reports of one order: the same whichever comes first."""
    newer, older = (one, other) if _rank(one) >= _rank(other) else (other, one)
    cum_qty = min(max(one.cum_qty, other.cum_qty), newer.order_qty)
    status = newer.status
    if status is OrderStatus.NEW and cum_qty:
        # Rows of `Order/searchOpen` do not say how much was filled.
        status = OrderStatus.PARTIALLY_FILLED
    return msgspec.structs.replace(
        newer,
        status=status,
        cum_qty=cum_qty,
        # Some forms of a row lack these; what an order was sent with does not change.
        order_type=newer.order_type or older.order_type,
        custom_tag=newer.custom_tag or older.custom_tag,
        parent_order_id=newer.parent_order_id or older.parent_order_id,
        linked_order_id=newer.linked_order_id or older.linked_order_id,
        avg_px=newer.avg_px or older.avg_px,
    )


def _rank(report: OrderReport) -> tuple[int, int, int, int, str]:
    status = report.status
    final = 2 if status is OrderStatus.FILLED else int(status.is_terminal)
    rest = f"{report.order_qty}|{report.limit_price}|{report.stop_price}|{report.avg_px}"
    return final, report.ts_event_ns, _STEPS[status], report.cum_qty, rest


def same_order(one: OrderReport, other: OrderReport) -> bool:
    """Do they say the same, but for when we heard it?"""
    return msgspec.structs.replace(one, ts_recv_ns=0) == msgspec.structs.replace(other, ts_recv_ns=0)


def take_fill(report: FillReport, picture: Picture, *, read: bool) -> FillReport | None:
    """Take in one fill; None when it was published before and nothing of it is new.

    Args:
        read: It is of a read, whose fees count. A pushed one may lack the commissions; no fees at all are
            no correction.
    """
    told = picture.fills.get(report.fill_id)
    voided = told.voided if told is not None else None
    if told is not None:
        corrected = read and report.fees and report.fees != told.fees
        if told.voided or not (report.voided or corrected):
            return None
    picture.fills[report.fill_id] = ToldFill(report.voided, report.fees)
    if len(picture.fills) > FILLS_MAX:
        del picture.fills[next(iter(picture.fills))]
    qty = report.last_qty * ((not report.voided) - (voided is False))
    filled = picture.filled_qty.get(report.broker_order_id, 0) + qty
    picture.filled_qty[report.broker_order_id] = filled
    picture.last_fill_ns = max(picture.last_fill_ns or 0, report.ts_event_ns)
    day = trading_day(report.ts_event_ns)
    if picture.day is None or day > picture.day:
        picture.day, picture.day_fills = day, {}
    if day == picture.day:
        picture.day_fills[report.fill_id] = report
    return report


def take_account(report: AccountReport, picture: Picture) -> AccountReport | None:
    known = picture.account
    if known is not None and msgspec.structs.replace(known, ts_recv_ns=report.ts_recv_ns) == report:
        return None
    picture.account = report
    return report


def same_position(known: PositionReport | None, report: PositionReport | None) -> bool:
    """Is the exposure the same? No position and a closed one are."""
    known_qty = known.net_qty if known is not None else 0
    qty = report.net_qty if report is not None else 0
    if known_qty != qty:
        return False
    return not qty or (known is not None and report is not None and known.avg_px == report.avg_px)


def missing_orders(picture: Picture, seen: set[int]) -> list[int]:
    """Return working orders of ours that REST did not list: not listed does not mean not filled."""
    return [order.broker_order_id for order in picture.working_orders if order.broker_order_id not in seen]
