"""SignalR's JSON hub protocol without I/O, for both ends of a link.

A link carries records: one JSON object each, ended by the byte 0x1E. A WebSocket
frame usually holds whole records, often several; the specification counts on that,
we do not, and keep a remainder. The end that connects speaks first, with a
handshake; records may be glued behind its answer in the same frame.

A connection is driven by four verbs: give it bytes (`receive`), tell it the time
(`on_time`), ask it to say something (`invoke`, `send`, `complete`, `close`), and
take the bytes it wants to send (`take_output`). It never reads a clock: `now_ns`
is any clock that does not go backward.

Arguments stay undecoded (`msgspec.Raw`): the reader knows their type from the
target and decodes them once, straight into it. A record that cannot be read is
reported and the link goes on; only one that grows beyond the size limit without
an end closes it, because nobody can say where the next one starts.

Source: dotnet/aspnetcore, HubProtocol.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from shared.broker.projectx.records import (
    EXCERPT_BYTES_MAX,
    RECORD_SEPARATOR,
    RecordSplitter,
    RecordTooLarge,
)

CLIENT_RECORD_BYTES_MAX: Final = 8 * 1024 * 1024  # snapshots of the book go far beyond 64 KB
SERVER_RECORD_BYTES_MAX: Final = 32 * 1024  # ASP.NET's default for one message of a client
PING_AFTER_NS: Final = 15_000_000_000  # KeepAliveInterval
PEER_SILENT_AFTER_NS: Final = 30_000_000_000  # ClientTimeoutInterval, serverTimeout
HANDSHAKE_WITHIN_NS: Final = 15_000_000_000  # HandshakeTimeout

HANDSHAKE_REQUEST: Final = b'{"protocol":"json","version":1}\x1e'
HANDSHAKE_ACCEPTED: Final = b"{}\x1e"
PING_RECORD: Final = b'{"type":6}\x1e'
NO_ARGUMENTS: Final = Raw(b"[]")

_encoder = msgspec.json.Encoder(decimal_format="number")


# -- messages ---------------------------------------------------------------------


class Invocation(Struct, frozen=True, tag_field="type", tag=1, rename="camel", gc=False):
    """A call of the other end. With an `invocation_id` a completion is expected."""

    target: str
    arguments: Raw = NO_ARGUMENTS  # a JSON array
    invocation_id: str | None = None


class Completion(Struct, frozen=True, tag_field="type", tag=3, rename="camel", gc=False):
    """The answer to an invocation: a result or an error, or neither when it returns nothing."""

    invocation_id: str
    error: str | None = None
    result: Raw = Raw(b"null")


class Ping(Struct, frozen=True, tag_field="type", tag=6, gc=False):
    """Nothing to say, still there. Not answered."""


class Close(Struct, frozen=True, tag_field="type", tag=7, rename="camel", gc=False):
    error: str | None = None
    allow_reconnect: bool = False


class _Kind(Struct, frozen=True):
    type: int


class _HandshakeRequest(Struct, frozen=True):
    protocol: str
    version: int


class _HandshakeResponse(Struct, frozen=True):
    error: str | None = None
    type: int | None = None


_decode = msgspec.json.Decoder(Invocation | Completion | Ping | Close).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_FOR_READER: Final = (Invocation, Completion)
_KNOWN_TYPES: Final = frozenset({1, 3, 6, 7})


def encode_invocation(target: str, arguments: object, invocation_id: str | None = None) -> bytes:
    """Return the record of one call; `arguments` is a list, a tuple or `Raw` JSON of an array."""
    raw = arguments if isinstance(arguments, Raw) else _encoder.encode(arguments)
    head = b'{"type":1,"target":' + _encoder.encode(target) + b',"arguments":' + bytes(raw)
    if invocation_id is None:
        return head + b"}\x1e"
    return head + b',"invocationId":' + _encoder.encode(invocation_id) + b"}\x1e"


def encode_completion(invocation_id: str, result: object = None, error: str | None = None) -> bytes:
    """Return the record that answers `invocation_id`: an error when given, else the result."""
    body: dict[str, object] = {"type": 3, "invocationId": invocation_id}
    if error is not None:
        body["error"] = error
    elif result is not None:
        body["result"] = result
    return _encoder.encode(body) + RECORD_SEPARATOR


def encode_close(error: str | None = None, *, allow_reconnect: bool = False) -> bytes:
    """Return the record that ends the link."""
    body: dict[str, object] = {"type": 7}
    if error is not None:
        body["error"] = error
    if allow_reconnect:
        body["allowReconnect"] = True
    return _encoder.encode(body) + RECORD_SEPARATOR


# -- connections ------------------------------------------------------------------


class CloseReason(StrEnum):
    BY_PEER = "by_peer"  # a Close record
    BY_US = "by_us"
    HANDSHAKE_REFUSED = "handshake_refused"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    PEER_SILENT = "peer_silent"
    RECORD_TOO_LARGE = "record_too_large"


class HandshakeAccepted(Struct, frozen=True):
    """The link is open: invocations may flow."""


class Malformed(Struct, frozen=True, kw_only=True):
    """A record that could not be read. The link goes on without it."""

    reason: str
    raw: bytes  # at most EXCERPT_BYTES_MAX of it
    raw_bytes: int


class Closed(Struct, frozen=True, kw_only=True):
    """The link is over; the socket is to be closed once the output is out. Said once."""

    reason: CloseReason
    detail: str
    allow_reconnect: bool = True


HubEvent = HandshakeAccepted | Invocation | Completion | Malformed | Closed


class KeepAlive(Struct, frozen=True, kw_only=True):
    """The clock of a link; the defaults are ASP.NET Core's."""

    ping_after_ns: int = PING_AFTER_NS
    peer_silent_after_ns: int = PEER_SILENT_AFTER_NS
    handshake_within_ns: int = HANDSHAKE_WITHIN_NS

    def __post_init__(self) -> None:
        assert 0 < self.ping_after_ns < self.peer_silent_after_ns
        assert self.handshake_within_ns > 0


class _State(StrEnum):
    NEW = "new"
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class HubConnection:
    """What both ends share; see `ClientConnection` and `ServerConnection`."""

    record_bytes_max_default: ClassVar[int]

    def __init__(self, *, keep_alive: KeepAlive | None = None, record_bytes_max: int | None = None) -> None:
        self._keep_alive = keep_alive or KeepAlive()
        self._splitter = RecordSplitter(record_bytes_max=record_bytes_max or self.record_bytes_max_default)
        self._state = _State.NEW
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._started_ns = 0
        self._last_sent_ns = 0
        self._last_heard_ns = 0
        self._next_invocation = 1
        self.ignored_records = 0  # of types we do not speak: streams, acks, whatever comes later

    # driving it

    def start(self, now_ns: int) -> None:
        """Say that the socket is open."""
        assert self._state is _State.NEW
        self._state = _State.HANDSHAKE
        self._started_ns = self._last_sent_ns = self._last_heard_ns = now_ns

    def receive(self, data: bytes, now_ns: int) -> list[HubEvent]:
        """Take bytes of the other end and return what they say, in order."""
        assert self._state is not _State.NEW
        events: list[HubEvent] = []
        if self.is_closed:
            return events
        self._last_heard_ns = now_ns
        try:
            records = self._splitter.split(data)
        except RecordTooLarge as error:
            raw = error.excerpt
            events.append(Malformed(reason=str(error), raw=raw, raw_bytes=error.record_bytes))
            if error.others is None:
                events.append(self._close(CloseReason.RECORD_TOO_LARGE, str(error)))
                return events
            records = error.others
        if not self.is_open and records:
            events.append(self._shake_hands(records.pop(0), now_ns))
        if self.is_open:
            self._take(records, events)
        return events

    def on_time(self, now_ns: int) -> list[HubEvent]:
        """Ping when we have been quiet, give up when the other end has been."""
        if (
            self._state is _State.HANDSHAKE
            and now_ns - self._started_ns >= self._keep_alive.handshake_within_ns
        ):
            seconds = self._keep_alive.handshake_within_ns / 1e9
            return [self._close(CloseReason.HANDSHAKE_TIMEOUT, f"no handshake within {seconds:g} s")]
        if self._state is not _State.OPEN:
            return []
        silence_ns = now_ns - self._last_heard_ns
        if silence_ns >= self._keep_alive.peer_silent_after_ns:
            return [self._close(CloseReason.PEER_SILENT, f"nothing heard for {silence_ns / 1e9:g} s")]
        if now_ns - self._last_sent_ns >= self._keep_alive.ping_after_ns:
            self._put(PING_RECORD, now_ns)
        return []

    @property
    def next_time_ns(self) -> int | None:
        """When `on_time` has something to do at the earliest; None when never."""
        if self._state is _State.HANDSHAKE:
            return self._started_ns + self._keep_alive.handshake_within_ns
        if self._state is _State.OPEN:
            return min(
                self._last_sent_ns + self._keep_alive.ping_after_ns,
                self._last_heard_ns + self._keep_alive.peer_silent_after_ns,
            )
        return None

    def take_output(self) -> bytes:
        """Return what is to be sent as one text frame, empty when there is nothing."""
        if not self._output:
            return b""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        self._output_bytes = 0
        return output

    # saying something

    def invoke(self, target: str, arguments: object, now_ns: int) -> str:
        """Call the other end and return the id that its completion will carry."""
        invocation_id = str(self._next_invocation)
        self._next_invocation += 1
        self.send_record(encode_invocation(target, arguments, invocation_id), now_ns)
        return invocation_id

    def send(self, target: str, arguments: object, now_ns: int) -> None:
        """Call the other end without asking for a completion: how a hub sends its events."""
        self.send_record(encode_invocation(target, arguments), now_ns)

    def complete(
        self, invocation_id: str, now_ns: int, *, result: object = None, error: str | None = None
    ) -> None:
        """Answer an invocation that carried an id."""
        self.send_record(encode_completion(invocation_id, result, error), now_ns)

    def send_record(self, record: bytes, now_ns: int) -> None:
        """Queue encoded records (each ended by its separator); encode once, send to many."""
        assert self._state is _State.OPEN, f"the link is {self._state}"
        self._put(record, now_ns)

    def close(
        self, now_ns: int, *, error: str | None = None, allow_reconnect: bool = False
    ) -> list[HubEvent]:
        """End the link from this side; the other end is told when it can listen."""
        if self._state is _State.OPEN:
            self._put(encode_close(error, allow_reconnect=allow_reconnect), now_ns)
        if self._state is _State.CLOSED:
            return []
        return [self._close(CloseReason.BY_US, error or "closed by this side")]

    @property
    def is_open(self) -> bool:
        return self._state is _State.OPEN

    @property
    def is_closed(self) -> bool:
        return self._state is _State.CLOSED

    @property
    def output_bytes(self) -> int:
        """How much waits to be taken: a shell drops an end that does not keep up."""
        return self._output_bytes

    # inside

    def _take(self, records: list[bytes], events: list[HubEvent]) -> None:
        decode, append = _decode, events.append  # market data comes through here: every lookup counts
        for record in records:
            try:
                message = decode(record)
            except _UNREADABLE as error:
                self._take_unknown(record, error, events)
                continue
            if isinstance(message, _FOR_READER):
                append(message)
            elif isinstance(message, Close):
                detail = message.error or "the other end closed the link"
                append(self._close(CloseReason.BY_PEER, detail, allow_reconnect=message.allow_reconnect))
                return  # nobody meant us to read what is behind a Close

    def _take_unknown(self, record: bytes, error: Exception, events: list[HubEvent]) -> None:
        try:
            unknown = _decode_kind(record).type not in _KNOWN_TYPES
        except _UNREADABLE:
            unknown = False
        if unknown:
            self.ignored_records += 1
            return
        events.append(
            Malformed(reason=str(error), raw=bytes(record[:EXCERPT_BYTES_MAX]), raw_bytes=len(record))
        )

    def _shake_hands(self, record: bytes, now_ns: int) -> HubEvent:
        raise NotImplementedError

    def _close(self, reason: CloseReason, detail: str, *, allow_reconnect: bool = True) -> Closed:
        self._state = _State.CLOSED
        return Closed(reason=reason, detail=detail, allow_reconnect=allow_reconnect)

    def _put(self, record: bytes, now_ns: int) -> None:
        self._output.append(record)
        self._output_bytes += len(record)
        self._last_sent_ns = now_ns


class ClientConnection(HubConnection):
    """The end that connects."""

    record_bytes_max_default = CLIENT_RECORD_BYTES_MAX

    def start(self, now_ns: int) -> None:
        """Say that the socket is open; the handshake is the first output."""
        super().start(now_ns)
        # Version 1 always: a client that said 0 was dropped after two seconds, without a word.
        self._put(HANDSHAKE_REQUEST, now_ns)

    def _shake_hands(self, record: bytes, now_ns: int) -> HubEvent:
        try:
            answer = msgspec.json.decode(record, type=_HandshakeResponse)
        except _UNREADABLE as error:
            excerpt = record[:120].decode("utf-8", "replace")
            return self._close(CloseReason.HANDSHAKE_REFUSED, f"not a handshake ({error}): {excerpt!r}")
        if answer.error is not None:
            return self._close(CloseReason.HANDSHAKE_REFUSED, answer.error)
        if answer.type is not None:
            return self._close(CloseReason.HANDSHAKE_REFUSED, f"type {answer.type} came before the handshake")
        self._state = _State.OPEN
        return HandshakeAccepted()


class ServerConnection(HubConnection):
    """The end that is connected to."""

    record_bytes_max_default = SERVER_RECORD_BYTES_MAX

    def _shake_hands(self, record: bytes, now_ns: int) -> HubEvent:
        try:
            request = msgspec.json.decode(record, type=_HandshakeRequest)
        except _UNREADABLE as error:
            return self._refuse(f"Handshake could not be read: {error}", now_ns)
        if request.protocol != "json":
            return self._refuse(f"The protocol '{request.protocol}' is not supported.", now_ns)
        if request.version != 1:
            return self._refuse(f"The server does not support version {request.version}.", now_ns)
        self._state = _State.OPEN
        self._put(HANDSHAKE_ACCEPTED, now_ns)
        return HandshakeAccepted()

    def _refuse(self, error: str, now_ns: int) -> HubEvent:
        answer: dict[str, Any] = {"error": error}
        self._put(_encoder.encode(answer) + RECORD_SEPARATOR, now_ns)
        return self._close(CloseReason.HANDSHAKE_REFUSED, error)
