"""The bus on Redis: one object per process, see `port.Bus`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from redis.asyncio.connection import AbstractConnection

from shared.bus.client import (
    COMMAND_TIMEOUT_S,
    Address,
    AuthenticationError,
    RedisConnectionError,
    RedisError,
    RedisTimeoutError,
    ResponseError,
    connect,
    hang_up,
)
from shared.bus.functions import load_functions, refusal_of, words_of
from shared.bus.port import BusAway, BusRefused, Entry, Lease
from shared.bus.reader import RedisStreamReader
from shared.bus.writer import OneStreamWriter, WriterPipe
from shared.wire import topics

T = TypeVar("T")

SUBSCRIPTION_PING_S = 5.0
"""A silent subscription is probed this often: pub/sub over a dead link is silent for ever."""

SUBSCRIBE_RETRY_S = 0.2


class RedisBus:
    """See `port.Bus`. Reads may be repeated, everything else is sent once.

    Attributes:
        writers: Of all streams that were opened, with what Redis has acknowledged to each.
    """

    def __init__(
        self, address: Address, *, now_ns: Callable[[], int], monotonic_ns: Callable[[], int]
    ) -> None:
        self.address = address
        self._monotonic_ns = monotonic_ns
        self._once = address.once_client()
        self._reads = address.retrying_client()
        self._now_ns = now_ns
        self._pipe = WriterPipe(address, now_ns)
        self.writers: Sequence[OneStreamWriter] = self._pipe.writers
        self._readers: list[RedisStreamReader] = []

    async def ready(self) -> None:
        where = f"Redis at {self.address.cli()}"
        try:
            connection = await connect(self.address)
            try:
                await load_functions(connection)
            finally:
                await hang_up(connection)
        except ResponseError as error:
            raise BusRefused(f"{where} cannot be used: {error}") from error
        except (RedisError, OSError, TimeoutError) as error:
            if _is_about_passwords(error):
                raise BusRefused(f"{where} refuses us: {error}; check redis.password_file") from error
            raise BusAway(f"{where} does not answer: {error}") from error

    async def open(self, stream: str, *, entries_max: int = 0, pending_max: int = 65_536) -> OneStreamWriter:
        self._pipe.start()
        epoch, seq = await self._fcall("julie_open", [topics.head(stream)], [self._clock_us()])
        return OneStreamWriter(self._pipe, stream, epoch, seq, entries_max, pending_max)

    def _clock_us(self) -> int:
        """An emptied Redis forgets epochs; the clock goes on, so what is opened later is newer still."""
        return self._now_ns() // 1_000

    def reader(self) -> RedisStreamReader:
        reader = RedisStreamReader(self.address, self._monotonic_ns)
        self._readers.append(reader)
        return reader

    async def get(self, key: str) -> bytes | None:
        return cast("bytes | None", await self._do(self._reads.get(key)))

    async def set(self, key: str, value: bytes, *, expire_s: float | None = None) -> None:
        await self._do(self._once.set(key, value, px=_ms(expire_s)))

    async def delete(self, key: str) -> None:
        await self._do(self._once.delete(key))

    async def hash_set(self, key: str, values: Mapping[str, bytes]) -> None:
        pipe = self._once.pipeline(transaction=True)
        pipe.delete(key)
        fields: dict[Any, Any] = dict(values)
        pipe.hset(key, mapping=fields)
        await self._do(pipe.execute())

    async def hash_get(self, key: str) -> dict[str, bytes]:
        found = await self._do(cast("Awaitable[dict[bytes, bytes]]", self._reads.hgetall(key)))
        # Anybody can write a field: a name that is no text must not stop its reader.
        return {name.decode("utf-8", "replace"): value for name, value in found.items()}

    async def hash_drop(self, key: str, fields: Sequence[str]) -> None:
        await self._do(self._once.hdel(key, *fields))

    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        pipe = self._reads.pipeline(transaction=False)
        for stream in streams:
            pipe.hget(topics.head(stream), "seq")
        found = await self._do(pipe.execute())
        return {stream: int(seq or 0) for stream, seq in zip(streams, found, strict=True)}

    async def last(self, stream: str, count: int = 1) -> list[Entry]:
        rows = await self._do(self._reads.execute_command("XREVRANGE", stream, "+", "-", "COUNT", count))
        return _entries(stream, rows)[::-1]

    async def between(self, stream: str, first_id: str, last_id: str, count: int) -> list[Entry]:
        rows = await self._do(
            self._reads.execute_command("XRANGE", stream, first_id, last_id, "COUNT", count)
        )
        return _entries(stream, rows)

    async def between_newest(self, stream: str, last_id: str, count: int) -> list[Entry]:
        """Return entries up to `last_id`, newest first; for looking back over a long stream."""
        rows = await self._do(self._reads.execute_command("XREVRANGE", stream, last_id, "-", "COUNT", count))
        return _entries(stream, rows)

    async def length(self, stream: str) -> int:
        return int(await self._do(self._reads.xlen(stream)))

    async def trim_before(self, stream: str, min_id: str) -> int:
        return int(await self._do(self._once.xtrim(stream, minid=min_id, approximate=False)))

    async def keep_newest(self, key: str, values: Sequence[bytes], *, entries_max: int) -> None:
        pipe = self._once.pipeline(transaction=True)
        pipe.lpush(key, *values)
        pipe.ltrim(key, 0, entries_max - 1)
        await self._do(pipe.execute())

    async def keys(self, pattern: str) -> list[str]:
        async def scan() -> list[str]:
            return sorted({key.decode() async for key in self._reads.scan_iter(match=pattern, count=500)})

        return await self._do(scan())

    async def info(self) -> dict[str, str]:
        found = await self._do(self._reads.info())
        return {str(name): str(value) for name, value in found.items()}

    async def publish(self, channel: str, value: bytes) -> None:
        await self._do(self._once.publish(channel, value))

    async def set_and_publish(
        self, key: str, channel: str, value: bytes, *, expire_s: float | None = None
    ) -> None:
        pipe = self._once.pipeline(transaction=False)
        pipe.set(key, value, px=_ms(expire_s))
        pipe.publish(channel, value)
        await self._do(pipe.execute())

    async def subscribe(self, channels: Sequence[str]) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            try:
                connection = await connect(self.address)
                try:
                    await connection.send_command("SUBSCRIBE", *channels)
                    async for message in _messages(connection):
                        yield message
                finally:
                    await hang_up(connection)
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(SUBSCRIBE_RETRY_S)

    async def lease(self, key: str, holder: str, ttl_s: float) -> Lease | str:
        reply = await self._fcall("julie_lease", [key], [holder, _ms(ttl_s), self._clock_us()])
        return Lease(key, holder, reply[0]) if reply[1] else str(reply[2].decode())

    async def renew(self, lease: Lease, ttl_s: float) -> bool:
        return bool(await self._fcall("julie_renew", [lease.key], [lease.holder, lease.epoch, _ms(ttl_s)]))

    async def release(self, lease: Lease) -> bool:
        return bool(await self._fcall("julie_release", [lease.key], [lease.holder, lease.epoch]))

    async def budget(
        self, name: str, *, requests_max: int, window_s: float, reserve: int, urgent: bool, member: str,
        last: str = "",
    ) -> float | None:  # fmt: skip
        args = [requests_max, _ms(window_s), reserve, int(urgent), member, last]
        wait_ms = await self._fcall("julie_budget", [topics.budget(name), topics.pause(name)], args)
        return None if wait_ms < 0 else float(wait_ms) / 1000

    async def budget_recall(self, name: str, window_s: float, granted: Mapping[str, float]) -> None:
        ages = [word for member, age_s in granted.items() for word in (member, _ms(age_s))]
        await self._fcall("julie_budget_recall", [topics.budget(name)], [_ms(window_s), *ages])

    async def budget_pause(self, name: str, seconds: float) -> None:
        await self._fcall("julie_budget_pause", [topics.pause(name)], [_ms(seconds)])

    async def close(self) -> None:
        await self._pipe.close()
        for reader in self._readers:
            await reader.close()
        for client in (self._once, self._reads):
            with suppress(RedisError, OSError):
                await client.aclose(close_connection_pool=True)

    async def _fcall(self, name: str, keys: list[str], args: list[Any]) -> Any:
        try:
            return await self._do(self._once.execute_command("FCALL", name, len(keys), *keys, *args))
        except BusRefused as refusal:
            if "unction not found" not in str(refusal):
                raise
            # The server lost its functions (emptied, or another build): the refusal proves nothing was done.
            await self.ready()
            return await self._do(self._once.execute_command("FCALL", name, len(keys), *keys, *args))

    async def _do(self, command: Awaitable[T]) -> T:
        task = asyncio.current_task()
        cancels = task.cancelling() if task is not None else 0
        try:
            return await command
        except ResponseError as error:
            refusal = refusal_of(error)
            raise refusal if isinstance(refusal, BusRefused) else BusRefused(words_of(error)) from error
        except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError) as error:
            why = f"Redis at {self.address.cli()} gave no answer within {COMMAND_TIMEOUT_S} s: {error}"
            raise BusAway(why) from error
        finally:
            # The library's `wait_for` of Python 3.11 swallows a cancellation that arrives with the reply, and
            # an error is a reply too: whoever survives those would go on for ever after he was told to stop.
            if task is not None and task.cancelling() > cancels:
                raise asyncio.CancelledError


def _is_about_passwords(error: BaseException | None) -> bool:
    """Return whether the server wants another password; the library wraps that into a broken connection."""
    while error is not None and not isinstance(error, AuthenticationError):
        error = error.__cause__
    return error is not None


async def _messages(connection: AbstractConnection) -> AsyncIterator[tuple[str, bytes]]:
    """Yield what arrives; probe a silent link, give up one that does not answer the probe."""
    reading: asyncio.Task[Any] | None = None
    probed = False
    try:
        while True:
            # The read goes on across a probe: stopping it could lose half a reply.
            reading = reading or asyncio.ensure_future(
                connection.read_response(timeout=math.inf, disconnect_on_error=False)
            )
            done, _ = await asyncio.wait({reading}, timeout=SUBSCRIPTION_PING_S)
            if not done:
                if probed:
                    raise TimeoutError("the subscription does not answer")
                probed = True
                await connection.send_command("PING", check_health=False)
                continue
            reply, reading, probed = reading.result(), None, False
            if reply[0] == b"message":
                yield reply[1].decode(), reply[2]
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, round(seconds * 1000))


def _entries(stream: str, rows: list[Any]) -> list[Entry]:
    return [Entry(stream, row[0], row[1][0], row[1][1]) for row in rows]
