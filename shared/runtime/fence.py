"""Is this still the one writer of the account's stream? The bus answers; a send needs a fresh answer.

A newer process takes over by opening the stream. The older one learns it when it asks, a few times a second.
One that was frozen in between wakes with an old answer, and must not send on it. Nor may it on the answer of
a bus that went away since: another Redis, or an older copy, may have come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.runtime.clock import NS_PER_S, Clock

CHECK_S = 0.25
AGE_S_MAX = 4 * CHECK_S
"""An answer older than this is asked for again before anything is sent."""


class Fence:
    """Remembers when the bus last confirmed, and asks again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ask: Callable[[], Awaitable[None]] | None = None
        self._confirmed_ns: int | None = None
        self._losses = 0

    def begin(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Take note of how to ask.

        Args:
            ask: Returns when the bus says yes; raises `Fenced` or `RolledBack`.
        """
        self._ask = ask

    async def keep(self) -> None:
        """Ask for ever, until the answer is no: that is raised."""
        while True:
            await self.ask()
            await self._clock.sleep(CHECK_S)

    async def ask(self) -> None:
        assert self._ask is not None, "the fence has not begun"
        asked_ns, losses = self._clock.monotonic_ns(), self._losses
        await self._ask()
        if losses == self._losses:
            self._confirmed_ns = asked_ns

    def forget(self) -> None:
        """Take note that the bus was lost: what it confirmed before says nothing of what comes back."""
        self._confirmed_ns = None
        self._losses += 1

    @property
    def fresh(self) -> bool:
        if self._confirmed_ns is None:
            return False
        return self._clock.monotonic_ns() - self._confirmed_ns <= AGE_S_MAX * NS_PER_S

    async def confirmed(self, wait_s: float) -> bool:
        """Return whether the bus has confirmed lately, or does so within `wait_s`; False when it is silent.

        Raises:
            Fenced, RolledBack: It says no: nothing may be sent any more.
        """
        try:
            async with asyncio.timeout(wait_s):
                while not self.fresh:  # again: an answer may have waited for a frozen process to wake
                    await self.ask()
        except TimeoutError:
            return False
        return True
