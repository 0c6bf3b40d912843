"""A simulator with its control endpoint, and a bare client logged in to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from proof.chaos.venue import VenueControl, venue_control
from services.simulator.shell import Simulator
from tests.support.gateway_client import GatewayClient, HubSocket, gateway_client
from tests.support.simulator import ACCOUNT_ID, running_simulator

ACCOUNT = {"accountId": ACCOUNT_ID}
POLLED = {"requests": 100_000}
SOON_S = 2.0
"""A fault's delay in tests: long enough for a few requests on a busy machine to come before its end."""
SINCE = {**ACCOUNT, "startTimestamp": "2020-01-01T00:00:00Z"}


class Floor(NamedTuple):
    simulator: Simulator
    client: GatewayClient
    venue: VenueControl
    contract_id: str

    async def order(self, **order: Any) -> tuple[int, str, Any]:
        body = {**ACCOUNT, "contractId": self.contract_id, "type": 2, "side": 0, "size": 1, **order}
        return await self.client.raw("POST", "/api/Order/place", body)

    async def attempts(self, tag: str) -> list[dict[str, Any]]:
        return [one for one in (await self.venue.ledger("attempts"))["attempts"] if one["tag"] == tag]

    async def place(self, **order: Any) -> int:
        """Place an order that is accepted; return its id."""
        answer = await self.client.place(self.contract_id, **order)
        assert answer["success"], answer
        return int(answer["orderId"])

    async def row(self, order_id: int) -> dict[str, Any]:
        """Return an order from the venue's books."""
        rows = (await self.venue.ledger("orders"))["orders"]
        return next(one for one in rows if one["id"] == order_id)

    async def open_px(self, ticks: int) -> float:
        """Return a price so many ticks above the last trade's."""
        return float(self.simulator.venue.state.books[self.contract_id].last or 0) * 0.25 + ticks * 0.25

    @asynccontextmanager
    async def user_hub(self) -> AsyncIterator[HubSocket]:
        """Open the user hub, subscribed to everything of the account."""
        async with self.client.hub("user") as hub:
            await hub.shake_hands()
            for name in ("Orders", "Positions", "Trades"):
                assert "error" not in await hub.invoke(f"Subscribe{name}", ACCOUNT_ID)
            yield hub

    @asynccontextmanager
    async def market_hub(self) -> AsyncIterator[HubSocket]:
        """Open the market hub, subscribed to everything of the contract."""
        async with self.client.hub("market") as hub:
            await hub.shake_hands()
            for name in ("Quotes", "Trades", "MarketDepth"):
                assert "error" not in await hub.invoke(f"SubscribeContract{name}", self.contract_id)
            yield hub

    async def tags(self) -> list[str]:
        """Return the tags of all orders the venue has."""
        return [one["customTag"] for one in (await self.venue.ledger("orders"))["orders"]]


@asynccontextmanager
async def floor(**settings: Any) -> AsyncIterator[Floor]:
    async with (
        running_simulator(**{"control": True, "limits": POLLED, **settings}) as simulator,
        gateway_client(simulator.url) as client,
        venue_control(simulator.url) as venue,
    ):
        yield Floor(simulator, client, venue, await client.contract())
