"""One strategy's fills in one contract, and the position and money they make.

Fills arrive late, twice and in any order. They are kept as a set in the order of the venue's time, and the
position is their fold: whatever the order of arrival, the same fills make the same position. The oldest are
folded for good after a while; see `settling`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from decimal import Decimal
from typing import NamedTuple

from services.execution.records import FillRecord
from shared.domain.position import ZERO, Position, apply_fill

NS_PER_DAY = 86_400_000_000_000
NS_PER_H = 3_600_000_000_000


def trading_day(ts_ns: int, starts_at_utc_h: int) -> int:
    """Return the number of the trading day that holds `ts_ns`."""
    return (ts_ns - starts_at_utc_h * NS_PER_H) // NS_PER_DAY


class SettledChanged(RuntimeError):
    """There is news of what has left memory. The next start reads all of it again, and then the news."""


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
        self._mark = self._rested = self._settled = _NO_KEY
        self._base: tuple[Position, dict[str, Lot], dict[int, Decimal]] = (Position(), {}, {})
        self._base_newest_ns: dict[str, int] = {}

    @property
    def newest_ns(self) -> int:
        """The venue's time of the newest fill, 0 without one."""
        return self._fills[-1].ts_event_ns if self._fills else max(0, self._settled[0])

    def newest_of_ns(self, name: str) -> int | None:
        """Return the venue's time of the newest fill of an order whose lot is open, None without one."""
        newest = (one.ts_event_ns for one in reversed(self._fills) if one.client_order_id == name)
        return next(newest, self._base_newest_ns.get(name))

    def open_before(self, ts_ns: int) -> int:
        """Return the open contracts of orders whose first fill was not after `ts_ns`, the venue's time.

        What happened then can have closed no others.
        """
        first_ns: dict[str, int] = dict(self._base_newest_ns)  # when the first was, is folded away
        for fill in self._fills:
            first_ns.setdefault(_lot_of(fill), fill.ts_event_ns)
        return sum(lot.qty for name, lot in self.lots.items() if first_ns.get(name, 0) <= ts_ns)

    def mark(self) -> None:
        """What was here at the last mark has rested; what is here now will have at the next."""
        self._rested = self._mark
        self._mark = _key(self._fills[-1]) if self._fills else self._settled

    def settle(self, most: int) -> list[FillRecord]:
        """Fold for good the oldest of what has rested, and return it; the book forgets these fills."""
        upto = min(most, bisect_right(self._fills, self._rested, key=_key))
        settled = self._fills[:upto]
        if settled:
            self._begin_at_base()
            for fill in settled:
                self._fold(fill)
            self._base = self.position, dict(self.lots), dict(self.pnl_of_day)
            newest_ns = self._base_newest_ns | {one.client_order_id: one.ts_event_ns for one in settled}
            self._base_newest_ns = {name: newest_ns[name] for name in self.lots if name in newest_ns}
            self._settled = _key(settled[-1])
            del self._fills[:upto]
            self._fold_all()
        return settled

    def add(self, fill: FillRecord) -> Decimal:
        """Take one fill that is not in the book; return what it realized, gross.

        Raises:
            SettledChanged: It belongs before what has been folded for good.
        """
        self._check_unsettled(fill)
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
        """Take out a fill that turned out to be another's, changed or void.

        Raises:
            SettledChanged: It has been folded for good.
        """
        self._check_unsettled(fill)
        at = bisect_left(self._fills, _key(fill), key=_key)
        assert self._fills[at] == fill, f"fill {fill.fill_id} is not in this book"
        del self._fills[at]
        self._fold_all()

    def _check_unsettled(self, fill: FillRecord) -> None:
        if _key(fill) <= self._settled:
            raise SettledChanged(f"fill {fill.fill_id} of {fill.client_order_id or fill.broker_order_id}")

    def _begin_at_base(self) -> None:
        self.position, lots, pnl_of_day = self._base
        self.lots, self.pnl_of_day = dict(lots), dict(pnl_of_day)

    def _fold_all(self) -> None:
        self._begin_at_base()
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
            name = _lot_of(fill)
            qty, px = self.lots.get(name, Lot(0, ZERO))
            self.lots[name] = Lot(qty + rest, (qty * px + rest * fill.px) / (qty + rest))


_Key = tuple[int, int, int]
_NO_KEY: _Key = (-1, 0, 0)


def _lot_of(fill: FillRecord) -> str:
    return fill.client_order_id or f"#{fill.broker_order_id}"


def _key(fill: FillRecord) -> _Key:
    return fill.ts_event_ns, fill.fill_id, fill.part
