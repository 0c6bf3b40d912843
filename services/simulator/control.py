"""The control endpoint: faults put in force, orders placed by hand, the venue's books read.

On the venue's own port, apart from the gateway's protocol, and only with `simulator.control = true`, which
needs a loopback host. Requests that name another host, or that a web page makes, are refused.

- GET `/simulator/faults`: `{"seed", "active": [fault, ...], "injected": {name: hits}}`
- PUT `/simulator/faults` with `{"seed": 7, "active": [{"kind": "status", "status": 429, "rate": 0.3}]}`:
  replaces all faults; `{}` ends them. `fault_settings.py` says what a fault may be told.
- GET `/simulator/ledger`, or `/simulator/ledger?parts=positions,injected`: see `ledger.py`.
- POST `/simulator/act` with one act, told by its `act`: see `Act` in `acts.py`.

Faults put in force here end with the process: a restart begins with those of the settings.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from pydantic import ValidationError

from services.simulator.acts import Act, Acts, NotPossible
from services.simulator.config import is_loopback
from services.simulator.fault_settings import FaultsConfig
from services.simulator.faults import Faults
from services.simulator.ledger import PARTS, Ledger
from services.simulator.rows import encode

OFF = "the control endpoint is off: set simulator.control = true (loopback hosts only)"
ELSEWHERE = "the control endpoint answers programs on this machine only"


class Control:
    """The routes under `/simulator/`."""

    def __init__(self, *, enabled: bool, faults: Faults, ledger: Ledger, acts: Acts) -> None:
        self._enabled = enabled
        self._faults = faults
        self._ledger = ledger
        self._acts = acts
        self._act = msgspec.json.Decoder(Act)

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/simulator/faults", self._show_faults)
        app.router.add_put("/simulator/faults", self._put_faults)
        app.router.add_get("/simulator/ledger", self._show_ledger)
        app.router.add_post("/simulator/act", self._perform)

    def _refusal(self, request: web.Request) -> web.Response | None:
        if not self._enabled:
            return _error(403, OFF)
        host = urlsplit(f"//{request.host}").hostname or ""
        if "Origin" in request.headers or not is_loopback(host):
            return _error(403, ELSEWHERE)
        return None

    async def _show_faults(self, request: web.Request) -> web.Response:
        return self._refusal(request) or _json(self._ledger.faults())

    async def _put_faults(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        try:
            settings = FaultsConfig.model_validate_json(await request.read() or b"{}")
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            return _error(400, "; ".join(problems))
        self._faults.put(settings)
        return _json(self._ledger.faults())

    async def _show_ledger(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        asked = request.query.get("parts")
        parts = PARTS if asked is None else tuple(asked.split(","))
        if unknown := set(parts) - set(PARTS):
            return _error(400, f"no such parts: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        return _json(self._ledger.read(parts))

    async def _perform(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        body = await request.read()
        try:
            return _json(self._acts.perform(self._act.decode(body), body))
        except (msgspec.MsgspecError, NotPossible) as error:
            return _error(400, str(error))


def _json(body: object) -> web.Response:
    return web.Response(body=encode(body), content_type="application/json", charset="utf-8")


def _error(status: int, text: str) -> web.Response:
    return web.Response(status=status, body=encode({"error": text}), content_type="application/json")
