"""When an account is flat, and what to do until it is: the rule of `julie panic`. No I/O.

Rounds of a look, then cancels and closes of everything that was seen. Nothing is concluded from an answer:
closing leaves resting stops alive, a stop can fill beside the close, a reply can be lost. Flat is what two
looks say with explicit empty answers, some time apart. A question that failed says nothing: what was seen
last is acted on again, which is harmless when it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

NS_PER_S = 1_000_000_000

CONFIRM_AFTER_S = 1.5
"""Between the two empty looks: longer than execution takes to see the halt file, and a late fill to show."""
ROUND_S = (0.4, 0.6, 1.0, 1.5, 2.0)
"""Pauses between looks; the last one repeats: a minute takes about 70 questions of the broker's 200."""


class Look(NamedTuple):
    """One fresh look at an account; None where the question failed.

    Attributes:
        positions: Contract -> signed contracts.
        orders: Broker id of every order that may still execute -> words for a person.
        open_orders: The same from another endpoint, which does not show bracket children that wait.
    """

    mono_ns: int
    positions: Mapping[str, int] | None
    orders: Mapping[int, str] | None
    open_orders: Mapping[int, str] | None = None


class Round(NamedTuple):
    """What to do now.

    Attributes:
        wait_s: Before the next look.
        flat: Seen flat twice: it is over.
    """

    cancels: list[int]
    closes: list[str]
    wait_s: float
    flat: bool = False


@dataclass
class Account:
    """What is known of one account; what was seen last stands until a look says otherwise."""

    positions: Mapping[str, int] = field(default_factory=dict)
    orders: Mapping[int, str] = field(default_factory=dict)
    positions_known: bool = False
    orders_known: bool = False
    empty_since_ns: int | None = None
    rounds: int = 0

    def left(self) -> str:
        """Return in words what is left, or that nobody knows."""
        parts = [f"position {qty:+d} {contract}" for contract, qty in sorted(self.positions.items())]
        parts += [f"order {number} ({words})" for number, words in sorted(self.orders.items())]
        if not self.positions_known:
            parts.append("positions are unknown: the last question failed")
        if not self.orders_known:
            parts.append("working orders are unknown: the last question failed")
        return "; ".join(parts) or "nothing that is known"


def decide(account: Account, look: Look) -> Round:
    """Take one look and return the next round."""
    account.rounds += 1
    if look.positions is not None:
        account.positions = {contract: qty for contract, qty in look.positions.items() if qty}
    if look.orders is not None:
        account.orders = dict(look.orders)
    elif look.open_orders is not None:
        account.orders = {**account.orders, **look.open_orders}
    account.positions_known = look.positions is not None
    account.orders_known = look.orders is not None
    known = account.positions_known and account.orders_known
    if known and not account.positions and not account.orders:
        if account.empty_since_ns is None:
            account.empty_since_ns = look.mono_ns
        left_s = CONFIRM_AFTER_S - (look.mono_ns - account.empty_since_ns) / NS_PER_S
        return Round([], [], max(0.0, left_s), flat=left_s <= 0)
    account.empty_since_ns = None
    pause_s = ROUND_S[min(account.rounds, len(ROUND_S)) - 1]
    return Round(sorted(account.orders), sorted(account.positions), pause_s)
