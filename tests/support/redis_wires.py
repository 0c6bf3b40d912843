"""Raw connections to a Redis server, real or modelled: the same words in, the same answers out."""

from __future__ import annotations

import shutil
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import hiredis

from proof.simulation.bus.commands import NO_REPLY
from proof.simulation.bus.link import encoded
from proof.simulation.bus.replies import ErrorReply, Reply
from proof.simulation.bus.server import SimServer
from proof.simulation.bus.session import Parked
from tests.support.valkey import running_valkey

ANSWER_TIMEOUT_S = 20.0
SILENCE_S = 0.05
Word = bytes | str | int

KINDS = ["model", "valkey"]
if shutil.which("redis-server"):
    KINDS.append("redis")


class Wire(Protocol):
    """One connection. Errors are answers: `ErrorReply`."""

    def send(self, *words: Word) -> None: ...
    def receive(self) -> Reply:
        """Return the next answer; a blocking read may wait until its time is over."""
        ...

    def silent(self) -> bool:
        """Return whether no answer has come yet."""
        ...

    def close(self) -> None: ...


def ask(wire: Wire, *words: Word) -> Reply:
    wire.send(*words)
    return wire.receive()


class RealWire:
    """To a server that listens on a Unix socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._socket.connect(path)
        self._reader = hiredis.Reader(replyError=ErrorReply)
        self._ready: deque[Reply] = deque()

    def send(self, *words: Word) -> None:
        self._socket.sendall(hiredis.pack_command(tuple(words)))  # type: ignore[arg-type]

    def receive(self) -> Reply:
        if self._ready:
            return self._ready.popleft()
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("closed by the server")
            self._reader.feed(data)
        return reply

    def silent(self) -> bool:
        self._socket.settimeout(SILENCE_S)
        try:
            self._ready.append(self.receive())
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(ANSWER_TIMEOUT_S)
        return False

    def close(self) -> None:
        self._socket.close()


class ModelWire:
    """To a modelled server, without a loop."""

    def __init__(self, server: SimServer) -> None:
        self._session = server.attach()
        self._ready: list[Reply] = []
        self._parked: Parked | None = None

    def send(self, *words: Word) -> None:
        reply = self._session.server.execute(self._session, encoded(words))
        if isinstance(reply, Parked):
            self._parked = reply
            reply.answered = self._ready.append
        elif reply is not NO_REPLY:
            self._ready.append(reply)

    def receive(self) -> Reply:
        self._ready += self._session.take()
        if not self._ready:
            if not self._session.open:
                raise ConnectionError("closed by the server")
            assert self._parked is not None
            self._parked.timeout()
        return self._ready.pop(0)

    def silent(self) -> bool:
        return not self._ready and not self._session.pushed

    def close(self) -> None:
        self._session.close()


class AnyServer(Protocol):
    """A server for tests, one after the other."""

    kind: str

    def wire(self) -> Wire: ...
    def clean(self) -> None:
        """Close what a test left open, and empty the server."""
        ...


class ModelServer:
    kind = "model"

    def __init__(self) -> None:
        self.clean()

    def clean(self) -> None:
        self.server = SimServer(lambda: time.time_ns() // 1000)

    def wire(self) -> Wire:
        return ModelWire(self.server)


class RealServer:
    """A server process that several tests use one after the other."""

    def __init__(self, kind: str, path: str) -> None:
        self.kind = kind
        self._path = path
        self._wires: list[RealWire] = []

    def wire(self) -> Wire:
        wire = RealWire(self._path)
        self._wires.append(wire)
        return wire

    def hang_up(self) -> None:
        while self._wires:
            self._wires.pop().close()

    def clean(self) -> None:
        self.hang_up()
        wire = RealWire(self._path)
        for words in (("FLUSHALL",), ("FUNCTION", "FLUSH"), ("CONFIG", "SET", "maxmemory", "0")):
            assert ask(wire, *words) == b"OK"
        wire.close()


@contextmanager
def running_server(kind: str) -> Iterator[ModelServer | RealServer]:
    """Run a server of one of `KINDS`."""
    if kind == "model":
        yield ModelServer()
        return
    with running_valkey(binary=shutil.which("redis-server") if kind == "redis" else None) as server:
        real = RealServer(kind, str(server.socket))
        yield real
        real.hang_up()
