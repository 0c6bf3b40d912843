"""What happens at the venue some real time from now; nothing any more once the venue stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

After = Callable[[float, Callable[[], None]], None]


class Timers:
    """Call back after a delay, on the running event loop."""

    def __init__(self) -> None:
        self._handles: set[asyncio.TimerHandle] = set()

    def after(self, delay_s: float, do: Callable[[], None]) -> None:
        """Call `do` in `delay_s` real seconds."""

        def run() -> None:
            self._handles.discard(handle)
            do()

        handle = asyncio.get_running_loop().call_later(delay_s, run)
        self._handles.add(handle)

    def close(self) -> None:
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
