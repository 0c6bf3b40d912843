"""One complete read of an account over REST, as one moment as far as that can be had.

The gateway offers no snapshot: accounts, positions, orders and fills are separate questions, and a fill may
fall between two of them. So the positions are read before and after the rest, and when they differ the rest
is read again. Any question without an answer makes the whole read fail: half a picture would be a lie.
"""

from __future__ import annotations

from services.broker_sync.picture import Picture, missing_orders
from shared.broker.port import AccountPort
from shared.domain.report import AccountReport, FillReport, OrderReport, PositionReport

READS_MAX = 3
"""In a market this busy the newest read is taken as it is; the pushes carry on from there."""
LOOKUPS_MAX = 50
"""Orders asked for one by one in one read; the others wait for the next."""


class Reading:
    """What one read brought; the arguments of `core.Gathered`."""

    def __init__(self) -> None:
        self.accounts: list[AccountReport] = []
        self.positions: list[PositionReport] = []
        self.orders: dict[int, list[OrderReport]] = {}
        self.fills: list[FillReport] = []
        self.looked_up: dict[int, OrderReport | None] = {}

    def all_orders(self) -> list[OrderReport]:
        return [row for rows in self.orders.values() for row in rows]


def window_start_ns(picture: Picture, *, venue_now_ns: int, history_ns: int, margin_ns: int) -> int:
    """Return from when on orders and fills are read: shortly before the last fill the last read knew.

    A fill that was pushed since proves nothing of what happened before it: after an outage it may be the
    newest of several, and the only one that we heard of.

    Times are the venue's. An estimate of its clock that lags only makes the window longer.
    """
    first_ns = venue_now_ns - history_ns
    if picture.read_fill_ns is None:
        return first_ns
    return min(picture.read_fill_ns, venue_now_ns) - margin_ns


async def gather(
    port: AccountPort, account_id: int, picture: Picture, *, now_ns: int, history_ns: int, margin_ns: int
) -> Reading:
    """Read everything.

    Args:
        now_ns: Our wall clock, for as long as the broker has not told its own.

    Raises:
        BrokerQueryFailed: One question got no usable answer; nothing is known then.
        LimiterUnavailable: The request budget could not be asked.
    """
    reading = Reading()
    reading.accounts = await port.accounts(only_active=False)
    if all(account.account_id != account_id for account in reading.accounts):
        return reading
    start_ns = window_start_ns(
        picture, venue_now_ns=port.venue_now_ns() or now_ns, history_ns=history_ns, margin_ns=margin_ns
    )
    positions = await port.positions(account_id)
    for _ in range(READS_MAX):
        reading.orders = {}
        for rows in (await port.working_orders(account_id), await port.orders_since(account_id, start_ns)):
            for row in rows:
                reading.orders.setdefault(row.broker_order_id, []).append(row)
        reading.fills = await port.fills_since(account_id, start_ns)
        reading.positions = await port.positions(account_id)
        if _exposure(reading.positions) == _exposure(positions):
            break
        positions = reading.positions
    for order_id in missing_orders(picture, set(reading.orders))[:LOOKUPS_MAX]:
        reading.looked_up[order_id] = await port.order_by_id(account_id, order_id)
    return reading


def _exposure(positions: list[PositionReport]) -> dict[str, tuple[int, str]]:
    return {p.contract_id: (p.net_qty, str(p.avg_px)) for p in positions}
