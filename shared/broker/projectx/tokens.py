"""Session tokens: when they end, and how to keep them out of everything that is read.

A token is a JWT and travels in a header for REST and in the URL for hubs, so it can
turn up in any error text about a URL. Nothing here verifies a token; that is the
broker's business.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from shared.broker.port import SessionToken

TOKEN_LIFE_NS: Final = 24 * 3_600 * 1_000_000_000  # "valid 24 h from issue"
LONGEST_LIFE_NS: Final = TOKEN_LIFE_NS + 300 * 1_000_000_000  # with clocks that differ a little
REDACTED: Final = "[secret]"
_QUERY: Final = re.compile(r"(access_token=)[^&\s\"']+")
_JWT: Final = re.compile(r"eyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)?")
_BEARER: Final = re.compile(r"(?i)(bearer\s+)\S+")


class _Claims(msgspec.Struct):
    exp: float | None = None


def session_token(value: str, now_ns: int, venue_now_ns: int | None) -> SessionToken:
    """Return the token with its end by our clock."""
    return SessionToken(value=value, expires_at_ns=now_ns + life_ns(value, now_ns, venue_now_ns))


def life_ns(value: str, now_ns: int, venue_now_ns: int | None) -> int:
    """Return how long the token lives from now on: as it says itself, else as documented.

    Our clock may be set wrong, and the broker's may be that of a replayed day. Ours counts while the life
    that it makes of a token is possible, then the broker's.
    """
    expires_at_ns = expiry_ns(value)
    if expires_at_ns is None:
        return TOKEN_LIFE_NS
    for clock_ns in (now_ns, venue_now_ns):
        if clock_ns is not None and 0 < expires_at_ns - clock_ns <= LONGEST_LIFE_NS:
            return expires_at_ns - clock_ns
    return max(0, expires_at_ns - now_ns)


def expiry_ns(value: str) -> int | None:
    """Return when the token says that it ends (UTC), None when it does not say."""
    parts = value.split(".")
    if len(parts) != 3:
        return None
    payload = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload), type=_Claims)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None
    if claims.exp is None or not 0 < claims.exp < 1e11:
        return None
    return int(claims.exp * 1_000_000_000)


def redact(text: str, secrets: Iterable[str | None] = ()) -> str:
    """Return `text` without `secrets` and without whatever else looks like a token."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, REDACTED)
    text = _QUERY.sub(rf"\1{REDACTED}", text)
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    return _JWT.sub(REDACTED, text)
