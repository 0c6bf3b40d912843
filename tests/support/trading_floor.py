"""Feed, broker_sync and execution as they are, in one loop, over a real bus and a simulated venue.

Heartbeat is a stand-in that logs in, publishes the session and beats until it is told to be silent.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from services.broker_sync.config import BrokerSyncSection
from services.broker_sync.shell import Shell as BrokerSync
from services.execution.config import ExecutionConfig
from services.execution.ledger import SqliteLedger
from services.execution.shell import Shell as Execution
from services.feed.config import FeedConfig
from services.feed.shell import Shell as Feed
from services.simulator.market_synthetic import SyntheticMarket
from services.simulator.shell import Simulator
from shared.broker.limiter import LocalLimiter
from shared.broker.port import AccountPort, Credentials, LoggedIn, OrderPort
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.bus.bus import RedisBus
from shared.bus.port import StreamWriter
from shared.domain.control import Beat, SessionHealth, SessionState
from shared.domain.market import FeedHealth
from shared.domain.order import Bracket, Side, SubmitOrder
from shared.runtime.beat import BeatBoard
from shared.runtime.clock import SystemClock
from shared.runtime.config import BrokerSection, JulieSection
from shared.runtime.logs import Log
from shared.runtime.service import Context
from shared.runtime.session import STATE_FIELD, SessionWatch
from shared.wire import topics
from shared.wire.codec import decode, encode
from tests.support.eventually import eventually
from tests.support.simulator import ACCOUNT_ID, API_KEY, USER, running_simulator
from tests.support.valkey import ValkeyServer, running_valkey

WITHIN_S = 30.0
BRACKET = Bracket(stop_loss_ticks=40, take_profit_ticks=80)


class Floor:
    """One installation without processes: every shell is a task of the test's loop."""

    def __init__(
        self, valkey: ValkeyServer, simulator: Simulator, folder: Path, *, speed: float = 1.0
    ) -> None:
        self.valkey = valkey
        self.simulator = simulator
        self.folder = folder
        self.clock = SystemClock()
        self.log = Log(logging.getLogger("tests.floor"))
        self.julie = JulieSection.model_validate(
            {
                "symbols": ["MES"],
                "data_dir": folder,
                "market_clock": "venue",
                "market_speed": speed,
                "account_id": ACCOUNT_ID,
            }
        )
        self.execution: Execution | None = None
        self.wrap_orders: Callable[[OrderPort], OrderPort] = lambda port: port
        self.wrap_account: Callable[[AccountPort], AccountPort] = lambda port: port
        self.heartbeat_silent = False
        self.stop_limit = False
        self.execution_settings: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._strategies: dict[str, StreamWriter] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        self.bus = self.new_bus()
        await self.bus.ready()
        self.watch = SessionWatch(self.bus, self.clock)
        self.start("heartbeat", self._heartbeat())
        await self.watch.wait_token()
        self.start("session", self.watch.run())
        self.start("feed", Feed(self.context("feed", FeedConfig), self.adapter().market()).run())
        self.start_broker_sync()

    async def close(self) -> None:
        for name in list(self._running):
            await self.stop(name)
        await self._stack.aclose()

    # -- parts ------------------------------------------------------------------

    def new_bus(self) -> RedisBus:
        bus = RedisBus(self.valkey.address, now_ns=self.clock.now_ns, monotonic_ns=self.clock.monotonic_ns)
        self._stack.push_async_callback(bus.close)
        return bus

    def adapter(self, token: Callable[[], str | None] | None = None) -> ProjectX:
        url = self.simulator.url
        adapter = ProjectX(
            settings=ProjectXSettings(api_url=url, hub_url=f"{url}/hubs", stop_limit=self.stop_limit),
            clock=self.clock,
            limiter=LocalLimiter(clock=self.clock, sleep=self.clock.sleep),
            token=token or self.watch.token,
            chance=random.Random(1).random,
        )
        self._stack.push_async_callback(adapter.close)
        return adapter

    def context(self, name: str, section: type[Any], **settings: Any) -> Context[Any]:
        bus = self.new_bus()
        return Context(
            process=name,
            config=section.model_validate(settings),
            julie=self.julie,
            broker=BrokerSection(),
            settings_hash="",
            clock=self.clock,
            rng=random.Random(1),
            bus=bus,
            beat=BeatBoard(
                process=name, clock=self.clock, bus=bus, interval_s=0.5, pid=1, host="h", build="b"
            ),
            log=self.log,
        )

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._running[name] = asyncio.create_task(work, name=name)

    async def stop(self, name: str) -> None:
        task = self._running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def start_broker_sync(self) -> None:
        context = self.context("broker_sync", BrokerSyncSection, reconcile_interval_s=5.0)
        self.start("broker_sync", BrokerSync(context, self.adapter().account(), self.watch).run())

    async def start_execution(self, *, wait_ready: bool = True) -> Execution:
        adapter = self.adapter()
        context = self.context("execution", ExecutionConfig, **self.execution_settings)
        ledger = SqliteLedger(self.folder / "execution.sqlite", account_id=ACCOUNT_ID)
        self._stack.callback(ledger.close)
        shell = Execution(
            context,
            orders=self.wrap_orders(adapter.orders()),
            account=self.wrap_account(adapter.account()),
            session=self.watch,
            ledger=ledger,
        )

        async def run() -> None:
            try:
                await shell.run()
            finally:
                ledger.close()

        self.start("execution", run())
        self.execution = shell
        if wait_ready:
            await self.until(lambda: shell.state.ready and self._market_live(shell), "execution is ready")
        return shell

    def _market_live(self, shell: Execution) -> bool:
        market = shell.state.markets.get("MES")
        return (
            market is not None
            and market.health is FeedHealth.LIVE
            and shell.state.sync.in_sync
            and shell.state.heartbeat_ns is not None
            and shell.state.session is SessionHealth.ACTIVE
        )

    def lift_market(self, ticks: float) -> None:
        """Have the synthetic market go on so much higher than it would."""
        market = self.simulator._market
        assert isinstance(market, SyntheticMarket)
        for one in market._instruments:
            one.own += ticks / one.start_ticks

    async def _heartbeat(self) -> None:
        holder: list[str] = []
        adapter = self.adapter(lambda: holder[0] if holder else None)
        login = await adapter.session(Credentials(user_name=USER, api_key=API_KEY)).login()
        assert isinstance(login, LoggedIn)
        holder.append(login.token.value)
        now_ns = self.clock.now_ns()
        state = SessionState(
            health=SessionHealth.ACTIVE,
            token_version=1,
            token_expires_at_ns=login.token.expires_at_ns,
            ts_validated_ns=now_ns,
            reason="",
            ts_ns=now_ns,
        )
        await self.bus.set(topics.SESSION_TOKEN, login.token.value.encode())
        await self.bus.hash_set(topics.SESSION_STATE, {STATE_FIELD: encode(state)})
        for seq in itertools.count(1):
            if not self.heartbeat_silent:
                ts_ns = self.clock.now_ns()
                beat = Beat(
                    process="heartbeat",
                    pid=1,
                    host="h",
                    build="b",
                    started_at_ns=now_ns,
                    ts_ns=ts_ns,
                    seq=seq,
                )
                await self.bus.publish(topics.BEATS, encode(beat))
            await self.clock.sleep(0.2)

    # -- a strategy's words ---------------------------------------------------------

    async def submit(
        self, side: Side = Side.BUY, qty: int = 1, *, strategy_id: str = "s1", **changes: Any
    ) -> str:
        """Write one order intent as a strategy's worker would; return its id."""
        now_ns = self.clock.now_ns()
        name = changes.pop("client_order_id", f"t.{strategy_id}.{next(self._numbers)}")
        values: dict[str, Any] = {
            "client_order_id": name,
            "strategy_id": strategy_id,
            "symbol": "MES",
            "side": side,
            "order_qty": qty,
            "cause": "md:{MES}@1-1",
            "ts_cause_ns": now_ns,
            "expires_at_ns": now_ns + 5_000_000_000,
            "bracket": BRACKET,
        }
        await self.intend(SubmitOrder(**{**values, **changes}))
        return name

    async def intend(self, intent: Any) -> None:
        name = intent.strategy_id
        if name not in self._strategies:
            self._strategies[name] = await self.bus.open(topics.intents(ACCOUNT_ID, name))
        self._strategies[name].append(intent)
        await self._strategies[name].flush()

    async def command(self, control: msgspec.Struct) -> None:
        """Write one command as an operator would."""
        writer = await self.bus.open(topics.CONTROL_OPERATOR)
        writer.append(control)
        await writer.flush()

    # -- what can be seen -------------------------------------------------------------

    async def until(self, condition: Callable[[], object], what: str) -> None:
        def checked() -> object:
            for name, task in self._running.items():
                if task.done() and not task.cancelled() and task.exception() is not None:
                    raise AssertionError(f"{name} failed") from task.exception()
            return condition()

        await eventually(checked, within_s=WITHIN_S, what=what)

    async def published(self, kind: type[Any]) -> list[Any]:
        """Return every message of one kind on the orders stream."""
        entries = await self.bus.between(topics.orders(ACCOUNT_ID), "-", "+", 10_000)
        messages = [decode(entry.kind, entry.value) for entry in entries]
        return [message for message in messages if isinstance(message, kind)]

    async def broker_net_qty(self) -> int:
        positions = await self.adapter().account().positions(ACCOUNT_ID)
        return sum(one.net_qty for one in positions)

    async def broker_pnl(self) -> tuple[Decimal, Decimal]:
        """Return what the venue booked as result and as fees."""
        fills = await self.adapter().account().fills_since(ACCOUNT_ID, 0)
        return sum((f.realized_pnl or Decimal(0) for f in fills), Decimal(0)), sum(
            (f.fees for f in fills), Decimal(0)
        )


@asynccontextmanager
async def trading_floor(**overrides: Any) -> AsyncIterator[Floor]:
    """Open a floor with everything but execution running."""
    folder = Path(tempfile.mkdtemp(prefix="floor-"))
    settings = {"symbols": ["MES"], "seed": 3, **overrides}
    try:
        with running_valkey() as valkey:
            async with running_simulator(**settings) as simulator:
                floor = Floor(valkey, simulator, folder, speed=overrides.get("speed", 1.0))
                floor.stop_limit = bool(overrides.get("stop_limit_orders"))
                try:
                    await floor.open()
                    yield floor
                finally:
                    await floor.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
