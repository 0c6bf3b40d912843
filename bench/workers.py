"""Real strategy workers, started as their host starts them, on a server of the benchmark."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from services.strategy.progress import ProgressPage
from services.strategy.spec import WorkerSpec
from shared.bus.bus import RedisBus
from shared.bus.client import Address
from shared.bus.port import Lease
from shared.runtime.build import BUILD
from shared.wire import topics

ACCOUNT_ID = 1


@contextmanager
def running_worker(
    address: Address,
    lease: Lease,
    strategy: str,
    *,
    symbols: tuple[str, ...],
    settings: dict[str, Any],
    nice: int = 0,
) -> Iterator[ProgressPage]:
    """Start one worker, give its progress page, and ask it to stop at the end.

    Args:
        strategy: Class in `bench.probes`.
        nice: 0 to compare with a floor at the same priority; a host uses 10.
    """
    page = ProgressPage.create()
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
    command = [sys.executable, "-m", "services.strategy.launch", str(page.fd), str(nice), str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[page.fd])
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(spec) + b"\n")
    process.stdin.flush()
    try:
        yield page
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdin.close()


async def lease_for(bus: RedisBus, strategy_id: str) -> Lease:
    lease = await bus.lease(topics.lease(ACCOUNT_ID, strategy_id), "bench", 3_600)
    assert isinstance(lease, Lease), lease
    return lease
