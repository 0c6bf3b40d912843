"""What a test does to a running stack from outside: orders of its own strategy, and questions to the venue.

The orders go the way of every strategy's, through an intent stream; the venue is asked over its public
protocol with nothing of the product's client.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from decimal import Decimal
from typing import Any

from shared.bus.port import Bus
from shared.domain.market import MarketState
from shared.domain.order import Bracket, OrderType, Side, SubmitOrder
from shared.wire import topics
from shared.wire.codec import decode
from tests.support.eventually import eventually
from tests.support.stack import Stack

ACCOUNT_ID = 1001
STRATEGY_ID = "probe"
INTENT_TTL_S = 5.0
FAR_TICKS = 60
"""A limit order so far from the market rests; the collar of the risk gate is at 100."""

WIDE_TICKS = 400


async def _touch(bus: Bus, symbol: str, side: Side) -> tuple[Decimal, Decimal]:
    """Return the tick size and the price at this side, as soon as there is one.

    Behind a link that has just come up the first quotes may have told one side only.
    """

    async def told() -> tuple[Decimal, Decimal] | None:
        value = await bus.get(topics.quote(symbol))
        if value is None:
            return None
        market = decode(b"market_state", value)
        assert isinstance(market, MarketState)
        px = market.bid_px if side is Side.BUY else market.ask_px
        return None if px is None else (Decimal(market.tick_size), Decimal(str(px)))

    found = await eventually(told, what=f"a price of {symbol}")
    assert isinstance(found, tuple)
    return found


class Orders:
    """A strategy that has no process: the test is its mind."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._count = 0
        self.sent: list[str] = []

    async def _submit(self, symbol: str, side: Side, *, far: bool, ttl_s: float = INTENT_TTL_S) -> str:
        bus = self._stack.installation().bus()
        try:
            await bus.ready()
            tick, touch = await _touch(bus, symbol, side)
            price = touch - side.sign * FAR_TICKS * tick
            self._count += 1
            now_ns = time.time_ns()
            intent = SubmitOrder(
                client_order_id=f"sim.{STRATEGY_ID}.{now_ns:x}",
                strategy_id=STRATEGY_ID,
                symbol=symbol,
                side=side,
                order_qty=1,
                order_type=OrderType.LIMIT if far else OrderType.MARKET,
                limit_price=price if far else None,
                bracket=Bracket(stop_loss_ticks=WIDE_TICKS),
                cause=f"test@{self._count}-1",
                ts_cause_ns=now_ns,
                expires_at_ns=now_ns + round(ttl_s * 1e9),
            )
            writer = await bus.open(topics.intents(ACCOUNT_ID, STRATEGY_ID))
            writer.append(intent)
            await writer.flush()
        finally:
            await bus.close()
        self.sent.append(intent.client_order_id)
        return intent.client_order_id

    def rest(self, symbol: str, side: Side) -> str:
        """Send a limit order that will not fill. Returns its client order id."""
        return asyncio.run(self._submit(symbol, side, far=True))

    def take(self, symbol: str, side: Side, *, ttl_s: float = INTENT_TTL_S) -> str:
        """Send a market order with a stop far away. Returns its client order id."""
        return asyncio.run(self._submit(symbol, side, far=False, ttl_s=ttl_s))

    def answers(self, client_order_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Return what execution has said of one order so far."""
        return asyncio.run(self._answers(client_order_id))

    async def _answers(self, client_order_id: str) -> list[tuple[str, dict[str, Any]]]:
        bus = self._stack.installation().bus()
        try:
            entries = await bus.between(topics.orders(ACCOUNT_ID), "-", "+", 100_000)
        finally:
            await bus.close()
        rows = [(entry.kind.decode(), json.loads(entry.value)) for entry in entries]
        return [(kind, row) for kind, row in rows if row.get("client_order_id") == client_order_id]

    def outcome(self, client_order_id: str) -> str:
        """Wait until it is known what became of an order: the code of its denial, or its status.

        `not_sent` is what is rejected because it provably never left.
        """

        async def told() -> str:
            for kind, row in await self._answers(client_order_id):
                if kind == "order_denied":
                    return str(row["code"])
                if kind == "order_updated" and row["status"] not in ("pending_new", "unknown"):
                    not_sent = str(row.get("reason", "")).startswith("not sent: ")
                    return "not_sent" if not_sent else str(row["status"])
            return ""

        found = asyncio.run(eventually(told, within_s=40, what=f"an answer on {client_order_id}", poll_s=0.1))
        return str(found)


class Venue:
    """The broker, asked as anybody could."""

    def __init__(self, stack: Stack) -> None:
        self._base = stack.rest_url
        self._token: str | None = None

    def positions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("/api/Position/searchOpen", {})["positions"]
        return found

    def working(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("/api/Order/searchOpen", {})["orders"]
        return found

    def tags(self) -> list[str]:
        """Return the tag of every order that ever reached the venue and carries one of ours."""
        orders = self._ask("/api/Order/search", {"startTimestamp": "2020-01-01T00:00:00Z"})["orders"]
        return [one["customTag"] for one in orders if (one["customTag"] or "").startswith("sim.")]

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self._token is None:
            self._token = self._post("/api/Auth/loginKey", {"userName": "demo", "apiKey": "demo-key"})[
                "token"
            ]
        return self._post(path, {"accountId": ACCOUNT_ID, **body})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._base + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        assert found["success"], found
        return found
