"""`julie panic` against the simulated venue, with nothing of Julie running."""

from __future__ import annotations

import asyncio
import io
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from julie.panic import panic
from services.simulator.shell import Simulator
from shared.broker.limiter import LocalLimiter
from shared.broker.port import Accepted, Credentials, LoggedIn, OrderTicket
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.domain.order import Bracket, OrderType, Side
from shared.runtime.clock import SystemClock
from shared.runtime.config import BrokerSection, halt_flag
from tests.support.eventually import TIME_FACTOR, eventually
from tests.support.fault_gateway import Fault, FaultGateway, fault_gateway
from tests.support.simulator import ACCOUNT_ID, API_KEY, USER, running_simulator
from tests.support.stack import ROOT

pytestmark = pytest.mark.integration

CANCEL, CLOSE = "/api/Order/cancel", "/api/Position/closeContract"
POSITIONS, ORDERS = "/api/Position/searchOpen", "/api/Order/v2/query"
LOST = Fault(body=b"", status="502 Bad Gateway")


class Account:
    """What somebody has done on the account, and what the venue says of it."""

    def __init__(self, simulator: Simulator, adapter: ProjectX) -> None:
        self.simulator = simulator
        self.adapter = adapter
        self.token: str | None = None

    async def place(self, contract_id: str, side: Side, qty: int, **fields: Any) -> int:
        name = f"t.{random.SystemRandom().randrange(1 << 60):x}"
        ticket = OrderTicket(
            account_id=ACCOUNT_ID,
            client_order_id=name,
            contract_id=contract_id,
            side=side,
            order_qty=qty,
            **fields,
        )
        outcome = await self.adapter.orders().place(ticket)
        assert isinstance(outcome, Accepted), outcome
        assert outcome.broker_order_id is not None
        return outcome.broker_order_id

    async def trade(self) -> int:
        """Hold positions with stop and target, and orders with children that wait. Returns working orders."""
        market = self.adapter.market()
        for symbol, side in (("MES", Side.BUY), ("MNQ", Side.SELL)):
            front = next(one for one in await market.search_contracts(symbol) if one.symbol == symbol)
            await self.place(
                front.contract_id, side, 2, bracket=Bracket(stop_loss_ticks=200, take_profit_ticks=400)
            )
            entry = Decimal(1_000) if side is Side.BUY else Decimal(90_000)
            await self.place(
                front.contract_id, side, 1, order_type=OrderType.LIMIT, limit_price=entry,
                bracket=Bracket(stop_loss_ticks=40, take_profit_ticks=80),
            )  # fmt: skip

        async def all_there() -> bool:
            return len(await self.positions()) == 2 and len(await self.working()) == 10

        await eventually(all_there, what="positions, their children, and resting orders with theirs")
        return len(await self.working())

    async def positions(self) -> list[Any]:
        return list(await self.adapter.account().positions(ACCOUNT_ID))

    async def working(self) -> list[Any]:
        return list(await self.adapter.account().working_orders(ACCOUNT_ID))


@asynccontextmanager
async def account() -> AsyncIterator[Account]:
    clock = SystemClock()
    async with running_simulator(symbols=["MES", "MNQ"], seed=5) as simulator:
        holder: list[Account] = []
        adapter = ProjectX(
            settings=ProjectXSettings(api_url=simulator.url, hub_url=f"{simulator.url}/hubs"),
            clock=clock,
            limiter=LocalLimiter(clock=clock, general_max=1_000),
            token=lambda: holder[0].token,
            chance=random.Random(1).random,
        )
        holder.append(Account(simulator, adapter))
        try:
            answer = await adapter.session(Credentials(user_name=USER, api_key=API_KEY)).login()
            assert isinstance(answer, LoggedIn)
            holder[0].token = answer.token.value
            yield holder[0]
        finally:
            await adapter.close()


def against(scenario: Callable[[Account, FaultGateway], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(90 * TIME_FACTOR), account() as here:
            await here.trade()
            with fault_gateway(here.simulator.url) as gateway:
                await scenario(here, gateway)

    asyncio.run(whole())


async def out(url: str, folder: Path, *, timeout_s: float = 30.0, **fields: Any) -> tuple[int, str]:
    """Run it as the command does; return its exit code and what it printed."""
    said = io.StringIO()
    code = await panic(
        BrokerSection.model_validate({"rest_url": url, "hub_url": f"{url}/hubs", **fields}),
        [ACCOUNT_ID],
        data_dir=folder,
        clock=SystemClock(),
        console=Console(file=said, width=200),
        timeout_s=timeout_s * TIME_FACTOR,
        reason="test",
    )
    return code, said.getvalue()


async def assert_flat(here: Account) -> None:
    assert await here.positions() == []
    assert await here.working() == []


def test_everything_is_canceled_and_closed_and_seen_flat_twice(tmp_path: Path) -> None:
    async def scenario(here: Account, gateway: FaultGateway) -> None:
        code, said = await out(gateway.url, tmp_path)
        assert code == 0, said
        await assert_flat(here)
        assert "flat, seen twice" in said
        assert len(gateway.requests(POSITIONS)) >= 3, "a look that acts, and two empty ones"
        assert halt_flag(tmp_path).read_text() == "julie panic: test\n"
        canceled = [one.body for one in gateway.requests(CANCEL)]
        assert len(set(canceled)) >= 6
        assert [one.path for one in gateway.asked if one.path == "/api/Order/place"] == []

    against(scenario)


def test_a_stop_left_behind_by_a_close_is_canceled(tmp_path: Path) -> None:
    """Cancels are lost at first: the closes work, and what protected the positions stays alive."""

    async def scenario(here: Account, gateway: FaultGateway) -> None:
        gateway.faults = {CANCEL: LOST}

        async def closed() -> bool:
            return not await here.positions()

        async def heal() -> None:
            await eventually(closed, what="the positions are closed")
            assert await here.working(), "and orders are left"
            gateway.faults = {}

        (code, said), _ = await asyncio.gather(out(gateway.url, tmp_path), heal())
        assert code == 0, said
        await assert_flat(here)

    against(scenario)


def test_lost_replies_and_failing_questions_and_429(tmp_path: Path) -> None:
    async def scenario(here: Account, gateway: FaultGateway) -> None:
        too_many = Fault(body=b"", status="429 Too Many Requests")
        gateway.faults = {
            CLOSE: Fault(body=b"", status="504 Gateway Timeout"),
            POSITIONS: Fault(body=b'{"success":true,"errorCode":0,"positions":null}'),
            ORDERS: Fault(body=b"<html>busy</html>", status="503 Service Unavailable"),
            "/api/Auth/loginKey": too_many,
        }

        async def heal() -> None:
            for path in ("/api/Auth/loginKey", ORDERS, POSITIONS, CLOSE):
                asked = len(gateway.requests(path))
                await eventually(lambda path=path, asked=asked: len(gateway.requests(path)) > asked)  # type: ignore[misc]
                gateway.faults = {key: fault for key, fault in gateway.faults.items() if key != path}

        (code, said), _ = await asyncio.gather(out(gateway.url, tmp_path, timeout_s=60.0), heal())
        assert code == 0, said
        await assert_flat(here)
        assert "no answer" in said

    against(scenario)


def test_null_and_failing_answers_are_never_flat_and_a_person_is_called(tmp_path: Path) -> None:
    async def scenario(here: Account, gateway: FaultGateway) -> None:
        gateway.faults = {
            POSITIONS: Fault(body=b'{"success":true,"errorCode":0,"positions":null}'),
            CLOSE: Fault(body=b'{"success":false,"errorCode":1,"errorMessage":"closed"}'),
        }
        code, said = await out(gateway.url, tmp_path, timeout_s=3.0)
        assert code == 1
        assert "not seen flat" in said
        assert "positions are unknown" in said
        assert "Use the broker's platform now" in said
        assert len(await here.positions()) == 2

    against(scenario)


def test_a_storm_of_429_keeps_the_rate_and_gets_through(tmp_path: Path) -> None:
    async def scenario(here: Account, gateway: FaultGateway) -> None:
        storm = Fault(body=b"", status="429 Too Many Requests", headers="Retry-After: 60\r\n")
        gateway.faults = dict.fromkeys((POSITIONS, ORDERS, CANCEL, CLOSE, "/api/Order/searchOpen"), storm)

        async def heal() -> None:
            await asyncio.sleep(5)
            assert len(gateway.asked) < 40, "the rate is bounded while it lasts"
            gateway.faults = {}

        (code, said), _ = await asyncio.gather(out(gateway.url, tmp_path, timeout_s=40.0), heal())
        assert code == 0, said
        await assert_flat(here)

    against(scenario)


def test_a_refused_login_says_what_to_do(tmp_path: Path) -> None:
    async def scenario(here: Account, gateway: FaultGateway) -> None:
        key = tmp_path / "key"
        key.write_text("nobody's")
        code, said = await out(gateway.url, tmp_path, api_key_file=key)
        assert code == 1
        assert "Use the broker's platform now" in said
        assert "nobody's" not in said
        assert len(gateway.requests("/api/Auth/loginKey")) == 1

    against(scenario)


def test_the_command_needs_no_redis_no_service_and_no_ledger() -> None:
    async def scenario(here: Account, gateway: FaultGateway) -> None:
        with tempfile.TemporaryDirectory() as folder:
            variables = {
                "JULIE_CONFIG": str(ROOT / "julie.toml"),
                "JULIE_JULIE__DATA_DIR": folder,
                "JULIE_REDIS__URL": "redis://127.0.0.1:1/0",
                "JULIE_REDIS__PASSWORD_FILE": f"{folder}/there-is-none",
                "JULIE_BROKER__REST_URL": gateway.url,
                "JULIE_BROKER__HUB_URL": f"{gateway.url}/hubs",
            }

            async def julie(*arguments: str) -> tuple[int | None, str]:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "julie", "panic", *arguments,
                    env=os.environ | variables, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                )  # fmt: skip
                said, _ = await process.communicate()
                return process.returncode, said.decode()

            asked = len(gateway.asked)
            code, said = await julie()
            assert (code, len(gateway.asked)) == (2, asked), said
            code, said = await julie("--yes", "--reason", "fire")
            assert code == 0, said
            await assert_flat(here)
            assert [path.name for path in Path(folder).iterdir()] == ["halt"]

    against(scenario)
