"""What one run of a machine has checked and seen, as a file; `docs/reliability.md` shows the sum of these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from proof.invariants import FAULTS, INVARIANTS

VIOLATIONS_MAX = 50
"""Texts kept of one run; the count goes on."""


class Record(msgspec.Struct, kw_only=True):
    """One run.

    Attributes:
        machine: `simulation`, `chaos`, `fuzz`, `tests` or `bench`.
        plan: Of chaos: a run of another plan stands beside this one; one of the same plan replaces it.
        command: Which repeats the run.
        checks: Invariant -> how often it was checked.
        violations: Invariant -> how often it did not hold.
        texts: The first violations in words.
        faults: Row of the fault matrix -> how often it was injected.
        reached: Rare state or planted bug -> how often it was reached or caught.
        figures: Name with its unit -> value.
    """

    machine: str
    command: str
    build: str
    started: str
    plan: str = ""
    seconds: float = 0.0
    checks: dict[str, int] = {}
    violations: dict[str, int] = {}
    texts: list[str] = []
    faults: dict[str, int] = {}
    reached: dict[str, int] = {}
    figures: dict[str, float] = {}

    @property
    def name(self) -> str:
        """Return the name of its file, without the ending."""
        return f"{self.machine}-{self.plan}" if self.plan else self.machine

    def check(self, invariant: str, holds: bool, text: str = "", *, times: int = 1) -> None:
        """Count one check of an invariant, and its text when it does not hold."""
        assert invariant in INVARIANTS, invariant
        _add(self.checks, {invariant: times})
        if not holds:
            _add(self.violations, {invariant: 1})
            if len(self.texts) < VIOLATIONS_MAX:
                self.texts.append(f"{invariant}: {text}")

    def inject(self, fault: str, times: int = 1) -> None:
        """Count a fault of the matrix that really happened."""
        assert fault in FAULTS, fault
        _add(self.faults, {fault: times})

    def reach(self, state: str, times: int = 1) -> None:
        """Count a rare state that was really reached."""
        _add(self.reached, {state: times})

    def add(self, other: Record) -> None:
        """Take over what another run, or another process of this one, has counted."""
        for name in ("checks", "violations", "faults", "reached"):
            _add(getattr(self, name), getattr(other, name))
        self.texts = (self.texts + other.texts)[:VIOLATIONS_MAX]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n")


def read(path: Path) -> Record:
    """Raises: msgspec.ValidationError: If the file is not a record."""
    return msgspec.json.decode(path.read_bytes(), type=Record)


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, times in more.items():
        counts[name] = counts.get(name, 0) + times
