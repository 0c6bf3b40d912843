"""The only sockets: one POST of JSON, and one hub socket. No retry, no meaning.

What matters to a caller who sends orders is one bit: can the request have left this
machine? `NotSentError` says that no connection was obtained, so it cannot have;
`NoAnswerError` says that one was, so it may have. The bit is set when aiohttp has a
connection in hand, which is before the first byte and hence on the safe side.

Nothing is sent twice: aiohttp repeats only idempotent methods on a connection that
turns out dead, never POST, and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from shared.broker.port import Clock
from shared.broker.projectx.signalr import CLIENT_RECORD_BYTES_MAX
from shared.broker.projectx.tokens import redact

ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024  # 20,000 bars are about 2 MB
CONNECT_WITHIN_S: Final = 5.0
KEEP_ALIVE_S: Final = 30.0  # below the 130 s of the server's default, so that we close first
CONNECTIONS_MAX: Final = 16
HUB_OPEN_WITHIN_S: Final = 10.0
HUB_CLOSE_WITHIN_S: Final = 2.0
HUB_FRAME_BYTES_MAX: Final = 2 * CLIENT_RECORD_BYTES_MAX  # a record that is too large is refused alone
HUB_FRAMES_QUEUED_MAX: Final = 256  # beyond it the socket is not read until the reader catches up
SECOND_NS: Final = 1_000_000_000

# The library logs request lines, token included, at DEBUG; nobody gets to switch that on by accident.
_websockets_log = logging.getLogger("shared.broker.projectx.websockets")
_websockets_log.setLevel(logging.WARNING)
_websockets_log.addFilter(lambda record: "access_token" not in record.getMessage())


class NotSentError(Exception):
    """No connection was obtained: nothing can have left this machine."""


class NoAnswerError(Exception):
    """A connection was obtained and no whole answer came back: the request may have arrived."""


class HubGoneError(Exception):
    """The hub socket could not be opened, or is closed."""


class HttpReply(Struct, frozen=True, kw_only=True):
    """Attributes: retry_after_s: as the header asked, in seconds from now; None when absent."""

    status: int
    body: bytes
    retry_after_s: float | None

    def __repr__(self) -> str:
        return f"HttpReply(status={self.status}, {len(self.body)} bytes)"  # a login's body holds the token


class _Withheld(Exception):
    """What was ready to leave may not leave any more."""


class _Progress:
    """Whether aiohttp had a connection for this one request, and whether it may still use it."""

    __slots__ = ("connected", "withheld")

    def __init__(self, withheld: Callable[[], str | None]) -> None:
        self.connected = False
        self.withheld = withheld


class Http:
    """Sends one POST at a time as told, and learns the broker's clock from the answers."""

    def __init__(
        self,
        *,
        base_url: str,
        clock: Clock,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
        on_sent: Callable[[str], None] | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            on_sent: Called with the path of each request when its body has been handed to the socket.
        """
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._on_sent = on_sent
        self._answer_bytes_max = answer_bytes_max
        self._session: aiohttp.ClientSession | None = None
        self._venue_ns = 0
        self._venue_seen_ns: int | None = None

    async def post(
        self,
        path: str,
        body: bytes,
        *,
        token: str | None,
        within_s: float,
        connect_within_s: float = CONNECT_WITHIN_S,
        withheld: Callable[[], str | None] = lambda: None,
        secrets: Iterable[str] = (),
    ) -> HttpReply:
        """Send `body` once and return the answer, whatever its status.

        Args:
            within_s: For everything, connecting and reading included.
            connect_within_s: For a connection; without one by then, nothing is sent.
            withheld: Why it may not leave any more, if so. Asked with the connection in hand, right before
                the first byte: the wait for a connection may have taken seconds.
            secrets: Besides the token, what must not appear in an error.

        Raises:
            NotSentError: Nothing left this machine.
            NoAnswerError: It may have arrived.
        """
        progress, asked_ns = _Progress(withheld), self._clock.monotonic_ns()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        timeout = aiohttp.ClientTimeout(
            total=within_s, connect=min(connect_within_s, within_s), sock_connect=CONNECT_WITHIN_S
        )
        try:
            async with self._opened().post(
                self._base_url + path,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                self._learn_clock(response.headers.get("Date"), asked_ns)
                content = await self._read(response)
                return HttpReply(
                    status=response.status,
                    body=content,
                    retry_after_s=self._retry_after_s(response.headers.get("Retry-After")),
                )
        except _Withheld as reason:
            raise NotSentError(str(reason)) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            words = redact(f"{type(error).__name__}: {error}".rstrip(": "), [token, *secrets])
            if progress.connected:
                raise NoAnswerError(words) from None
            raise NotSentError(words) from None

    def venue_now_ns(self) -> int | None:
        """Return the broker's wall clock: its last `Date` and the time since; None before the first.

        The header counts whole seconds, so this is up to a second early.
        """
        if self._venue_seen_ns is None:
            return None
        return self._venue_ns + self._clock.monotonic_ns() - self._venue_seen_ns

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_note_connected)
            trace.on_connection_reuseconn.append(_note_connected)
            trace.on_request_headers_sent.append(_ask_once_more)
            if self._on_sent is not None:
                trace.on_request_chunk_sent.append(self._note_sent)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEP_ALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[trace],
                trust_env=False,
                # An answer that unpacks to gigabytes is refused by not asking for packed ones.
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        return self._session

    async def _note_sent(
        self, session: object, context: object, params: aiohttp.TraceRequestChunkSentParams
    ) -> None:
        # The library says so just before it writes; the next turn of the loop comes after.
        assert self._on_sent is not None
        asyncio.get_running_loop().call_soon(self._on_sent, params.url.path)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._answer_bytes_max:
                response.close()
                raise ValueError(f"the answer is larger than {self._answer_bytes_max} bytes")
            parts.append(part)
        return b"".join(parts)

    def _learn_clock(self, date: str | None, asked_ns: int) -> None:
        if date is None:
            return
        try:
            venue_ns = int(parsedate_to_datetime(date).timestamp()) * SECOND_NS
        except ValueError:
            return
        now_ns, estimate_ns = self._clock.monotonic_ns(), self.venue_now_ns()
        # Cut to whole seconds, and as old as its way here, which took no longer than we waited: a header only
        # ever seems early. The latest reading stands, unless this one cannot be so early.
        latest_ns = venue_ns + 2 * SECOND_NS + now_ns - asked_ns
        if estimate_ns is None or not venue_ns <= estimate_ns < latest_ns:
            self._venue_ns, self._venue_seen_ns = venue_ns, now_ns

    def _retry_after_s(self, value: str | None) -> float | None:
        """Read both forms of the header: seconds, or a date."""
        if value is None:
            return None
        if value.strip().isdecimal():
            return float(value)
        try:
            until_ns = int(parsedate_to_datetime(value).timestamp()) * SECOND_NS
        except ValueError:
            return None
        now_ns = self.venue_now_ns()
        return max(0.0, (until_ns - (self._clock.now_ns() if now_ns is None else now_ns)) / SECOND_NS)


async def _note_connected(session: object, context: object, params: object) -> None:
    progress = getattr(context, "trace_request_ctx", None)
    if isinstance(progress, _Progress):
        progress.connected = True


async def _ask_once_more(session: object, context: object, params: object) -> None:
    # The library calls this when the headers are complete, before it writes the first of them; what is raised
    # here closes the connection. A test at a real socket holds it to that.
    progress = getattr(context, "trace_request_ctx", None)
    if isinstance(progress, _Progress) and (reason := progress.withheld()) is not None:
        raise _Withheld(reason)


# -- hubs -------------------------------------------------------------------------


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow nothing: the URL carries a token."""
        return exc


class HubSocket:
    """One WebSocket. `receive` is for one reader, `send` for one writer."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    async def receive(self) -> bytes:
        """Return one frame.

        Raises:
            HubGoneError: The socket is closed.
        """
        try:
            return await self._websocket.recv(decode=False)
        except ConnectionClosed as error:
            raise HubGoneError(_closed_words(error)) from None

    async def send(self, data: bytes) -> None:
        """Send one text frame.

        Raises:
            HubGoneError: The socket is closed.
        """
        try:
            await self._websocket.send(data, text=True)
        except ConnectionClosed as error:
            raise HubGoneError(_closed_words(error)) from None

    def abort(self) -> None:
        """Drop the connection now; a peer that is dead would not answer a goodbye."""
        self._websocket.transport.abort()

    async def close(self) -> None:
        await self._websocket.close()


async def open_hub_socket(url: str, token: str) -> HubSocket:
    """Open a hub without negotiation; the token in the query is what authenticates.

    Raises:
        HubGoneError: It could not be opened; the text holds no secret.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    query = f"access_token={quote(token, safe='')}"
    address = urlunsplit((scheme, parts.netloc, parts.path, query, ""))
    secrets = [token, quote(token, safe="")]
    try:
        websocket = await _Connect(
            address,
            compression=None,  # quotes are small and many; inflating each would cost more than the wire
            max_size=HUB_FRAME_BYTES_MAX,
            max_queue=HUB_FRAMES_QUEUED_MAX,
            ping_interval=None,  # SignalR has its own
            open_timeout=HUB_OPEN_WITHIN_S,
            close_timeout=HUB_CLOSE_WITHIN_S,
            proxy=None,
            user_agent_header=None,
            logger=_websockets_log,
        )
    except InvalidStatus as error:
        body = (error.response.body or b"")[:200].decode("utf-8", "replace")
        status = error.response.status_code
        raise HubGoneError(redact(f"HTTP {status} instead of a WebSocket {body!r}", secrets)) from None
    except (WebSocketException, OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
        words = f"{type(error).__name__}: {error}".rstrip(": ")
        raise HubGoneError(redact(words, secrets)) from None
    return HubSocket(websocket)


def _closed_words(error: ConnectionClosed) -> str:
    frame = error.rcvd or error.sent
    if frame is None:
        return "the connection was lost without a goodbye"
    side = "the broker" if error.rcvd is not None else "this side"
    return redact(f"{side} closed with code {frame.code} {frame.reason}".rstrip())
