"""The prop firm at the simulator: flat at its time, locked at its loss, also after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.simulator import ACCOUNT_ID
from tests.support.venue_floor import ACCOUNT, Floor, floor

pytestmark = pytest.mark.integration


def account(**rules: Any) -> list[dict[str, Any]]:
    return [{"id": ACCOUNT_ID, "balance": "50000", **rules}]


async def acts_of_the_firm(on: Floor) -> list[str]:
    attempts = (await on.venue.ledger("attempts"))["attempts"]
    return [one["path"] for one in attempts if one["path"].startswith("by the firm")]


def test_flat_at_its_time() -> None:
    async def story() -> None:
        before = "2026-03-02T15:09:57-06:00"
        async with floor(venue_start=before, accounts=account(flat_at="15:10")) as on:
            await on.place(size=2, stopLossBracket={"ticks": -400, "type": 4})
            resting = await on.place(type=1, limitPrice=await on.open_px(-2000))

            async def flat() -> bool:
                books = await on.venue.ledger("positions", "orders")
                return books["positions"] == [] and all(one["status"] in (2, 3) for one in books["orders"])

            assert not await flat()
            await eventually(flat, within_s=20)
            assert (await on.row(resting))["status"] == 3
            assert set(await acts_of_the_firm(on)) == {"by the firm: flat by"}
            assert (await on.client.place(on.contract_id))["success"]  # not refused, but closed again
            await eventually(flat, within_s=20)

    asyncio.run(story())


@pytest.mark.parametrize("rule", ["daily_loss_usd", "max_loss_usd"])
def test_loss_liquidates_and_locks_the_account(rule: str, tmp_path: Path) -> None:
    async def story() -> None:
        settings = {"database": tmp_path / "venue.sqlite", "accounts": account(**{rule: "20"})}
        async with floor(**settings) as on, on.user_hub() as hub:
            assert "error" not in await hub.invoke("SubscribeAccounts")
            await on.place(size=60)  # fees alone are over the limit
            while (await hub.event("GatewayUserAccount"))["data"]["canTrade"]:
                pass

            async def flat() -> bool:
                return (await on.venue.ledger("positions"))["positions"] == []

            await eventually(flat, within_s=20)
            refused = await on.client.place(on.contract_id)
            assert (refused["success"], refused["errorCode"]) == (False, 4)
        async with floor(**settings) as on:
            accounts = (await on.client.post("Account/search", onlyActiveAccounts=False))["accounts"]
            assert [one["canTrade"] for one in accounts] == [False]
            assert (await on.client.place(on.contract_id))["errorCode"] == 4
            assert (await on.client.post("Position/searchOpen", **ACCOUNT))["positions"] == []

    asyncio.run(story())
