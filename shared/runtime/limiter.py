"""The request budget of the credential, shared by every process through Redis.

One sliding window in Redis counts all requests of all processes, with room that only cancels and flattens may
use. When Redis is away, a small local share keeps exits possible: stopping to protect a position because
a counter cannot be asked would be the worse mistake.
"""

from __future__ import annotations

from itertools import count

from shared.broker.limiter import LocalLimiter
from shared.broker.port import LimitKind
from shared.bus.port import Bus, BusAway, BusRefused
from shared.runtime.clock import Clock
from shared.runtime.config import BrokerSection

GENERAL_WINDOW_S = 60.0
HISTORY_WINDOW_S = 30.0
LOCAL_SHARE = 10
"""Requests per window and process while Redis is away."""


class SharedLimiter:
    """See `shared.broker.port.Limiter`."""

    def __init__(self, *, bus: Bus, clock: Clock, broker: BrokerSection, process: str) -> None:
        self._bus = bus
        self._clock = clock
        self._broker = broker
        self._process = process
        self._numbers = count(clock.now_ns())
        self._local = LocalLimiter(
            clock=clock,
            sleep=clock.sleep,
            general_max=LOCAL_SHARE,
            history_max=LOCAL_SHARE,
            urgent_reserve=LOCAL_SHARE // 2,
        )

    async def acquire(self, kind: LimitKind, urgent: bool) -> None:
        while True:
            wait_s = await self._ask(kind, urgent)
            if wait_s <= 0:
                return
            await self._clock.sleep(wait_s)

    async def pause(self, kind: LimitKind, pause_s: float) -> None:
        await self._local.pause(kind, pause_s)
        try:
            await self._bus.budget_pause(self._name(kind), pause_s)
        except (BusAway, BusRefused):
            return

    async def _ask(self, kind: LimitKind, urgent: bool) -> float:
        history = kind == "history"
        most = self._broker.history_requests_max_per_30s if history else self._broker.requests_max_per_60s
        try:
            return await self._bus.budget(
                self._name(kind),
                requests_max=most,
                window_s=HISTORY_WINDOW_S if history else GENERAL_WINDOW_S,
                reserve=0 if history else self._broker.requests_reserved,
                urgent=urgent,
                member=f"{self._process}.{next(self._numbers)}",
            )
        except (BusAway, BusRefused):
            await self._local.acquire(kind, urgent)
            return 0.0

    def _name(self, kind: LimitKind) -> str:
        return f"{self._broker.user_name}.{kind}"
