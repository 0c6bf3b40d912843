"""What a process hears from outside before its shell has begun."""

from __future__ import annotations

import asyncio
import signal

from shared.runtime.service import hear_halt_signal, hold_halt_signal


def test_a_halt_that_came_too_early_is_heard_as_soon_as_somebody_listens() -> None:
    async def scenario() -> None:
        hold_halt_signal()
        signal.raise_signal(signal.SIGUSR1)  # to this thread: a test runner has others, that hold nothing
        heard = asyncio.Event()
        hear_halt_signal(heard.set)
        await heard.wait()

    asyncio.run(scenario())
