"""What the checkers have in common: the judge, the world, and what they note of intents and orders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.domain.order import Intent

if TYPE_CHECKING:
    from proof.simulation.judge import Judge


@dataclass(slots=True)
class Wish:
    """One intent that the bus acknowledged."""

    intent: Intent
    entry_id: bytes


@dataclass(slots=True)
class Sent:
    """One order that left for the broker.

    Attributes:
        posts: When, true time.
        arrives: May still come to the broker.
        late: Landed after its quarantine was over.
        protective: Execution sent it by itself, to protect or end a position.
    """

    tag: str
    buys: bool
    qty: int
    posts: list[int] = field(default_factory=list)
    arrives: bool = True
    late: bool = False
    protective: bool = False


class Checker:
    """Looks at one kind of event."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.world = judge.world
        self.check = judge.check
        self.reach = judge.reach
