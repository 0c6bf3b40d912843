"""A service's context on a private bus, and running its shell beside a test."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel

from shared.bus.bus import RedisBus
from shared.bus.client import Address
from shared.runtime.beat import BeatBoard
from shared.runtime.clock import SystemClock
from shared.runtime.config import BrokerSection, JulieSection
from shared.runtime.logs import Log
from shared.runtime.service import Context

ConfigT = TypeVar("ConfigT", bound=BaseModel)
CANCEL_AGAIN_S = 0.5


@asynccontextmanager
async def service_context(
    address: Address,
    process: str,
    config: ConfigT,
    *,
    julie: JulieSection | None = None,
    broker: BrokerSection | None = None,
) -> AsyncIterator[Context[ConfigT]]:
    """Yield what `serve` would give to a shell; its beats run as in a real process."""
    clock = SystemClock()
    bus = RedisBus(address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
    await bus.ready()
    beat = BeatBoard(
        process=process, clock=clock, bus=bus, interval_s=0.1, pid=os.getpid(), host="test", build="test"
    )
    try:
        async with running(beat.run()):
            yield Context(
                process=process,
                config=config,
                julie=julie or JulieSection(),
                broker=broker or BrokerSection(),
                settings_hash="test",
                clock=clock,
                rng=random.Random(1),
                bus=bus,
                beat=beat,
                log=Log(logging.getLogger(f"test.{process}")),
            )
    finally:
        await bus.close()


@asynccontextmanager
async def running(run: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a shell beside a test; a shell that fails on its own fails the test."""
    others = asyncio.all_tasks()
    task = asyncio.ensure_future(run)
    try:
        yield task
        if task.done() and not task.cancelled():
            task.result()
    finally:
        task.cancel()
        # Once more where it was lost: `asyncio.wait_for` of Python 3.11, inside redis-py, swallows a
        # cancellation that comes together with its result.
        while not (await asyncio.wait([task], timeout=CANCEL_AGAIN_S))[0]:
            for left in asyncio.all_tasks() - others:
                left.cancel()
