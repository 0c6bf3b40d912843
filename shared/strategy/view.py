"""What a strategy can look at: its markets, positions and orders, as the events so far have told them.

Everything here is plain data, so that a snapshot of it is one encode and a restart one decode.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from shared.domain.control import TradingState
from shared.domain.market import Bar, FeedHealth, Quote
from shared.domain.order import OrderStatus, Side

ENTRY_ROLES = frozenset({"entry"})


class Ticks(msgspec.Struct, frozen=True):
    """A distance in ticks, made by `Strategy.ticks`: never confused with a price.

    Attributes:
        distance: The same in price units; 0.0 while the contract is not known yet.
    """

    count: int
    distance: float


class Order(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One order of this strategy, or a protective child of one.

    Attributes:
        role: `entry`, `stop_loss`, `take_profit` or `exit`.
        cum_qty: Contracts filled as execution told in its newest status.
        filled_qty: Contracts whose fills have arrived here; what `position` contains.
        claimed: Execution has taken it on: a later refusal speaks of a change of it, not of the order.
        ts_sent_ns: Receive time of the event that led to it; 0 for an order not asked for here.
        ts_cancel_ns: Receive time of the event that led to the newest cancel.
    """

    client_order_id: str
    symbol: str
    side: Side
    order_qty: int
    status: OrderStatus = OrderStatus.PENDING_NEW
    role: str = "entry"
    cum_qty: int = 0
    filled_qty: int = 0
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_ticks: int | None = None
    reason: str = ""
    claimed: bool = False
    ts_sent_ns: int = 0
    ts_cancel_ns: int = 0

    @property
    def leaves_qty(self) -> int:
        return self.order_qty - max(self.cum_qty, self.filled_qty)

    @property
    def settled(self) -> bool:
        """Will nothing more come of it? A status may overtake the fills it speaks of."""
        if not self.status.is_terminal:
            return False
        expected = self.order_qty if self.status is OrderStatus.FILLED else self.cum_qty
        return self.filled_qty >= expected


class Market(msgspec.Struct, kw_only=True):
    """One symbol as the events so far have told it, with the strategy's own position in it.

    Attributes:
        position: Signed contracts, long positive; this strategy's own, not the account's.
        avg_px: Entry price of the open position, 0 when flat.
        quote: The last one; None before the first.
        bars: The last ones of the strategy's interval, oldest first.
        ts_health_ns: Our clock when the feed said so.
        gapped: Entries were lost; health counts as unknown until the feed says it again.
    """

    symbol: str
    contract_id: str = ""
    tick_size: Decimal | None = None
    tick_value: Decimal | None = None
    health: FeedHealth = FeedHealth.UNKNOWN
    ts_health_ns: int = 0
    gapped: bool = False
    quote: Quote | None = None
    bars: list[Bar] = []
    position: int = 0
    avg_px: Decimal = Decimal(0)

    @property
    def flat(self) -> bool:
        return self.position == 0

    @property
    def live(self) -> bool:
        return self.health is FeedHealth.LIVE and not self.gapped

    def ticks(self, count: int) -> Ticks:
        return Ticks(count, float((self.tick_size or Decimal(0)) * count))


class DeskState(msgspec.Struct, kw_only=True):
    """All that the framework remembers for one strategy instance.

    Attributes:
        now_ns: Market time: the newest venue time seen.
        orders: Own orders that may still fill or whose fills are still to come, by client order id.
        suppressed: Reason -> how many actions were not turned into intents.
        orders_lost: Entries of the order stream were lost while there was something to lose.
        settled: The last orders of which nothing more will come: their status often follows their fill.
    """

    markets: dict[str, Market]
    now_ns: int = 0
    orders: dict[str, Order] = {}
    trading_state: TradingState = TradingState.ACTIVE
    suppressed: dict[str, int] = {}
    orders_lost: bool = False
    settled: dict[str, Order] = {}
