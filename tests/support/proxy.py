"""A link to a server that loses replies and delays them at a chosen moment, over Unix sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from shared.bus.client import Address

CHUNK_BYTES = 1 << 20


class FaultyLink:
    """Forwards both ways until told otherwise.

    Attributes:
        lose_reply_to: The connection that sends a request with these bytes is cut after the server has
            answered it and before the answer is passed on: it was done, and nobody hears. Once.
        delay_s: Replies wait so long.
        lost: How many replies were lost.
    """

    def __init__(self, target: Path, path: Path) -> None:
        self.target = target
        self.path = path
        self.address = Address(unix_path=str(path))
        self.lose_reply_to: bytes | None = None
        self.delay_s = 0.0
        self.lost = 0
        self._ending = asyncio.Event()
        self._open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(str(self.target))
        except OSError:
            await _close(writer)
        else:
            doomed = asyncio.Event()
            tasks = {
                asyncio.create_task(self._up(reader, up_writer, doomed)),
                asyncio.create_task(self._down(up_reader, writer, doomed)),
                asyncio.create_task(self._ending.wait()),
            }
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _close(writer)
            await _close(up_writer)
        finally:
            self._open -= 1

    async def end(self) -> None:
        """Close every connection. Never by cancellation: a handler that has not begun would close nothing."""
        self._ending.set()
        while self._open:  # noqa: ASYNC110  many handlers, one who waits, in a test
            await asyncio.sleep(0.001)

    async def _up(
        self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self.lose_reply_to is not None and self.lose_reply_to in data:
                self.lose_reply_to = None
                doomed.set()
            up.write(data)
            await up.drain()

    async def _down(
        self, up: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await up.read(CHUNK_BYTES):
            if doomed.is_set():
                self.lost += 1
                return
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            writer.write(data)
            await writer.drain()


async def _close(end: asyncio.StreamWriter) -> None:
    end.transport.abort()
    with suppress(OSError):
        await end.wait_closed()


@asynccontextmanager
async def faulty_link(target: Path) -> AsyncIterator[FaultyLink]:
    """Run a link to the server that listens on `target`."""
    link = FaultyLink(target, target.with_name("link.sock"))
    server = await asyncio.start_unix_server(link.serve, str(link.path))
    try:
        yield link
    finally:
        server.close()
        await asyncio.sleep(0.01)  # handlers of connections that were just accepted begin
        await link.end()
        await server.wait_closed()
