"""The firm's rules as arithmetic: figures in, what is broken and how far away the limits are. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from services.guard.record import Record, Rule

MICROS = frozenset({"MES", "MNQ", "M2K", "MYM", "MCL", "MGC", "MNG", "MBT", "MET", "M6A", "M6B", "M6E"})
"""Ten of these count as one contract."""
MICRO = Decimal("0.1")


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """From this profit on, so many contracts (ten micros are one)."""

    profit: Decimal
    contracts: Decimal


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Of one account; None: the firm has no such rule. Money in the account's currency.

    Attributes:
        start_balance: None: the first balance that is seen.
        trailing_eod: The floor follows the highest end-of-day balance; False: it stays where it began.
        floor_stops_at_start: It rises no further than the starting balance.
        scaling: By the profit at the last end of day, lowest first; empty for no rule.
    """

    profile: str
    start_balance: Decimal | None = None
    max_loss: Decimal | None = None
    trailing_eod: bool = True
    floor_stops_at_start: bool = True
    daily_loss: Decimal | None = None
    scaling: tuple[Scale, ...] = ()

    @property
    def any_rule(self) -> bool:
        return self.need_prices or bool(self.scaling)

    @property
    def need_prices(self) -> bool:
        return self.max_loss is not None or self.daily_loss is not None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Where the account stands.

    Attributes:
        balance: Realized, with fees.
        open_pnl: None: unknown. 0 when flat.
        day_realized: Of the trading day's fills, fees taken off.
        contracts: Held, ten micros as one. None: nobody has said yet what is held.
    """

    balance: Decimal
    open_pnl: Decimal | None
    day_realized: Decimal
    contracts: Decimal | None

    @property
    def equity(self) -> Decimal | None:
        return None if self.open_pnl is None else self.balance + self.open_pnl

    @property
    def day_pnl(self) -> Decimal | None:
        return None if self.open_pnl is None else self.day_realized + self.open_pnl


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    rule: Rule
    reason: str


def floor(rules: Rules, record: Record) -> Decimal | None:
    """Return the equity at which the maximum loss is reached; it moves at the end of a day only."""
    if rules.max_loss is None:
        return None
    high = record.high_balance if rules.trailing_eod else record.start_balance
    level = high - rules.max_loss
    return min(level, record.start_balance) if rules.floor_stops_at_start else level


def contracts_allowed(rules: Rules, record: Record) -> Decimal | None:
    """Return how many contracts the profit of the last end of day allows."""
    if not rules.scaling:
        return None
    profit = record.eod_balance - record.start_balance
    steps = [step.contracts for step in rules.scaling if profit >= step.profit]
    return steps[-1] if steps else rules.scaling[0].contracts


def left(figures: Figures, rules: Rules, record: Record) -> dict[Rule, Decimal]:
    """Return how far each limit is away, where both are known: money, or contracts; 0 and below: broken."""
    found: dict[Rule, Decimal] = {}
    level, allowed = floor(rules, record), contracts_allowed(rules, record)
    if level is not None and figures.equity is not None:
        found[Rule.MAX_LOSS] = figures.equity - level
    if rules.daily_loss is not None and figures.day_pnl is not None:
        found[Rule.DAILY_LOSS] = figures.day_pnl + rules.daily_loss
    if allowed is not None and figures.contracts is not None:
        found[Rule.CONTRACTS] = allowed - figures.contracts
    return found


def broken(figures: Figures, rules: Rules, record: Record) -> list[Broken]:
    """Return every broken rule, the most serious first. What is unknown breaks nothing here."""
    away = left(figures, rules, record)
    found = []
    if (room := away.get(Rule.MAX_LOSS)) is not None and room <= 0:
        found.append(
            Broken(
                rule=Rule.MAX_LOSS,
                reason=f"maximum loss: equity {figures.equity:.2f} (balance {figures.balance:.2f}, open "
                f"{figures.open_pnl:.2f}) is at or below the floor {floor(rules, record):.2f}",
            )
        )
    if (room := away.get(Rule.DAILY_LOSS)) is not None and room <= 0:
        found.append(
            Broken(
                rule=Rule.DAILY_LOSS,
                reason=f"daily loss: {figures.day_pnl:.2f} (realized {figures.day_realized:.2f}, open "
                f"{figures.open_pnl:.2f}), the limit is {rules.daily_loss:.2f}",
            )
        )
    if (room := away.get(Rule.CONTRACTS)) is not None and room < 0:
        assert figures.contracts is not None
        found.append(
            Broken(
                rule=Rule.CONTRACTS,
                reason=f"contracts: {figures.contracts.normalize():f} held, "
                f"{contracts_allowed(rules, record):f} allowed",
            )
        )
    return found


def near(figures: Figures, rules: Rules, record: Record, share: Decimal) -> bool:
    """Is less than `share` of a loss limit left?"""
    away = left(figures, rules, record)
    limits = {Rule.MAX_LOSS: rules.max_loss, Rule.DAILY_LOSS: rules.daily_loss}
    return any(
        limit is not None and rule in away and away[rule] <= limit * share for rule, limit in limits.items()
    )


def contracts_of(held: Iterable[tuple[str | None, int]]) -> Decimal | None:
    """Return contracts held over all symbols; None when something is held whose symbol nobody knows."""
    total = Decimal(0)
    for symbol, qty in held:
        if symbol is None and qty:
            return None
        total += abs(qty) * (MICRO if symbol in MICROS else Decimal(1))
    return total
