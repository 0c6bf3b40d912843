"""A stand-in for `redis-cli`, for machines that have none: the few options the runbook uses, over a socket.

`python redis_cli.py -s SOCKET COMMAND ...`, or `--scan [--pattern P]`. Prints like the original when its
output is not a terminal: one value a line. Errors go to standard error, with exit code 1.
"""

from __future__ import annotations

import sys
from typing import Any

import redis.connection
from redis.exceptions import RedisError, ResponseError


def main(words: list[str]) -> int:
    if len(words) < 3 or words[0] != "-s":
        sys.stderr.write(f"redis-cli: expected -s SOCKET COMMAND ..., got {words}" + "\n")
        return 2
    connection = redis.connection.UnixDomainSocketConnection(path=words[1], protocol=2)
    try:
        if words[2] == "--scan":
            pattern = words[words.index("--pattern") + 1] if "--pattern" in words else "*"
            return scan(connection, pattern)
        connection.send_command(*words[2:])
        show(connection.read_response())
    except ResponseError as error:
        sys.stderr.write(f"(error) {error}" + "\n")
        return 1
    except RedisError as error:
        sys.stderr.write(f"Could not connect to Redis at {words[1]}: {error}" + "\n")
        return 1
    finally:
        connection.disconnect()
    return 0


def scan(connection: Any, pattern: str) -> int:
    cursor = b"0"
    while True:
        connection.send_command("SCAN", cursor, "MATCH", pattern, "COUNT", "1000")
        cursor, keys = connection.read_response()
        for key in keys:
            show(key)
        if cursor == b"0":
            return 0


def show(reply: Any) -> None:
    if isinstance(reply, list):
        for item in reply:
            show(item)
    elif isinstance(reply, bytes):
        sys.stdout.write(reply.decode("utf-8", "replace") + "\n")
    else:
        sys.stdout.write(f"{'' if reply is None else reply}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
