"""The request budget of the credential, shared by every process through Redis.

One sliding window in Redis counts all requests of all processes, with room that only cancels and flattens
may use. Each process remembers its own, and tells Redis again when Redis has lost them. When Redis is away, a
small local share keeps exits possible: stopping to protect a position because a counter cannot be asked would
be the worse mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from itertools import count

from shared.broker.limiter import LocalLimiter
from shared.broker.port import LimitKind
from shared.bus.port import Bus, BusAway, BusRefused
from shared.runtime.clock import NS_PER_S, Clock
from shared.runtime.config import BrokerSection
from shared.wire import topics

GENERAL_WINDOW_S = 60.0
HISTORY_WINDOW_S = 30.0
SPARE_KEPT_S = 40.0
"""How long a place taken in advance may be used: it leaves the window that it was counted in after 60."""
SPARES_AFTER_S = 10.0
"""A process that starts leaves the places to those who look; one that starts again and again wastes none."""

COUNTED_SHARE = 0.95
"""Of the window: a place older than this may be out of it by Redis's clock."""

LOCAL_SHARE = 10
"""Requests per window and process while Redis is away."""
AWAY_BELIEVED_S = 3.0
"""After Redis gave no answer it is not asked for so long: each question costs a request two seconds."""


class SharedLimiter:
    """See `shared.broker.port.Limiter`.

    With `spares`, places in the budget are taken in advance, so that an order need not ask for one first.

    Args:
        blind: Says whether the process has to find out what there is before it can do its job.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        broker: BrokerSection,
        process: str,
        spares: int = 0,
        local_share: int = LOCAL_SHARE,
        blind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._broker = broker
        self._process = process
        self._blind = blind
        self._numbers = count(clock.now_ns())
        self._spares_wanted = spares
        self._spares: deque[int] = deque()
        self._spare_used = asyncio.Event()
        self._local = LocalLimiter(
            clock=clock,
            sleep=clock.sleep,
            general_max=local_share,
            history_max=LOCAL_SHARE,
            urgent_reserve=local_share // 2,
        )
        self._away_until_ns = 0
        self._granted_ns: dict[LimitKind, dict[str, int]] = {"general": {}, "history": {}}

    async def keep_spares(self) -> None:
        """Keep the wanted number of places at hand until cancelled."""
        await self._clock.sleep(SPARES_AFTER_S)
        while self._spares_wanted:
            self._drop_old_spares()
            while len(self._spares) < self._spares_wanted:
                await self._granted("general", urgent=False)
                self._spares.append(self._clock.monotonic_ns())
            self._spare_used.clear()
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: that of Python 3.11 swallows a cancellation that comes with the event.
                async with asyncio.timeout(SPARE_KEPT_S / 2):
                    await self._spare_used.wait()

    async def hear_pauses(self) -> None:
        """Give the places taken in advance back when any process is told to wait, until cancelled."""
        async for _channel, _pause_ms in self._bus.subscribe([topics.pauses(self._name("general"))]):
            self._spares.clear()

    def _drop_old_spares(self) -> None:
        oldest_ns = self._clock.monotonic_ns() - round(SPARE_KEPT_S * NS_PER_S)
        while self._spares and self._spares[0] < oldest_ns:
            self._spares.popleft()

    async def acquire(self, kind: LimitKind, urgent: bool) -> None:
        self._drop_old_spares()
        if kind == "general" and self._spares:
            self._spares.popleft()
            self._spare_used.set()
            return
        await self._granted(kind, urgent)

    async def _granted(self, kind: LimitKind, urgent: bool) -> None:
        while True:
            member = f"{self._process}.{next(self._numbers)}"
            wait_s = await self._ask(kind, urgent, member)
            if wait_s <= 0:
                self._granted_ns[kind][member] = self._clock.monotonic_ns()
                return
            await self._clock.sleep(wait_s)

    async def pause(self, kind: LimitKind, pause_s: float) -> None:
        self._spares.clear()
        await self._local.pause(kind, pause_s)
        try:
            await self._bus.budget_pause(self._name(kind), pause_s)
            await self._bus.publish(topics.pauses(self._name(kind)), b"%d" % round(pause_s * 1000))
        except (BusAway, BusRefused):
            return

    async def _ask(self, kind: LimitKind, urgent: bool, member: str) -> float:
        if self._clock.monotonic_ns() < self._away_until_ns:
            return self._local_share(kind, urgent)
        try:
            wait_s = await self._ask_redis(kind, urgent, member, last=self._last(kind))
            if wait_s is None:
                await self._bus.budget_recall(self._name(kind), _window_s(kind), self._ages_s(kind))
                wait_s = await self._ask_redis(kind, urgent, member, last="")
            assert wait_s is not None
            return wait_s
        except BusAway:
            self._away_until_ns = self._clock.monotonic_ns() + round(AWAY_BELIEVED_S * NS_PER_S)
        except BusRefused:
            pass
        return self._local_share(kind, urgent)

    async def _ask_redis(self, kind: LimitKind, urgent: bool, member: str, *, last: str) -> float | None:
        history = kind == "history"
        broker = self._broker
        return await self._bus.budget(
            self._name(kind),
            requests_max=broker.history_requests_max_per_30s if history else broker.requests_max_per_60s,
            window_s=_window_s(kind),
            reserve=0 if history else self._reserve(),
            urgent=urgent,
            member=member,
            last=last,
        )

    def _ages_s(self, kind: LimitKind) -> dict[str, float]:
        """Return our own places in the window: member -> seconds since it was granted."""
        now_ns, granted_ns = self._clock.monotonic_ns(), self._granted_ns[kind]
        oldest_ns = now_ns - round(_window_s(kind) * NS_PER_S)
        for member in [one for one, at_ns in granted_ns.items() if at_ns <= oldest_ns]:
            del granted_ns[member]
        return {member: (now_ns - at_ns) / NS_PER_S for member, at_ns in granted_ns.items()}

    def _last(self, kind: LimitKind) -> str:
        """Return the newest of our places that is in the window for certain."""
        ages_s = self._ages_s(kind)
        member = next(reversed(ages_s), "")
        return member if member and ages_s[member] < _window_s(kind) * COUNTED_SHARE else ""

    def _local_share(self, kind: LimitKind, urgent: bool) -> float:
        """Take a place of our own; with none left, wait only until Redis may be back: it has many more."""
        return min(self._local.take(kind, urgent), AWAY_BELIEVED_S)

    def _reserve(self) -> int:
        """Return how many places are others'. Trading waits for those who are blind, so they go first."""
        for_blind = 0 if self._blind() else self._broker.requests_for_blind
        return self._broker.requests_reserved + for_blind

    def _name(self, kind: LimitKind) -> str:
        return f"{self._broker.user_name}.{kind}"


def _window_s(kind: LimitKind) -> float:
    return HISTORY_WINDOW_S if kind == "history" else GENERAL_WINDOW_S
