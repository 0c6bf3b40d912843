"""Disks that survive kills and fail when told to: of execution's ledger, and of guard's record."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec

from proof.simulation.machine import AFTER, BEFORE, Incarnation
from services.execution.ledger import Commit, Contents, LedgerBusy, LedgerFailed, Step
from services.execution.records import FillRecord, OrderRecord, Standing
from services.guard.store import RecordFile

_encode = msgspec.json.Encoder().encode


class Disk:
    """The file. What is in it was committed whole.

    Attributes:
        watch: Called with each commit just before it is there, for the checkers.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.orders: dict[str, OrderRecord] = {}
        self.fills: dict[tuple[int, int], FillRecord] = {}
        self.standing: bytes | None = None
        self.cursors: dict[str, str] = {}
        self.locked_by: Incarnation | None = None
        self.failing = False
        self.halt_file: str | None = None
        self.watch: Callable[[Commit, Incarnation], None] = lambda batch, incarnation: None

    def write(self, batch: Commit) -> None:
        self.steps += batch.steps
        self.orders.update(batch.orders)
        for key, fill in batch.fills.items():
            if fill is None:
                self.fills.pop(key, None)
            else:
                self.fills[key] = fill
        if batch.standing is not None:
            self.standing = _encode(batch.standing)
        self.cursors.update(batch.cursors)

    def standing_now(self) -> Standing:
        return Standing() if self.standing is None else msgspec.json.decode(self.standing, type=Standing)


class SimLedger:
    """See `services.execution.ledger.Ledger`."""

    untidy = False

    def __init__(self, disk: Disk, incarnation: Incarnation) -> None:
        incarnation.alive()
        holder = disk.locked_by
        if holder is not None and holder is not incarnation and not holder.dead:
            raise LedgerBusy("another execution process writes this ledger; stop it first")
        if disk.failing:
            raise LedgerFailed("disk I/O error")
        disk.locked_by = incarnation
        self._disk = disk
        self._incarnation = incarnation

    def load(self) -> Contents:
        self._incarnation.point("ledger load", BEFORE)
        disk = self._disk
        if disk.failing:
            raise LedgerFailed("disk I/O error")
        return Contents(
            last_seq=disk.steps[-1].seq if disk.steps else 0,
            standing=None if disk.standing is None else disk.standing_now(),
            orders=[_again(disk.orders[name], OrderRecord) for name in sorted(disk.orders)],
            fills=[_again(disk.fills[key], FillRecord) for key in sorted(disk.fills)],
            cursors=dict(disk.cursors),
        )

    def commit(self, batch: Commit) -> None:
        claims = any(step.kind == b"order_claimed" for step in batch.steps)
        point = "ledger commit of a claim" if claims else "ledger commit"
        self._incarnation.point(point, BEFORE)
        disk = self._disk
        if disk.failing:
            raise LedgerFailed("disk full")
        if batch.steps and disk.steps and batch.steps[0].seq <= disk.steps[-1].seq:
            raise LedgerFailed(f"step {batch.steps[0].seq} is there already")
        disk.watch(batch, self._incarnation)
        disk.write(batch)
        self._incarnation.point(point, AFTER)

    def steps(self, first_seq: int, count: int) -> list[Step]:
        steps = self._disk.steps
        if not steps:
            return []
        at = max(0, first_seq - steps[0].seq)
        return steps[at : at + count]

    def tidy(self) -> None: ...

    def close(self) -> None:
        if self._disk.locked_by is self._incarnation:
            self._disk.locked_by = None


class RecordDisk:
    """The file with guard's record. It survives kills, and is slow or fails when told to.

    Attributes:
        value: The content; None while there is none.
        watch: Called with old and new content of each write just before it is there.
        lost: A start could not read it.
    """

    def __init__(self) -> None:
        self.value: bytes | None = None
        self.failing = False
        self.lost = False
        self.rng = random.Random("disk of guard")
        self.watch: Callable[[bytes | None, bytes, Incarnation], None] = lambda old, new, by: None


class SimRecordFile(RecordFile):
    """See `services.guard.store.RecordFile`: what the bytes mean is decided there."""

    def __init__(self, path: Path, disk: RecordDisk, incarnation: Incarnation) -> None:
        super().__init__(path)
        self._disk = disk
        self._incarnation = incarnation

    def _alone(self) -> AbstractContextManager[None]:
        return nullcontext()  # compared and replaced at one moment

    def _read(self) -> bytes:
        self._incarnation.alive()
        if self._disk.failing:
            self._disk.lost = True
            raise OSError("disk I/O error")
        if self._disk.value is None:
            raise FileNotFoundError(self.path)
        return self._disk.value

    def _replace(self, value: bytes) -> None:
        self._incarnation.point("record write", BEFORE)
        if self._disk.failing:
            raise OSError("disk full")
        self._disk.watch(self._disk.value, value, self._incarnation)
        self._disk.value = value
        self._incarnation.point("record write", AFTER)


def _again(record: Any, kind: type[Any]) -> Any:
    """Return what a disk gives back: what was encoded, decoded."""
    return msgspec.json.decode(_encode(record), type=kind)
