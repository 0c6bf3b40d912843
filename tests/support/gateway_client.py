"""A bare client of the gateway's protocol, for tests of the venue itself.

On purpose nothing of the product's own broker client: plain JSON over aiohttp, so that a
mistake shared by both ends cannot hide.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.support.eventually import TIME_FACTOR
from tests.support.simulator import ACCOUNT_ID, API_KEY, USER

WITHIN_S = 10.0 * TIME_FACTOR


class HubSocket:
    """One hub connection: records as they come."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.records: list[dict[str, Any]] = []
        self._rest = ""

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send_str(json.dumps(message) + "\x1e")

    async def shake_hands(self) -> None:
        await self.send({"protocol": "json", "version": 1})
        assert await self.next() == {}

    async def invoke(self, target: str, *arguments: object) -> dict[str, Any]:
        """Invoke and return the completion; events that come before it are kept."""
        await self.send({"type": 1, "target": target, "arguments": list(arguments), "invocationId": target})
        return await self.wait_for(lambda one: one.get("invocationId") == target)

    async def next(self) -> dict[str, Any] | None:
        """Return the next record, None when the venue closed the socket."""
        while not self.records:
            async with asyncio.timeout(WITHIN_S):
                message = await self.socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return None
            *whole, self._rest = (self._rest + message.data).split("\x1e")
            self.records.extend(json.loads(one) for one in whole)
        return self.records.pop(0)

    async def wait_for(self, wanted: Any) -> dict[str, Any]:
        """Return the first record for which `wanted` holds, dropping those before it."""
        while True:
            record = await self.next()
            assert record is not None, "the venue closed the socket"
            if wanted(record):
                return record

    async def event(self, target: str) -> Any:
        """Return the last argument of the next event of this name."""
        record = await self.wait_for(lambda one: one.get("target") == target)
        return record["arguments"][-1]


class GatewayClient:
    """A logged-in user."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self.base = base
        self.token = ""

    async def raw(
        self, method: str, path: str, body: Any = None, token: str | None = None
    ) -> tuple[int, str, Any]:
        """Return status, body and headers of one request."""
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        async with self._session.request(method, self.base + path, json=body, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        status, text, _ = await self.raw("POST", f"/api/{path}", body)
        assert status == 200, (status, text)
        envelope: dict[str, Any] = json.loads(text)
        assert {"success", "errorCode", "errorMessage"} <= envelope.keys()
        assert envelope["success"] == (envelope["errorCode"] == 0)
        return envelope

    async def log_in(self) -> None:
        self.token = (await self.post("Auth/loginKey", userName=USER, apiKey=API_KEY))["token"]

    async def contract(self, symbol_id: str = "F.US.MES") -> str:
        found = (await self.post("Contract/available", live=False))["contracts"]
        return str(next(one["id"] for one in found if one["symbolId"] == symbol_id))

    async def place(self, contract_id: str, **order: Any) -> dict[str, Any]:
        body = {"accountId": ACCOUNT_ID, "contractId": contract_id, "type": 2, "side": 0, "size": 1}
        return await self.post("Order/place", **{**body, **order})

    @asynccontextmanager
    async def hub(
        self, name: str, *, negotiate: bool = False, token: str | None = None
    ) -> AsyncIterator[HubSocket]:
        """Open a hub without the handshake."""
        token = self.token if token is None else token
        address = f"{self.base}/hubs/{name}"
        query = {"access_token": token}
        if negotiate:
            url = f"{address}/negotiate?negotiateVersion=1"
            async with self._session.post(url, headers={"Authorization": f"Bearer {token}"}) as answer:
                query["id"] = (await answer.json())["connectionToken"]
        async with self._session.ws_connect(address, params=query, max_msg_size=0) as socket:
            yield HubSocket(socket)


@asynccontextmanager
async def gateway_client(base: str) -> AsyncIterator[GatewayClient]:
    """Log in at `base` and close everything afterwards."""
    async with aiohttp.ClientSession() as session:
        client = GatewayClient(session, base)
        await client.log_in()
        yield client
