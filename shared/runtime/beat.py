"""Beats: what a process has done so far, for others to judge.

A beat is sent by the same event loop that does the work, so a loop that hangs is silent. But a running loop
proves little; what counts are the duties in the beat: completed work with its time.
"""

from __future__ import annotations

import asyncio

from shared.bus.port import Bus, BusAway, BusRefused
from shared.domain.control import Beat
from shared.runtime.clock import Clock
from shared.runtime.quarantine import Quarantine
from shared.runtime.schedule import Progress, turns
from shared.wire import topics
from shared.wire.codec import encode

BEAT_KEPT_S = 86_400.0
"""How long a dead process stays visible in `julie status`."""


class BeatBoard:
    """Where the parts of one process record their progress, and what they refused."""

    def __init__(
        self,
        *,
        process: str,
        clock: Clock,
        bus: Bus,
        interval_s: float,
        pid: int,
        host: str,
        build: str,
        settings: str = "",
    ) -> None:
        self.process = process
        self.build = build
        self.settings = settings
        self.lag: dict[str, int] = {}
        self.detail: dict[str, str] = {}
        self._ready = False
        self._became_ready = asyncio.Event()
        self.refused = Quarantine(process)
        self._clock = clock
        self._bus = bus
        self._interval_s = interval_s
        self._who = (pid, host)
        self._started_at_ns = clock.now_ns()
        self._progress: dict[str, Progress] = {}
        self._seq = 0

    @property
    def ready(self) -> bool:
        """Whether the process does its job. That it now does is told at once: trading waits for it."""
        return self._ready

    @ready.setter
    def ready(self, ready: bool) -> None:
        if ready and not self._ready:
            self._became_ready.set()
        self._ready = ready

    def duty(self, name: str, *, interval_s: float = 0.0) -> Progress:
        """Return the progress record of a duty; `interval_s` 0 for work that comes when it comes."""
        return self._progress.setdefault(name, Progress(interval_s=interval_s))

    def beat(self) -> Beat:
        self._seq += 1
        if refused := self.refused.words():
            self.detail["refused"] = refused
        pid, host = self._who
        return Beat(
            process=self.process,
            pid=pid,
            host=host,
            build=self.build,
            settings=self.settings,
            started_at_ns=self._started_at_ns,
            ts_ns=self._clock.now_ns(),
            seq=self._seq,
            ready=self.ready,
            duties={name: progress.duty() for name, progress in self._progress.items()},
            lag=dict(self.lag),
            detail=dict(self.detail),
        )

    async def send(self) -> None:
        """Publish one beat; a bus that is away makes us silent, which is what others shall see."""
        value = encode(self.beat())
        try:
            await self._bus.set_and_publish(
                topics.beat(self.process), topics.BEATS, value, expire_s=BEAT_KEPT_S
            )
        except (BusAway, BusRefused):
            self.detail["bus"] = "away"
        else:
            self.detail.pop("bus", None)
        await self.refused.store(self._bus)

    async def run(self) -> None:
        """Send beats until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._on_schedule(), name="beats-scheduled")
            tasks.create_task(self._when_ready(), name="beats-ready")

    async def _on_schedule(self) -> None:
        async for _ in turns(self._clock, self._interval_s):
            await self.send()

    async def _when_ready(self) -> None:
        while True:
            await self._became_ready.wait()
            self._became_ready.clear()
            await self.send()
