"""What is said to the bus from outside: by the operator, and by others who have no business there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from proof.chaos.installation import Installation
from proof.chaos.watch import AWAY
from shared.bus.bus import RedisBus
from shared.bus.port import BusAway, BusRefused, Fenced
from shared.domain.control import Control, Flatten, Halt, HaltKind, Resume
from shared.wire import topics

ISSUER = "chaos"


class Operator:
    """Speaks to Redis past its door: what is broken on the way of others does not reach it."""

    def __init__(self, installation: Installation, tell: Callable[..., None]) -> None:
        """Take note of where Redis is.

        Args:
            tell: Writes a line of the timeline.
        """
        self._address = installation.address
        self._tell = tell

    async def say(self, control: Control, *, within_s: float = 20.0) -> bool:
        """Append an operator's command; return whether it is on the bus."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            bus = self._bus()
            try:
                await bus.ready()
                writer = await bus.open(topics.CONTROL_OPERATOR)
                writer.append(control)
                await writer.flush()
            except (BusAway, BusRefused, Fenced):
                await asyncio.sleep(0.5)
            else:
                self._tell("command", command=type(control).__name__)
                return True
            finally:
                await bus.close()
        return False

    async def halt(self, reason: str) -> bool:
        return await self.say(
            Halt(kind=HaltKind.OPERATOR, reason=reason, issuer=ISSUER, ts_ns=time.time_ns())
        )

    async def resume(self, reason: str, *, strategy_id: str | None = None) -> bool:
        """Lift the operator's halt; with a strategy's name, arm that strategy and lift nothing."""
        return await self.say(
            Resume(
                kind=HaltKind.OPERATOR,
                reason=reason,
                issuer=ISSUER,
                ts_ns=time.time_ns(),
                strategy_id=strategy_id,
            )
        )

    async def flatten(self, reason: str) -> bool:
        return await self.say(Flatten(reason=reason, issuer=ISSUER, ts_ns=time.time_ns()))

    async def take_over(self, stream: str) -> None:
        """Open a stream for writing, as another process of its writer's kind would; nothing is written."""
        bus = self._bus()
        try:
            await bus.ready()
            await bus.open(stream)
        except (BusAway, BusRefused, Fenced):
            pass  # it does not answer: nothing has been taken over
        finally:
            await bus.close()

    async def forge(self, stream: str, kind: bytes, value: bytes) -> bool:
        """Append as somebody would who knows the bus: through the function, with the right epoch.

        Returns: Whether it is there.
        """
        head = await self.run("HMGET", topics.head(stream), "epoch", "seq")
        if head is None or head[0] is None:
            return False
        reply = await self.run(
            "FCALL", "julie_append", 2, stream, topics.head(stream), head[0], int(head[1] or 0) + 1,
            time.time_ns() // 1_000_000, 0, kind, value,
        )  # fmt: skip
        self._tell("forged", stream=stream, kind=kind.decode(), done=reply is not None)
        return reply is not None

    async def run(self, *words: Any) -> Any:
        """Run one command of Redis; None while the server does not answer."""
        client = self._address.once_client()
        try:
            return await client.execute_command(*words)
        except AWAY:
            return None
        finally:
            with suppress(*AWAY):
                await client.aclose()

    def _bus(self) -> RedisBus:
        return RedisBus(self._address, now_ns=time.time_ns, monotonic_ns=time.monotonic_ns)
