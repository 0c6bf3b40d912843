"""Which faults are in force, and what they hit.

Each fault owns a random generator seeded with the seed, its place in the list and its kind, and draws once
for each thing that it may hit. So the same list of faults and the same sequence of requests give the same
hits, whatever the other faults do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from services.simulator.fault_settings import Fault, FaultsConfig


class Hit(NamedTuple):
    """Attributes:
    fault: What hit.
    delay_s: Drawn from its range.
    rng: Its chance, for what else is to be drawn.
    """

    fault: Fault
    delay_s: float
    rng: Random


class _Live:
    """One fault in force."""

    def __init__(self, fault: Fault, rng: Random, until_ns: int | None) -> None:
        self.fault = fault
        self.rng = rng
        self.until_ns = until_ns
        self.seen = 0
        self.hits = 0

    def is_over(self, now_ns: int) -> bool:
        spent = self.fault.count is not None and self.hits >= self.fault.count
        return spent or (self.until_ns is not None and now_ns >= self.until_ns)

    def draw(self, name: str) -> Hit | None:
        targets = self.fault.targets
        if targets and not name.startswith(targets):
            return None
        self.seen += 1
        if self.seen <= self.fault.skip:
            return None
        if self.fault.rate < 1.0 and self.rng.random() >= self.fault.rate:
            return None
        self.hits += 1
        return Hit(self.fault, self.rng.uniform(*self.fault.delay_s), self.rng)


class Faults:
    """The faults of one venue.

    Attributes:
        settings: The list in force.
        injected: Hits since the venue's first start, by the faults' names.
        on_put: Called after the list was replaced.
    """

    def __init__(self, settings: FaultsConfig, monotonic_ns: Callable[[], int]) -> None:
        self._monotonic_ns = monotonic_ns
        self.on_put: list[Callable[[], None]] = []
        self.injected: Counter[str] = Counter()
        self.put(settings)

    def put(self, settings: FaultsConfig) -> None:
        """Replace all faults; chances and counts of the new ones begin anew."""
        now_ns = self._monotonic_ns()
        self.settings = settings
        self._by_kind: dict[str, list[_Live]] = {}
        for index, fault in enumerate(settings.active):
            rng = Random(f"{settings.seed}:{index}:{fault.kind}")
            until_ns = None if fault.for_s is None else now_ns + int(fault.for_s * 1e9)
            self._by_kind.setdefault(fault.kind, []).append(_Live(fault, rng, until_ns))
        for hear in self.on_put:
            hear()

    def draw(self, kind: str, name: str = "") -> Hit | None:
        """Decide whether a fault of this kind hits what is named; the first that does, counts."""
        for live in self._by_kind.get(kind, ()):
            if not live.is_over(self._monotonic_ns()) and (hit := live.draw(name)):
                self.injected[live.fault.label] += 1
                return hit
        return None

    def has(self, *kinds: str) -> bool:
        """Return whether a fault of one of these kinds is in force."""
        if not self._by_kind:
            return False
        now_ns = self._monotonic_ns()
        return any(not one.is_over(now_ns) for kind in kinds for one in self._by_kind.get(kind, ()))
