"""Looks taken once a second: is each position protected at the venue, how much memory has each service."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from proof.chaos.installation import SYMBOLS
from proof.chaos.processes import descriptors, rss_mb
from services.simulator.orders import WORKING
from shared.wire import topics

if TYPE_CHECKING:
    from proof.chaos.world import World

LOOK_S = 1.0
PROTECTED_S = 5.0
SLACK_S = 2.0
"""Half a second until execution tells what it hears of late, and what eight loops on two cores delay it by.
Looks a second apart need none: they see a gap shorter than it is."""
FLAT_S = 30.0
FLAT_SLACK_S = 5.0
"""A cold start of Python on two busy cores, a look a second, and the last of the looks that show it flat."""
APART_S = 3.0
"""Two looks further apart than this do not tell what was in between: the venue or Redis did not answer."""
SETTLED_S = 15.0
"""A process this old has loaded what it needs."""


@dataclass(slots=True)
class Memory:
    """What one life of a process held at one moment."""

    pid: int
    mono_s: float
    rss_mb: float
    descriptors: int


@dataclass(slots=True)
class Length:
    mono_s: float
    entries: int


@dataclass(slots=True)
class Able:
    """What execution and guard could do at one moment, by what is done to them and to what they need.

    Attributes:
        acts: It runs, and the broker does as it is asked.
        hears: It also hears all that the broker tells.
        guards: The same as `acts`, of guard.
    """

    mono_s: float
    acts: bool
    hears: bool
    guards: bool


@dataclass(slots=True)
class Bare:
    """A time during which a contract's position had no stop of its size at the venue.

    Attributes:
        usable_s: How much of it execution could have used.
        due_ns: When that had become more than the promise allows; 0 if it never did.
    """

    contract: str
    since_s: float
    since_ns: int
    until_s: float
    words: str
    usable_s: float = 0.0
    due_ns: int = 0

    @property
    def seconds(self) -> float:
        return self.until_s - self.since_s


@dataclass
class Sampler:
    """Attributes:
    bare: Every such time, the present ones too.
    looks: How often positions were compared with their stops.
    able: What execution could do, look by look.
    lengths: Stream that is trimmed -> how long it was.
    """

    world: World
    bare: list[Bare] = field(default_factory=list)
    looks: int = 0
    able: list[Able] = field(default_factory=list)
    memory: dict[str, list[Memory]] = field(default_factory=lambda: defaultdict(list))
    lengths: dict[str, list[Length]] = field(default_factory=lambda: defaultdict(list))
    _now_bare: dict[str, Bare] = field(default_factory=dict)
    _started: dict[int, float] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.able.append(self._able())
            with suppress(sqlite3.Error):
                self._protection()
            self._processes()
            await self._streams()

    def _able(self) -> Able:
        world = self.world
        acts, guards = world.can_act("execution"), world.can_act("guard")
        return Able(time.monotonic(), acts, acts and world.can_hear(), guards)

    def _protection(self) -> None:
        positions, stops = self._venue()
        now_s = time.monotonic()
        self.looks += len(positions)
        for contract, net_qty in positions.items():
            covered = stops.get((contract, net_qty < 0), 0) >= abs(net_qty)
            if covered or self.world.trading_by_hand:
                self._now_bare.pop(contract, None)
                continue
            found = self._now_bare.get(contract)
            if found is None:
                words = f"{net_qty} held, stops {stops}"
                found = self._now_bare[contract] = Bare(contract, now_s, time.time_ns(), now_s, words)
                self.bare.append(found)
            if now_s - found.until_s <= APART_S and all(one.hears for one in self.able[-2:]):
                found.usable_s += now_s - found.until_s
                if found.usable_s > PROTECTED_S + SLACK_S:
                    found.due_ns = found.due_ns or time.time_ns()
            found.until_s = now_s
        for contract in set(self._now_bare) - set(positions):
            del self._now_bare[contract]

    def usable_s(self, start_s: float, end_s: float, able: Callable[[Able], bool]) -> float:
        """Return how much of a time somebody could have used."""
        looks = [one for one in self.able if start_s <= one.mono_s <= end_s]
        steps = [(later.mono_s - one.mono_s, able(one) and able(later)) for one, later in pairwise(looks)]
        return sum(step_s for step_s, usable in steps if usable and step_s <= APART_S)

    def calm(self, start_s: float, end_s: float) -> bool:
        """Was nothing in execution's way from a look before the one moment to a look after the other?"""
        looks = [one for one in self.able if start_s - 2 * LOOK_S <= one.mono_s <= end_s + 2 * LOOK_S]
        around = bool(looks) and looks[0].mono_s <= start_s and looks[-1].mono_s >= end_s
        dense = all(later.mono_s - one.mono_s <= APART_S for one, later in pairwise(looks))
        return around and dense and all(one.hears for one in looks)

    def _venue(self) -> tuple[dict[str, int], dict[tuple[str, bool], int]]:
        """Return contract -> position, (contract, whether they buy) -> contracts of working stops."""
        path = self.world.installation.venue_database
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            held = db.execute("SELECT contract_id, json_extract(body, '$.net_qty') FROM positions").fetchall()
            working = ",".join(str(int(status)) for status in WORKING)
            rows = db.execute(
                "SELECT json_extract(body, '$.contract_id'), json_extract(body, '$.side'), "
                "sum(json_extract(body, '$.size') - json_extract(body, '$.fill_volume')) FROM orders "
                f"WHERE json_extract(body, '$.status') IN ({working}) "
                "AND json_extract(body, '$.stop_ticks') IS NOT NULL GROUP BY 1, 2"
            ).fetchall()
        finally:
            db.close()
        stops = {(contract, side == 0): int(qty) for contract, side, qty in rows}
        return {contract: net_qty for contract, net_qty in held if net_qty}, stops

    def _processes(self) -> None:
        now_s = time.monotonic()
        for name, one in self.world.processes.all.items():
            pid = one.service_pid
            if pid is None or name == "redis":
                continue
            started = self._started.setdefault(pid, now_s)
            if now_s - started > SETTLED_S:
                self.memory[name].append(Memory(pid, now_s, rss_mb(pid), descriptors(pid)))

    async def _streams(self) -> None:
        for symbol in SYMBOLS:
            key = topics.md(symbol)
            entries = await self.world.operator.run("XLEN", key)
            if entries is not None:
                self.lengths[key].append(Length(time.monotonic(), int(entries)))
