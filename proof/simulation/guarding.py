"""The real guard in a world: its settings on the scale of half a minute, and the disk of its record."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import services.guard.core as guard_core
import services.guard.shell as guard_shell
import services.guard.truth as guard_truth
import shared.runtime.broker as runtime_broker
from proof.simulation.loop import EPOCH_NS, NS_PER_S
from proof.simulation.machine import AFTER, BEFORE, Incarnation
from proof.simulation.swarm import SEARCH_LAG_S_MAX
from services.guard.config import GuardConfig
from services.guard.store import RecordFile

if TYPE_CHECKING:
    from proof.simulation.swarm import Guarded

ACCOUNT_ID = 1001
START_BALANCE = Decimal(50_000)
ZONE_BEHIND_UTC = timedelta(hours=6)
"""Chicago, in the winter week of the simulator."""
LOOK_S, NEAR_S, LOOK_WITHIN_S = 3.0, 1.5, 4.0
TRUTH_AGE_S, PRICE_AGE_S = 6.0, 3.0
BLIND_S, WEDGE_S, SILENT_S, SHRINK_S, CALM_S = 5.0, 3.0, 2.5, 5.0, 1.0
FLAT_LEAD_S = 5.0
GUARD_SHARE = 30
"""Requests in a window of the broker that guard may send while Redis is away."""
BEAT_S = 1.0
"""Guard stops waiting for an execution whose beats are missing, so they come on guard's scale with it."""


def scale_constants() -> None:
    """Set guard's module constants that are no settings; see `scaled`."""
    guard_shell.TICK_S = 0.25
    guard_shell.READ_BLOCK_MS = 500
    guard_shell.QUOTE_POLL_S = 2.0
    guard_shell.SHOW_S = 5.0
    guard_shell.CHECK_S = 1.0
    guard_core.PRICE_ASK_S = 2.0
    guard_truth.SEARCH_LAG_S = SEARCH_LAG_S_MAX
    runtime_broker.GUARD_SHARE = GUARD_SHARE


def config(plan: Guarded) -> GuardConfig:
    """Return the settings of a world's guard."""
    account = {
        "id": ACCOUNT_ID,
        "profile": "topstep_50k",
        "start_balance": START_BALANCE,
        "max_loss": plan.max_loss,
        "daily_loss": plan.daily_loss,
        "contracts_max": plan.contracts,
        "floor_stops_at_start": plan.floor_stops,
        "flat_by": _time_of_day(plan.flat_by_s) if plan.flat_by_s else "",
    }
    if plan.reopen_s:
        account["reopen"] = _time_of_day(plan.reopen_s)
    return GuardConfig.model_validate(
        {
            "accounts": (account,),
            "entries_end_s": FLAT_LEAD_S + 1.0,
            "flat_lead_s": FLAT_LEAD_S,
            "look_interval_s": LOOK_S,
            "near_interval_s": NEAR_S,
            "look_within_s": LOOK_WITHIN_S,
            "truth_age_s_max": TRUTH_AGE_S,
            "price_age_s_max": PRICE_AGE_S,
            "blind_s": BLIND_S,
            "blind_action": "flatten" if plan.blind_flattens else "halt",
            "wedge_s": WEDGE_S,
            "silent_s": SILENT_S,
            "shrink_s": SHRINK_S,
            "resume_after_s": CALM_S,
            "history_days": 1,
        }
    )


def _time_of_day(after_start_s: int) -> str:
    begins = datetime.fromtimestamp(EPOCH_NS // NS_PER_S, UTC) - ZONE_BEHIND_UTC
    return (begins + timedelta(seconds=after_start_s)).strftime("%H:%M:%S")


# -- the record -----------------------------------------------------------------------


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
