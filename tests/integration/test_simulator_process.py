"""The simulator as a process of its own: killed without warning, started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.eventually import eventually
from tests.support.gateway_client import gateway_client
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
        code = await asyncio.wait_for(running.wait(), 20)
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
