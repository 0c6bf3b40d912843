"""`shared.bus.peek`: asked of servers that answer with a script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.bus.peek import PeekFailed, peek

pytestmark = pytest.mark.integration


@contextmanager
def answering(*pieces: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server for one connection: takes the request, sends `pieces`, hangs up."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                heard.append(link.recv(65_536))
                for piece in pieces:
                    link.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            thread.join()


def test_a_peek_gives_the_password_first_and_returns_only_what_was_asked() -> None:
    with answering(b"+OK\r\n+OK\r\n$3\r\na", b"bc\r\n$-1\r\n") as (port, heard):
        found = peek([("GET", "x"), ("GET", "y")], port=port, db=2, password="p w", within_s=5)
    assert found == [b"abc", None]
    assert heard == [
        b"*2\r\n$4\r\nAUTH\r\n$3\r\np w\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n"
        b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n*2\r\n$3\r\nGET\r\n$1\r\ny\r\n"
    ]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"-WRONGPASS invalid password\r\n", "WRONGPASS"),
        (b"$100\r\nabc", "no whole answer"),
        (b"", "no whole answer"),
        (b"<html>", "does not answer"),
    ],
)
def test_a_peek_tells_what_was_wrong_and_not_the_password(answer: bytes, says: str) -> None:
    with answering(answer) as (port, _), pytest.raises(PeekFailed, match=says) as caught:
        peek([("GET", "x")], port=port, password="hunter22", within_s=5)
    assert "hunter22" not in str(caught.value)


def test_a_peek_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PeekFailed, match="does not answer"):
        peek([("GET", "x")], port=port, within_s=5)
    with pytest.raises(PeekFailed, match="does not answer"):
        peek([("GET", "x")], unix_path="/nowhere/redis.sock", within_s=5)
