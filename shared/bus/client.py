"""Connections to Redis: the only place that makes them, so that no library default can send a write twice.

redis-py retries a command after a lost reply, whatever the command (measured: one lost reply to `XADD` gave
two entries). Clients therefore come from two methods: `retrying_client` for reads, and `once_client`
for everything else. Hot paths use bare connections (`raw_connection`, `blocking_connection`), which never
retry either. A plain `Redis()` is banned by lint.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlparse

import redis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import Connection as SyncConnection
from redis.connection import UnixDomainSocketConnection as SyncUnixConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

COMMAND_TIMEOUT_S = 2.0
"""No command may hold a process longer; a slower Redis counts as away."""

CONNECT_TIMEOUT_S = 2.0

__all__ = [
    "Address",
    "AuthenticationError",
    "RedisConnectionError",
    "RedisError",
    "RedisTimeoutError",
    "ResponseError",
    "connect",
    "hang_up",
    "read_reply",
    "transport_of",
]


class AddressRefused(ValueError):
    """The setting `redis.url` cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the bus is, and how it is reached. The password never shows in `repr`.

    Only its last methods make connections; an address of another kind may make them to a simulated server.
    """

    unix_path: str | None = None
    host: str = "127.0.0.1"
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str, *, password: str | None = None, username: str | None = None) -> Address:
        """Read `unix:///path/to/socket` or `redis://host:port/db`.

        Raises:
            AddressRefused: If the scheme is another one, or the URL carries a password (it would show in
                logs and process lists; use `redis.password_file`).
        """
        parts = urlparse(url)
        if parts.password:
            raise AddressRefused("redis.url: put the password into the file named by redis.password_file")
        if parts.scheme == "unix" and parts.path:
            return cls(unix_path=parts.path, username=username, password=password)
        if parts.scheme == "redis" and parts.hostname:
            db = parts.path.strip("/")
            if db and not db.isdigit():
                raise AddressRefused(f"redis.url: the database after the host must be a number, not {db!r}")
            return cls(
                host=parts.hostname,
                port=parts.port or 6379,
                db=int(db or 0),
                username=username,
                password=password,
            )
        raise AddressRefused("redis.url: write unix:///path/to/redis.sock or redis://host:port/0")

    def cli(self) -> str:
        """Return the `redis-cli` command that reaches this bus (without the password)."""
        where = f"-s {self.unix_path}" if self.unix_path else f"-h {self.host} -p {self.port}"
        return f"redis-cli {where}" + (f" -n {self.db}" if self.db else "")

    def raw_connection(self) -> AbstractConnection:
        """Return an unconnected asyncio connection that never retries and has no timeout of its own.

        Its user bounds the wait: a blocking read lasts as long as its BLOCK plus a margin.
        """
        common: dict[str, Any] = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "protocol": 2,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": None,
            "retry": AsyncRetry(NoBackoff(), 0),
            "health_check_interval": 0,
        }
        if self.unix_path:
            return UnixDomainSocketConnection(path=self.unix_path, **common)
        return Connection(host=self.host, port=self.port, socket_keepalive=True, **common)

    def blocking_connection(self, *, timeout_s: float) -> SyncConnection:
        """Return an unconnected blocking connection for a worker's own thread; never retries."""
        common: dict[str, Any] = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "protocol": 2,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
        }
        if self.unix_path:
            unix = SyncUnixConnection(path=self.unix_path, **common)  # type: ignore[abstract]
            return cast(SyncConnection, unix)
        return SyncConnection(host=self.host, port=self.port, socket_keepalive=True, **common)

    def once_client(self) -> redis.asyncio.Redis:
        """Return a client that sends each command at most once."""
        return self._client(AsyncRetry(NoBackoff(), 0))

    def retrying_client(self) -> redis.asyncio.Redis:
        """Return a client for reads only: a lost reply is asked for again, twice at most."""
        return self._client(AsyncRetry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2))

    def _client(self, retry: AsyncRetry) -> redis.asyncio.Redis:
        kind: type[AbstractConnection] = UnixDomainSocketConnection if self.unix_path else Connection
        where: dict[str, Any] = (
            {"path": self.unix_path}
            if self.unix_path
            else {"host": self.host, "port": self.port, "socket_keepalive": True}
        )
        pool = redis.asyncio.ConnectionPool(
            connection_class=kind,
            db=self.db,
            username=self.username,
            password=self.password,
            protocol=2,
            socket_timeout=COMMAND_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=retry,
            max_connections=16,
            **where,
        )
        client = redis.asyncio.Redis(connection_pool=pool)
        for command in ("XRANGE", "XREVRANGE"):
            # As Redis says it: the library's dictionaries cost time and lose a field that stands twice.
            client.response_callbacks[command] = cast(Any, _as_it_is)
        return client


async def connect(address: Address) -> AbstractConnection:
    """Return a connected raw connection.

    Raises:
        RedisError, OSError, TimeoutError: If it is not there in time. A frozen server accepts a connection
            and never answers the greeting, so the whole of it has one deadline.
    """
    connection = address.raw_connection()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await connection.connect()
    except TimeoutError:
        await hang_up(connection)
        raise TimeoutError(f"no greeting within {CONNECT_TIMEOUT_S:g} s") from None
    except BaseException:
        await hang_up(connection)
        raise
    return connection


async def read_reply(connection: AbstractConnection, *, within_s: float) -> Any:
    """Return the next reply; None is a reply too.

    The library's own timeout returns None as well and keeps the connection, one reply behind for ever.

    Raises:
        TimeoutError: If there is none in time: the connection must not be used any more.
        RedisError, OSError: If the link is broken or the reply is an error.
    """
    try:
        async with asyncio.timeout(within_s):
            return await connection.read_response(timeout=math.inf, disconnect_on_error=False)
    except TimeoutError:
        raise TimeoutError(f"no answer within {within_s:g} s") from None


def transport_of(connection: AbstractConnection) -> asyncio.WriteTransport:
    """Return what writes to a connection's socket without waiting."""
    assert connection._writer is not None
    return connection._writer.transport


async def hang_up(connection: AbstractConnection) -> None:
    """Close a connection at once, whatever is still unsent or owed, and return when its socket is gone.

    Closing politely would wait for a frozen server to take what is in the buffer; not waiting at all
    leaves a socket behind when the event loop ends.
    """
    writer = connection._writer
    if writer is not None:
        writer.transport.abort()
    with suppress(RedisError, OSError):
        await connection.disconnect()


def _as_it_is(reply: Any, **_options: Any) -> Any:
    return reply
