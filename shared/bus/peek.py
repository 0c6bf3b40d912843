"""A few questions to Redis by the cheapest means, for a check that starts a process every few seconds.

The client library takes longer to import than everything else that a healthcheck does: half a second of a
core against some milliseconds. Replies are read whole or not at all; nothing is ever written.
"""

from __future__ import annotations

import socket
from typing import Any

import hiredis

REPLY_BYTES_MAX = 1_000_000


class PeekFailed(Exception):
    """Redis did not answer, or refused. The message never holds the password."""


def peek(
    commands: list[tuple[str, ...]],
    *,
    unix_path: str | None = None,
    host: str = "127.0.0.1",
    port: int = 6379,
    db: int = 0,
    username: str | None = None,
    password: str | None = None,
    within_s: float,
) -> list[bytes | None]:
    """Return the reply of each command; each must be one whose reply is a string or nothing.

    Args:
        commands: Such as `("GET", "beat:feed")`.
        unix_path: Of the server's socket; None for TCP.
        host: Of the server.
        port: Of the server.
        db: Number of the database.
        username: ACL user; None for the default user.
        password: None for no password.
        within_s: Longest wait for the connection, and then for each piece of the answer.

    Raises:
        PeekFailed: If there is no answer in time, or it is a refusal.
    """
    before: list[tuple[str, ...]] = []
    if password is not None:
        before.append(("AUTH", username, password) if username else ("AUTH", password))
    if db:
        before.append(("SELECT", str(db)))
    where = unix_path or f"{host}:{port}"
    reader = hiredis.Reader()
    replies: list[bytes | None] = []
    received = 0
    try:
        with _connected(unix_path, host, port, within_s) as link:
            link.sendall(b"".join(_packed(command) for command in [*before, *commands]))
            while len(replies) < len(before) + len(commands):
                reply = reader.gets()
                if isinstance(reply, hiredis.ReplyError):
                    raise PeekFailed(f"Redis at {where} refused: {reply}")
                if reply is not False:
                    replies.append(reply)
                    continue
                piece = link.recv(65_536)
                received += len(piece)
                if not piece or received > REPLY_BYTES_MAX:
                    raise PeekFailed(f"Redis at {where} gave no whole answer")
                reader.feed(piece)
    except (OSError, hiredis.ProtocolError) as error:
        raise PeekFailed(f"Redis at {where} does not answer: {error}") from error
    return replies[len(before) :]


def _packed(command: tuple[str, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows one word only
    return packed


def _connected(unix_path: str | None, host: str, port: int, within_s: float) -> socket.socket:
    if unix_path is None:
        # As bytes: for a str the interpreter loads its tables of international names first.
        where: Any = (host.encode("ascii"), port)
        return socket.create_connection(where, timeout=within_s)
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(within_s)
    try:
        link.connect(unix_path)
    except OSError:
        link.close()
        raise
    return link
