"""broker_sync against the simulated venue and a real bus: what stands in the stream is what the venue has."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

import services.broker_sync.shell as shell_module
from services.broker_sync.config import BrokerSyncSection
from services.broker_sync.shell import Shell
from services.simulator.shell import Simulator
from shared.broker.errors import HttpFailed
from shared.broker.limiter import LocalLimiter
from shared.broker.port import Accepted, AccountPort, Credentials, LoggedIn, OrderPort, OrderTicket
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.bus.bus import RedisBus
from shared.bus.client import Address
from shared.bus.port import RolledBack
from shared.domain.instrument import Instrument
from shared.domain.order import Bracket, OrderStatus, OrderType, Side
from shared.domain.report import (
    FillReport,
    OrderReport,
    PositionReport,
    SnapshotBegun,
    SnapshotTaken,
    SyncHealth,
    SyncState,
)
from shared.runtime.clock import SystemClock
from shared.runtime.config import JulieSection
from shared.wire import topics
from shared.wire.codec import decode
from tests.support.buses import make_bus, run
from tests.support.eventually import eventually
from tests.support.service_context import running, service_context
from tests.support.simulator import ACCOUNT_ID, API_KEY, USER, refusing, running_simulator
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.integration
FAST = {"reconcile_interval_s": 1.0, "reconcile_spacing_s": 0.2, "retry_first_s": 0.1, "doubt_after_s": 0.5}


class Breakable:
    """An account port whose answers can be made to fail."""

    def __init__(self, port: AccountPort) -> None:
        self._port = port
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        if self.broken and name in {"positions", "working_orders", "orders_since", "fills_since"}:
            raise HttpFailed(endpoint=name, reason="not answered with 200", http_status=503)
        return getattr(self._port, name)


class Stage:
    def __init__(
        self,
        bus: RedisBus,
        address: Address,
        adapter: ProjectX,
        port: Breakable,
        mes: Instrument,
        simulator: Simulator,
    ) -> None:
        self.bus, self.address, self.port, self.mes, self.simulator = bus, address, port, mes, simulator
        self.orders: OrderPort = adapter.orders()
        self._tags = 0

    async def reports(self) -> list[Any]:
        entries = await self.bus.between(topics.reports(ACCOUNT_ID), "-", "+", 10_000)
        return [decode(e.kind, e.value) for e in entries]

    async def health(self) -> SyncHealth | None:
        states = [r for r in await self.reports() if isinstance(r, SyncState)]
        return states[-1].health if states else None

    async def becomes(self, health: SyncHealth) -> None:
        async def holds() -> bool:
            return await self.health() is health

        await eventually(holds, what=f"account is {health}")

    async def net_qty(self) -> int:
        """Return the position as a reader of the stream sees it."""
        positions = [r for r in await self.reports() if isinstance(r, PositionReport)]
        return positions[-1].net_qty if positions else 0

    async def from_fills(self) -> int:
        fills = [r for r in await self.reports() if isinstance(r, FillReport)]
        assert len({f.fill_id for f in fills}) == len(fills), "a fill was published twice"
        return sum(f.side.sign * f.last_qty for f in fills)

    async def reaches(self, net_qty: int) -> None:
        async def holds() -> bool:
            return await self.net_qty() == net_qty == await self.from_fills()

        await eventually(holds, what=f"position and fills say {net_qty}")

    async def place(self, side: Side, qty: int = 1, **fields: Any) -> int:
        self._tags += 1
        ticket = OrderTicket(
            account_id=ACCOUNT_ID, client_order_id=f"t{self._tags}", contract_id=self.mes.contract_id,
            side=side, order_qty=qty, **fields,
        )  # fmt: skip
        outcome = await self.orders.place(ticket)
        assert isinstance(outcome, Accepted), outcome
        assert outcome.broker_order_id is not None
        return outcome.broker_order_id

    async def statuses(self) -> dict[int, OrderStatus]:
        return {r.broker_order_id: r.status for r in await self.reports() if isinstance(r, OrderReport)}

    async def view(self) -> dict[str, Any]:
        found = await self.bus.hash_get(topics.account(ACCOUNT_ID))
        return {name: json.loads(value) for name, value in found.items()}

    @asynccontextmanager
    async def broker_sync(
        self, account_id: int = ACCOUNT_ID, **settings: object
    ) -> AsyncIterator[asyncio.Task[None]]:
        config = BrokerSyncSection.model_validate({**FAST, **settings})
        julie = JulieSection(account_id=account_id)
        async with service_context(self.address, "broker_sync", config, julie=julie) as ctx:
            shell = Shell(ctx, self.port)  # type: ignore[arg-type]
            async with running(shell.run()) as task:
                yield task


@asynccontextmanager
async def venue(**overrides: Any) -> AsyncIterator[Stage]:
    clock = SystemClock()
    with running_valkey() as server:
        bus = make_bus(server.address)
        await bus.ready()
        async with running_simulator(symbols=("MES",), **overrides) as simulator:
            token: list[str] = []
            adapter = ProjectX(
                settings=ProjectXSettings(api_url=simulator.url, hub_url=f"{simulator.url}/hubs"),
                clock=clock,
                limiter=LocalLimiter(clock=clock),
                token=lambda: token[0] if token else None,
                chance=random.Random(1).random,
            )
            try:
                login = await adapter.session(Credentials(user_name=USER, api_key=API_KEY)).login()
                assert isinstance(login, LoggedIn)
                token.append(login.token.value)
                found = await adapter.market().search_contracts("MES")
                mes = next(one for one in found if one.symbol == "MES" and one.active)
                yield Stage(bus, server.address, adapter, Breakable(adapter.account()), mes, simulator)
            finally:
                await adapter.close()


def test_snapshot_then_pushes_then_flat() -> None:
    async def scenario() -> None:
        async with venue() as stage, stage.broker_sync(reconcile_interval_s=30.0):
            await stage.becomes(SyncHealth.IN_SYNC)
            kinds = [type(r) for r in await stage.reports()]
            assert kinds.index(SnapshotBegun) < kinds.index(SnapshotTaken)
            await stage.place(Side.BUY, 2)
            await stage.reaches(2)
            await stage.place(Side.SELL, 2)
            await stage.reaches(0)

            async def view_is_flat() -> bool:
                view = await stage.view()
                return view["positions"] == [] and view["realized_today"]["fills"] >= 2

            await eventually(view_is_flat)

    run(scenario)


def test_a_subscription_that_was_refused_once_ends_in_sync() -> None:
    """The link may hold for a day: waiting for the next one would leave the account stale as long."""

    async def scenario() -> None:
        async with venue() as stage:
            refused = ExitStack()
            refused.enter_context(refusing(stage.simulator.venue.user_hub, "SubscribeTrades"))
            async with stage.broker_sync(reconcile_interval_s=30.0):

                async def is_stale() -> bool:
                    states = [r for r in await stage.reports() if isinstance(r, SyncState)]
                    return any("refused SubscribeTrades" in state.reason for state in states)

                await eventually(is_stale)
                refused.close()
                await stage.becomes(SyncHealth.IN_SYNC)
                await stage.place(Side.BUY, 1)
                await stage.reaches(1)

    run(scenario)


def test_bracket_children_are_working_orders() -> None:
    async def scenario() -> None:
        async with venue() as stage, stage.broker_sync():
            await stage.becomes(SyncHealth.IN_SYNC)
            await stage.place(Side.BUY, bracket=Bracket(stop_loss_ticks=200, take_profit_ticks=200))
            await stage.reaches(1)

            async def protected() -> bool:
                return len((await stage.view())["working_orders"] or ()) == 2

            await eventually(protected)

    run(scenario)


def test_what_happened_while_we_were_away_is_found_and_fills_come_once() -> None:
    async def scenario() -> None:
        async with venue() as stage:
            async with stage.broker_sync():
                await stage.becomes(SyncHealth.IN_SYNC)
                await stage.place(Side.BUY)
                await stage.reaches(1)
            resting = await stage.place(
                Side.BUY, order_type=OrderType.LIMIT, limit_price=stage.mes.price(1_000)
            )
            await stage.place(Side.BUY)
            async with stage.broker_sync():
                await stage.reaches(2)

                async def listed() -> bool:
                    return (await stage.statuses()).get(resting) is OrderStatus.NEW

                await eventually(listed)
            await stage.orders.cancel(ACCOUNT_ID, resting)
            async with stage.broker_sync():

                async def canceled() -> bool:
                    return (await stage.statuses()).get(resting) is OrderStatus.CANCELED

                await eventually(canceled)
                await stage.reaches(2)

    run(scenario)


def test_failing_endpoints_are_stale_and_never_flat() -> None:
    async def scenario() -> None:
        async with venue() as stage, stage.broker_sync():
            await stage.becomes(SyncHealth.IN_SYNC)
            await stage.place(Side.BUY)
            await stage.reaches(1)
            stage.port.broken = True
            await stage.becomes(SyncHealth.STALE)
            assert await stage.net_qty() == 1

            async def still_shown() -> bool:
                view = await stage.view()
                return bool(view["positions"]) and view["sync"]["health"] == "stale"

            await eventually(still_shown)
            stage.port.broken = False
            await stage.becomes(SyncHealth.IN_SYNC)
            assert await stage.net_qty() == 1

    run(scenario)


def test_an_account_that_does_not_exist_is_named() -> None:
    async def scenario() -> None:
        async with venue() as stage, stage.broker_sync(account_id=4_242):

            async def told() -> bool:
                fields = await stage.bus.hash_get(topics.account(4_242))
                return b"no account 4242" in fields.get("sync", b"") and b"1001" in fields["sync"]

            await eventually(told)

    run(scenario)


def test_open_pnl_is_unknown_without_a_quote() -> None:
    async def scenario() -> None:
        async with venue() as stage, stage.broker_sync():
            await stage.becomes(SyncHealth.IN_SYNC)
            await stage.place(Side.BUY)
            await stage.reaches(1)

            async def shown() -> bool:
                view = await stage.view()
                return bool(view["positions"]) and view["open_pnl"] is None

            await eventually(shown)
            assert "no quote" in (await stage.view())["open_pnl_unknown"]

    run(scenario)


def test_an_emptied_redis_ends_the_process_and_the_next_start_publishes_all_again() -> None:
    async def scenario() -> None:
        async with venue() as stage:
            with pytest.raises(ExceptionGroup) as caught:
                async with stage.broker_sync() as task:
                    await stage.becomes(SyncHealth.IN_SYNC)
                    await stage.place(Side.BUY)
                    await stage.reaches(1)
                    stream = topics.reports(ACCOUNT_ID)
                    for key in (stream, topics.head(stream), topics.account(ACCOUNT_ID)):
                        await stage.bus.delete(key)

                    async def ended() -> bool:
                        return task.done()

                    await eventually(ended)
            assert caught.group_contains(RolledBack)
            async with stage.broker_sync():
                await stage.reaches(1)

    run(scenario)


@pytest.mark.proves("I-14")
def test_an_older_redis_ends_a_process_that_has_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers miss its newest report, and the next one may come with the next reconcile."""
    monkeypatch.setattr(shell_module, "VIEW_REWRITTEN_S", 0.2)

    async def scenario() -> None:
        async with venue() as stage:
            with pytest.raises(ExceptionGroup) as caught:
                async with stage.broker_sync(reconcile_interval_s=60.0) as task:
                    await stage.becomes(SyncHealth.IN_SYNC)
                    await asyncio.sleep(0.5)  # whatever else there is to say has been said
                    stream = topics.reports(ACCOUNT_ID)
                    (newest,) = await stage.bus.last(stream)
                    await stage.bus._once.xdel(stream, newest.id)
                    await stage.bus._once.execute_command("HSET", topics.head(stream), "seq", newest.seq - 1)

                    async def ended() -> bool:
                        return task.done()

                    await eventually(ended)
            assert caught.group_contains(RolledBack)

    run(scenario)
