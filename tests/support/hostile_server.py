"""A loopback HTTP server that misbehaves exactly as told, byte by byte."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

NEVER = b"never"
RESET = b"reset"
"""Instead of an answer: say nothing; cut the connection hard after the request was read."""


def http(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return one whole HTTP answer."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


class HostileServer:
    """Answers every request with `answer`, whatever it is.

    Attributes:
        answering: Instead of `answer`: what to answer to one request.
        requests: Heads and bodies, as they came.
        connections: How many were opened.
        close_after: Close the connection after the answer, without saying so before.
        close_at_once: Close every connection as soon as it is open.
    """

    def __init__(self) -> None:
        self.answer = http(b"{}")
        self.answering: Callable[[bytes], bytes] | None = None
        self.requests: list[bytes] = []
        self.connections = 0
        self.close_after = False
        self.close_at_once = False
        self.url = ""
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            await self._converse(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            del self._open[task]

    async def stop(self) -> None:
        """Cut every connection that is still open."""
        tasks = list(self._open)
        for writer in self._open.values():
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not self.close_at_once:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(
                    (
                        int(line[15:])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                self.requests.append(head + await reader.readexactly(size))
                if self.answering is not None:
                    self.answer = self.answering(self.requests[-1])
                if self.answer == NEVER:
                    await reader.read()
                    break
                if self.answer == RESET:
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                writer.write(self.answer)
                await writer.drain()
                if self.close_after:
                    break


@asynccontextmanager
async def hostile_server() -> AsyncIterator[HostileServer]:
    """Run one on a free port."""
    hostile = HostileServer()
    server = await asyncio.start_server(hostile.serve, "127.0.0.1", 0)
    hostile.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield hostile
    finally:
        server.close()
        await hostile.stop()


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
