"""Logging in, validating, and opening hubs against a broker that fails in every way."""

from __future__ import annotations

import base64
import json
import logging
import time
from email.utils import formatdate
from typing import Any

import pytest

from shared.broker import errors
from shared.broker.port import LinkDown, LoggedIn, LoginRefused, SessionGone, SessionToken, Validated
from tests.support.broker_desk import KEY, TOKEN, Desk, ask, ok
from tests.support.hostile_server import RESET, HostileServer, http

pytestmark = pytest.mark.integration
HTML = b"<html><body>Bad gateway</body></html>"


@pytest.mark.parametrize("code", [3, 7, 9, 10])
def test_login_refusals_name_the_remedy(code: int) -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        found = await desk.session.login()
        assert isinstance(found, LoginRefused)
        assert (found.code, found.fatal) == (code, True)
        assert found.remedy
        assert KEY not in repr(found)
        assert b"Authorization" not in server.requests[0]
        assert json.loads(server.requests[0].split(b"\r\n\r\n")[1]) == {"userName": "u", "apiKey": KEY}

    body = {"success": False, "errorCode": code, "errorMessage": f"no access for {KEY}", "token": None}
    ask(http(json.dumps(body).encode()), scenario)


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Oops"])
@pytest.mark.proves("I-27")
def test_login_failure_does_not_echo_the_key(status: str) -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        with pytest.raises(errors.HttpFailed) as caught:
            await desk.session.login()
        assert KEY not in f"{caught.value} {caught.value!r} {caught.value.excerpt}"

    ask(http(f"you sent {KEY}".encode(), status=status), scenario)


def test_a_token_lives_as_long_as_it_does_though_our_clock_is_days_ahead() -> None:
    venue_now_s = int(time.time()) - 3 * 86_400
    claims = base64.urlsafe_b64encode(json.dumps({"exp": venue_now_s + 86_400}).encode()).decode()
    body = {"success": True, "errorCode": 0, "errorMessage": None, "token": f"e30.{claims.rstrip('=')}.sig"}

    async def scenario(desk: Desk, server: HostileServer) -> None:
        found = await desk.session.login()
        assert isinstance(found, LoggedIn)
        assert found.token.expires_at_ns / 1e9 - time.time() == pytest.approx(86_400, abs=30)

    date = f"Date: {formatdate(venue_now_s, usegmt=True)}\r\n"
    ask(http(json.dumps(body).encode(), headers=date), scenario)


def test_login_without_a_token_is_unknown() -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        with pytest.raises(errors.PayloadAbsent):
            await desk.session.login()

    ask(ok(token=None), scenario)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (ok(newToken=None), Validated),
        (ok(), Validated),
        (ok(newToken=""), Validated),
        (ok(newToken="n"), Validated),
        (http(b"", status="401 Unauthorized"), SessionGone),
        *[(http(b'{"success":false,"errorCode":%d}' % code), SessionGone) for code in (1, 2, 3)],
    ],
)
def test_validate(answer: bytes, kind: type[Any]) -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        found = await desk.session.validate(SessionToken(value=TOKEN, expires_at_ns=0))
        assert type(found) is kind
        if isinstance(found, Validated):
            assert (found.new_token is not None) is (b'"newToken": "n"' in answer)
        assert f"Bearer {TOKEN}".encode() in server.requests[0]

    ask(answer, scenario)


@pytest.mark.parametrize("answer", [http(b'{"success":false,"errorCode":4}'), http(b"", status="500 Oops")])
def test_validate_that_tells_nothing_is_not_the_end_of_a_session(answer: bytes) -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        with pytest.raises(errors.BrokerQueryFailed):
            await desk.session.validate(SessionToken(value=TOKEN, expires_at_ns=0))

    ask(answer, scenario)


# -- hubs


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http(b"", status="401 Unauthorized"), "HTTP 401"),
        (http(HTML), "HTTP 200"),
        (http(b"", status="302 Found", headers="Location: http://127.0.0.1:1/x\r\n"), "HTTP 302"),
        (RESET, ""),
        (b"nonsense\r\n\r\n", ""),
    ],
)
@pytest.mark.proves("I-27")
def test_hub_that_cannot_be_opened_is_retried_and_the_token_stays_secret(
    answer: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(desk: Desk, server: HostileServer) -> None:
        link = desk.market.market_link()
        downs: list[LinkDown] = []
        async for batch in link.events():
            downs += [event for event in batch if isinstance(event, LinkDown)]
            if len(downs) == 2:
                await link.close()
        assert said in downs[0].reason
        assert TOKEN not in repr(downs)
        assert server.connections == 2
        assert TOKEN.encode() in server.requests[0]

    ask(answer, scenario)
    assert TOKEN not in caplog.text
