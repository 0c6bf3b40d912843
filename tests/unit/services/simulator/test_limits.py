"""Sliding windows and session tokens."""

from __future__ import annotations

import base64
import json

from services.simulator import tokens
from services.simulator.limits import SlidingWindow

SECOND_NS = 1_000_000_000
CLAIMS = tokens.Claims(sub="demo", jti="1", iat=10, exp=20, exp_ns=20 * SECOND_NS)


def test_window_slides() -> None:
    window = SlidingWindow(requests_max=2, window_s=30)
    assert window.take(0) == 0
    assert window.take(10 * SECOND_NS) == 0
    assert window.take(20 * SECOND_NS) == 10 * SECOND_NS  # refused, and not counted
    assert window.take(30 * SECOND_NS) == 0
    assert window.take(30 * SECOND_NS) == 10 * SECOND_NS


def test_token_is_shaped_like_a_jwt() -> None:
    header, payload, signature = tokens.issue(b"key", CLAIMS).split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS256", "typ": "JWT"}
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert (claims["iat"], claims["exp"]) == (10, 20)
    assert "=" not in header + payload + signature


def test_only_our_own_tokens_are_read() -> None:
    token = tokens.issue(b"key", CLAIMS)
    assert tokens.read(b"key", token) == CLAIMS
    assert tokens.read(b"other", token) is None
    assert tokens.read(b"key", token[:-2] + "xx") is None
    for bad in ("", "a", "a.b.c", "é.ü.ß", "."):
        assert tokens.read(b"key", bad) is None
