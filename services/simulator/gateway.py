"""The REST side: every endpoint with its envelope, codes and limits.

Everything is POST with a JSON body and answers HTTP 200 with
`{"success","errorCode","errorMessage", ...}`, refusals included. Other statuses: 400 for a
body that lacks a required field, 401 with an empty body for a bad token, 404 and 405 for
wrong paths and methods, 429 beyond the limits. Every answer's `Date` is venue time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from services.simulator import requests, rows
from services.simulator.answers import Malformed
from services.simulator.config import SimulatorConfig
from services.simulator.endpoints import Endpoints
from services.simulator.limits import SlidingWindow
from services.simulator.login import Sessions
from shared.broker.projectx.enums import LoginErrorCode, LogoutErrorCode, ValidateErrorCode

BODY_BYTES_MAX = 262_144
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """Build the routes of the REST API."""

    def __init__(
        self,
        *,
        config: SimulatorConfig,
        endpoints: Endpoints,
        sessions: Sessions,
        venue_now_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._sessions = sessions
        self._venue_now_ns = venue_now_ns
        self._monotonic_ns = monotonic_ns
        self._windows: dict[tuple[str, bool], SlidingWindow] = {}

    def application(self, *middlewares: Middleware) -> web.Application:
        """Return the application; hubs add their routes to it.

        Args:
            middlewares: What every request passes on its way in, outermost first.
        """
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._stamp_date, *middlewares])
        app.router.add_get("/api/Status/ping", self._ping)
        app.router.add_post("/api/Auth/loginKey", self._login_key)
        app.router.add_post("/api/Auth/loginApp", self._login_app)
        app.router.add_post("/api/Auth/validate", self._validate)
        app.router.add_post("/api/Auth/logout", self._logout)
        for path, kind, answer in self._endpoints.table():
            app.router.add_post(path, self._endpoint(path, kind, answer))
        return app

    @web.middleware
    async def _stamp_date(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Put venue time into `Date`: it is how a client learns the venue's clock."""
        date = formatdate(self._venue_now_ns() / 1e9, usegmt=True)
        try:
            response = await handler(request)
        except web.HTTPException as refused:
            refused.headers["Date"] = date
            raise
        if not response.prepared:
            response.headers["Date"] = date
        return response

    def _endpoint(self, path: str, kind: type[requests.Body], answer: Callable[[Any], rows.Row]) -> Handler:
        decoder = msgspec.json.Decoder(kind)
        is_history = path == "/api/History/retrieveBars"

        async def handle(request: web.Request) -> web.StreamResponse:
            user = self._sessions.user_of(request)
            if user is None:
                return web.Response(status=401)
            if (busy := self._over_limit(user, is_history=is_history)) is not None:
                return busy
            try:
                body = decoder.decode(await request.read() or b"{}")
                return _json(answer(body))
            except (msgspec.MsgspecError, Malformed) as error:
                return _problem(str(error))

        return handle

    def _over_limit(self, user: str, *, is_history: bool) -> web.Response | None:
        limits = self._config.limits
        key = (user.casefold(), is_history)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = SlidingWindow(
                requests_max=limits.history_requests if is_history else limits.requests,
                window_s=limits.history_window_s if is_history else limits.window_s,
            )
        wait_ns = window.take(self._monotonic_ns())
        if wait_ns == 0:
            return None
        headers = {"Retry-After": str(-(-wait_ns // 1_000_000_000))} if limits.retry_after else {}
        return web.Response(status=429, headers=headers)

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        """Answer in text, or as a JSON string to who asks for JSON, as ASP.NET does with a string."""
        if "json" in request.headers.get("Accept", ""):
            return web.Response(body=b'"pong"', content_type="application/json", charset="utf-8")
        return web.Response(text="pong")

    async def _login_key(self, request: web.Request) -> web.StreamResponse:
        try:
            body = msgspec.json.decode(await request.read(), type=requests.LoginKey)
        except msgspec.MsgspecError as error:
            return _problem(str(error))
        known = self._sessions.known_name(body.user_name)
        if (busy := self._over_limit(known or "?", is_history=False)) is not None:
            return busy
        token = self._sessions.log_in(body.user_name, body.api_key)
        if token is None:
            code = LoginErrorCode.INVALID_CREDENTIALS
            return _json(_envelope(code, "Invalid username or API key.") | {"token": None})
        return _json(_envelope(0, None) | {"token": token})

    async def _login_app(self, request: web.Request) -> web.StreamResponse:
        """The withdrawn endpoint: it exists, and knows no application."""
        try:
            msgspec.json.decode(await request.read(), type=requests.LoginApp)
        except msgspec.MsgspecError as error:
            return _problem(str(error))
        return _json(_envelope(LoginErrorCode.APP_NOT_FOUND, None) | {"token": None})

    async def _validate(self, request: web.Request) -> web.StreamResponse:
        user = self._sessions.user_of(request)
        if user is None:
            return web.Response(status=401)
        if (busy := self._over_limit(user, is_history=False)) is not None:
            return busy
        token = self._sessions.renew(request)
        return _json(_envelope(ValidateErrorCode.SUCCESS, None) | {"newToken": token})

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        user = self._sessions.user_of(request)
        if user is None:
            return web.Response(status=401)
        if (busy := self._over_limit(user, is_history=False)) is not None:
            return busy
        self._sessions.log_out(request)
        return _json(_envelope(LogoutErrorCode.SUCCESS, None))


def _envelope(code: int, message: str | None) -> rows.Row:
    return {"success": code == 0, "errorCode": int(code), "errorMessage": message}


def _json(body: rows.Row) -> web.Response:
    return web.Response(body=rows.encode(body), content_type="application/json", charset="utf-8")


def _problem(detail: str) -> web.Response:
    """Return HTTP 400 as RFC 7807 ProblemDetails."""
    body = {
        "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
        "title": "One or more validation errors occurred.",
        "status": 400,
        "errors": {"$": [detail]},
    }
    return web.Response(status=400, body=rows.encode(body), content_type="application/problem+json")
