"""Appending to streams: batched, pipelined, and safe to repeat.

Everything that one turn of the event loop hands in goes out in one write, one server-side function call per
stream. Because the sequence number is part of each entry's id, a batch whose reply was lost is sent again
as it is, and the server adds only what it does not have.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgspec
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection

from shared.bus.client import Address, RedisError, ResponseError, connect, hang_up, read_reply, transport_of
from shared.bus.functions import load_functions, refusal_of
from shared.bus.port import BusRefused, WriterFull
from shared.wire import topics
from shared.wire.codec import encode, kind_of

BATCH_ENTRIES_MAX = 256
"""Entries per function call: beyond this the gain is gone and others wait longer for the server."""

REPLY_TIMEOUT_S = 3.0
"""No reply within this: the connection is given up and everything unacknowledged is sent again."""

RETRY_DELAY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits between attempts to reach Redis; the last one repeats for ever."""


CANCEL_AGAIN_S = 0.1
"""A cancellation can be lost inside the library (Python 3.11); it is repeated until the task has ended."""


class OneStreamWriter:
    """The writer of one stream; see `port.StreamWriter`."""

    def __init__(
        self, pipe: WriterPipe, stream: str, epoch: int, seq: int, cap: int, pending_max: int
    ) -> None:
        self.stream = stream
        self.epoch = epoch
        self.last_seq = seq
        self.acked_seq = seq
        self.trimmed = 0
        self._pipe = pipe
        self._cap = cap
        self._pending_max = pending_max
        self._unsent: list[bytes] = []
        self._checks: list[asyncio.Future[None]] = []
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        pipe.writers.append(self)

    def append(self, message: msgspec.Struct) -> int:
        if self._pipe.failure is not None:
            raise self._pipe.failure
        if self.last_seq - self.acked_seq >= self._pending_max:
            raise WriterFull(f"{self.stream}: {self._pending_max} entries wait for Redis")
        if not self._unsent:
            self._pipe.wake(self)
        self._unsent.append(kind_of(message))
        self._unsent.append(encode(message))
        self.last_seq += 1
        return self.last_seq

    async def flush(self) -> None:
        if self._pipe.failure is not None:
            raise self._pipe.failure
        if self.acked_seq < self.last_seq:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((self.last_seq, done))
            await done

    async def check(self) -> None:
        if self._pipe.failure is not None:
            raise self._pipe.failure
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._checks.append(done)
        self._pipe.wake(self)
        await done

    def acked(self, seq: int, trimmed: int) -> None:
        """Record an acknowledgment and wake whoever waits for it."""
        self.acked_seq = seq
        self.trimmed += trimmed
        while self._waiting and self._waiting[0][0] <= seq:
            _, done = self._waiting.popleft()
            if not done.done():
                done.set_result(None)

    def failed(self, refusal: BusRefused) -> None:
        """Tell whoever waits that nothing more will be acknowledged."""
        for check in self._checks:
            if not check.done():
                check.set_exception(refusal)
        while self._waiting:
            _, done = self._waiting.popleft()
            if not done.done():
                done.set_exception(refusal)

    def take_batches(self, ms: int) -> list[Batch]:
        """Return what was handed in since the last call, cut into calls."""
        parts, self._unsent = self._unsent, []
        first = self.last_seq - len(parts) // 2 + 1
        step = 2 * BATCH_ENTRIES_MAX
        batches = [
            Batch(self, first + at // 2, ms, parts[at : at + step], self._cap)
            for at in range(0, len(parts), step)
        ]
        if self._checks:
            batches = batches or [Batch(self, first, ms, [], self._cap)]
            batches[-1].checks, self._checks = self._checks, []
        return batches


class Batch:
    """One function call, kept until its reply is there."""

    __slots__ = ("args", "checks", "last_seq", "writer")

    def __init__(
        self, writer: OneStreamWriter, first_seq: int, ms: int, parts: list[bytes], cap: int
    ) -> None:
        self.writer = writer
        self.last_seq = first_seq + len(parts) // 2 - 1
        self.checks: list[asyncio.Future[None]] = []
        stream = writer.stream
        head = (b"FCALL", b"julie_append", b"2", stream.encode(), topics.head(stream).encode())
        numbers = (b"%d" % writer.epoch, b"%d" % first_seq, b"%d" % ms, b"%d" % cap)
        self.args: tuple[bytes, ...] = (*head, *numbers, *parts)


class WriterPipe:
    """One connection that carries all streams a process writes, in order."""

    def __init__(self, address: Address, now_ns: Callable[[], int]) -> None:
        self._address = address
        self._now_ns = now_ns
        self._dirty: list[OneStreamWriter] = []
        self._unacked: deque[Batch] = deque()
        self._sent = asyncio.Event()
        self._transport: asyncio.WriteTransport | None = None
        self._scheduled = False
        self._task: asyncio.Task[None] | None = None
        self._attempt = 0
        self.writers: list[OneStreamWriter] = []
        self.failure: BusRefused | None = None
        self.connected = False
        self.trouble: str | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="bus-writer")
            self._task.add_done_callback(self._ended)

    def wake(self, writer: OneStreamWriter) -> None:
        self._dirty.append(writer)
        if not self._scheduled:
            # Straight from the loop into the socket: waking a task first costs a hop its head start.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send_dirty)

    async def close(self) -> None:
        task, self._task = self._task, None
        while task is not None and not task.done():
            # Again until it is gone: a wait that ends in the same moment may swallow a cancellation.
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)

    async def _run(self) -> None:
        while self.failure is None:
            try:
                connection = await connect(self._address)
                try:
                    await load_functions(connection)
                    self.connected, self.trouble = True, None
                    await self._pump(connection)
                finally:
                    self.connected, self._transport = False, None
                    await hang_up(connection)
            except (RedisError, OSError, TimeoutError) as error:
                self.trouble = str(error)
            except BusRefused as refusal:
                self._fail(refusal)
            await asyncio.sleep(RETRY_DELAY_S[min(self._attempt, len(RETRY_DELAY_S) - 1)])
            self._attempt += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody may wait for a pipe that has stopped, least of all after a bug of ours."""
        if self.failure is None:
            error = None if task.cancelled() else task.exception()
            self._fail(BusRefused(f"the bus writer has stopped: {error or 'closed'}"))

    def _fail(self, refusal: BusRefused) -> None:
        self.failure = refusal
        for writer in self.writers:
            writer.failed(refusal)
        for check in [check for batch in self._unacked for check in batch.checks]:
            if not check.done():
                check.set_exception(refusal)

    async def _pump(self, connection: AbstractConnection) -> None:
        """Send again what is unacknowledged, then carry on until something breaks."""
        self._transport = transport_of(connection)
        self._write(list(self._unacked))
        self._send_dirty()
        await self._read_replies(connection)

    def _send_dirty(self) -> None:
        self._scheduled = False
        if self._transport is None or not self._dirty:
            return
        dirty, self._dirty = self._dirty, []
        ms = self._now_ns() // 1_000_000
        batches = [batch for writer in dirty for batch in writer.take_batches(ms)]
        # Unacknowledged before sent: a cut in between repeats the batch, which is harmless.
        self._unacked.extend(batches)
        self._sent.set()
        self._write(batches)

    def _write(self, batches: list[Batch]) -> None:
        """Hand batches to the socket.

        What it does not take at once stays in its buffer, which the writers' `pending_max` bounds; a server
        that takes nothing also answers nothing, and is given up after `REPLY_TIMEOUT_S`.
        """
        if self._transport is not None and batches:
            # Packed in C: the library's own packing was half of an entry's cost.
            self._transport.writelines([pack_command(cast(Any, batch.args)) for batch in batches])

    async def _read_replies(self, connection: AbstractConnection) -> None:
        while True:
            if not self._unacked:
                self._sent.clear()
                await self._sent.wait()
            try:
                reply = await read_reply(connection, within_s=REPLY_TIMEOUT_S)
            except ResponseError as error:
                raise refusal_of(error) from error
            self._attempt = 0
            batch = self._unacked.popleft()
            batch.writer.acked(batch.last_seq, int(reply[1]))
            for check in batch.checks:
                if not check.done():
                    check.set_result(None)
