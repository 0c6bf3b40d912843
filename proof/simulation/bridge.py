"""Synchronous code inside the event loop: what blocks there waits in virtual time.

A strategy worker is synchronous and has a process of its own. Here it runs in a greenlet: where it would wait
for a socket or sleep, it hands a coroutine to the loop and goes on with the result, so one thread is enough
and the order of everything is the loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class _Blocking(greenlet):
    """One piece of synchronous code that may wait."""

    ended_by: BaseException | None = None
    """Set when its process is killed or cancelled: unwinding must not reach the outside again."""


_begun: list[_Blocking] = []
"""All since `unwind` was last called."""


def unwind(end: BaseException) -> None:
    """End what still waits by raising `end` in it.

    The stack of a waiting greenlet is out of the garbage collector's sight: what it holds (a whole world)
    would stay for ever.
    """
    for running in _begun:
        if running:
            running.ended_by = end
            with suppress(type(end)):
                running.throw(end)
    _begun.clear()


async def run_blocking(fn: Callable[[], T]) -> T:
    """Run `fn`, which may use `await_` and `sleep`, and return what it returns.

    What ends this coroutine (a cancellation, the crash of its process) is raised inside `fn` where it waits.
    """
    running = _Blocking(fn)
    running.gr_context = getcurrent().gr_context
    _begun.append(running)
    handed = running.switch()
    while not running.dead:
        try:
            result = await handed
        except Exception as error:
            handed = running.throw(error)
        except BaseException as end:
            running.ended_by = end
            handed = running.throw(end)
        else:
            handed = running.switch(result)
    return cast(T, handed)


def await_(waited: Awaitable[T]) -> T:
    """Wait for something from synchronous code that `run_blocking` runs.

    Raises:
        RuntimeError: Outside of `run_blocking`.
    """
    current = getcurrent()
    if not isinstance(current, _Blocking):
        _discard(waited)
        raise RuntimeError("this can only wait inside run_blocking")
    if current.ended_by is not None:
        _discard(waited)
        raise current.ended_by
    parent = current.parent
    assert parent is not None
    return cast(T, parent.switch(waited))


def sleep(seconds: float) -> None:
    """Sleep in the loop's time."""
    await_(asyncio.sleep(seconds))


def _discard(waited: Any) -> None:
    """Close a coroutine that will never run, so that nobody is warned about it."""
    close = getattr(waited, "close", None)
    if close is not None:
        close()
