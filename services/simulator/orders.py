"""What the venue knows of accounts, orders, positions and fills.

Prices are whole ticks (`int`) everywhere inside the venue: matching is exact and
needs no rounding; only what leaves the venue is a price. The structs are mutable
and have one owner, `core.State`; what leaves `decide` is a copy.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from shared.broker.projectx.enums import OrderSide, OrderStatus, OrderType

WORKING = frozenset({OrderStatus.OPEN, OrderStatus.PENDING})


class Bracket(msgspec.Struct, frozen=True, kw_only=True):
    """A stop or target that travels with an entry.

    Attributes:
        ticks: Signed distance from the entry's fill: a long's stop is negative.
        type: Order type of the child.
    """

    ticks: int
    type: OrderType


class Fate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was decided for an order before it came: how the venue will treat it unlike others.

    Attributes:
        tag_window_ns: Its tag need only differ from those used so recently; None: from all.
        part_qty: Most contracts filled at a time; None: no limit.
        part_gap_ns: Venue time between two parts.
        held: It stays pending until the exchange answers.
        rejected_legs: Bracket legs that the exchange will reject: of "SL" and "TP".
    """

    tag_window_ns: int | None = None
    part_qty: int | None = None
    part_gap_ns: int = 0
    held: bool = False
    rejected_legs: tuple[str, ...] = ()


ORDINARY = Fate()


class Order(msgspec.Struct, kw_only=True):
    """One order, from placing to its end.

    Attributes:
        limit_ticks: Limit price, or None where the type has none.
        stop_ticks: Present trigger price; a trailing stop moves it.
        trail_ticks: Fixed trailing distance of a trailing stop.
        fill_ticks: Sum over fills of price times quantity, in ticks.
        resting: It has been on the book since before the present event, so it
            is filled at its own price and in its turn.
        queue_ahead: Contracts in front of it at its price; None while its price
            has not been the touch yet, so nobody knows.
        triggered: A stop that has become a market order.
        reason: Why the venue refused it.
        next_part_ns: When it may be filled on, if it is filled in parts.
    """

    id: int
    account_id: int
    contract_id: str
    created_ns: int
    updated_ns: int
    status: OrderStatus
    type: OrderType
    side: OrderSide
    size: int
    limit_ticks: int | None = None
    stop_ticks: int | None = None
    trail_ticks: int | None = None
    fill_volume: int = 0
    fill_ticks: int = 0
    custom_tag: str | None = None
    parent_id: int | None = None
    linked_id: int | None = None
    stop_loss: Bracket | None = None
    take_profit: Bracket | None = None
    resting: bool = False
    queue_ahead: int | None = None
    triggered: bool = False
    reason: str | None = None
    fate: Fate = ORDINARY
    next_part_ns: int = 0

    @property
    def leaves(self) -> int:
        return self.size - self.fill_volume

    @property
    def is_buy(self) -> bool:
        return self.side is OrderSide.BID

    @property
    def avg_ticks(self) -> Decimal | None:
        """Average fill price in ticks, or None before the first fill."""
        return Decimal(self.fill_ticks) / self.fill_volume if self.fill_volume else None


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One half turn: a fill, or the part of it that closes or opens a position.

    Attributes:
        profit_and_loss: USD, gross of fees; None on an opening fill.
        fees: USD for this half turn.
    """

    id: int
    account_id: int
    contract_id: str
    created_ns: int
    price_ticks: int
    side: OrderSide
    size: int
    profit_and_loss: Decimal | None
    fees: Decimal
    order_id: int


class Position(msgspec.Struct, kw_only=True):
    """Attributes:
    net_qty: Signed contracts, long positive; zero in the report of its end.
    avg_ticks: Average entry price in ticks, kept to nine decimals.
    was_long: Side it has, or had when it was closed.
    """

    id: int
    account_id: int
    contract_id: str
    created_ns: int
    net_qty: int
    avg_ticks: Decimal
    was_long: bool


class Account(msgspec.Struct, kw_only=True):
    """Attributes:
    balance: Realized USD, fees deducted.
    auto_oco: Order-level brackets are accepted ("Auto OCO Brackets"); False is
        the platform's default, "Position Brackets", which refuses them.
    """

    id: int
    name: str
    balance: Decimal
    can_trade: bool = True
    is_visible: bool = True
    simulated: bool = True
    auto_oco: bool = True
