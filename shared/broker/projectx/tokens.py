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
REDACTED: Final = "[secret]"
_QUERY: Final = re.compile(r"(access_token=)[^&\s\"']+")
_JWT: Final = re.compile(r"eyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)?")
_BEARER: Final = re.compile(r"(?i)(bearer\s+)\S+")


class _Claims(msgspec.Struct):
    exp: float | None = None


def session_token(value: str, now_ns: int) -> SessionToken:
    """Return the token with its end as it says itself, else the documented life from `now_ns`."""
    return SessionToken(value=value, expires_at_ns=expiry_ns(value) or now_ns + TOKEN_LIFE_NS)


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
