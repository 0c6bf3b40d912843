"""A door between the services and a gateway: passes everything on, and misbehaves where it is told to.

REST answers can be replaced or delayed for each path, hub frames can be slipped in between real ones, the
door can be shut. It runs in a thread with a loop of its own: a test may block while the system goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

TEXT_FRAME = 0x1
RECORD_END = b"\x1e"
STARTED_WITHIN_S = 10.0

T = TypeVar("T")


class Fault(NamedTuple):
    """Instead of the gateway's answer. With `body` None its own answer comes, after the delay."""

    body: bytes | None = None
    status: str = "200 OK"
    headers: str = ""
    delay_s: float = 0.0


class Asked(NamedTuple):
    """One request that came through, and when by the monotonic clock."""

    path: str
    body: bytes
    mono_s: float


@dataclass
class _Hub:
    """Attributes: clients: sockets of those who listen. passed: what they were sent, while recording."""

    clients: set[asyncio.StreamWriter] = field(default_factory=set)
    passed: list[bytes] = field(default_factory=list)


class FaultGateway:
    """Attributes:
    faults: Path -> fault, in force until it is removed. Assign a whole entry: another thread reads it.
    asked: Every REST request, in order.
    recording: Whether hub frames are kept in `passed`.
    """

    def __init__(self, target_url: str) -> None:
        parts = urlsplit(target_url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-gateway", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._hubs = {"market": _Hub(), "user": _Hub()}
        self._port = 0
        self.faults: dict[str, Fault] = {}
        self.asked: list[Asked] = []
        self.recording = False

    # for tests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def variables(self) -> dict[str, str]:
        """Settings that lead the services through this door."""
        return {"JULIE_BROKER__REST_URL": self.url, "JULIE_BROKER__HUB_URL": f"{self.url}/hubs"}

    def requests(self, path: str) -> list[Asked]:
        return [one for one in self.asked if one.path == path]

    def passed(self, hub: str) -> list[bytes]:
        """Return the frames that hub clients were sent while recording, those slipped in too."""
        return list(self._hubs[hub].passed)

    def slip_in(self, hub: str, payload: bytes, *, counts: bool = False) -> int:
        """Send a frame to everyone on a hub, between two real ones. Returns how many got it.

        Args:
            counts: It is valid: it belongs to what was passed.
        """

        async def send() -> int:
            state = self._hubs[hub]
            for writer in state.clients:
                writer.write(frame_of(payload))
            if counts and self.recording:
                state.passed.append(payload)
            return len(state.clients)

        return self._call(send())

    def shut(self) -> None:
        """The broker is gone: nobody listens, and every connection is cut."""

        async def close() -> None:
            if self._server is not None:
                self._server.close()
                self._server = None
            for writer in list(self._writers):
                writer.transport.abort()

        self._call(close())

    def open(self) -> None:
        async def listen() -> None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self._port, reuse_address=True
            )
            self._port = self._server.sockets[0].getsockname()[1]

        self._call(listen())

    # the thread

    def start(self) -> None:
        self._thread.start()
        self.open()

    def stop(self) -> None:
        self.shut()

        async def settle() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._call(settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STARTED_WITHIN_S)
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STARTED_WITHIN_S)

    # passing on

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        up_writer: asyncio.StreamWriter | None = None
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
            self._writers.add(up_writer)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = urlsplit(head.split(b" ", 2)[1].decode()).path
                if b"\r\nupgrade: websocket" in head.lower():
                    await self._pass_hub(path.rpartition("/")[2], head, reader, writer, up_reader, up_writer)
                    return
                body = await reader.readexactly(_length(head))
                self.asked.append(Asked(path, body, time.monotonic()))
                writer.write(await self._answer(path, head + body, up_reader, up_writer))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side has gone
        finally:
            for one in (writer, up_writer):
                if one is not None:
                    self._writers.discard(one)
                    one.close()
                    with suppress(OSError):
                        await one.wait_closed()

    async def _answer(
        self, path: str, request: bytes, up_reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter
    ) -> bytes:
        fault = self.faults.get(path)
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if fault.body is not None:
                head = f"HTTP/1.1 {fault.status}\r\nContent-Length: {len(fault.body)}\r\n{fault.headers}\r\n"
                return head.encode() + fault.body
        up_writer.write(request)
        head_bytes = await up_reader.readuntil(b"\r\n\r\n")
        return head_bytes + await up_reader.readexactly(_length(head_bytes))

    async def _pass_hub(
        self,
        hub: str,
        head: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        up_writer.write(head)
        writer.write(await up_reader.readuntil(b"\r\n\r\n"))
        state = self._hubs[hub]
        state.clients.add(writer)
        upward = asyncio.create_task(_pipe(reader, up_writer))
        try:
            while True:
                start, payload = await _read_frame(up_reader)
                if self.recording and start[0] & 0x0F == TEXT_FRAME:
                    state.passed.append(payload)
                writer.write(start + payload)
                await writer.drain()
        finally:
            state.clients.discard(writer)
            upward.cancel()
            await asyncio.gather(upward, return_exceptions=True)


def frame_of(payload: bytes) -> bytes:
    """Return a whole text frame of a server, whatever its payload."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | TEXT_FRAME, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | TEXT_FRAME, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | TEXT_FRAME, 127, size)
    return head + payload


def calls(frames: list[bytes], target: str) -> list[list[Any]]:
    """Return the arguments of every call of `target` in recorded frames, in order."""
    records = itertools.chain.from_iterable(frame.split(RECORD_END) for frame in frames)
    found = [json.loads(record) for record in records if target.encode() in record]
    return [one["arguments"] for one in found if one.get("target") == target]


def call(target: str, *arguments: object) -> bytes:
    """Return the record of one call of a hub."""
    return json.dumps({"type": 1, "target": target, "arguments": arguments}).encode() + RECORD_END


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(2)
    size = head[1] & 0x7F
    if size == 126:
        head += await reader.readexactly(2)
        size = struct.unpack("!H", head[2:])[0]
    elif size == 127:
        head += await reader.readexactly(8)
        size = struct.unpack("!Q", head[2:])[0]
    return head, await reader.readexactly(size)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def _length(head: bytes) -> int:
    lines: Iterator[bytes] = iter(head.lower().split(b"\r\n"))
    return next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)


@contextmanager
def fault_gateway(target_url: str) -> Iterator[FaultGateway]:
    """Run one before the gateway at `target_url`, which need not be there yet."""
    gateway = FaultGateway(target_url)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
