"""Counts which invariants the tests of this run have checked, and faults made, for `docs/reliability.md`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest

from proof.invariants import FAULTS, INVARIANTS
from proof.record import Record
from shared.runtime.build import BUILD

# How long an example takes is the machine's affair, not the test's.
hypothesis.settings.register_profile("julie", deadline=None)
hypothesis.settings.load_profile("julie")

RECORDS = Path(__file__).resolve().parents[1] / "build" / "proof"


class Counter:
    """One process's count: a test marked `proves("I-9")` is one check of it, `injects("F-31")` one fault."""

    def __init__(self) -> None:
        self.record = Record(
            machine="tests",
            command="make test",
            build=BUILD,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        report = yield
        if report.when == "call" and not report.skipped:
            for mark in item.iter_markers("proves"):
                for invariant in mark.args:
                    self.record.check(invariant, report.passed, item.nodeid)
            for mark in item.iter_markers("injects"):
                for fault in mark.args:
                    self.record.inject(fault)
        return report

    def pytest_sessionfinish(self) -> None:
        if self.record.checks:
            self.record.write(RECORDS / f"tests-{os.getpid()}.json")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Counter())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("proves"):
            unknown = set(mark.args) - set(INVARIANTS)
            assert not unknown, f"{item.nodeid} proves {unknown}, which proof/invariants.py does not name"
        for mark in item.iter_markers("injects"):
            unknown = set(mark.args) - set(FAULTS)
            assert not unknown, f"{item.nodeid} injects {unknown}, which proof/invariants.py does not name"
