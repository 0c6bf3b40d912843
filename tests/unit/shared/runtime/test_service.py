"""What a process hears from outside before its shell has begun."""

from __future__ import annotations

import asyncio
import os
import signal

from shared.runtime.service import hear_halt_signal, hold_halt_signal


def test_a_halt_that_came_too_early_is_heard_as_soon_as_somebody_listens() -> None:
    async def scenario() -> None:
        hold_halt_signal()
        os.kill(os.getpid(), signal.SIGUSR1)
        heard = asyncio.Event()
        hear_halt_signal(heard.set)
        await heard.wait()

    asyncio.run(scenario())
