"""What the benchmarks measure starts: a setting that became necessary must not be missed by them alone."""

from __future__ import annotations

import pytest

from bench.system import ALL, instance, running_system

pytestmark = pytest.mark.e2e


def test_the_measured_system_starts_whole() -> None:
    with running_system(instances=[instance("flip", "Flip", ["MES"], every=100)], symbols=["MES"]) as running:
        assert set(running.processes) == {"redis", *ALL}
        assert len(running.workers()) == 1
