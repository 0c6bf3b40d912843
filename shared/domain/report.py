"""What the broker says of an account, in our words. Reports are facts of the broker, never our wishes.

Sizes are positive with a side, as at the gateway; `net_qty` (signed) exists where we computed it.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from shared.domain.order import OrderStatus, OrderType, Side


def _finite(**amounts: Decimal | None) -> None:
    """Refuse what no broker can mean: one NaN in a sum would make every later comparison fail."""
    for name, amount in amounts.items():
        if amount is not None and not amount.is_finite():
            raise ValueError(f"{name} is {amount}")


class SyncHealth(StrEnum):
    """Is what we know of the account what the broker knows?"""

    UNKNOWN = "unknown"
    IN_SYNC = "in_sync"
    STALE = "stale"


class AccountReport(msgspec.Struct, frozen=True, kw_only=True, tag="account_report"):
    """`balance` is realized: open P&L is in no field of the gateway."""

    account_id: int
    name: str
    balance: Decimal
    can_trade: bool
    ts_recv_ns: int
    simulated: bool | None = None

    def __post_init__(self) -> None:
        _finite(balance=self.balance)


class PositionReport(msgspec.Struct, frozen=True, kw_only=True, tag="position_report"):
    """Attributes: net_qty: signed contracts, long positive; 0 says the position was closed."""

    account_id: int
    contract_id: str
    net_qty: int
    avg_px: Decimal
    ts_event_ns: int
    ts_recv_ns: int

    def __post_init__(self) -> None:
        _finite(avg_px=self.avg_px)


class OrderReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="order_report"):
    """One order as the broker sees it.

    Attributes:
        custom_tag: Our client order id when we sent it; bracket children carry a tag of the gateway.
        trail_distance: Of a trailing stop, in price units; only searches tell it.
        parent_order_id: The entry this bracket child belongs to, where the gateway tells.
    """

    account_id: int
    broker_order_id: int
    contract_id: str
    status: OrderStatus
    order_type: OrderType | None
    side: Side
    order_qty: int
    cum_qty: int
    ts_event_ns: int
    ts_recv_ns: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_distance: Decimal | None = None
    avg_px: Decimal | None = None
    custom_tag: str | None = None
    parent_order_id: int | None = None
    linked_order_id: int | None = None

    def __post_init__(self) -> None:
        _finite(limit_price=self.limit_price, stop_price=self.stop_price, avg_px=self.avg_px)


class FillReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="fill_report"):
    """One execution ("half turn"), keyed by `fill_id`: duplicates and disorder are harmless.

    Attributes:
        realized_pnl: What the broker booked for a closing fill, gross of fees; None on an opening one.
    """

    account_id: int
    fill_id: int
    broker_order_id: int
    contract_id: str
    side: Side
    last_qty: int
    last_px: Decimal
    fees: Decimal
    ts_event_ns: int
    ts_recv_ns: int
    realized_pnl: Decimal | None = None
    voided: bool = False

    def __post_init__(self) -> None:
        _finite(last_px=self.last_px, fees=self.fees, realized_pnl=self.realized_pnl)
        if self.last_qty <= 0:
            raise ValueError(f"last_qty is {self.last_qty}")
        if self.ts_event_ns < 0:  # it would count as settled long ago, for ever
            raise ValueError(f"ts_event_ns is {self.ts_event_ns}")


class SnapshotBegun(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot_begun"):
    """What follows until `SnapshotTaken` is a complete picture; what it lacks is gone at the broker."""

    account_id: int
    ts_recv_ns: int


class SnapshotTaken(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot_taken"):
    account_id: int
    positions: int
    working_orders: int
    ts_recv_ns: int


class SyncState(msgspec.Struct, frozen=True, kw_only=True, tag="sync_state"):
    """broker_sync's own verdict. Anything but `in_sync` means: do not take new exposure on it."""

    account_id: int
    health: SyncHealth
    reason: str
    ts_recv_ns: int


Report = AccountReport | PositionReport | OrderReport | FillReport | SnapshotBegun | SnapshotTaken | SyncState
