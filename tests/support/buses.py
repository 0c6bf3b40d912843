"""Buses of a test: made wherever they are needed, closed at its end whatever happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.bus.bus import RedisBus
from shared.bus.client import Address
from shared.runtime.clock import SystemClock

_open: list[RedisBus] = []


def make_bus(address: Address, clock: SystemClock | None = None) -> RedisBus:
    """Return a bus that `run` closes."""
    clock = clock or SystemClock()
    bus = RedisBus(address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
    _open.append(bus)
    return bus


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run one test's coroutine in a loop of its own."""

    async def whole() -> None:
        try:
            await scenario()
        finally:
            while _open:
                await _open.pop().close()

    asyncio.run(whole())
