"""Faults as small seeded actions. Each row of the matrix has at least one."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proof.invariants import FAULTS

if TYPE_CHECKING:
    from proof.chaos.world import World

Do = Callable[["World", random.Random], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Action:
    """Attributes:
    row: Of the fault matrix.
    uses: What it needs for itself; two actions that use the same do not run together.
    """

    name: str
    row: str
    uses: frozenset[str]
    do: Do


ALONE = "everything"
"""What an action uses whose effect is timed: nothing else is done meanwhile."""

ACTIONS: dict[str, Action] = {}


def action(row: str, *uses: str) -> Callable[[Do], Do]:
    """Register an action under its function's name."""
    assert row in FAULTS, row

    def register(do: Do) -> Do:
        name = do.__name__
        assert name not in ACTIONS, name
        ACTIONS[name] = Action(name, row, frozenset(uses), do)
        return do

    return register
