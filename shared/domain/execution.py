"""What execution says on `orders:{acct}`: every step of every order's life, in its own words.

`OrderDenied` is ours (risk refused before sending), `OrderRejected` is the broker's.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from shared.domain.control import HaltKind, TradingState
from shared.domain.order import OrderStatus, OrderType, Side


class OrderDenied(msgspec.Struct, frozen=True, kw_only=True, tag="order_denied"):
    """Risk refused.

    Attributes:
        code: Short stable reason, such as `position_max`; `shared.domain.denials` lists all.
        numbers: The figures that led to it.
    """

    client_order_id: str
    strategy_id: str
    symbol: str
    code: str
    numbers: dict[str, str]
    cause: str
    ts_ns: int


class OrderClaimed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="order_claimed"):
    """Written to the ledger; from now on this id is never claimed again. The POST follows.

    Attributes:
        numbers: What risk approved it on: the reference, the position, what else works.
    """

    client_order_id: str
    strategy_id: str
    symbol: str
    contract_id: str
    side: Side
    order_qty: int
    order_type: OrderType
    cause: str
    ts_ns: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    stop_loss_ticks: int | None = None
    take_profit_ticks: int | None = None
    trail_ticks: int | None = None
    reduce_only: bool = False
    numbers: dict[str, str] = {}


class OrderUpdated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="order_updated"):
    """The order has a new status (accepted, rejected, unknown, canceled ...).

    Attributes:
        role: `entry`, `stop_loss`, `take_profit` or `exit`.
        parent_client_order_id: The entry a protective child belongs to.
    """

    client_order_id: str
    strategy_id: str
    symbol: str
    status: OrderStatus
    reason: str
    ts_ns: int
    side: Side
    order_qty: int
    cum_qty: int = 0
    broker_order_id: int | None = None
    role: str = "entry"
    parent_client_order_id: str | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_ticks: int | None = None


class OrderFilled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="order_filled"):
    """One fill, counted once.

    Attributes:
        strategy_net_qty: The strategy's own position in the symbol after this fill.
        realized_pnl: Gross result of the closing part, from our own fills; fees are apart.
    """

    client_order_id: str
    strategy_id: str
    symbol: str
    fill_id: int
    side: Side
    last_qty: int
    last_px: Decimal
    cum_qty: int
    leaves_qty: int
    fees: Decimal
    realized_pnl: Decimal
    strategy_net_qty: int
    strategy_avg_px: Decimal
    ts_event_ns: int
    ts_ns: int
    role: str = "entry"


class IntentExpired(msgspec.Struct, frozen=True, kw_only=True, tag="intent_expired"):
    """Too late to be sent: recorded, never sent."""

    client_order_id: str
    strategy_id: str
    symbol: str
    expires_at_ns: int
    ts_ns: int


class TradingStateChanged(msgspec.Struct, frozen=True, kw_only=True, tag="trading_state"):
    """Where trading stands.

    Attributes:
        halts: Kind -> reason of everything that still holds trading.
        latched: Strategy -> why it may take no new exposure until a person arms it again.
    """

    state: TradingState
    halts: dict[HaltKind, str]
    ts_ns: int
    latched: dict[str, str] = {}


class ExternalOrderSeen(msgspec.Struct, frozen=True, kw_only=True, tag="external_order"):
    """The broker holds an order that is not ours: placed by hand or by another program."""

    broker_order_id: int
    contract_id: str
    ts_ns: int


class PositionMismatch(msgspec.Struct, frozen=True, kw_only=True, tag="position_mismatch"):
    """Our fills and the broker's position disagree and nothing in flight explains it."""

    contract_id: str
    from_fills: int
    at_broker: int
    ts_ns: int


class FlattenProgressed(msgspec.Struct, frozen=True, kw_only=True, tag="flatten_progress"):
    """One round of a flatten was sent.

    Attributes:
        cancels: Orders that a cancel was sent for.
        closes: Contracts that a close was sent for.
    """

    round: int
    cancels: int
    closes: int
    ts_ns: int


class FlattenFinished(msgspec.Struct, frozen=True, kw_only=True, tag="flatten_finished"):
    """Attributes: flat: seen at the broker: no position, no working order. False: a person must look."""

    flat: bool
    rounds: int
    reason: str
    ts_ns: int


OrderMessage = (
    OrderDenied
    | OrderClaimed
    | OrderUpdated
    | OrderFilled
    | IntentExpired
    | TradingStateChanged
    | ExternalOrderSeen
    | PositionMismatch
    | FlattenProgressed
    | FlattenFinished
)
