"""The bus for a worker: one thread, blocking sockets, nothing between the reply and the callback.

A worker's step (snapshot, journal, intents, all in one function) and its next read travel in one write, so
that committing costs no extra round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from redis.connection import Connection

from shared.bus.client import Address, RedisError, ResponseError
from shared.bus.functions import LIBRARY, VERSION, refusal_of, words_of
from shared.bus.port import BusAway, BusRefused, Fenced, Lease, RolledBack
from shared.wire import topics
from shared.wire.codec import encode, kind_of

REPLY_MARGIN_S = 2.0

Rows = list[list[Any]]
"""Raw entries of one stream: [id, [kind, value]], all bytes."""


class Output(NamedTuple):
    """What a step appends to one stream."""

    stream: str
    first_seq: int
    messages: Sequence[msgspec.Struct]


class BlockingBus:
    """One worker's connection. After any exception but `Fenced`, call `reconnect` and start over."""

    def __init__(self, address: Address, *, now_ns: Callable[[], int], block_ms: int) -> None:
        self._address = address
        self._now_ns = now_ns
        self._block_ms = block_ms
        self._connection: Connection | None = None
        self._owed = 0

    def connect(self) -> None:
        """Raises: BusAway: If Redis does not answer."""
        self.close()
        connection = self._address.blocking_connection(timeout_s=self._block_ms / 1000 + REPLY_MARGIN_S)
        self._connection = connection
        try:
            connection.connect()
        except (RedisError, OSError) as error:
            self.close()
            raise BusAway(f"Redis at {self._address.cli()} does not answer: {error}") from error

    def ready(self) -> None:
        """Connect, and load our functions where the server does not have them.

        Raises:
            BusAway: If Redis does not answer.
            BusRefused: If it refuses.
        """
        self.connect()
        try:
            current = self.call("FCALL", "julie_version", 0) == VERSION
        except BusRefused as refused:
            if "unction not found" not in str(refused):
                raise
            current = False
        if not current:
            self.load_functions()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._owed = 0
        if connection is not None:
            with suppress(RedisError, OSError):
                connection.disconnect()

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply.

        Raises:
            BusAway: If there is no answer; whether it was done is unknown.
            BusRefused, Fenced, RolledBack: If Redis or a function refuses.
        """
        self._send([command])
        return self._receive()

    def head(self, stream: str) -> int:
        """Return the sequence number of the stream's newest entry, 0 if it never had one."""
        return int(self.call("HGET", topics.head(stream), "seq") or 0)

    def last_id(self, stream: str) -> str:
        """Return the id of the newest entry, `0-0` if there is none."""
        rows = self.call("XREVRANGE", stream, "+", "-", "COUNT", 1)
        return rows[0][0].decode() if rows else "0-0"

    def read(self, cursors: Mapping[str, bytes], count: int) -> list[tuple[str, Rows]]:
        """Return new entries after `cursors`, waiting at most `block_ms` for the first."""
        self._send([self._read_command(cursors, count)])
        return _by_stream(self._receive())

    def step_and_read(
        self,
        lease: Lease,
        state_key: str,
        snapshot: bytes,
        outputs: Sequence[Output],
        cursors: Mapping[str, bytes],
        count: int,
    ) -> list[tuple[str, Rows]]:
        """Commit a step and return what comes after it.

        The step is repeatable: sent again after a lost reply it adds nothing twice.
        """
        self._send(
            [self._step_command(lease, state_key, snapshot, outputs), self._read_command(cursors, count)]
        )
        self._receive()
        return _by_stream(self._receive())

    def step(self, lease: Lease, state_key: str, snapshot: bytes, outputs: Sequence[Output]) -> None:
        """Commit a step without reading on."""
        self.call(*self._step_command(lease, state_key, snapshot, outputs))

    def _step_command(
        self, lease: Lease, state_key: str, snapshot: bytes, outputs: Sequence[Output]
    ) -> tuple[Any, ...]:
        ms = self._now_ns() // 1_000_000
        keys: list[Any] = [lease.key, state_key]
        args: list[Any] = [lease.epoch, snapshot]
        for output in outputs:
            keys += [output.stream, topics.head(output.stream)]
            args += [output.first_seq, ms, len(output.messages)]
            for message in output.messages:
                args += [kind_of(message), encode(message)]
        return ("FCALL", "julie_step", len(keys), *keys, *args)

    def _read_command(self, cursors: Mapping[str, bytes], count: int) -> tuple[Any, ...]:
        return ("XREAD", "COUNT", count, "BLOCK", self._block_ms, "STREAMS", *cursors, *cursors.values())

    def _send(self, commands: list[tuple[Any, ...]]) -> None:
        connection = self._connection
        if connection is None or self._owed:
            raise BusAway("not connected")
        packed: list[bytes] = []
        for command in commands:
            packed.extend(connection.pack_command(*command))
        try:
            self._owed = len(commands)
            connection.send_packed_command([b"".join(packed)], check_health=False)
        except (RedisError, OSError) as error:
            self.close()
            raise BusAway(f"Redis at {self._address.cli()} went away: {error}") from error

    def _receive(self) -> Any:
        assert self._connection is not None
        try:
            reply = self._connection.read_response(disconnect_on_error=False)
            self._owed -= 1
        except ResponseError as error:
            self._owed -= 1
            refusal = refusal_of(error)
            self._drain()
            if isinstance(refusal, (Fenced, RolledBack)):
                raise refusal from error
            raise BusRefused(words_of(error)) from error
        except (RedisError, OSError) as error:
            self.close()
            raise BusAway(f"Redis at {self._address.cli()} went away: {error}") from error
        return reply

    def _drain(self) -> None:
        """A refused step leaves its read's reply on the wire: give the connection up."""
        if self._owed:
            self.close()

    def load_functions(self) -> None:
        self.call("FUNCTION", "LOAD", "REPLACE", LIBRARY)


def _by_stream(reply: list[list[Any]] | None) -> list[tuple[str, Rows]]:
    return [(key.decode(), rows) for key, rows in reply or ()]
