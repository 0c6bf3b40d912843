"""Session tokens shaped like the gateway's: a JWT signed with HS256.

`iat` and `exp` are seconds of the host's clock, not of venue time: a client reads
them against its own clock, and venue time may run days behind or many times faster.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes:
    sub: User name.
    jti: Number of the token, so that one can be logged out.
    iat, exp: Issue and expiry, UTC seconds.
    exp_ns: When it really expires, exactly: some tokens live for less than a second or two.
    iat_ns: When it was issued, exactly.
    """

    sub: str
    jti: str
    iat: int
    exp: int
    exp_ns: int
    iat_ns: int = 1


_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


def _sign(secret: bytes, body: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.new(secret, body, hashlib.sha256).digest()).rstrip(b"=")


def issue(secret: bytes, claims: Claims) -> str:
    """Return a signed token."""
    body = _HEADER + b"." + base64.urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=")
    return (body + b"." + _sign(secret, body)).decode()


def read(secret: bytes, token: str) -> Claims | None:
    """Return the claims of a token that we signed, expired or not, else None."""
    body, _, signature = token.encode("utf-8", "replace").rpartition(b".")
    if not body or not hmac.compare_digest(_sign(secret, body), signature):
        return None
    payload = body.partition(b".")[2]
    return msgspec.json.decode(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)), type=Claims)
