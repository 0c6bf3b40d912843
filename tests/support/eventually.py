"""Waiting in tests: for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable

TIME_FACTOR = float(os.environ.get("JULIE_TEST_TIME_FACTOR", "1"))
"""All timeouts of all tests scale by it; a slow machine sets it to 3."""

POLL_S = 0.01


async def eventually(
    condition: Callable[[], object | Awaitable[object]],
    *,
    within_s: float = 10.0,
    what: str = "",
    poll_s: float = POLL_S,
) -> object:
    """Return the first true value of `condition`, which may be a coroutine function.

    Args:
        poll_s: Between two looks; longer where a look is dear.

    Raises:
        AssertionError: If there is none in time; says what was waited for and the last value.
    """
    deadline = time.monotonic() + within_s * TIME_FACTOR
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"not within {within_s * TIME_FACTOR:g} s: {what or condition}; last: {value!r}"
            )
        await asyncio.sleep(poll_s)
