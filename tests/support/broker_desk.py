"""A client of the broker whose limiter and token a test holds in its hand, facing a hostile server."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from shared.broker import errors
from shared.broker.port import Credentials, LimitKind
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.broker.projectx.link_words import LinkSettings
from shared.runtime.clock import SystemClock
from tests.support.hostile_server import HostileServer, hostile_server, http

TOKEN = "canary-token-4711"
KEY = "canary-key-4711"
CREDENTIALS = Credentials(user_name="u", api_key=KEY)


class NotingLimiter:
    """Lets everything through and remembers what it was told."""

    def __init__(self) -> None:
        self.acquired: list[tuple[LimitKind, bool]] = []
        self.pauses: list[tuple[LimitKind, float]] = []
        self.away = False

    async def acquire(self, kind: LimitKind, urgent: bool) -> None:
        if self.away:
            raise errors.LimiterUnavailable("the store is away")
        self.acquired.append((kind, urgent))

    async def pause(self, kind: LimitKind, pause_s: float) -> None:
        self.pauses.append((kind, pause_s))


class Desk:
    def __init__(self, url: str) -> None:
        self.limiter = NotingLimiter()
        self.token: str | None = TOKEN
        self.adapter = ProjectX(
            settings=ProjectXSettings(api_url=url, hub_url=f"{url}/hubs", link=LinkSettings(pause_s=0.05)),
            clock=SystemClock(),
            limiter=self.limiter,
            token=lambda: self.token,
            chance=random.Random(1).random,
        )
        self.orders = self.adapter.orders()
        self.account = self.adapter.account()
        self.market = self.adapter.market()
        self.session = self.adapter.session(CREDENTIALS)


@asynccontextmanager
async def facing(answer: bytes) -> AsyncIterator[tuple[Desk, HostileServer]]:
    async with hostile_server() as server:
        server.answer = answer
        desk = Desk(server.url)
        try:
            yield desk, server
        finally:
            await desk.adapter.close()


def ask(answer: bytes, scenario: Callable[[Desk, HostileServer], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        async with asyncio.timeout(20), facing(answer) as (desk, server):
            return await scenario(desk, server)

    return asyncio.run(whole())


def ok(**payload: Any) -> bytes:
    return http(json.dumps({"success": True, "errorCode": 0, "errorMessage": None, **payload}).encode())
