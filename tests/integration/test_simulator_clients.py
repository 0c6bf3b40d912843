"""SignalR clients written by others work against the simulator unchanged."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pysignalr.client import SignalRClient
from pysignalr.messages import InvocationMessage
from pysignalr.protocol.json import JSONProtocol
from pysignalr.transport.websocket import WebsocketTransport
from signalrcore.hub_connection_builder import HubConnectionBuilder

from tests.support.eventually import TIME_FACTOR
from tests.support.gateway_client import gateway_client
from tests.support.simulator import ACCOUNT_ID, running_simulator

pytestmark = pytest.mark.integration
WITHIN_S = 15.0 * TIME_FACTOR
SOON = {"ping_after_s": 0.2, "silent_after_s": 60}


@pytest.mark.parametrize("token_in", ["query", "header"])
def test_pysignalr_receives_quotes(token_in: str) -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as gateway:
            contract_id = await gateway.contract()
            quotes: asyncio.Queue[list[Any]] = asyncio.Queue()
            url = f"{simulator.url}/hubs/market"
            if token_in == "query":
                client = SignalRClient(f"{url}?access_token={gateway.token}")
            else:
                client = SignalRClient(url, headers={"Authorization": f"Bearer {gateway.token}"})
            client.on("GatewayQuote", quotes.put)

            async def subscribe() -> None:
                await client.send("SubscribeContractQuotes", [contract_id])

            client.on_open(subscribe)
            async with _running(client):
                async with asyncio.timeout(WITHIN_S):
                    arguments = await quotes.get()
                assert arguments[0] == contract_id
                assert arguments[1]["symbol"] == "F.US.MES"

    asyncio.run(story())


def test_pysignalr_receives_quotes_without_negotiation() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as gateway:
            contract_id = await gateway.contract()
            messages: asyncio.Queue[Any] = asyncio.Queue()
            url = f"{simulator.url}/hubs/market?access_token={gateway.token}".replace("http", "ws", 1)
            transport = WebsocketTransport(url, JSONProtocol(), messages.put, skip_negotiation=True)

            async def subscribe() -> None:
                arguments = [contract_id]
                await transport.send(InvocationMessage("1", "SubscribeContractQuotes", arguments, None))

            transport.on_open(subscribe)
            async with _running(transport):
                targets: set[str] = set()
                while "GatewayQuote" not in targets:
                    async with asyncio.timeout(WITHIN_S):
                        message = await messages.get()
                    targets.add(getattr(message, "target", ""))

    asyncio.run(story())


@asynccontextmanager
async def _running(client: SignalRClient | WebsocketTransport) -> AsyncIterator[None]:
    task = asyncio.create_task(client.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("skip_negotiation", [True, False])
def test_signalrcore_receives_quotes_and_user_events(skip_negotiation: bool) -> None:
    async def story() -> None:
        # Its stop() waits for the next record, so a quiet hub has to ping soon.
        async with running_simulator(hub=SOON) as simulator, gateway_client(simulator.url) as gateway:
            contract_id = await gateway.contract()
            quotes: queue.Queue[list[Any]] = queue.Queue()
            orders: queue.Queue[list[Any]] = queue.Queue()
            market = _signalrcore(simulator.url, "market", gateway.token, skip_negotiation)
            user = _signalrcore(simulator.url, "user", gateway.token, skip_negotiation)
            market.on("GatewayQuote", quotes.put)
            market.on_open(lambda: market.send("SubscribeContractQuotes", [contract_id]))
            user.on("GatewayUserOrder", orders.put)
            ready: queue.Queue[object] = queue.Queue()
            user.on_open(
                lambda: user.send("SubscribeOrders", [ACCOUNT_ID], on_invocation=lambda done: ready.put(done))
            )
            try:
                await asyncio.to_thread(market.start)
                await asyncio.to_thread(user.start)
                arguments = await asyncio.to_thread(quotes.get, True, WITHIN_S)
                assert arguments[0] == contract_id
                await asyncio.to_thread(ready.get, True, WITHIN_S)
                await gateway.place(contract_id, size=0)
                event = await asyncio.to_thread(orders.get, True, WITHIN_S)
                assert event[0]["data"]["status"] == 5
            finally:
                await asyncio.to_thread(market.stop)
                await asyncio.to_thread(user.stop)

    asyncio.run(story())


def _signalrcore(base: str, hub: str, token: str, skip_negotiation: bool) -> Any:
    url = f"{base}/hubs/{hub}".replace("http://", "ws://") if skip_negotiation else f"{base}/hubs/{hub}"
    if skip_negotiation:
        url += f"?access_token={token}"
    options = {"verify_ssl": False, "skip_negotiation": skip_negotiation}
    if not skip_negotiation:
        options["access_token_factory"] = lambda: token
    return HubConnectionBuilder().with_url(url, options=options).build()
