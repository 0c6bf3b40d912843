"""The rules of known prop firms, as of their public pages in 2026. Check them against the firm's dashboard.

Combine: the most contracts do not depend on the profit. XFA (funded): the balance begins at a displayed 0 and
the contracts grow with it, by the balance at the last end of day. New accounts of TopstepX have no daily loss
limit of the firm's any more; the figures here are those of accounts that have one.
"""

from __future__ import annotations

from decimal import Decimal

from services.guard.rules import Rules, Scale


def _steps(*steps: tuple[int, int]) -> tuple[Scale, ...]:
    return tuple(Scale(profit=Decimal(profit), contracts=Decimal(contracts)) for profit, contracts in steps)


def _combine(name: str, start: int, max_loss: int, daily_loss: int, contracts: int) -> Rules:
    return Rules(
        profile=name,
        start_balance=Decimal(start),
        max_loss=Decimal(max_loss),
        daily_loss=Decimal(daily_loss),
        scaling=_steps((0, contracts)),
    )


def _funded(name: str, max_loss: int, daily_loss: int, *steps: tuple[int, int]) -> Rules:
    return Rules(
        profile=name,
        start_balance=Decimal(0),
        max_loss=Decimal(max_loss),
        daily_loss=Decimal(daily_loss),
        scaling=_steps(*steps),
    )


NONE = "none"

PROFILES: dict[str, Rules] = {
    rules.profile: rules
    for rules in (
        Rules(profile=NONE),
        _combine("topstep_50k", 50_000, 2_000, 1_000, 5),
        _combine("topstep_100k", 100_000, 3_000, 2_000, 10),
        _combine("topstep_150k", 150_000, 4_500, 3_000, 15),
        _funded("topstep_xfa_50k", 2_000, 1_000, (0, 2), (1_500, 3), (2_000, 5)),
        _funded("topstep_xfa_100k", 3_000, 2_000, (0, 3), (1_500, 4), (2_000, 5), (3_000, 10)),
        _funded("topstep_xfa_150k", 4_500, 3_000, (0, 3), (1_500, 4), (2_000, 5), (3_000, 10), (4_500, 15)),
    )
}
