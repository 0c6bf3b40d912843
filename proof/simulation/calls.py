"""The one seam through which everything passes that a process asks of the outside: faults are put in here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Calls(Protocol):
    """How one process's calls travel."""

    async def call(self, port: str, name: str, effect: Callable[[], T], lost: Callable[[], Exception]) -> T:
        """Carry one call out and return what it answers.

        Args:
            port: What is called: `bus` or one of the broker's ports.
            name: What it is asked, such as `GET`, `MULTI` or the name of a server-side function.
            effect: Does it, at once, and returns the answer. Run at most once; not at all if the call is lost
                on its way there.
            lost: Makes the error that the caller sees when the call, or the answer to it, is lost.
        """
        ...

    def carried_out(self, words: list[bytes], reply: object) -> None:
        """Hear what Redis has answered to a command, at the moment in which it was carried out."""
        ...


class PlainCalls:
    """Every call arrives at once; others get their turn before its answer."""

    async def call(self, port: str, name: str, effect: Callable[[], T], lost: Callable[[], Exception]) -> T:
        answer = effect()
        await asyncio.sleep(0)
        return answer

    def carried_out(self, words: list[bytes], reply: object) -> None: ...
