"""The door of the venue: writes down who comes, and lets faults act on requests and replies.

Stands before every endpoint and hub. What is behind it stays honest: a fault only decides whether, when and
how often the honest answer is made, and what the client gets to see of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from services.simulator import rows
from services.simulator.faults import Faults, Hit
from services.simulator.journal import CUT, Journal
from shared.runtime.clock import Clock
from shared.runtime.logs import Log

CHANGES = frozenset(
    {
        "/api/Order/place",
        "/api/Order/modify",
        "/api/Order/cancel",
        "/api/Position/closeContract",
        "/api/Position/partialCloseContract",
    }
)
HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    error_code: int
    order_id: int | None = None


class Door:
    """One venue's door."""

    def __init__(self, *, faults: Faults, journal: Journal, clock: Clock, log: Log) -> None:
        self._faults = faults
        self._journal = journal
        self._clock = clock
        self._log = log
        self._landings: set[asyncio.Task[None]] = set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        if not path.startswith(("/api/", "/hubs/")):
            return await handler(request)
        self._journal.count(path, self._clock.now_ns())
        hits: list[str] = []
        if path.startswith("/hubs/"):
            if self._draw("cut_before", request, hits):
                return _cut(request)
            return self._refusal(request, hits) or await handler(request)
        attempt = None
        if path in CHANGES and request.method == "POST":
            attempt = self._journal.attempt(path, await request.read(), self._clock.now_ns())
        response = await self._answer(request, handler, attempt, hits)
        if attempt is not None:
            self._journal.replied(attempt, CUT if response is None else response.status, hits)
        return _cut(request) if response is None else response

    async def close(self) -> None:
        """Give up on what has not landed yet."""
        for task in self._landings:
            task.cancel()
        await asyncio.gather(*self._landings, return_exceptions=True)

    # before

    def _refusal(self, request: web.Request, hits: list[str]) -> web.Response | None:
        """Return the answer of a request that is not processed, or None."""
        if hit := self._draw("status", request, hits):
            after_s = hit.fault.retry_after_s
            headers = {} if after_s is None else {"Retry-After": str(after_s)}
            return web.Response(status=hit.fault.http_status, headers=headers)
        return None

    async def _answer(
        self, request: web.Request, handler: Handler, attempt: int | None, hits: list[str]
    ) -> web.StreamResponse | None:
        """Return the reply; None: the connection is cut."""
        if self._draw("cut_before", request, hits):
            return None
        if refusal := self._refusal(request, hits):
            return refusal
        if hit := self._draw("late_landing", request, hits):
            self._land_later(request, handler, attempt, hit.delay_s)
            return web.Response(status=hit.fault.http_status) if hit.fault.http_status else None
        if hit := self._draw("stall", request, hits):
            await self._clock.sleep(hit.delay_s)
        honest = await self._process(request, handler, attempt)
        return await self._reply(request, honest, hits)

    def _draw(self, kind: str, request: web.Request, hits: list[str]) -> Hit | None:
        hit = self._faults.draw(kind, request.path)
        if hit is not None:
            hits.append(hit.fault.label)
            self._log.info("fault", kind=kind, path=request.path)
        return hit

    async def _process(
        self, request: web.Request, handler: Handler, attempt: int | None
    ) -> web.StreamResponse:
        response = await handler(request)
        if attempt is not None and response.status == 200 and isinstance(response, web.Response):
            envelope = msgspec.json.decode(_body(response), type=_Envelope)
            self._journal.processed(attempt, envelope.error_code, envelope.order_id, self._clock.now_ns())
        return response

    def _land_later(
        self, request: web.Request, handler: Handler, attempt: int | None, delay_s: float
    ) -> None:
        async def land() -> None:
            await self._clock.sleep(delay_s)
            await self._process(request, handler, attempt)

        task = asyncio.create_task(land(), name="late-landing")
        self._landings.add(task)
        task.add_done_callback(self._landings.discard)

    # after

    async def _reply(
        self, request: web.Request, honest: web.StreamResponse, hits: list[str]
    ) -> web.StreamResponse | None:
        if self._draw("cut_after", request, hits):
            return None
        if hit := self._draw("slow", request, hits):
            await self._clock.sleep(hit.delay_s)
        if hit := self._draw("wrong_status", request, hits):
            return web.Response(status=hit.fault.http_status)
        if honest.status != 200 or not isinstance(honest, web.Response) or not _is_json(honest):
            return honest
        if self._draw("empty_body", request, hits):
            return web.Response(status=200)
        if self._draw("html_body", request, hits):
            return web.Response(body=HTML, content_type="text/html")
        if self._draw("truncated_json", request, hits):
            return _json(_body(honest)[: len(_body(honest)) // 2])
        if self._draw("null_lists", request, hits):
            return _json(rows.encode(_without_lists(msgspec.json.decode(_body(honest)))))
        if hit := self._draw("wrong_code", request, hits):
            refused = {"success": False, "errorCode": hit.fault.code, "errorMessage": None}
            return _json(rows.encode(msgspec.json.decode(_body(honest)) | refused | {"orderId": None}))
        return honest


def _cut(request: web.Request) -> web.Response:
    """Close the connection under the reply; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def _body(response: web.Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


def _is_json(response: web.Response) -> bool:
    return response.content_type == "application/json"


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", charset="utf-8")


def _without_lists(envelope: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, list) or name == "newToken" else value
        for name, value in envelope.items()
    }
