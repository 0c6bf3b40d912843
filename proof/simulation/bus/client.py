"""A client of a `SimServer` with the commands that the bus asks of the library's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from redis._parsers.helpers import parse_info

from proof.simulation.bus.link import Link, Word, Words, encoded, error_of
from proof.simulation.bus.replies import ErrorReply, Reply
from proof.simulation.bus.server import SimServer
from proof.simulation.calls import Calls
from shared.bus.client import COMMAND_TIMEOUT_S, RedisConnectionError, RedisTimeoutError

T = TypeVar("T")
BACKOFF_S = (0.05, 0.1)
"""Waits before a read is asked again; without the library's chance, which has no seed."""


class _Commands:
    """Commands as the library spells them; how they travel is the subclass's."""

    def execute_command(self, *words: Word) -> Any:
        raise NotImplementedError

    def get(self, key: str) -> Any:
        return self.execute_command("GET", key)

    def set(self, key: str, value: Word, *, px: int | None = None) -> Any:
        return self.execute_command("SET", key, value, *(() if px is None else ("PX", px)))

    def delete(self, *keys: str) -> Any:
        return self.execute_command("DEL", *keys)

    def hget(self, key: str, name: str) -> Any:
        return self.execute_command("HGET", key, name)

    def hset(self, key: str, *, mapping: Mapping[Any, Word]) -> Any:
        return self.execute_command("HSET", key, *(word for pair in mapping.items() for word in pair))

    def hdel(self, key: str, *names: str) -> Any:
        return self.execute_command("HDEL", key, *names)

    def lpush(self, key: str, *values: Word) -> Any:
        return self.execute_command("LPUSH", key, *values)

    def ltrim(self, key: str, start: int, end: int) -> Any:
        return self.execute_command("LTRIM", key, start, end)

    def publish(self, channel: str, value: Word) -> Any:
        return self.execute_command("PUBLISH", channel, value)


class SimClient(_Commands):
    """Stands for the library's asyncio client; `repeats` is how often a lost command is sent again."""

    def __init__(self, server: SimServer, calls: Calls, *, repeats: int) -> None:
        self._link = Link(server, calls)
        self._repeats = repeats

    async def execute_command(self, *words: Word) -> Any:
        sent = encoded(words)
        return await self._tried(lambda: self._link.ask(sent))

    async def together(self, commands: list[Words], name: str) -> list[Reply]:
        return await self._tried(lambda: self._link.ask_all(commands, name))

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    if self._link.session is None:
                        await self._link.connect()
                    return await ask()
            except TimeoutError:
                error: Exception = RedisTimeoutError("Timeout reading from socket")
            except RedisConnectionError as broken:
                error = broken
            if attempt == self._repeats:
                raise error
            await asyncio.sleep(BACKOFF_S[attempt])
            attempt += 1

    def pipeline(self, *, transaction: bool) -> SimPipeline:
        return SimPipeline(self, transaction=transaction)

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        words = await self.execute_command("HGETALL", key)
        return dict(zip(words[::2], words[1::2], strict=True))

    async def xlen(self, key: str) -> Any:
        return await self.execute_command("XLEN", key)

    async def xtrim(self, key: str, *, minid: str, approximate: bool) -> Any:
        return await self.execute_command("XTRIM", key, "MINID", *(("~",) if approximate else ()), minid)

    async def lrange(self, key: str, start: int, end: int) -> Any:
        return await self.execute_command("LRANGE", key, start, end)

    async def scan_iter(self, *, match: str, count: int) -> AsyncIterator[bytes]:
        cursor: bytes | None = None
        while cursor != b"0":
            cursor, keys = await self.execute_command("SCAN", cursor or b"0", "MATCH", match, "COUNT", count)
            for key in keys:
                yield key

    async def info(self) -> dict[str, Any]:
        found: dict[str, Any] = parse_info(await self.execute_command("INFO"))
        return found

    async def time(self) -> tuple[int, int]:
        seconds, micros = await self.execute_command("TIME")
        return int(seconds), int(micros)

    async def flushall(self) -> Any:
        return await self.execute_command("FLUSHALL")

    async def function_flush(self) -> Any:
        return await self.execute_command("FUNCTION", "FLUSH")

    async def config_set(self, name: str, value: str) -> Any:
        return await self.execute_command("CONFIG", "SET", name, value)

    async def aclose(self, *, close_connection_pool: bool) -> None:
        self._link.close()


class SimPipeline(_Commands):
    """Commands that travel in one write; one after the other, or as a transaction."""

    def __init__(self, client: SimClient, *, transaction: bool) -> None:
        self._client = client
        self._transaction = transaction
        self._commands: list[Words] = []

    def execute_command(self, *words: Word) -> None:
        self._commands.append(encoded(words))

    async def execute(self) -> list[Reply]:
        """Raises: RedisError: If one of them was refused: the first of them."""
        commands, self._commands = self._commands, []
        if not commands:
            return []
        if self._transaction:
            replies = await self._client.together([[b"MULTI"], *commands, [b"EXEC"]], "MULTI")
            # A command that is refused before EXEC says why; EXEC says only that it was not done.
            _raise_first(replies[:-1])
            replies = _raise_first(replies[-1:])[0]
        else:
            replies = await self._client.together(commands, commands[0][0].decode())
        return _raise_first(replies)


def _raise_first(replies: list[Reply]) -> list[Reply]:
    for reply in replies:
        if type(reply) is ErrorReply:
            raise error_of(reply)
    return replies
