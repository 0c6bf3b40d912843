"""The simulator's hubs on real sockets: protocol, subscriptions, events, replay."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.eventually import eventually
from tests.support.gateway_client import HubSocket, gateway_client
from tests.support.simulator import ACCOUNT_ID, running_simulator

pytestmark = pytest.mark.integration
RECORDING = Path(__file__).resolve().parents[3] / "shared" / "data" / "es-2023-12-25.csv.gz"
ES = "CON.F.US.EP.H24"


@pytest.mark.parametrize("negotiate", [False, True])
def test_market_data_with_and_without_negotiate(negotiate: bool) -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            contract_id = await client.contract()
            async with client.hub("market", negotiate=negotiate) as hub:
                await hub.shake_hands()
                for target in ("Quotes", "Trades", "MarketDepth"):
                    done = await hub.invoke(f"SubscribeContract{target}", contract_id)
                    assert "error" not in done
                seen: dict[str, Any] = {}

                def all_seen(record: dict[str, Any]) -> bool:
                    if "target" in record:
                        assert record["arguments"][0] == contract_id
                        seen.setdefault(record["target"], record["arguments"][1])
                    return len(seen) == 3

                await hub.wait_for(all_seen)
                assert {"symbol", "lastUpdated", "timestamp"} <= seen["GatewayQuote"].keys()
                assert isinstance(seen["GatewayTrade"], list)
                assert isinstance(seen["GatewayDepth"], list)

    asyncio.run(story())


def test_user_events_follow_an_order() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            contract_id = await client.contract()
            async with client.hub("user") as hub:
                await hub.shake_hands()
                await hub.invoke("SubscribeAccounts")
                for target in ("Orders", "Positions", "Trades"):
                    await hub.invoke(f"Subscribe{target}", ACCOUNT_ID)

                async def filled() -> bool:
                    return bool((await client.place(contract_id))["success"])

                await eventually(filled)
                order = await hub.wait_for(
                    lambda one: one.get("target") == "GatewayUserOrder" and _data(one)["status"] == 2
                )
                assert isinstance(order["arguments"][0]["action"], int)
                trade = (await hub.event("GatewayUserTrade"))["data"]
                assert (trade["orderId"], trade["profitAndLoss"]) == (_data(order)["id"], None)
                position = (await hub.event("GatewayUserPosition"))["data"]
                assert (position["type"], position["size"]) == (1, 1)
                assert (await hub.event("GatewayUserAccount"))["data"]["id"] == ACCOUNT_ID
                await client.post("Position/closeContract", accountId=ACCOUNT_ID, contractId=contract_id)
                assert (await hub.event("GatewayUserPosition"))["data"]["size"] == 0

    asyncio.run(story())


def _data(record: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = record["arguments"][0]["data"]
    return data


def test_bare_user_events() -> None:
    async def story() -> None:
        async with (
            running_simulator(hub={"envelope": False}) as simulator,
            gateway_client(simulator.url) as client,
            client.hub("user") as hub,
        ):
            await hub.shake_hands()
            await hub.invoke("SubscribeOrders", ACCOUNT_ID)
            await client.place(await client.contract(), size=0)
            assert (await hub.event("GatewayUserOrder"))["status"] == 5

    asyncio.run(story())


def test_sockets_that_are_refused() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            for name, token, query, status in (
                ("market", "bad", "", 401),
                ("user", "", "", 401),
                ("market", client.token, "&id=unknown", 404),
            ):
                url = f"{simulator.url}/hubs/{name}?access_token={token}{query}"
                async with aiohttp.ClientSession() as session:
                    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                        await session.ws_connect(url)
                    assert refused.value.status == status
            status, body, _ = await client.raw("POST", "/hubs/market/negotiate", None, "bad")
            assert (status, body) == (401, "")

    asyncio.run(story())


def test_negotiated_id_serves_one_socket() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            _, text, _ = await client.raw("POST", "/hubs/market/negotiate?negotiateVersion=1")
            offer = json.loads(text)
            assert offer["availableTransports"] == [{"transport": "WebSockets", "transferFormats": ["Text"]}]
            headers = {"Authorization": f"Bearer {client.token}"}  # the header authenticates as well
            url = f"{simulator.url}/hubs/market?id={offer['connectionToken']}"
            async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(url):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(url)
                assert refused.value.status == 409

    asyncio.run(story())


@pytest.mark.parametrize(
    ("handshake", "words"),
    [
        ({"protocol": "json", "version": 0}, "version 0"),
        ({"protocol": "json", "version": 2}, "version 2"),
        ({"protocol": "messagepack", "version": 1}, "messagepack"),
        ({"hello": 1}, "Handshake could not be read"),
    ],
)
def test_refused_handshake(handshake: dict[str, Any], words: str) -> None:
    async def story() -> None:
        async with (
            running_simulator(hub={"handshake_versions": [1]}) as simulator,
            gateway_client(simulator.url) as client,
            client.hub("market") as hub,
        ):
            await hub.send(handshake)
            answer = await hub.next()
            assert answer is not None
            assert words in answer["error"]
            assert await hub.next() is None

    asyncio.run(story())


def test_record_split_over_frames_and_records_glued_together() -> None:
    async def story() -> None:
        async with (
            running_simulator() as simulator,
            gateway_client(simulator.url) as client,
            client.hub("market") as hub,
        ):
            text = '{"protocol":"json","version":1}\x1e{"type":6}\x1e'
            text += '{"type":1,"target":"No","invocationId":"1","arguments":[]}\x1e'
            for piece in (text[:10], text[10:40], text[40:]):
                await hub.socket.send_str(piece)
            assert await hub.next() == {}
            answer = await hub.wait_for(lambda one: one.get("invocationId") == "1")
            assert "Method does not exist" in answer["error"]

    asyncio.run(story())


def test_venue_pings_and_cuts_the_silent() -> None:
    hub_times = {"ping_after_s": 0.1, "silent_after_s": 2.0}

    async def story() -> None:
        async with running_simulator(hub=hub_times) as simulator, gateway_client(simulator.url) as client:
            async with client.hub("user") as hub:
                await hub.shake_hands()
                assert await hub.next() == {"type": 6}
                record: dict[str, Any] | None = {}
                while record is not None:
                    record = await hub.next()
            assert simulator.venue.user_hub.clients == []

    asyncio.run(story())


def test_handshake_has_a_deadline() -> None:
    async def story() -> None:
        async with (
            running_simulator(hub={"handshake_within_s": 0.1}) as simulator,
            gateway_client(simulator.url) as client,
            client.hub("user") as hub,
        ):
            assert await hub.next() is None

    asyncio.run(story())


async def _subscribe_all(hub: HubSocket) -> None:
    await hub.shake_hands()
    for target in ("Quotes", "Trades", "MarketDepth"):
        await hub.send(
            {"type": 1, "target": f"SubscribeContract{target}", "arguments": [ES], "invocationId": target}
        )


def _messages(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Reduce hub events to what the recording says."""
    found: list[tuple[Any, ...]] = []
    for record in records:
        data = record["arguments"][1]
        if record["target"] == "GatewayQuote":
            found.append(("quote", data.get("bestBid"), data.get("bestAsk")))
        elif record["target"] == "GatewayTrade":
            found.extend(("trade", one["price"], one["volume"]) for one in data)
        else:
            found.append(("depth", *((one["type"], one["price"], one["currentVolume"]) for one in data)))
    return found


def _expected(path: Path) -> list[tuple[Any, ...]]:
    """Read the recording again, in a few lines of its own."""
    found: list[tuple[Any, ...]] = []
    was = ["", "", "", ""]
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            now = [row["bid_or_price"], row["bid_size_or_size"], row["ask_or_aggressor"], row["ask_size"]]
            if row["kind"] == "T":
                found.append(("trade", float(now[0]), int(now[1])))
                continue
            bid, ask = now[0] != was[0], now[2] != was[2]
            if bid or ask:
                found.append(("quote", float(now[0]) if bid else None, float(now[2]) if ask else None))
            levels = []
            if now[:2] != was[:2]:
                levels.append((9 if bid else 4, float(now[0]), int(now[1])))
            if now[2:] != was[2:]:
                levels.append((10 if ask else 3, float(now[2]), int(now[3])))
            if levels:
                found.append(("depth", *levels))
            was = now
    return found


@pytest.mark.parametrize("buffer_bytes", [1_048_576, 2_000])
def test_replay_sends_every_row_once_and_in_order(buffer_bytes: int) -> None:
    if not RECORDING.exists():
        pytest.skip(f"no recording at {RECORDING}")

    async def story() -> None:
        replay = {"source": "replay", "replay_file": RECORDING, "speed": 0}
        settings = {**replay, "hub": {"conflate_above_bytes": buffer_bytes}}
        async with running_simulator(**settings) as simulator, gateway_client(simulator.url) as client:
            async with client.hub("market") as hub:
                await _subscribe_all(hub)
                expected = _expected(RECORDING)
                records: list[dict[str, Any]] = []
                while len(records) < len(expected):
                    record = await hub.next()
                    assert record is not None
                    if "target" in record:
                        records.append(record)
                assert _messages(records) == expected
            assert await eventually(lambda: simulator.replay_finished)
            _, text, _ = await client.raw("GET", "/sim/status")
            assert json.loads(text)["replay"] == "finished"

    asyncio.run(story())


def test_replay_waits_for_a_full_subscriber(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "ts_ns,kind,bid_or_price,bid_size_or_size,ask_or_aggressor,ask_size\n"
        "1703541600000000000,Q,4799.0,16,4799.5,23\n"
    )

    async def story() -> None:
        async with (
            running_simulator(source="replay", replay_file=path) as simulator,
            gateway_client(simulator.url) as client,
            client.hub("market") as hub,
        ):
            await hub.shake_hands()
            await hub.invoke("SubscribeContractQuotes", ES)
            await hub.invoke("SubscribeContractTrades", ES)
            assert not simulator.replay_finished
            assert simulator.time.now_ns() == 1_703_541_600_000_000_000
            await hub.send({"type": 1, "target": "SubscribeContractMarketDepth", "arguments": [ES]})
            assert (await hub.event("GatewayQuote"))["bestBid"] == 4799.0
            await eventually(lambda: simulator.replay_finished)

    asyncio.run(story())


def test_slow_client_is_conflated_then_told_the_newest() -> None:
    settings = {
        "flood_quotes_per_s": 40_000,
        "hub": {"conflate_above_bytes": 1_000, "ping_after_s": 1, "silent_after_s": 60},
    }

    async def story() -> None:
        async with running_simulator(**settings) as simulator, gateway_client(simulator.url) as client:
            contract_id = await client.contract()
            async with client.hub("market") as hub:
                await hub.shake_hands()
                await hub.invoke("SubscribeContractQuotes", contract_id)
                clients = simulator.venue.market_hub.clients
                await eventually(
                    lambda: clients[0].conflated > 1_000, within_s=30, what="a client falls behind"
                )
                assert clients[0].link.output_bytes < 1_000_000
                # While it falls behind nobody reads; now it is read to the present.
                quote = await hub.wait_for(lambda one: "lastUpdated" in json.dumps(one))
                assert quote["target"] == "GatewayQuote"

    asyncio.run(story())
