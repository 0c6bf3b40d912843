"""Which contract month a symbol means: the front month, by rule.

The rule: among the contracts of exactly this symbol that the broker calls active, the nearest month whose
roll date has not come. The roll date is the trading date of the Monday before the third Friday of the
contract month, the customary roll of equity index futures since June 2022; it begins with the session
that opens the Sunday evening before. Other products are judged by the same date; it only matters where the
broker calls several months active, because only an active month accepts orders.

The broker's search is wide (a search for MES lists other products), so the first result is never taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta

from shared.domain.calendar import open_of_date
from shared.domain.instrument import MONTH_CODES, Instrument

_MONTH = re.compile(r"([FGHJKMNQUVXZ])(\d{2})$")
OFFERED_MAX = 8


class NoFrontMonth(LookupError):
    """The broker offers no active contract of a symbol.

    Attributes:
        offered: Contract names it offers instead.
    """

    def __init__(self, symbol: str, offered: Sequence[str]) -> None:
        super().__init__(symbol, offered)
        self.symbol, self.offered = symbol, tuple(offered)

    def __str__(self) -> str:
        names = ", ".join(self.offered[:OFFERED_MAX]) or "nothing"
        return (
            f"the broker has no active contract of {self.symbol!r}; it offers {names}. "
            "Correct julie.symbols, or the subscription of the account"
        )


def contract_month(instrument: Instrument) -> date | None:
    """Return the first day of the contract month, None when the id does not tell.

    The id's last part (`H25`) is used because the name has a one-digit year only. Its grammar is seen and
    not documented, so a month that cannot be read is unknown, not an error.
    """
    found = _MONTH.search(instrument.contract_id)
    if found is None:
        return None
    return date(2000 + int(found[2]), MONTH_CODES.index(found[1]) + 1, 1)


def third_friday(month: date) -> date:
    first = month.replace(day=1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


def roll_date(instrument: Instrument) -> date | None:
    """Return the trading date from which the next month leads, None when the month is unknown."""
    month = contract_month(instrument)
    return None if month is None else third_friday(month) - timedelta(days=4)


def roll_at_ns(instrument: Instrument) -> int | None:
    """Return the open of the session with which the next month leads, None when unknown."""
    day = roll_date(instrument)
    return None if day is None else open_of_date(instrument.symbol, day)


def choose(symbol: str, found: Sequence[Instrument], trading_date: date | None) -> Instrument:
    """Return the front month of `symbol` among what the broker's search found.

    Args:
        found: Anything; other products and inactive months are passed over.
        trading_date: Today's, None when the calendar does not know (then the nearest month is taken).

    Raises:
        NoFrontMonth: If none of exactly this symbol is active.
    """
    active = [i for i in found if i.symbol == symbol and i.active]
    if not active:
        raise NoFrontMonth(symbol, sorted({_described(i) for i in found}))
    ordered = sorted(active, key=lambda i: (contract_month(i) or date.max, i.contract_id))
    for instrument in ordered:
        rolls = roll_date(instrument)
        if trading_date is None or rolls is None or trading_date < rolls:
            return instrument
    return ordered[-1]  # past its roll, but all the broker lets us trade


def _described(instrument: Instrument) -> str:
    state = "" if instrument.active else ", not active"
    return f"{instrument.contract_name} ({instrument.symbol}{state})"
