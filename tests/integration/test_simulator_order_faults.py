"""Faults of orders, searches and sessions at the simulator, met by a real client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.gateway_client import gateway_client
from tests.support.simulator import ACCOUNT_ID, API_KEY, USER, running_simulator
from tests.support.venue_floor import ACCOUNT, SINCE, SOON_S, Floor, floor

pytestmark = pytest.mark.integration
OPEN, FILLED, CANCELLED, REJECTED, PENDING, SUSPENDED = 1, 2, 3, 5, 6, 8
WITH_BRACKETS = {
    "stopLossBracket": {"ticks": -400, "type": 4},
    "takeProfitBracket": {"ticks": 400, "type": 1},
}


async def becomes(on: Floor, order_id: int, status: int) -> None:
    async def is_so() -> bool:
        return bool((await on.row(order_id))["status"] == status)

    await eventually(is_so, within_s=15)


async def far_buy(on: Floor, **order: Any) -> int:
    """Place a limit order that the market will not reach."""
    return await on.place(type=1, limitPrice=await on.open_px(-2000), **order)


def test_order_is_filled_in_parts() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "partial_fills", "parts": 3, "delay_s": SOON_S}, seed=3)
            order_id = await on.place(size=6, customTag="parts", **WITH_BRACKETS)
            assert 0 < (await on.row(order_id))["fillVolume"] < 6
            stop = await on.row(order_id + 1)
            assert (stop["status"], stop["size"]) == (OPEN, (await on.row(order_id))["fillVolume"])
            await becomes(on, order_id, FILLED)
            fills = (await on.venue.ledger("fills"))["fills"]
            assert len(fills) in (2, 3)
            assert sum(one["size"] for one in fills) == 6
            assert (await on.row(order_id + 1))["size"] == 6

    asyncio.run(story())


def test_accepted_order_is_rejected_by_the_exchange_later() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "reject_late", "delay_s": SOON_S})
            order_id = await on.place(customTag="later", **WITH_BRACKETS)
            assert (await on.row(order_id))["status"] == PENDING
            assert (await on.client.post("Position/searchOpen", **ACCOUNT))["positions"] == []
            await becomes(on, order_id, REJECTED)
            assert (await on.row(order_id))["reason"] == "Rejected by the exchange."
            assert [(await on.row(order_id + leg))["status"] for leg in (1, 2)] == [CANCELLED] * 2
            assert (await on.venue.ledger("positions"))["positions"] == []

    asyncio.run(story())


def test_order_is_accepted_late_and_filled_then() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "accept_late", "delay_s": SOON_S})
            async with on.user_hub() as hub:
                order_id = await on.place()
                statuses = []
                while not statuses or statuses[-1] != FILLED:
                    statuses.append((await hub.event("GatewayUserOrder"))["data"]["status"])
                assert statuses == [PENDING, OPEN, FILLED]
            assert (await on.row(order_id))["fillVolume"] == 1

    asyncio.run(story())


def test_order_held_over_a_restart_is_rejected(tmp_path: Any) -> None:
    async def story() -> None:
        database = tmp_path / "venue.sqlite"
        async with floor(database=database) as on:
            await on.venue.set_faults({"kind": "accept_late", "delay_s": 60})
            order_id = await on.place()
            assert (await on.row(order_id))["status"] == PENDING
        async with floor(database=database) as on:
            assert (await on.row(order_id))["status"] == REJECTED

    asyncio.run(story())


@pytest.mark.parametrize(("leg", "statuses"), [("stop", [REJECTED, OPEN]), ("both", [REJECTED, REJECTED])])
def test_bracket_legs_are_rejected(leg: str, statuses: list[int]) -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "reject_legs", "leg": leg})
            order_id = await on.place(**WITH_BRACKETS)
            assert (await on.row(order_id))["status"] == FILLED
            assert [(await on.row(order_id + leg))["status"] for leg in (1, 2)] == statuses

    asyncio.run(story())


def test_cancel_accepted_but_the_fill_was_first() -> None:
    async def story() -> None:
        async with floor() as on:
            order_id = await far_buy(on)
            await on.venue.set_faults({"kind": "cancel_after_fill"})
            assert (await on.client.post("Order/cancel", orderId=order_id, **ACCOUNT))["success"]
            assert (await on.row(order_id))["status"] == FILLED
            assert (await on.venue.ledger("positions"))["positions"][0]["size"] == 1

    asyncio.run(story())


def test_cancel_takes_effect_late() -> None:
    async def story() -> None:
        async with floor() as on:
            order_id = await far_buy(on)
            await on.venue.set_faults({"kind": "cancel_late", "delay_s": SOON_S})
            assert (await on.client.post("Order/cancel", orderId=order_id, **ACCOUNT))["success"]
            assert (await on.row(order_id))["status"] == OPEN
            await becomes(on, order_id, CANCELLED)

    asyncio.run(story())


def test_order_search_misses_an_order_for_a_while() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": "hide_orders", "delay_s": SOON_S, "only": ["hidden"]})
            order_id = await on.place(customTag="hidden")
            await on.place(customTag="shown")

            async def found() -> list[str]:
                return [one["customTag"] for one in (await on.client.post("Order/search", **SINCE))["orders"]]

            assert await found() == ["shown"]
            assert (await on.client.post("Order/searchById", orderId=order_id, **ACCOUNT))["order"] is None
            trades = (await on.client.post("Trade/search", **SINCE))["trades"]
            assert order_id in [one["orderId"] for one in trades]

            async def all_found() -> bool:
                return await found() == ["hidden", "shown"]

            await eventually(all_found, within_s=10)

    asyncio.run(story())


def test_searches_lag_behind_the_truth() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.place(customTag="before")
            await on.venue.set_faults({"kind": "search_lag", "delay_s": SOON_S})
            await on.place(customTag="after")

            async def known() -> tuple[int, int, int]:
                orders = (await on.client.post("Order/search", **SINCE))["orders"]
                trades = (await on.client.post("Trade/search", **SINCE))["trades"]
                positions = (await on.client.post("Position/searchOpen", **ACCOUNT))["positions"]
                return len(orders), len(trades), positions[0]["size"]

            assert await known() == (1, 1, 1)
            assert (await on.venue.ledger("positions"))["positions"][0]["size"] == 2

            async def caught_up() -> bool:
                return await known() == (2, 2, 2)

            await eventually(caught_up, within_s=10)
            await on.place(customTag="last")
            assert (await known())[0] == 2
            await on.venue.clear()
            assert await known() == (3, 3, 3)

    asyncio.run(story())


def test_tags_may_be_used_again_when_the_venue_does_not_enforce_them() -> None:
    async def story() -> None:
        async with floor() as on:
            await on.place(customTag="again")
            refused = await on.client.place(on.contract_id, customTag="again")
            assert (refused["success"], refused["errorCode"]) == (False, 2)
            await on.venue.set_faults({"kind": "tags_reusable", "delay_s": 3600})
            assert not (await on.client.place(on.contract_id, customTag="again"))["success"]
            await on.venue.set_faults({"kind": "tags_reusable"})
            await on.place(customTag="again")
            assert [one["code"] for one in await on.attempts("again")] == [0, 2, 2, 0]

    asyncio.run(story())


def test_all_tokens_are_revoked_and_stay_so_over_a_restart(tmp_path: Any) -> None:
    async def story() -> None:
        database = tmp_path / "venue.sqlite"
        async with floor(database=database) as on:
            await on.venue.act("revoke")
            old = on.client.token
            status, body, _ = await on.client.raw("POST", "/api/Position/searchOpen", ACCOUNT)
            assert (status, body) == (401, "")
            await on.client.log_in()
            assert (await on.client.post("Position/searchOpen", **ACCOUNT))["success"]
        async with floor(database=database) as on:
            assert (await on.client.raw("POST", "/api/Auth/validate", None, old))[0] == 401

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["short_tokens", "early_expiry"])
def test_tokens_die_early(kind: str) -> None:
    async def story() -> None:
        async with floor() as on:
            await on.venue.set_faults({"kind": kind, "delay_s": 0.4})
            await on.client.log_in()
            assert (await on.client.raw("POST", "/api/Auth/validate"))[0] in (200, 401)

            async def dead() -> bool:
                return (await on.client.raw("POST", "/api/Position/searchOpen", ACCOUNT))[0] == 401

            await eventually(dead, within_s=10)

    asyncio.run(story())


def test_faults_from_the_settings_are_in_force_at_once() -> None:
    async def story() -> None:
        fault = {"kind": "wrong_status", "status": 502, "only": ["/api/Auth/loginKey"], "count": 1}
        async with running_simulator(faults={"active": [fault]}) as simulator:
            assert simulator.faults.settings.active[0].http_status == 502
            with pytest.raises(AssertionError, match="502"):
                async with gateway_client(simulator.url):
                    pass
            async with gateway_client(simulator.url) as client:
                answer = await client.post("Auth/loginKey", userName=USER, apiKey=API_KEY)
                assert answer["token"]
                assert ACCOUNT_ID in [
                    one["id"]
                    for one in (await client.post("Account/search", onlyActiveAccounts=True))["accounts"]
                ]

    asyncio.run(story())
