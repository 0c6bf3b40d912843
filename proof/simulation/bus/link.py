"""Connections to a `SimServer` that the bus code cannot tell from the client library's.

A command travels when its answer is read: until then it lies in the socket. Each one passes the process's
`Calls`, where faults are put in. A broken connection stays broken; its user makes a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import hiredis
from redis._parsers.base import BaseParser

from proof.simulation.bridge import await_
from proof.simulation.bus.commands import NO_REPLY
from proof.simulation.bus.replies import ErrorReply, Reply
from proof.simulation.bus.server import ServerDown, SimServer
from proof.simulation.bus.session import Parked, Session
from proof.simulation.calls import Calls
from shared.bus.client import RedisConnectionError, RedisTimeoutError
from shared.wire import topics

Word = bytes | str | int | float
Words = list[bytes]
TOKEN = topics.SESSION_TOKEN.encode()
GREETING: Words = [b"CLIENT", b"SETINFO", b"LIB-NAME", b"redis-py"]


def encoded(words: Iterable[Word]) -> Words:
    """Return words as the client library sends them."""
    return [
        word
        if type(word) is bytes
        else word.encode()
        if type(word) is str
        else b"%d" % word
        if type(word) is int
        else repr(word).encode()
        for word in words
    ]


def call_name(words: Words) -> str:
    """Return how a command is called for `Calls`: its name, or that of the function it calls.

    The one key that holds a secret is named: whoever writes it may be killed at just that.
    """
    if words[0] == b"SET" and words[1] == TOKEN:
        return "SET session:token"
    return (words[1] if words[0] == b"FCALL" else words[0]).decode()


def lost() -> Exception:
    return RedisConnectionError("Connection closed by server.")


def error_of(refusal: ErrorReply) -> Exception:
    """Return the exception that the client library makes of a refusal."""
    error: Exception = BaseParser.parse_error(refusal.text)
    return error


async def answer_of(parked: Parked) -> Reply:
    """Wait for an answer that the server still owes.

    Raises:
        RedisConnectionError: If the connection breaks meanwhile.
    """
    loop = asyncio.get_running_loop()
    session = parked.session
    future: asyncio.Future[Reply] = loop.create_future()

    def answered(reply: Reply) -> None:
        if not future.done():
            future.set_result(reply)

    def broken() -> None:
        if not session.open and not future.done():
            future.set_exception(lost())

    parked.answered, before, session.on_event = answered, session.on_event, broken
    timer = None
    if parked.reading is not None and parked.reading.block_ms:
        timer = loop.call_later(parked.reading.block_ms / 1000, parked.timeout)
    try:
        return await future
    finally:
        session.on_event = before
        if timer is not None:
            timer.cancel()


class Link:
    """One connection's way to the server."""

    def __init__(self, server: SimServer, calls: Calls) -> None:
        self._server = server
        self._calls = calls
        self._session: Session | None = None

    async def connect(self) -> None:
        """Raises: RedisConnectionError: If nobody listens, or the greeting is refused."""

        def greet() -> Reply:
            self._session = self._server.attach()
            return self._server.execute(self._session, GREETING)

        try:
            await self._carry("CONNECT", greet)
        except ServerDown as error:
            raise RedisConnectionError(f"Error connecting: {error}") from error

    async def ask(self, words: Words) -> Reply:
        """Return the answer to one command.

        Raises:
            RedisError: As the library does, if the command is refused or the connection breaks.
        """

        def one() -> Reply:
            reply = self._server.execute(self._open_session(), words)
            self._calls.carried_out(words, reply)
            return reply

        return await self._carry(call_name(words), one)

    async def ask_all(self, commands: list[Words], name: str) -> list[Reply]:
        """Return the answers to commands that travel together; a refused one's is an exception."""

        def each() -> list[Reply]:
            session = self._open_session()
            replies = [self._server.execute(session, words) for words in commands]
            for words, reply in zip(commands, replies, strict=True):
                self._calls.carried_out(words, reply)
            return replies

        replies = await self._carry(name, each)
        return [await answer_of(reply) if type(reply) is Parked else reply for reply in replies]

    async def _carry(self, name: str, effect: Callable[[], Reply]) -> Reply:
        try:
            reply = await self._calls.call("bus", name, effect, lost)
            if type(reply) is Parked:
                reply = await answer_of(reply)
        except BaseException:
            # Whether and when an answer comes is unknown from now on.
            self.close()
            raise
        if type(reply) is ErrorReply:
            raise error_of(reply)
        return reply

    def _open_session(self) -> Session:
        session = self._session
        if session is None or not session.open:
            raise lost()
        return session

    @property
    def session(self) -> Session | None:
        """The server's end, if the connection is whole."""
        session = self._session
        return session if session is not None and session.open else None

    def leave_behind(self, commands: Iterable[Words]) -> None:
        """Close with commands in the socket: a frozen server finds them there when it goes on."""
        session = self.session
        if session is not None and self._server.frozen:
            for words in commands:
                self._server.execute(session, words)
        self.close()

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


class SimConnection:
    """Stands for the library's asyncio connection, as far as the bus uses it."""

    def __init__(self, server: SimServer, calls: Calls) -> None:
        self._link = Link(server, calls)
        self._outgoing: deque[Words] = deque()
        self._news: asyncio.Future[None] | None = None
        self._incoming: deque[Reply] = deque()
        self._parser = hiredis.Reader()
        self._writer = self
        self.transport = self

    async def connect(self) -> None:
        await self._link.connect()
        session = self._link.session
        if session is not None:
            session.on_event = self._wake

    async def disconnect(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._link.leave_behind(self._outgoing)
        self._outgoing.clear()

    async def send_command(self, *words: Word, check_health: bool = True) -> None:
        if self._link.session is None:
            raise lost()
        self._outgoing.append(encoded(words))
        self._wake()

    def writelines(self, packed: Iterable[bytes]) -> None:
        """Take commands as bytes; what is written into a broken connection is lost, as in a socket."""
        feed, gets = self._parser.feed, self._parser.gets
        for data in packed:
            feed(data)
            self._outgoing.append(gets())
        self._wake()

    async def read_response(self, *, timeout: float = 0, disconnect_on_error: bool = False) -> Reply:
        """Return the next answer, or the next pushed message.

        Raises:
            RedisError: As the library does.
        """
        while True:
            if self._incoming:
                return self._incoming.popleft()
            session = self._link.session
            if session is None:
                raise lost()
            if session.pushed:
                self._incoming.extend(session.take())
            elif self._outgoing:
                reply = await self._link.ask(self._outgoing.popleft())
                if reply is not NO_REPLY:
                    return reply
            else:
                self._news = asyncio.get_running_loop().create_future()
                try:
                    await self._news
                finally:
                    self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class SimBlockingConnection:
    """Stands for the library's blocking connection, in a worker that `run_blocking` runs."""

    def __init__(self, server: SimServer, calls: Calls, timeout_s: float) -> None:
        self._link = Link(server, calls)
        self._timeout_s = timeout_s
        self._outgoing: deque[Words] = deque()

    def connect(self) -> None:
        self._wait(self._link.connect())

    def disconnect(self) -> None:
        self._link.leave_behind(self._outgoing)
        self._outgoing.clear()

    def pack_command(self, *words: Word) -> list[bytes]:
        return [hiredis.pack_command(words)]  # type: ignore[arg-type]  # its stub knows one word only

    def send_packed_command(self, packed: list[bytes], check_health: bool = True) -> None:
        if self._link.session is None:
            raise lost()
        parser = hiredis.Reader()
        for data in packed:
            parser.feed(data)
            while (words := parser.gets()) is not False:
                self._outgoing.append(words)

    def read_response(self, *, disconnect_on_error: bool = True) -> Reply:
        return self._wait(self._link.ask(self._outgoing.popleft()))

    def _wait(self, waited: Any) -> Reply:
        return await_(self._within(waited))

    async def _within(self, waited: Any) -> Reply:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waited
        except TimeoutError:
            raise RedisTimeoutError("Timeout reading from socket") from None
