"""A task that was told to stop ends, whatever reply arrives in the same moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

from shared.bus.bus import RedisBus
from shared.bus.client import Address
from shared.bus.port import BusAway, BusRefused


@pytest.mark.parametrize(
    "reply", [None, OutOfMemoryError("command not allowed"), RedisConnectionError("gone")], ids=repr
)
def test_cancellation_that_the_library_swallowed_is_raised_again(reply: Exception | None) -> None:
    async def command() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if reply is not None:
                raise reply from None  # as `wait_for` does when the reply is there already

    async def ask(bus: RedisBus) -> None:
        with suppress(BusAway, BusRefused):  # a service would ask again
            await bus._do(command())

    async def scenario() -> None:
        bus = RedisBus(Address(), now_ns=lambda: 0, monotonic_ns=lambda: 0)
        task = asyncio.create_task(ask(bus))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        assert task.cancelled()
        await bus.close()

    asyncio.run(scenario())
