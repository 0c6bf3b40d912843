"""Reading streams with cursors of our own.

Consumer groups keep a pending list that has to be read again after each lost reply, and forget their
place with the stream. A cursor that its owner commits together with its effects has neither trouble.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio.connection import AbstractConnection

from shared.bus.client import Address, RedisError, connect, hang_up, read_reply
from shared.bus.port import Entry

REPLY_MARGIN_S = 2.0
"""How much longer than its BLOCK a read may take before the connection is given up."""

RETRY_DELAY_S = 0.2


class RedisStreamReader:
    """See `port.StreamReader`."""

    def __init__(self, address: Address, monotonic_ns: Callable[[], int]) -> None:
        self._address = address
        self._monotonic_ns = monotonic_ns
        self._cursors: dict[str, bytes] = {}
        self._connection: AbstractConnection | None = None
        self._newest_wanted = False
        self._away_since_ns: int | None = None

    @property
    def away_since_ns(self) -> int | None:
        return self._away_since_ns

    def follow(self, stream: str, after_id: str) -> None:
        self._cursors[stream] = after_id.encode()
        self._newest_wanted |= after_id == "$"

    def unfollow(self, stream: str) -> None:
        self._cursors.pop(stream, None)

    def cursor(self, stream: str) -> str:
        return self._cursors[stream].decode()

    async def read(self, *, block_ms: int, count: int) -> list[Entry]:
        if not self._cursors:
            await asyncio.sleep(block_ms / 1000)
            return []
        try:
            connection = self._connection or await self._connect()
            if self._newest_wanted:
                await self._settle_newest(connection)
            streams = list(self._cursors)
            command = (
                "XREAD",
                "COUNT",
                count,
                "BLOCK",
                block_ms,
                "STREAMS",
                *streams,
                *self._cursors.values(),
            )
            await connection.send_command(*command, check_health=False)
            reply = await read_reply(connection, within_s=block_ms / 1000 + REPLY_MARGIN_S)
        except (RedisError, OSError, TimeoutError):
            await self._lost()
            return []
        except asyncio.CancelledError:
            # The reply may still be on its way: this connection must not be used again.
            await self.close()
            raise
        self._away_since_ns = None
        return self._take(reply) if reply else []

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await hang_up(connection)

    def _take(self, reply: list[list[object]]) -> list[Entry]:
        entries: list[Entry] = []
        for key, rows in reply:
            stream = key.decode()  # type: ignore[attr-defined]
            entries.extend(Entry(stream, row[0], row[1][0], row[1][1]) for row in rows)  # type: ignore[attr-defined]
            self._cursors[stream] = entries[-1].id
        return entries

    async def _connect(self) -> AbstractConnection:
        self._connection = await connect(self._address)
        return self._connection

    async def _settle_newest(self, connection: AbstractConnection) -> None:
        """Replace `$` by an id once, so that nothing is skipped between two reads."""
        for stream, cursor in list(self._cursors.items()):
            if cursor == b"$":
                await connection.send_command("XREVRANGE", stream, "+", "-", "COUNT", 1, check_health=False)
                rows = await read_reply(connection, within_s=REPLY_MARGIN_S)
                self._cursors[stream] = rows[0][0] if rows else b"0-0"
        self._newest_wanted = False

    async def _lost(self) -> None:
        if self._away_since_ns is None:
            self._away_since_ns = self._monotonic_ns()
        await self.close()
        await asyncio.sleep(RETRY_DELAY_S)
