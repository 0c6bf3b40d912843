"""Faults of the simulator's hubs: what arrives of events, market data and frames."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from services.simulator.frames import GARBAGE
from tests.support.eventually import eventually
from tests.support.gateway_client import HubSocket
from tests.support.simulator import ACCOUNT_ID
from tests.support.venue_floor import SOON_S, Floor, floor

pytestmark = pytest.mark.integration


async def trades_told(hub: HubSocket, count: int) -> list[int]:
    """Return the ids of the next fills told."""
    return [(await hub.event("GatewayUserTrade"))["data"]["id"] for _ in range(count)]


async def quote(hub: HubSocket, wanted: Any) -> dict[str, Any]:
    """Return the first quote with both prices for which `wanted` holds."""
    seen: dict[str, Any] = {}
    while True:
        seen |= await hub.event("GatewayQuote")
        if {"bestBid", "bestAsk"} <= seen.keys() and wanted(seen):
            return seen


def test_one_fill_is_dropped_on_a_healthy_link() -> None:
    async def story() -> None:
        async with floor() as on, on.user_hub() as hub:
            await on.venue.set_faults({"kind": "event_drop", "only": ["GatewayUserTrade"], "count": 1})
            for _ in range(3):
                await on.place()
            assert await trades_told(hub, 2) == [2, 3]
            assert await on.venue.injected() == {"event_drop": 1}

    asyncio.run(story())


def test_events_come_several_times() -> None:
    async def story() -> None:
        async with floor() as on, on.user_hub() as hub:
            await on.venue.set_faults({"kind": "event_repeat", "copies": 5, "only": ["GatewayUserTrade"]})
            await on.place()
            assert await trades_told(hub, 5) == [1] * 5

    asyncio.run(story())


def test_events_change_places_and_none_is_lost() -> None:
    async def story() -> None:
        async with floor() as on, on.user_hub() as hub:
            await on.venue.set_faults({"kind": "event_shuffle", "window": 8, "only": ["GatewayUserTrade"]})
            for _ in range(20):
                await on.place()
            told = await trades_told(hub, 20)
            assert sorted(told) == list(range(1, 21))
            assert told != sorted(told)

    asyncio.run(story())


def test_delayed_event_is_overtaken() -> None:
    async def story() -> None:
        async with floor() as on, on.user_hub() as hub:
            fault = {"kind": "event_delay", "delay_s": SOON_S, "only": ["GatewayUserTrade"], "count": 1}
            await on.venue.set_faults(fault)
            await on.place()
            await on.place()
            assert await trades_told(hub, 2) == [2, 1]

    asyncio.run(story())


def test_fill_comes_before_its_order() -> None:
    async def story() -> None:
        async with floor() as on, on.user_hub() as hub:
            await on.venue.set_faults({"kind": "fills_first"})
            await on.place(type=1, limitPrice=await on.open_px(40))
            events = [await hub.next() for _ in range(4)]
            assert [one and one["target"] for one in events][:2] == ["GatewayUserTrade", "GatewayUserOrder"]

    asyncio.run(story())


@pytest.mark.parametrize(("how", "told"), [("close", True), ("close_for_good", False), ("cut", None)])
def test_hub_is_closed(how: str, told: bool | None) -> None:
    async def story() -> None:
        async with floor() as on, on.user_hub() as hub, on.market_hub() as other:
            assert await on.venue.act("hang_up", hub="user", how=how) == {"clients": 1}
            last = None
            while (record := await hub.next()) is not None:
                last = record
            if told is None:
                assert last is None or last["type"] != 7
            else:
                assert last is not None
                assert (last["type"], last.get("allowReconnect", False)) == (7, told)
            await other.event("GatewayQuote")  # the other hub lives on

    asyncio.run(story())


def test_gateway_logout_reaches_both_hubs() -> None:
    async def story() -> None:
        async with floor() as on, on.user_hub() as hub, on.market_hub() as other:
            assert await on.venue.act("logout", message="elsewhere") == {"clients": 2}
            for one in (hub, other):
                assert await one.event("GatewayLogout") == "elsewhere"
                while await one.next() is not None:
                    pass

    asyncio.run(story())


def test_market_freezes_while_the_link_stays_up() -> None:
    async def story() -> None:
        async with floor() as on, on.market_hub() as hub:
            await hub.event("GatewayQuote")
            await on.venue.set_faults({"kind": "market_freeze"})
            assert "error" not in await hub.invoke("SubscribeContractQuotes", on.contract_id)
            hub.records.clear()
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.4):
                    await hub.next()
            await on.venue.set_faults({"kind": "market_freeze", "for_s": 0.5})
            await hub.event("GatewayTrade")  # it is over by itself

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ({"kind": "market_crossed"}, lambda q: q["bestBid"] > q["bestAsk"]),
        ({"kind": "market_zero"}, lambda q: q["bestBid"] == q["bestAsk"] == 0),
        ({"kind": "market_negative"}, lambda q: q["bestBid"] < 0),
        ({"kind": "market_spike", "percent": 50}, lambda q: q["bestBid"] > 9000),
    ],
)
def test_market_tells_nonsense_and_the_truth_again(fault: dict[str, Any], wanted: Any) -> None:
    async def story() -> None:
        async with floor() as on, on.market_hub() as hub:
            await on.venue.set_faults(fault)
            await quote(hub, wanted)
            order_id = await on.place()  # orders meet the true market
            assert 5000 < (await on.row(order_id))["filledPrice"] < 8000
            await on.venue.clear()
            true = await quote(hub, lambda q: 5000 < q["bestBid"] < q["bestAsk"] < 8000)
            assert true["bestAsk"] - true["bestBid"] <= 1

    asyncio.run(story())


def test_old_trades_come_again() -> None:
    async def story() -> None:
        async with floor() as on, on.market_hub() as hub:
            await on.venue.set_faults({"kind": "market_stale"})
            stamps = [(await hub.event("GatewayTrade"))[0]["timestamp"] for _ in range(10)]
            assert len(set(stamps)) == 1

    asyncio.run(story())


def test_trades_while_the_market_is_closed() -> None:
    async def story() -> None:
        closing = "2026-03-02T15:59:58-06:00"
        async with floor(venue_start=closing) as on, on.market_hub() as hub:
            await hub.event("GatewayTrade")

            async def closed() -> bool:
                return not on.simulator.venue.state.session_open

            await eventually(closed, within_s=20)
            await on.venue.set_faults({"kind": "market_after_hours", "rate": 0.1})
            while (await hub.event("GatewayTrade"))[0]["timestamp"] < "2026-03-02T22:00:00":
                pass

    asyncio.run(story())


async def next_messages(on: Floor, hub: HubSocket, count: int) -> list[str]:
    """Return whole WebSocket messages as they come."""
    return [str((await hub.socket.receive()).data) for _ in range(count)]


def test_messages_travel_in_fragments_and_are_whole() -> None:
    async def story() -> None:
        async with floor() as on, on.market_hub() as hub:
            await on.venue.set_faults({"kind": "frame_fragments", "parts": 5, "only": ["market"]})
            messages = await next_messages(on, hub, 30)
            assert all(one.endswith("\x1e") for one in messages)
            assert (await on.venue.injected())["frame_fragments"] > 10
            await hub.event("GatewayQuote")

    asyncio.run(story())


def test_records_are_cut_over_messages_and_none_is_lost() -> None:
    async def story() -> None:
        async with floor() as on, on.user_hub() as hub:
            await on.venue.set_faults({"kind": "frame_pieces", "parts": 6, "only": ["user"]})
            for _ in range(5):
                await on.place()
            text = ""
            while text.count("GatewayUserTrade") < 5 or not text.endswith("\x1e"):
                (piece,) = await next_messages(on, hub, 1)
                text += piece
            fills = [json.loads(one) for one in text.split("\x1e") if "GatewayUserTrade" in one]
            assert [one["arguments"][0]["data"]["id"] for one in fills] == [1, 2, 3, 4, 5]

    asyncio.run(story())


@pytest.mark.parametrize("what", [one for one in GARBAGE if one != "utf8"])
def test_garbage_follows_real_records(what: str) -> None:
    async def story() -> None:
        async with floor() as on, on.market_hub() as hub:
            await on.venue.set_faults({"kind": "frame_garbage", "what": what, "count": 1, "only": ["market"]})
            text = ""
            while not await on.venue.injected() or not text.endswith("\x1e"):
                (piece,) = await next_messages(on, hub, 1)
                text += piece
            odd = []
            for record in filter(None, text.split("\x1e")):
                try:
                    told = json.loads(record)
                    odd += [record] if "NaN" in record or '"high"' in record or "status" in record else []
                    odd += [record] if len(record) > 1_000_000 else []
                    assert isinstance(told, dict)
                except (ValueError, RecursionError):
                    odd.append(record)
            assert len(odd) == 1
            assert str(ACCOUNT_ID) in odd[0] or what != "enum"

    asyncio.run(story())


def test_invalid_utf8_ends_a_strict_clients_link() -> None:
    async def story() -> None:
        async with floor() as on, on.market_hub() as hub:
            await on.venue.set_faults({"kind": "frame_garbage", "what": "utf8", "only": ["market"]})
            while (message := await hub.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            )

    asyncio.run(story())
