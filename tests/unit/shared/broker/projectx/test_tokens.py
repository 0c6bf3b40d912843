from __future__ import annotations

import base64
import json

import pytest

from shared.broker.port import Credentials, SessionToken
from shared.broker.projectx.payloads import LoginKeyRequest, TokenEnvelope
from shared.broker.projectx.tokens import TOKEN_LIFE_NS, expiry_ns, life_ns, redact, session_token

SECRET = "canary-secret-4711"


def jwt(claims: object) -> str:
    parts = (json.dumps(part).encode() for part in ({"alg": "HS256"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), "sig"])


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (jwt({"exp": 1_753_105_500}), 1_753_105_500_000_000_000),
        (jwt({"exp": 1_753_105_500.0}), 1_753_105_500_000_000_000),
        (jwt({}), None),
        (jwt({"exp": "soon"}), None),
        (jwt({"exp": -5}), None),
        (jwt({"exp": 1e300}), None),
        (jwt([]), None),
        ("opaque", None),
        ("a.b.c", None),
        ("a.\u00e9\u00e9.c", None),
        ("", None),
    ],
)
def test_expiry_is_what_the_token_says_itself(token: str, expected: int | None) -> None:
    assert expiry_ns(token) == expected


def test_token_that_does_not_say_lives_as_documented() -> None:
    assert session_token("opaque", 5, 7).expires_at_ns == 5 + TOKEN_LIFE_NS


HOUR_NS = 3_600 * 1_000_000_000
ISSUED_NS = 500_000 * HOUR_NS
NEW = jwt({"exp": (ISSUED_NS + 24 * HOUR_NS) // 1_000_000_000})


@pytest.mark.parametrize(
    ("ahead_h", "venue_ahead_h", "life_h"),
    [
        (0, 0, 24),
        (0, None, 24),
        (30, 0, 24),  # by our clock it was over before it came
        (-30, 0, 24),  # by our clock it would live longer than any
        (5, 0, 19),  # ours may be right: shorter than it is does no harm
        (0, -2_000, 24),  # the venue replays a day of last year
        (0, 10, 24),
        (30, None, 0),
        (30, 30, 0),
        (-30, None, 54),
    ],
)
def test_life_of_a_token_is_measured_by_a_clock_that_can_be_right(
    ahead_h: int, venue_ahead_h: int | None, life_h: int
) -> None:
    venue_now_ns = None if venue_ahead_h is None else ISSUED_NS + venue_ahead_h * HOUR_NS
    assert life_ns(NEW, ISSUED_NS + ahead_h * HOUR_NS, venue_now_ns) == life_h * HOUR_NS


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach wss://x/hubs/user?access_token={SECRET}",
        f"'https://x/negotiate?access_token={SECRET}&id=1'",
        f"Authorization: Bearer {SECRET}",
        f"odd place {SECRET}!",
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    assert SECRET not in redact(text, [SECRET, None, ""])


def test_tokens_are_recognized_without_being_told() -> None:
    token = jwt({"exp": 1})
    assert token not in redact(f"broken {token} here")
    assert redact("nothing here") == "nothing here"


@pytest.mark.parametrize(
    "holder",
    [
        Credentials(user_name="u", api_key=SECRET),
        SessionToken(value=SECRET, expires_at_ns=1),
        TokenEnvelope(success=True, token=SECRET),
        LoginKeyRequest(user_name="u", api_key=SECRET),
    ],
)
def test_holders_of_secrets_do_not_print_them(holder: object) -> None:
    assert SECRET not in f"{holder!r} {holder}"
