"""Faults of the simulator on real sockets: what a client meets, what the venue's books say of it."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from proof.chaos.venue import VenueRefused, venue_control
from tests.support.eventually import eventually
from tests.support.simulator import ACCOUNT_ID, API_KEY, USER, running_simulator
from tests.support.venue_floor import ACCOUNT, SOON_S, floor

pytestmark = pytest.mark.integration


def test_storm_of_429_with_and_without_retry_after() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "status", "status": 429, "retry_after_s": 7, "count": 1})
            status, _, headers = await on.order(customTag="stormy")
            assert (status, headers["Retry-After"]) == (429, "7")
            await on.venue.set_faults({"kind": "status", "status": 429, "count": 1, "name": "storm"})
            status, _, headers = await on.order(customTag="stormy")
            assert (status, "Retry-After" in headers) == (429, False)
            assert (await on.order(customTag="stormy"))[0] == 200
            first, second, third = await on.attempts("stormy")
            assert (first["status"], first["faults"], first["code"]) == (429, ["status"], None)
            assert (second["status"], second["faults"], second["processed_ns"]) == (429, ["storm"], None)
            assert (third["status"], third["faults"], third["code"]) == (200, [], 0)
            assert await on.venue.injected() == {"status": 1, "storm": 1}

    asyncio.run(story())


def test_login_refused_with_503() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "status", "status": 503, "only": ["/api/Auth/"]})
            body = {"userName": USER, "apiKey": API_KEY}
            assert (await on.client.raw("POST", "/api/Auth/loginKey", body))[0] == 503
            assert (await on.order())[0] == 200
            await on.venue.set_faults({"kind": "status", "status": 503, "only": ["/hubs/user"]})
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with on.client.hub("user"):
                    pass
            async with on.client.hub("market") as hub:
                await hub.shake_hands()

    asyncio.run(story())


@pytest.mark.parametrize(("kind", "placed"), [("cut_after", True), ("cut_before", False)])
def test_connection_closed_instead_of_a_reply(kind: str, placed: bool) -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": kind, "only": ["/api/Order/place"], "count": 1})
            with pytest.raises(aiohttp.ClientError):
                await on.order(customTag="cut")
            (attempt,) = await on.attempts("cut")
            assert (attempt["status"], attempt["faults"]) == (0, [kind])
            assert attempt["code"] == (0 if placed else None)
            assert await on.tags() == (["cut"] if placed else [])

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        ({"kind": "empty_body"}, 200, ""),
        ({"kind": "html_body"}, 200, "<!DOCTYPE html"),
        ({"kind": "truncated_json"}, 200, '{"success":true,'),
        ({"kind": "wrong_code", "code": 6}, 200, '"errorCode":6'),
        ({"kind": "wrong_code"}, 200, '"success":false'),
        ({"kind": "wrong_status"}, 400, ""),
    ],
)
def test_placed_whatever_the_answer_says(fault: dict[str, Any], status: int, body: str) -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({**fault, "only": ["/api/Order/place"]})
            found, text, _ = await on.order(customTag="once")
            assert found == status
            assert body in text
            (attempt,) = await on.attempts("once")
            assert (attempt["status"], attempt["code"]) == (status, 0)
            assert await on.tags() == ["once"]

    asyncio.run(story())


def test_lists_and_new_token_are_null() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "null_lists"})
            positions = await on.client.post("Position/searchOpen", **ACCOUNT)
            assert (positions["success"], positions["positions"]) == (True, None)
            validated = await on.client.post("Auth/validate")
            assert (validated["success"], validated["newToken"]) == (True, None)

    asyncio.run(story())


@pytest.mark.parametrize("fault", [{"status": 504}, {"status": 400}, {"status": 0}])
def test_late_landing_is_invisible_until_it_lands(fault: dict[str, Any]) -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "late_landing", "delay_s": SOON_S, **fault})
            try:
                assert (await on.order(customTag="late"))[0] == fault["status"]
            except aiohttp.ClientError:
                assert fault["status"] == 0
            assert await on.tags() == []
            assert (await on.client.post("Position/searchOpen", **ACCOUNT))["positions"] == []

            async def landed() -> bool:
                return await on.tags() == ["late"]

            await eventually(landed, within_s=10)
            (attempt,) = await on.attempts("late")
            assert (attempt["status"], attempt["code"]) == (fault["status"], 0)
            assert attempt["processed_ns"] - attempt["ts_ns"] >= SOON_S * 1e9
            assert (await on.client.post("Position/searchOpen", **ACCOUNT))["positions"][0]["size"] == 1

    asyncio.run(story())


def test_stalled_order_lands_though_its_client_has_gone() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "stall", "delay_s": SOON_S, "only": ["/api/Order/place"]})
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.1):
                    await on.order(customTag="stalled")
            assert await on.tags() == []

            async def landed() -> bool:
                return await on.tags() == ["stalled"]

            await eventually(landed, within_s=10)

    asyncio.run(story())


def test_slow_reply_comes_after_the_effect() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "slow", "delay_s": SOON_S, "only": ["/api/Order/place"]})
            waiting = asyncio.create_task(on.order(customTag="slow"))

            async def placed() -> bool:
                return await on.tags() == ["slow"]

            await eventually(placed, within_s=10)
            assert not waiting.done()
            assert (await waiting)[0] == 200

    asyncio.run(story())


def test_orders_by_hand_carry_no_tag() -> None:
    async def story() -> None:
        async with floor() as on:
            placed = await on.venue.place_external(account_id=ACCOUNT_ID, symbol="MES", side="sell", size=2)
            assert placed["code"] == 0
            (position,) = (await on.client.post("Position/searchOpen", **ACCOUNT))["positions"]
            assert (position["size"], position["type"]) == (2, 2)
            books = await on.venue.ledger()
            assert [one["customTag"] for one in books["orders"]] == [None]
            assert [one["path"] for one in books["attempts"]] == ["by hand: place"]
            assert books["positions"][0]["size"] == 2
            assert books["fills"][0]["orderId"] == placed["order_id"]
            assert sum(books["requests"]["/api/Position/searchOpen"].values()) == 1
            assert set(books["last_request_ns"]) == set(books["requests"])
            assert (await on.venue.close_external(account_id=ACCOUNT_ID, symbol="MES"))["code"] == 0
            assert (await on.venue.ledger("positions"))["positions"] == []
            with pytest.raises(VenueRefused, match="'ZZ' is not listed"):
                await on.venue.place_external(account_id=ACCOUNT_ID, symbol="ZZ", side="buy", size=1)

    asyncio.run(story())


def test_every_attempt_of_a_tag_is_kept_also_the_refused() -> None:
    async def story() -> None:
        async with floor() as on:
            for _ in range(3):
                await on.order(customTag="twice", size=1)
            await on.order(customTag="bad", size=0)
            assert [one["code"] for one in await on.attempts("twice")] == [0, 2, 2]
            (bad,) = await on.attempts("bad")
            assert bad["code"] == 2
            assert '"size":0' in bad["body"].replace(" ", "")

    asyncio.run(story())


def test_control_is_refused_unless_it_is_on_and_asked_from_here() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, venue_control(simulator.url) as venue:
            with pytest.raises(VenueRefused, match=r"403 .*set simulator\.control = true"):
                await venue.ledger()
        async with floor() as on, aiohttp.ClientSession() as session:
            url = f"{on.simulator.url}/simulator/faults"
            for headers in ({"Origin": "http://127.0.0.1:8700"}, {"Host": "venue.example"}):
                async with session.put(url, json={}, headers=headers) as answer:
                    assert answer.status == 403
            with pytest.raises(VenueRefused, match="there is no fault 'flood'"):
                await on.venue.set_faults({"kind": "flood"})
            with pytest.raises(VenueRefused, match="no such parts: gold"):
                await on.venue.ledger("gold")

    asyncio.run(story())
