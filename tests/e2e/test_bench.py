"""What the benchmarks measure starts and trades: no setting that became necessary is missed by them alone."""

from __future__ import annotations

import pytest

from bench.orders import trading
from bench.system import ALL

pytestmark = pytest.mark.e2e


def test_the_measured_system_starts_whole_and_sends_orders() -> None:
    with trading(every=100) as (running, relay):
        assert set(running.processes) == {"redis", *ALL}
        assert len(running.workers()) == 1
        running.wait(lambda: len(relay.left_ns) >= 2, "an entry and its exit leave", within_s=20.0)
