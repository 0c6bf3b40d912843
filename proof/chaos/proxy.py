"""Doors between processes: one listener in front of each server, one link per client, faults on each link.

All processes share their settings, addresses too. Whose connection it is, the kernel tells: the pid at the
other end of the socket. So a fault meets one link (`execution` -> `redis`) and leaves all others alone.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

CHUNK_BYTES = 1 << 16
HELD_POLL_S = 0.02
UNKNOWN = "unknown"


@dataclass(slots=True)
class Toxics:
    """What is wrong with one link at this moment; the default is nothing.

    Attributes:
        latency_s, jitter_s: Each chunk waits so long, and a seeded share of the jitter more.
        bytes_per_s: Bandwidth both ways together; 0 for no limit.
        slice_bytes: Chunks are cut into pieces of this size; 0 for none.
        hold_up, hold_down: Nothing passes in this direction; it goes on where it stopped when healed, as TCP
            does after a partition.
        refuse: New connections are closed at once.
        lose_reply_to: The connection whose request contains one of these is cut after the server has
            answered and before the answer is passed on. Once each.
        cut_on: The connection whose request contains one of these is cut before the request is passed on.
            Once each.
        half_open: When the server closes, the client is not told.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: int = 0
    slice_bytes: int = 0
    hold_up: bool = False
    hold_down: bool = False
    refuse: bool = False
    half_open: bool = False
    lose_reply_to: list[bytes] = field(default_factory=list)
    cut_on: list[bytes] = field(default_factory=list)

    @property
    def passes(self) -> bool:
        """Does what is sent get there and back, if late?"""
        held = self.hold_up or self.hold_down or self.refuse or self.half_open
        return not (held or self.bytes_per_s or self.lose_reply_to or self.cut_on)


class Link:
    """All connections of one client to one server."""

    def __init__(self, client: str, server: str) -> None:
        self.client, self.server = client, server
        self.toxics = Toxics()
        self.lost = 0
        self.cut = 0
        self._connections: set[Connection] = set()

    @property
    def name(self) -> str:
        return f"{self.client}-{self.server}"

    @property
    def connections(self) -> int:
        return len(self._connections)

    def heal(self) -> None:
        self.toxics = Toxics()

    def reset(self) -> int:
        """Cut every connection hard; return how many there were."""
        found = list(self._connections)
        for connection in found:
            connection.abort()
        return len(found)

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)

    def drop(self, connection: Connection) -> None:
        self._connections.discard(connection)


Tap = Callable[[Link, int, bytes], None]
"""Sees what clients send: link, connection number, bytes; also those that a fault then swallows."""


class Connection:
    """One client's socket and its counterpart towards the server."""

    def __init__(
        self,
        link: Link,
        number: int,
        down: asyncio.StreamWriter,
        up: asyncio.StreamWriter,
        chance: random.Random,
    ) -> None:
        self.link, self.number = link, number
        self._down, self._up, self._chance = down, up, chance
        self._doomed = False

    def abort(self) -> None:
        for writer in (self._down, self._up):
            _reset(writer)

    async def run(
        self, first: bytes, down: asyncio.StreamReader, up: asyncio.StreamReader, tap: Tap | None
    ) -> None:
        upward = asyncio.create_task(self._upward(first, down, tap))
        downward = asyncio.create_task(self._downward(up))
        done, _ = await asyncio.wait({upward, downward}, return_when=asyncio.FIRST_COMPLETED)
        if downward in done and self.link.toxics.half_open and not self._doomed:
            await asyncio.wait({upward})  # the client may talk on; nobody listens
        for task in (upward, downward):
            task.cancel()
        await asyncio.gather(upward, downward, return_exceptions=True)
        if self._doomed:
            self.abort()

    async def _upward(self, first: bytes, reader: asyncio.StreamReader, tap: Tap | None) -> None:
        data = first
        while True:
            if data:
                toxics = self.link.toxics
                for needle in list(toxics.lose_reply_to):
                    if needle in data:
                        toxics.lose_reply_to.remove(needle)
                        self._doomed = True
                if tap is not None:
                    tap(self.link, self.number, data)
                for needle in list(toxics.cut_on):
                    if needle in data:
                        toxics.cut_on.remove(needle)
                        self.link.cut += 1
                        self.abort()
                        return
                await self._pass(data, self._up, lambda toxics: toxics.hold_up)
            data = await reader.read(CHUNK_BYTES)
            if not data:
                return

    async def _downward(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._doomed:
                self.link.lost += 1
                return
            await self._pass(data, self._down, lambda toxics: toxics.hold_down)

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter, held: Callable[[Toxics], bool]) -> None:
        toxics = self.link.toxics
        while held(self.link.toxics):
            await asyncio.sleep(HELD_POLL_S)
        if toxics.latency_s or toxics.jitter_s:
            await asyncio.sleep(toxics.latency_s + toxics.jitter_s * self._chance.random())
        if toxics.bytes_per_s:
            await asyncio.sleep(len(data) / toxics.bytes_per_s)
        if toxics.slice_bytes:
            for start in range(0, len(data), toxics.slice_bytes):
                writer.write(data[start : start + toxics.slice_bytes])
                await writer.drain()
                await asyncio.sleep(0)
        else:
            writer.write(data)
            await writer.drain()


class Door:
    """A listener in front of one server.

    Args:
        name: Of the server, `redis` or `broker`. Connections of the latter count as links to `rest`, `market`
            or `user`, by the first request.
        who: pid -> name of the client, None while it is not known.
    """

    def __init__(
        self,
        name: str,
        *,
        target: Path | tuple[str, int],
        who: Callable[[int], str | None],
        seed: int,
        tap: Tap | None = None,
    ) -> None:
        self.name, self.target = name, target
        self.links: dict[tuple[str, str], Link] = {}
        self._who, self._tap = who, tap
        self._chance = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._number = 0

    def link(self, client: str, server: str | None = None) -> Link:
        """Return the link of one client, whether it is connected or not."""
        key = (client, server or self.name)
        if key not in self.links:
            self.links[key] = Link(*key)
        return self.links[key]

    async def open_unix(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(path))

    async def open_tcp(self, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    def heal(self) -> None:
        for link in self.links.values():
            link.heal()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, down_reader: asyncio.StreamReader, down: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._number += 1
        up: asyncio.StreamWriter | None = None
        try:
            client = self._client_of(down)
            first = b""
            server = self.name
            if isinstance(self.target, tuple):
                first = await down_reader.read(CHUNK_BYTES)
                if not first:
                    return
                server = _kind_of(first)
            link = self.link(client, server)
            if link.toxics.refuse:
                _reset(down)
                return
            try:
                if isinstance(self.target, tuple):
                    up_reader, up = await asyncio.open_connection(*self.target)
                else:
                    up_reader, up = await asyncio.open_unix_connection(str(self.target))
            except OSError:
                _reset(down)
                return
            connection = Connection(link, self._number, down, up, self._chance)
            link.add(connection)
            try:
                await connection.run(first, down_reader, up_reader, self._tap)
            finally:
                link.drop(connection)
        except (OSError, asyncio.CancelledError):
            pass  # either side has gone, or we are closing
        finally:
            self._serving.discard(task)
            for writer in (down, up):
                if writer is not None:
                    with suppress(OSError, RuntimeError):
                        writer.transport.abort()

    def _client_of(self, writer: asyncio.StreamWriter) -> str:
        sock: socket.socket = writer.get_extra_info("socket")
        if isinstance(self.target, tuple):
            pid = _pid_of_port(writer.get_extra_info("peername")[1])
        else:
            pid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return (self._who(pid) if pid else None) or UNKNOWN


def _kind_of(head: bytes) -> str:
    path = head.split(b" ", 2)[1] if b" " in head else b""
    if path.startswith(b"/hubs/"):
        return "market" if b"market" in path else "user"
    return "rest"


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        if sock is not None and sock.family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _pid_of_port(port: int) -> int | None:
    """Return the process that owns the loopback TCP socket with this local port."""
    needle = f":{port:04X} "
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        if needle in line[:20]:
            inode = line.split()[9]
            break
    else:
        return None
    wanted = f"socket:[{inode}]"
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                for one in (folder / "fd").iterdir():
                    with suppress(OSError):
                        if str(one.readlink()) == wanted:
                            return int(folder.name)
    return None


@dataclass(slots=True, kw_only=True)
class Request:
    """One HTTP request that left a service for the gateway."""

    mono_s: float
    client: str
    path: str
    body: bytes


class Requests:
    """A tap that keeps every request of REST links: what really went out, whatever anybody remembers."""

    def __init__(self) -> None:
        self.all: list[Request] = []
        self._partial: dict[int, bytes] = {}

    def __call__(self, link: Link, number: int, data: bytes) -> None:
        if link.server != "rest":
            return
        data = self._partial.pop(number, b"") + data
        while data:
            head, end, rest = data.partition(b"\r\n\r\n")
            size = _length(head) if end else 0
            if not end or len(rest) < size:
                self._partial[number] = data
                return
            path = head.split(b" ", 2)[1].decode()
            self.all.append(Request(mono_s=time.monotonic(), client=link.client, path=path, body=rest[:size]))
            data = rest[size:]

    def write(self, path: Path) -> None:
        """Write who asked what and when, for people."""
        path.write_text("".join(f'["{one.client}", {one.mono_s:.3f}, "{one.path}"]\n' for one in self.all))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
