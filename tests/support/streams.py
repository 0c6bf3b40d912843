"""Reading a stack's streams from outside, without the product's reader."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis.connection

from tests.support.stack import Stack

PAGE = 5_000


class Stored(NamedTuple):
    """One entry as anyone with `redis-cli` sees it."""

    seq: int
    kind: str
    message: dict[str, Any]


@functools.cache
def socket_of(stack: Stack) -> Path:
    """Return the bus's socket, wherever this run keeps it. Asked once: it costs a process."""
    cli: str = stack.status()["bus"]["redis_cli"]
    return Path(cli.partition(" -s ")[2].split(" ")[0])


def read_stream(stack: Stack, key: str) -> Iterator[Stored]:
    """Yield every entry of a stream, oldest first."""
    connection = redis.connection.UnixDomainSocketConnection(path=str(socket_of(stack)), protocol=2)
    after = b"-"
    try:
        while True:
            connection.send_command("XRANGE", key, after, "+", "COUNT", PAGE)
            rows = connection.read_response()
            for entry_id, (kind, value) in rows:
                yield Stored(int(entry_id.partition(b"-")[2]), kind.decode(), json.loads(value))
            if len(rows) < PAGE:
                return
            after = b"(" + rows[-1][0]
    finally:
        connection.disconnect()
