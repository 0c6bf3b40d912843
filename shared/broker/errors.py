"""Why a question to the broker has no answer. One hierarchy; none of them means "empty"."""

from __future__ import annotations

from typing import ClassVar

from shared.broker.port import FrameRefused

EXCERPT_CHARS_MAX = 300


class LimiterUnavailable(Exception):
    """The shared rate budget cannot be asked, so nothing may be sent."""


class BrokerQueryFailed(Exception):
    """A question got no usable answer: what was asked about is *unknown*.

    Attributes:
        endpoint: Path, such as `/api/Order/search`.
        http_status: None when there was no answer.
        code: Error code of the envelope, where there was one.
        excerpt: Beginning of the answer, without secrets.
        remedy: What a person can do.
    """

    remedy: ClassVar[str] = "Nothing to do: it is asked again. If it lasts, look at the broker's status page."

    def __init__(
        self,
        *,
        endpoint: str,
        reason: str,
        http_status: int | None = None,
        code: int | None = None,
        excerpt: str = "",
    ) -> None:
        super().__init__(endpoint, reason, http_status, code)
        self.endpoint = endpoint
        self.reason = reason
        self.http_status = http_status
        self.code = code
        self.excerpt = excerpt[:EXCERPT_CHARS_MAX]

    @property
    def came(self) -> bytes | None:
        """What the broker sent instead of an answer, as far as it is kept; None when nothing came."""
        return None if self.http_status is None else self.excerpt.encode()

    def __str__(self) -> str:
        facts = [self.reason]
        if self.http_status is not None:
            facts.append(f"HTTP {self.http_status}")
        if self.code is not None:
            facts.append(f"code {self.code}")
        if self.excerpt:
            facts.append(f"answer begins {self.excerpt!r}")
        return f"{self.endpoint}: {', '.join(facts)}. {self.remedy}"


class NotAttempted(BrokerQueryFailed):
    """The request was not sent, because the rate budget could not be asked."""

    remedy = "Bring the rate limiter's store back; requests go on by themselves."


class NotReachable(BrokerQueryFailed):
    """No connection: refused, unknown host, TLS. Nothing was sent."""

    remedy = "Check the network, the broker's host name in the settings, and the broker's status page."


class NoAnswer(BrokerQueryFailed):
    """Timeout or reset after the request may have left."""


class Unauthorized(BrokerQueryFailed):
    """HTTP 401: the token is missing, wrong or expired."""

    remedy = "The session is renewed by heartbeat; check that it runs and that its credentials are right."


class RateLimited(BrokerQueryFailed):
    """HTTP 429.

    Attributes:
        retry_after_s: As the broker asked, else one whole window.
    """

    remedy = "Requests pause by themselves. If it lasts, another program uses the same credentials."

    def __init__(self, *, endpoint: str, reason: str, retry_after_s: float, excerpt: str = "") -> None:
        super().__init__(endpoint=endpoint, reason=reason, http_status=429, excerpt=excerpt)
        self.retry_after_s = retry_after_s


class HttpFailed(BrokerQueryFailed):
    """Any other HTTP status than 200."""


class QueryRefused(BrokerQueryFailed):
    """HTTP 200 with `success: false`."""

    remedy = "Check the account and contract named in the settings."


class PayloadUnreadable(BrokerQueryFailed):
    """HTTP 200 with a body that is not what the documentation says: HTML, empty, cut, mistyped."""


class PayloadAbsent(BrokerQueryFailed):
    """Success, but the list is null or missing: unknown, not empty."""


class PayloadRefused(BrokerQueryFailed):
    """One row could not be understood, so the whole answer is unknown: a dropped row would be a lie.

    Attributes:
        refused: What exactly.
    """

    remedy = "Report the row: the broker sends something that this version does not know."

    def __init__(self, *, endpoint: str, refused: FrameRefused) -> None:
        super().__init__(
            endpoint=endpoint,
            reason=f"field {refused.field!r}: {refused.reason}",
            http_status=200,
            excerpt=refused.raw.decode("utf-8", "replace"),
        )
        self.refused = refused

    @property
    def came(self) -> bytes:
        return self.refused.raw
