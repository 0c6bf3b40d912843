"""One strategy's fills in one contract, and the position and money they make.

Fills arrive late, twice and in any order. They are kept as a set in the order of the venue's time, and the
position is their fold: whatever the order of arrival, the same fills make the same position.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from decimal import Decimal
from typing import NamedTuple

from services.execution.records import FillRecord
from shared.domain.position import ZERO, Position, apply_fill

NS_PER_DAY = 86_400_000_000_000
NS_PER_H = 3_600_000_000_000


def trading_day(ts_ns: int, starts_at_utc_h: int) -> int:
    """Return the number of the trading day that holds `ts_ns`."""
    return (ts_ns - starts_at_utc_h * NS_PER_H) // NS_PER_DAY


class Lot(NamedTuple):
    """What one order opened and nothing has closed yet. Attributes: px: average price of its opening."""

    qty: int
    px: Decimal


class Book:
    """Fold of a set of fills.

    Attributes:
        lots: Order -> its open part of the position, oldest first. A protective order closes its own entry's
            lot, everything else the oldest; together they are the position.
    """

    def __init__(self, day_starts_at_utc_h: int) -> None:
        self.position = Position()
        self.lots: dict[str, Lot] = {}
        self.pnl_of_day: dict[int, Decimal] = {}
        self._day_starts_at_utc_h = day_starts_at_utc_h
        self._fills: list[FillRecord] = []

    @property
    def newest_ns(self) -> int:
        """The venue's time of the newest fill, 0 without one."""
        return self._fills[-1].ts_event_ns if self._fills else 0

    def newest_of_ns(self, name: str) -> int | None:
        """Return the venue's time of an order's newest fill, None without one."""
        newest = (one.ts_event_ns for one in reversed(self._fills) if one.client_order_id == name)
        return next(newest, None)

    def add(self, fill: FillRecord) -> Decimal:
        """Take one fill that is not in the book; return what it realized, gross."""
        before = self.position.realized_pnl
        newest = not self._fills or _key(self._fills[-1]) <= _key(fill)
        if newest:
            self._fills.append(fill)
            self._fold(fill)
        else:
            insort(self._fills, fill, key=_key)
            self._fold_all()
        return self.position.realized_pnl - before

    def remove(self, fill: FillRecord) -> None:
        """Take out a fill that turned out to be another's, changed or void."""
        at = bisect_left(self._fills, _key(fill), key=_key)
        assert self._fills[at] == fill, f"fill {fill.fill_id} is not in this book"
        del self._fills[at]
        self._fold_all()

    def _fold_all(self) -> None:
        self.position = Position()
        self.lots.clear()
        self.pnl_of_day.clear()
        for fill in self._fills:
            self._fold(fill)

    def _fold(self, fill: FillRecord) -> None:
        self._fold_lots(fill)
        before = self.position.realized_pnl
        self.position = apply_fill(
            self.position,
            side=fill.side,
            qty=fill.qty,
            px=fill.px,
            multiplier=fill.multiplier,
            fees=fill.fees,
        )
        day = trading_day(fill.ts_event_ns, self._day_starts_at_utc_h)
        made = self.position.realized_pnl - before - fill.fees
        self.pnl_of_day[day] = self.pnl_of_day.get(day, ZERO) + made

    def _fold_lots(self, fill: FillRecord) -> None:
        rest = fill.qty
        if self.position.net_qty * fill.side.sign < 0:
            for name in [fill.closes, *self.lots]:
                lot = self.lots.get(name)
                if lot is None or rest == 0:
                    continue
                closed = min(rest, lot.qty)
                rest -= closed
                self.lots[name] = Lot(lot.qty - closed, lot.px)
                if closed == lot.qty:
                    del self.lots[name]
        if rest:
            name = fill.client_order_id or f"#{fill.broker_order_id}"
            qty, px = self.lots.get(name, Lot(0, ZERO))
            self.lots[name] = Lot(qty + rest, (qty * px + rest * fill.px) / (qty + rest))


def _key(fill: FillRecord) -> tuple[int, int, int]:
    return fill.ts_event_ns, fill.fill_id, fill.part
