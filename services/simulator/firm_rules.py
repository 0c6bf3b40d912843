"""A prop firm's rules, apart from the venue that enforces them.

- Flat by: from that time of day in Chicago to the next open at 17:00 the account must have neither positions
  nor orders. New orders are not refused for it.
- Daily loss: equity that far below the balance at the start of the trading day locks the account until the
  next one.
- Maximum loss: the floor starts that far below the first balance, follows the balance at each end of a day,
  only upward, and never rises above the first balance. Equity at or below it locks the account for good.

Equity is balance plus open P&L at the price at which the position could be closed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from services.simulator.contracts import CHICAGO, trading_date

OPEN_S = 17 * 3600


class FirmRules(NamedTuple):
    """Attributes:
    flat_at_s: Chicago seconds of the day; None: no such rule.
    daily_loss, max_loss: USD; None: no such rule.
    """

    flat_at_s: int | None = None
    daily_loss: Decimal | None = None
    max_loss: Decimal | None = None


class Standing(msgspec.Struct, kw_only=True):
    """How an account stands with the firm; kept over restarts.

    Attributes:
        first_balance: USD when the rules began.
        day: Trading date, and the balance with which it began.
        floor: Equity at which the account is lost; None without that rule.
        locked: Trading date on which it may not trade; empty for none.
        failed: It may never trade again.
    """

    first_balance: Decimal
    day: str
    day_balance: Decimal
    floor: Decimal | None
    locked: str = ""
    failed: bool = False


class Verdict(NamedTuple):
    """Attributes:
    can_trade: Whether the firm lets the account trade.
    why: Why it must be flat now; empty when it need not be.
    """

    can_trade: bool
    why: str


def begin(rules: FirmRules, balance: Decimal, now_ns: int) -> Standing:
    """Return the standing of an account to which the rules are new."""
    floor = None if rules.max_loss is None else balance - rules.max_loss
    day = trading_date(now_ns).isoformat()
    return Standing(first_balance=balance, day=day, day_balance=balance, floor=floor)


def judge(rules: FirmRules, standing: Standing, *, balance: Decimal, equity: Decimal, now_ns: int) -> Verdict:
    """Bring `standing` up to date and return what follows from it."""
    day = trading_date(now_ns).isoformat()
    if day != standing.day:
        standing.day, standing.day_balance = day, balance
        if rules.max_loss is not None and standing.floor is not None:
            risen = max(standing.floor, balance - rules.max_loss)
            standing.floor = min(risen, standing.first_balance)
    if standing.floor is not None and equity <= standing.floor:
        standing.failed = True
    if rules.daily_loss is not None and equity <= standing.day_balance - rules.daily_loss:
        standing.locked = day
    if standing.failed:
        return Verdict(False, "maximum loss")
    if standing.locked == day:
        return Verdict(False, "daily loss")
    return Verdict(True, "flat by" if _must_be_flat(rules, now_ns) else "")


def _must_be_flat(rules: FirmRules, now_ns: int) -> bool:
    if rules.flat_at_s is None:
        return False
    local = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).astimezone(CHICAGO)
    return rules.flat_at_s <= local.hour * 3600 + local.minute * 60 + local.second < OPEN_S
