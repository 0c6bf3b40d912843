"""One strategy's fills in one contract, and the position and money they make.

Fills arrive late, twice and in any order. They are kept as a set in the order of the venue's time, and the
position is their fold: whatever the order of arrival, the same fills make the same position.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from decimal import Decimal

from services.execution.records import FillRecord
from shared.domain.position import ZERO, Position, apply_fill

NS_PER_DAY = 86_400_000_000_000
NS_PER_H = 3_600_000_000_000


def trading_day(ts_ns: int, starts_at_utc_h: int) -> int:
    """Return the number of the trading day that holds `ts_ns`."""
    return (ts_ns - starts_at_utc_h * NS_PER_H) // NS_PER_DAY


class Book:
    """Fold of a set of fills."""

    def __init__(self, day_starts_at_utc_h: int) -> None:
        self.position = Position()
        self.pnl_of_day: dict[int, Decimal] = {}
        self._day_starts_at_utc_h = day_starts_at_utc_h
        self._fills: list[FillRecord] = []

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
        self.pnl_of_day.clear()
        for fill in self._fills:
            self._fold(fill)

    def _fold(self, fill: FillRecord) -> None:
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


def _key(fill: FillRecord) -> tuple[int, int, int]:
    return fill.ts_event_ns, fill.fill_id, fill.part
