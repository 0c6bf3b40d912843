"""Real strategy workers, started as their host starts them, on a server of the benchmark."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from services.strategy.spawn import WorkerProcess
from services.strategy.spec import WorkerSpec
from services.strategy.zygote import Zygote
from shared.bus.bus import RedisBus
from shared.bus.client import Address
from shared.bus.port import Lease
from shared.runtime.build import BUILD
from shared.wire import topics

ACCOUNT_ID = 1


@cache
def zygote() -> Zygote:
    """Return what starts the workers of all benchmarks; asked for before the first loop, it ends with us."""
    return Zygote.fork()


@contextmanager
def running_worker(
    address: Address,
    lease: Lease,
    strategy: str,
    *,
    symbols: tuple[str, ...],
    settings: dict[str, Any],
    nice: int = 0,
) -> Iterator[WorkerProcess]:
    """Start one worker, and ask it to stop at the end.

    Args:
        strategy: Class in `bench.probes`.
        nice: 0 to compare with a floor at the same priority; a host uses 10.
    """
    spec = WorkerSpec(
        strategy_id=lease.key.rpartition(":")[2],
        strategy_class=f"bench.probes:{strategy}",
        symbols=symbols,
        settings=settings,
        env="bench",
        account_id=ACCOUNT_ID,
        lease=(lease.key, lease.holder, lease.epoch),
        redis=dataclasses.asdict(address),
        build=BUILD,
        log_level="WARNING",
    )
    worker = WorkerProcess(zygote(), spec, nice)
    try:
        yield worker
    finally:
        worker.ask_stop()
        _wait_for(worker)
        worker.close()


def _wait_for(worker: WorkerProcess) -> None:
    """Return when it has ended; one that does not in time is killed by `close`."""
    deadline_s = time.monotonic() + 10
    while worker.exit_code() is None and time.monotonic() < deadline_s:
        time.sleep(0.01)


async def lease_for(bus: RedisBus, strategy_id: str) -> Lease:
    lease = await bus.lease(topics.lease(ACCOUNT_ID, strategy_id), "bench", 3_600)
    assert isinstance(lease, Lease), lease
    return lease
