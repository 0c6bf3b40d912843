"""The simulator as a process of its own: killed without warning, started again."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from proof.chaos.venue import venue_control
from tests.support.eventually import eventually
from tests.support.gateway_client import GatewayClient, gateway_client
from tests.support.simulator import ACCOUNT_ID
from tests.support.stack import free_port

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def process(folder: Path, port: int, how: signal.Signals) -> AsyncIterator[str]:
    """Run `python -m services.simulator alone`, and end it by `how`."""
    environment = os.environ | {
        "JULIE_CONFIG": str(folder / "julie.toml"),
        "JULIE_JULIE__DATA_DIR": str(folder),
        "JULIE_SIMULATOR__PORT": str(port),
        "JULIE_SIMULATOR__CONTROL": "true",
    }
    (folder / "julie.toml").touch()
    command = [sys.executable, "-m", "services.simulator", "alone"]
    running = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        assert running.returncode is None, "the simulator ended"
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/api/Status/ping") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    try:
        await eventually(answers, within_s=20)
        yield url
    finally:
        running.send_signal(how)
        async with asyncio.timeout(20):
            code = await running.wait()
        assert code == (0 if how is signal.SIGTERM else -how)


def test_killed_venue_forgets_nothing_it_has_answered(tmp_path: Path) -> None:
    async def story() -> None:
        port = free_port()
        account = {"accountId": ACCOUNT_ID}
        async with process(tmp_path, port, signal.SIGKILL) as url, gateway_client(url) as client:
            contract_id = await client.contract()
            entry = await client.place(
                contract_id, customTag="once", stopLossBracket={"ticks": -900, "type": 4}
            )
            assert entry["success"], entry
            working = (await client.post("Order/searchOpen", **account))["orders"]
        async with process(tmp_path, port, signal.SIGTERM) as url, gateway_client(url) as client:
            assert (await client.post("Order/searchOpen", **account))["orders"] == working
            assert (await client.post("Position/searchOpen", **account))["positions"][0]["size"] == 1
            assert (await client.place(contract_id, customTag="once"))["errorCode"] == 2
            assert (await client.post("Position/closeContract", contractId=contract_id, **account))["success"]

    asyncio.run(story())


def test_no_accepted_order_and_no_attempt_is_lost_by_kills_under_load(tmp_path: Path) -> None:
    """Three kills while four clients place orders: what was answered is there, with every request for it."""

    known: dict[str, int] = {}
    (tmp_path / "julie.toml").write_text("[simulator.limits]\nrequests = 100000\n")

    async def place_until_it_dies(client: GatewayClient, contract_id: str, name: str) -> None:
        for number in itertools.count():
            tag = f"{name}-{number}"
            try:
                known[tag] = (await client.place(contract_id, customTag=tag))["orderId"]
            except (aiohttp.ClientError, OSError):
                return

    async def story() -> None:
        port = free_port()
        for life in range(3):
            async with AsyncExitStack() as stack:
                url = await stack.enter_async_context(process(tmp_path, port, signal.SIGKILL))
                client = await stack.enter_async_context(gateway_client(url))
                contract_id = await client.contract()
                placing = [
                    asyncio.create_task(place_until_it_dies(client, contract_id, f"{life}-{one}"))
                    for one in range(4)
                ]
                await eventually(lambda life=life: len(known) >= 40 * (life + 1), within_s=20)
            await asyncio.gather(*placing)
        async with process(tmp_path, port, signal.SIGTERM) as url, venue_control(url) as venue:
            books = await venue.ledger()
        orders = {one["customTag"]: one["id"] for one in books["orders"]}
        assert known.items() <= orders.items()
        placed = [one for one in books["attempts"] if one["path"] == "/api/Order/place"]
        assert len({one["tag"] for one in placed}) == len(placed)
        assert orders.keys() <= {one["tag"] for one in placed}
        answered = {one["tag"] for one in placed if one["status"] == 200}
        assert known.keys() <= answered
        assert sum(one["size"] for one in books["fills"]) == books["positions"][0]["size"] == len(orders)
        # A request is counted when it comes, and becomes an attempt with its body: a kill may fall between.
        counted = sum(books["requests"]["/api/Order/place"].values())
        assert len(placed) <= counted <= len(placed) + 3 * 4

    asyncio.run(story())
