"""Which faults, how often, how many at once."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from proof.chaos.faults import ACTIONS, ALONE, Action
from proof.chaos.faults import broker as broker
from proof.chaos.faults import clocks as clocks
from proof.chaos.faults import kills as kills
from proof.chaos.faults import network as network
from proof.chaos.faults import operators as operators
from proof.chaos.faults import redis as redis
from proof.chaos.faults import resources as resources
from proof.chaos.installation import KEEP_S
from proof.chaos.processes import until
from proof.chaos.world import World
from proof.invariants import FAULTS
from shared.domain.control import HaltKind, TradingState

BY_THEMSELVES = frozenset({HaltKind.LIVENESS, HaltKind.STARTING, HaltKind.CLOCK})
OPERATOR_S = 4.0
"""How long a person takes to look."""
TRIES = 5
CALM_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Attributes:
    weights: Action -> how often against the others.
    first: Actions that are done before any is drawn, each once; the rows of all of them must be reached.
    states: States that must be reached -> the action that does it.
    pause_s: Between two actions of one lane.
    lanes: How many actions at once.
    every_s: Market seconds between two steps of each strategy.
    load: How many times as fast the market goes as in other plans.
    keep_s: How long archived entries of the market and of journals stay in Redis.
    row: Of the fault matrix, when the plan as a whole is one.
    """

    weights: dict[str, float]
    pause_s: tuple[float, float]
    lanes: int = 1
    first: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    every_s: int = 20
    load: float = 1.0
    keep_s: float = KEEP_S
    row: str = ""
    seconds: float = 120.0

    @property
    def rows(self) -> list[str]:
        """Return the rows of the fault matrix that a run has to reach."""
        rows = {ACTIONS[name].row for name in self.first} | ({self.row} - {""})
        return [row for row in FAULTS if row in rows]


_SHORT = (
    "kill_one", "kill_at_mark", "stay_dead", "kill_redis", "freeze_redis", "partition",
    "lose_answer_of_order", "too_many_requests", "late_landing", "flatten_in_trouble",
)  # fmt: skip
_MARKED = tuple(kills.KILLED_AT.values())
_KILLS = {"kill_many": 20.0, "freeze_one": 1.5, "stay_dead": 1.5, "kill_all": 0.3, "kill_venue": 0.7}
_KILLS |= dict.fromkeys(_MARKED, 0.2)
_STATES = {f"killed at {mark}": name for mark, name in kills.KILLED_AT.items()} | {
    "control run: everysec lost acknowledged writes": "lose_with_everysec",
    "second execution waited for the ledger": "two_executions",
    "overtaken execution stood down": "overtaken_execution",
    "resume repeated while it was fresh": "forged_commands",
}


def plans() -> dict[str, Plan]:
    everything = dict.fromkeys(ACTIONS, 1.0)
    return {
        "short": Plan(
            weights={"kill_one": 6.0, "kill_at_mark": 2.0, "lose_replies": 1.0, "partition": 1.0},
            pause_s=(0.5, 2.0),
            lanes=2,
            first=_SHORT,
            every_s=20,
            seconds=75.0,
        ),
        "kills": Plan(weights=_KILLS, pause_s=(3.5, 5.5), seconds=2100.0),
        "matrix": Plan(
            weights=everything,
            pause_s=(0.5, 3.0),
            lanes=2,
            first=tuple(ACTIONS),
            states=_STATES,
            seconds=3600.0,
        ),
        "soak": Plan(
            weights={"kill_one": 3.0, "partition": 1.0, "reset": 1.0},
            pause_s=(30.0, 90.0),
            every_s=120,  # the peak is the market's; orders have to stay within the budget of requests
            load=2.0,
            keep_s=600.0,
            row="F-32",
            seconds=3600.0,
        ),
    }


class Chaos:
    """Runs a plan against a world."""

    def __init__(self, world: World, plan: Plan, seed: int) -> None:
        self.world, self.plan = world, plan
        self._chance = random.Random(seed)
        self._busy: set[str] = set()
        self._running = 0
        self._queue = list(plan.first)
        self._chance.shuffle(self._queue)

    async def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keep_trading())
            lanes = [
                tasks.create_task(self._lane(deadline, random.Random(self._chance.random())))
                for _ in range(self.plan.lanes)
            ]
            await asyncio.wait(lanes)
            for row in self.missing():
                names = [name for name in self.plan.first if ACTIONS[name].row == row]
                await self._insist(names, partial(self.world.record.faults.__contains__, row))
            for state in self.unreached():
                await self._insist([self.plan.states[state]], partial(self._reached, state))
            keeping.cancel()

    def missing(self) -> list[str]:
        """Return the rows that must be reached by an action and were not."""
        return [row for row in self.plan.rows if row != self.plan.row and row not in self.world.record.faults]

    def unreached(self) -> list[str]:
        """Return the states that must be reached and were not."""
        return [state for state in self.plan.states if not self._reached(state)]

    def _reached(self, state: str) -> bool:
        return self.world.record.reached.get(state, 0) > 0

    async def _insist(self, names: Sequence[str], done: Callable[[], bool]) -> None:
        """Do actions alone, while everything trades, until one of them has its effect."""
        for name in [*names] * TRIES:
            await self.world.in_order()
            await until(lambda: self.world.trading is TradingState.ACTIVE, within_s=CALM_S)
            await self._do(ACTIONS[name], self._chance)
            if done():
                return

    async def _keep_trading(self) -> None:
        """The operator who looks, finds the account in order and resumes; halts stay his to lift."""
        since_s: float | None = None
        while True:
            await asyncio.sleep(1.0)
            halts = self.world.halts
            latched = [kind for kind in halts if kind not in BY_THEMSELVES]
            strategies = self.world.latched
            if not (latched or strategies) or self._busy & {"operator", "redis", "execution"}:
                since_s = None
                continue
            since_s = since_s or time.monotonic()
            if time.monotonic() - since_s > OPERATOR_S:
                for kind in latched:
                    self.world.record.reach(f"{kind} halt: {_words(halts[kind])}")
                self.world.tell("operator resumes", halts={str(kind): halts[kind] for kind in halts})
                for name, why in strategies.items():
                    self.world.record.reach(f"strategy latched off: {why.partition(':')[0]}")
                    await self.world.operator.resume("looked at", strategy_id=name)
                if latched:
                    await self.world.operator.resume("looked at; in order")
                since_s = None

    async def _lane(self, deadline: float, chance: random.Random) -> None:
        while time.monotonic() < deadline or self._queue:
            await asyncio.sleep(chance.uniform(*self.plan.pause_s))
            one = self._next()
            if one is not None:
                await self._do(one, chance)

    async def _do(self, one: Action, chance: random.Random) -> None:
        self._busy |= one.uses
        self._running += 1
        self.world.check()
        self.world.tell("begin", action=one.name, row=one.row)
        try:
            await one.do(self.world, chance)
        finally:
            self._busy -= one.uses
            self._running -= 1
            self.world.tell("end", action=one.name)

    def _next(self) -> Action | None:
        for name in list(self._queue):
            if self._free(name):
                self._queue.remove(name)
                return ACTIONS[name]
        free = [name for name in self.plan.weights if self._free(name)]
        if not free:
            return None
        return ACTIONS[self._chance.choices(free, [self.plan.weights[name] for name in free])[0]]

    def _free(self, name: str) -> bool:
        uses = ACTIONS[name].uses
        if ALONE in self._busy or (ALONE in uses and self._running):
            return False
        return not uses & self._busy


def _words(reason: str) -> str:
    """Return a reason without the figures and paths that make each one different."""
    return re.split(r"[:;(/{]|-?\d", reason)[0].strip()
