"""Servers for the tests of the bus: a real one in its own process, the modelled one in the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol, TypeVar

from proof.simulation.bridge import run_blocking
from proof.simulation.bus.address import SimAddress
from proof.simulation.bus.server import SimServer
from proof.simulation.calls import PlainCalls
from shared.bus.client import Address
from tests.support.proxy import faulty_link
from tests.support.valkey import ValkeyServer, running_valkey

T = TypeVar("T")


class Link(Protocol):
    """A way to the server on which replies are lost or late.

    Attributes:
        lose_reply_to: The reply to the next command or function of this name is lost. Once.
        delay_s: Replies wait so long.
        lost: How many replies were lost.
    """

    lose_reply_to: bytes | None
    delay_s: float
    lost: int

    @property
    def address(self) -> Address: ...


class BusServer(Protocol):
    """One server of a test."""

    @property
    def address(self) -> Address: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def link(self) -> AbstractAsyncContextManager[Link]: ...
    async def blocking(self, work: Callable[[], T]) -> T:
        """Run what waits for its bus without a loop, as a worker does."""
        ...


class RealBusServer:
    def __init__(self, valkey: ValkeyServer) -> None:
        self.address = valkey.address
        self.kill, self.start, self.pause, self.resume = (
            valkey.kill,
            valkey.start,
            valkey.pause,
            valkey.resume,
        )
        self._socket = valkey.socket

    def link(self) -> AbstractAsyncContextManager[Link]:
        return faulty_link(self._socket)

    async def blocking(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)


class ModelBusServer:
    def __init__(self) -> None:
        self._server = SimServer(lambda: time.time_ns() // 1000)
        self.address = SimAddress(server=self._server, calls=PlainCalls())
        self.kill, self.start = self._server.crash, self._server.start
        self.pause, self.resume = self._server.freeze, self._server.thaw

    @asynccontextmanager
    async def link(self) -> AsyncIterator[Link]:
        yield ModelLink(self._server)

    async def blocking(self, work: Callable[[], T]) -> T:
        return await run_blocking(work)


class ModelLink(PlainCalls):
    """Replies are lost after their command was carried out."""

    def __init__(self, server: SimServer) -> None:
        self.address = SimAddress(server=server, calls=self)
        self.lose_reply_to: bytes | None = None
        self.delay_s = 0.0
        self.lost = 0

    async def call(self, port: str, name: str, effect: Callable[[], T], lost: Callable[[], Exception]) -> T:
        answer = effect()
        if self.lose_reply_to == name.encode():
            self.lose_reply_to = None
            self.lost += 1
            raise lost()
        await asyncio.sleep(self.delay_s)
        return answer


@contextmanager
def running_bus_server(kind: str) -> Iterator[BusServer]:
    """Run a server: `valkey` or `model`."""
    if kind == "model":
        yield ModelBusServer()
        return
    with running_valkey(survives_kills=True) as valkey:
        yield RealBusServer(valkey)
