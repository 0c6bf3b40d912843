"""One question, one mutation: what a REST answer of the gateway means.

Questions and mutations read the same answers in opposite ways. A question that got no
usable answer raises, and what it asked about stays unknown. A mutation that got none
is `Unknown`, unless it is proven that nothing left this machine (`NotSent`) or the
broker refused with a code that leaves no doubt (`Rejected`).

Every request, logins too, first asks the limiter: the documentation counts them all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from shared.broker.errors import (
    EXCERPT_CHARS_MAX,
    HttpFailed,
    LimiterUnavailable,
    NoAnswer,
    NotAttempted,
    NotReachable,
    PayloadUnreadable,
    QueryRefused,
    RateLimited,
    Unauthorized,
)
from shared.broker.limiter import GENERAL_WINDOW_S, HISTORY_WINDOW_S
from shared.broker.port import Accepted, Clock, Limiter, NotSent, Outcome, Rejected, Unknown
from shared.broker.projectx.endpoints import Endpoint
from shared.broker.projectx.enums import AMBIGUOUS_CODES
from shared.broker.projectx.payloads import Envelope, PlaceEnvelope, Request
from shared.broker.projectx.tokens import redact
from shared.broker.projectx.transport import (
    CONNECT_WITHIN_S,
    SECOND_NS,
    Http,
    HttpReply,
    NoAnswerError,
    NotSentError,
)

RETRY_AFTER_S_MAX: Final = 300.0
WINDOW_S: Final = {"general": GENERAL_WINDOW_S, "history": HISTORY_WINDOW_S}
_encoder = msgspec.json.Encoder(decimal_format="number")
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)

E = TypeVar("E", bound=Envelope)
TokenSource = Callable[[], str | None]
"""Return the newest session token, None while there is none. Asked before each use."""


class Gateway:
    """What all ports share: the transport, the budget, the token, the clock."""

    def __init__(
        self,
        *,
        http: Http,
        limiter: Limiter,
        clock: Clock,
        token: TokenSource,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """Args: on_refused: called when the broker does not accept the session's token."""
        self.http = http
        self.limiter = limiter
        self.clock = clock
        self.token = token
        self.on_refused = on_refused
        self.newest_excerpt = ""
        """Of the answer that was read last: whoever awaited it runs next, before any other is read."""

    async def ask(
        self,
        endpoint: Endpoint[E],
        request: Request | None,
        *,
        urgent: bool = False,
        token: str | None = None,
        anonymous: bool = False,
        secret: str = "",
    ) -> E:
        """Send a question and return its envelope, `success: true` or not.

        Args:
            token: Instead of the newest one.
            anonymous: Send no token (login).
            secret: Part of the request that must not appear in an error.

        Raises:
            BrokerQueryFailed: There is no envelope.
        """
        path = endpoint.path
        try:
            await self.limiter.acquire(endpoint.kind, urgent)
        except LimiterUnavailable as error:
            raise NotAttempted(endpoint=path, reason=str(error)) from None
        bearer = None if anonymous else (token or self.token())
        if bearer is None and not anonymous:
            raise Unauthorized(endpoint=path, reason="there is no session token yet")
        secrets = [secret] if secret else []
        try:
            reply = await self.http.post(
                path, _body(request), token=bearer, within_s=endpoint.within_s, secrets=secrets
            )
        except NotSentError as error:
            raise NotReachable(endpoint=path, reason=str(error)) from None
        except NoAnswerError as error:
            raise NoAnswer(endpoint=path, reason=str(error)) from None
        excerpt = self.newest_excerpt = _excerpt(reply, [bearer, *secrets])
        if reply.status == 429:
            retry_after_s = await self._pause(endpoint, reply)
            raise RateLimited(
                endpoint=path, reason="too many requests", retry_after_s=retry_after_s, excerpt=excerpt
            )
        if reply.status == 401:
            if token is None and not anonymous:
                self.on_refused()
            raise Unauthorized(
                endpoint=path, reason="the token is not accepted", http_status=401, excerpt=excerpt
            )
        if reply.status != 200:
            raise HttpFailed(
                endpoint=path, reason="not answered with 200", http_status=reply.status, excerpt=excerpt
            )
        try:
            return msgspec.json.decode(reply.body, type=endpoint.envelope)
        except _UNREADABLE as error:
            reason = redact(f"the answer could not be read: {error}", [bearer, *secrets])
            raise PayloadUnreadable(endpoint=path, reason=reason, http_status=200, excerpt=excerpt) from None

    async def query(self, endpoint: Endpoint[E], request: Request, *, urgent: bool = False) -> E:
        """Send a question and return its envelope, which says `success: true`.

        Raises:
            BrokerQueryFailed: Anything else happened.
        """
        envelope = await self.ask(endpoint, request, urgent=urgent)
        if not envelope.success:
            raise refused(endpoint, envelope, self.newest_excerpt)
        return envelope

    async def mutate(
        self,
        endpoint: Endpoint[E],
        request: Request,
        *,
        urgent: bool,
        expires_at_ns: int | None = None,
        held: Callable[[], str | None] = lambda: None,
    ) -> Outcome:
        """Send a mutation once and say what became of it.

        Args:
            expires_at_ns: Nothing leaves from then on.
            held: Why it may not leave any more, if so.
        """

        def withheld() -> str | None:
            if (reason := held()) is not None:
                return reason
            if expires_at_ns is not None and self.clock.now_ns() >= expires_at_ns:
                return "it expired before it could be sent"
            return None

        try:
            await self.limiter.acquire(endpoint.kind, urgent)
        except LimiterUnavailable as error:
            return NotSent(reason=str(error))
        token = self.token()
        if token is None:
            return NotSent(reason="there is no session token yet")
        if (reason := withheld()) is not None:
            return NotSent(reason=reason)
        connect_within_s = CONNECT_WITHIN_S
        if expires_at_ns is not None:  # no need to wait for a connection that would come too late
            connect_within_s = min(connect_within_s, (expires_at_ns - self.clock.now_ns()) / SECOND_NS)
        try:
            reply = await self.http.post(
                endpoint.path,
                _body(request),
                token=token,
                within_s=endpoint.within_s,
                connect_within_s=connect_within_s,
                withheld=withheld,
            )
        except NotSentError as error:
            return NotSent(reason=str(error))
        except NoAnswerError as error:
            return Unknown(reason=str(error))
        if reply.status == 401:
            self.on_refused()
        if reply.status == 429:
            await self._pause(endpoint, reply)
        if reply.status != 200:
            reason = f"HTTP {reply.status}: {_excerpt(reply, [token])}".rstrip(": ")
            return Unknown(reason=reason, http_status=reply.status)
        return outcome(endpoint, reply.body, [token])

    async def _pause(self, endpoint: Endpoint[E], reply: HttpReply) -> float:
        # Without a header nobody knows when the window opens again: one whole window is enough.
        asked_s = WINDOW_S[endpoint.kind] if reply.retry_after_s is None else reply.retry_after_s
        pause_s = min(asked_s, RETRY_AFTER_S_MAX)
        with suppress(LimiterUnavailable):  # the next request finds out
            await self.limiter.pause(endpoint.kind, pause_s)
        return pause_s


def outcome(endpoint: Endpoint[E], body: bytes, secrets: list[str | None]) -> Outcome:
    """Return what the body of an HTTP 200 says about a mutation."""
    try:
        envelope = msgspec.json.decode(body, type=endpoint.envelope)
    except _UNREADABLE as error:
        begin = redact(body[:EXCERPT_CHARS_MAX].decode("utf-8", "replace"), secrets)
        return Unknown(reason=f"the answer could not be read ({error}): {begin!r}", http_status=200)
    code = envelope.error_code
    said = redact(envelope.error_message or endpoint.code_name(code), secrets)[:EXCERPT_CHARS_MAX]
    if envelope.success:
        if code != 0:
            return Unknown(reason=f"success with an error code: {said}", http_status=200, code=code)
        if not isinstance(envelope, PlaceEnvelope):
            return Accepted()
        if envelope.order_id is None:
            return Unknown(reason="success without an order id", http_status=200, code=code)
        return Accepted(broker_order_id=envelope.order_id)
    documented = code in {int(member) for member in endpoint.codes}
    if code == 0 or not documented or code in AMBIGUOUS_CODES[endpoint.codes]:
        return Unknown(reason=said, http_status=200, code=code)
    return Rejected(code=code, reason=said)


def refused(endpoint: Endpoint[E], envelope: Envelope, excerpt: str = "") -> QueryRefused:
    """Return the failure that `success: false` means for a question."""
    words = envelope.error_message or endpoint.code_name(envelope.error_code)
    return QueryRefused(
        endpoint=endpoint.path,
        reason=redact(words),
        http_status=200,
        code=envelope.error_code,
        excerpt=excerpt,
    )


def _body(request: Request | None) -> bytes:
    return b"" if request is None else _encoder.encode(request)


def _excerpt(reply: HttpReply, secrets: list[str | None]) -> str:
    return redact(reply.body[:EXCERPT_CHARS_MAX].decode("utf-8", "replace"), secrets)
