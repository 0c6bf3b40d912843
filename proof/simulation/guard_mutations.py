"""Planted bugs of guard; see `planting`."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

from proof.simulation.planting import Patches, bug
from services.execution import trading
from services.execution.events import ControlRead
from services.guard import core, enforce, shell, store, truth
from services.guard.events import Command, Keep
from services.guard.record import Record
from services.guard.rules import Figures
from services.guard.state import State
from shared.domain.control import Halt


@bug(caught_in=76)
def latch_of_guard_lifted_while_not_flat() -> Patches:
    """A person's resume is enough: what the broker holds is not asked."""
    return [patch.object(core, "_refusal", lambda state, at: None)]


@bug(caught_in=353)
def breach_judged_without_fees() -> Patches:
    def gross(fills: Any) -> Any:
        return sum(((fill.realized_pnl or truth.ZERO) for fill in fills), truth.ZERO)

    return [patch.object(truth, "net_of", gross)]


@bug(caught_in=102)
def breach_judged_without_the_open_loss() -> Patches:
    figures = truth.figures

    def realized(state: State, at: Any) -> Figures | None:
        found = figures(state, at)
        return found and msgspec.structs.replace(found, open_pnl=truth.ZERO)

    return [patch.object(truth, "figures", realized)]


@bug(caught_in=76)
def breach_not_written_down() -> Patches:
    """It holds in memory only."""
    obey = shell.Shell._obey

    def forgetful(self: shell.Shell, command: Command) -> None:
        if isinstance(command, Keep) and command.record.latch is not None:
            command = Keep(record=msgspec.structs.replace(command.record, latch=None))
        obey(self, command)

    return [patch.object(shell.Shell, "_obey", forgetful)]


@bug(caught_in=122)
def record_of_guard_forgotten_at_a_restart() -> Patches:
    load = store.RecordFile.load

    def nothing(self: store.RecordFile, *, account_id: int, since: str) -> Record | None:
        load(self, account_id=account_id, since=since)
        return None

    return [patch.object(store.RecordFile, "load", nothing)]


@bug(caught_in=210)
def record_of_a_newer_guard_overwritten() -> Patches:
    """One that was stopped and replaced writes down what it knew."""
    write = store.RecordFile.write

    def unseeing(self: store.RecordFile, record: Record) -> None:
        self._seen = False
        write(self, record)

    return [patch.object(store.RecordFile, "write", unseeing)]


@bug(caught_in=88)
def guard_waits_for_an_execution_that_is_wedged() -> Patches:
    return [patch.object(enforce, "_why_alone", lambda state, enforcing, at: "")]


@bug(caught_in=55)
def halt_of_guard_ignored_by_execution() -> Patches:
    control = trading.control

    def deaf(turn: Any, read: ControlRead) -> None:
        if not (read.by_guard and isinstance(read.control, Halt)):
            control(turn, read)

    return [patch.object(trading, "control", deaf)]


def _forgets_what_was_pushed() -> Any:
    not_shown = truth._not_shown

    def only_later(before: Any, event: Any) -> Any:
        return {n: ns for n, ns in not_shown(before, event).items() if ns >= event.started.mono_ns}

    return patch.object(truth, "_not_shown", only_later)


@bug(caught_in=181)
def day_of_guard_ended_while_a_search_lags() -> Patches:
    return [
        patch.object(truth, "_ends_days", lambda state, print_now, mono_ns: True),
        _forgets_what_was_pushed(),
    ]
