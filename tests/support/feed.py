"""A feed in the test's own loop: the real shell and link, a private server, any venue that is running."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.feed.config import FeedConfig
from services.feed.shell import Shell
from shared.broker.limiter import LocalLimiter
from shared.broker.port import Credentials, LoggedIn
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.bus.bus import RedisBus
from shared.bus.client import Address
from shared.domain.messages import Message
from shared.runtime.beat import BeatBoard
from shared.runtime.clock import SystemClock
from shared.runtime.config import BrokerSection, JulieSection
from shared.runtime.logs import Log
from shared.runtime.service import Context
from shared.wire import topics
from shared.wire.codec import decode
from tests.support.simulator import API_KEY, USER


class Feed:
    """Attributes: task: the running shell; it ends with the shell's exception. token: the one it uses."""

    def __init__(
        self, shell: Shell, bus: RedisBus, task: asyncio.Task[None], beat: BeatBoard, token: str
    ) -> None:
        self.shell, self.bus, self.task, self.beat, self.token = shell, bus, task, beat, token

    async def stream(self, symbol: str) -> list[Message]:
        """Return every message of the symbol's stream."""
        entries = await self.bus.between(topics.md(symbol), "-", "+", 1_000_000)
        return [decode(entry.kind, entry.value) for entry in entries]

    async def of(self, symbol: str, kind: type) -> list[Any]:
        return [m for m in await self.stream(symbol) if isinstance(m, kind)]


@asynccontextmanager
async def running_feed(
    url: str, address: Address, *, julie: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Feed]:
    """Log in, run a feed with settings of your choice, stop it at the end."""
    clock = SystemClock()
    bus = RedisBus(address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
    await bus.ready()
    tokens: list[str] = []
    adapter = ProjectX(
        settings=ProjectXSettings(api_url=url, hub_url=f"{url}/hubs"),
        clock=clock,
        limiter=LocalLimiter(clock=clock),
        token=lambda: tokens[-1] if tokens else None,
        chance=random.Random(1).random,
    )
    answer = await adapter.session(Credentials(user_name=USER, api_key=API_KEY)).login()
    assert isinstance(answer, LoggedIn), answer
    tokens.append(answer.token.value)
    beat = BeatBoard(process="feed", clock=clock, bus=bus, interval_s=0.5, pid=1, host="test", build="test")
    context = Context(
        process="feed",
        config=FeedConfig.model_validate(settings),
        julie=JulieSection.model_validate({"market_clock": "venue", **(julie or {})}),
        broker=BrokerSection.model_validate({}),
        settings_hash="",
        clock=clock,
        rng=random.Random(1),
        bus=bus,
        beat=beat,
        log=Log(logging.getLogger("tests.feed")),
    )
    shell = Shell(context, adapter.market())
    task = asyncio.create_task(shell.run(), name="feed")
    try:
        yield Feed(shell, bus, task, beat, tokens[-1])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await adapter.close()
        await bus.close()
