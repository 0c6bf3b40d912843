"""The simulator's sockets and tasks: one TCP port for REST and both hubs, one market pump.

The pump moves the market to venue time and hands it out, a housekeeper pings, cuts and saves once a second, a
prop firm judges the accounts that have its rules, and aiohttp serves. All state has one owner, the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from aiohttp import web

from services.simulator import sessions
from services.simulator.acts import REVOKED, Acts
from services.simulator.bars import MINUTE_NS
from services.simulator.config import HOST_TIME, SimulatorConfig
from services.simulator.contracts import Contract, active_contract
from services.simulator.control import Control
from services.simulator.door import Door
from services.simulator.endpoints import Endpoints
from services.simulator.faults import Faults
from services.simulator.firm import Firm
from services.simulator.gateway import Gateway
from services.simulator.history import PastBars
from services.simulator.hub import Hub
from services.simulator.hub_socket import HubServer
from services.simulator.ledger import Ledger
from services.simulator.login import Sessions
from services.simulator.market_replay import ReplayMarket
from services.simulator.market_synthetic import FloodMarket, SyntheticMarket, first_ticks
from services.simulator.order_faults import OrderFaults
from services.simulator.orders import Account
from services.simulator.pump import MarketPump, speed_of, venue_text
from services.simulator.searches import Searches
from services.simulator.state import AccountUpdated, Rules
from services.simulator.store import Store
from services.simulator.timers import Timers
from services.simulator.venue import Venue, VenueSettings
from services.simulator.venue_time import VenueTime
from shared.runtime.clock import Clock
from shared.runtime.logs import Log

HOUSEKEEPING_S = 1.0
JUDGED_EVERY_S = 0.1
CLOSE_WITHIN_S = 2.0
INJECTED = "injected"
DEFAULT_SYMBOLS = ("MES", "MNQ")


def _always(now_ns: int) -> bool:
    return True


class CannotListen(Exception):
    """The address of the settings cannot be listened on; says which, why and what to do."""


class Simulator:
    """A venue on real sockets.

    Attributes:
        url: Base of the REST API, known once `start` returns.
        pump: What moves the market; holds its progress.
    """

    def __init__(self, config: SimulatorConfig, *, database: Path, clock: Clock, log: Log) -> None:
        """Raises:
        BadRecording: If the recording to replay cannot be read.
        """
        self._config = config
        self._clock = clock
        self._log = log
        self._symbols = config.symbols or DEFAULT_SYMBOLS
        self._on_host_time = config.venue_start == HOST_TIME
        self._open_at = _always if self._on_host_time else sessions.is_open
        self._store = Store(database, time_name=f"venue_ns:{config.source}")
        self._replay = self._open_replay()
        self.time = VenueTime(clock.monotonic_ns, start_ns=self._start_ns(), speed=speed_of(config))
        self.faults = Faults(config.faults, clock.monotonic_ns)
        self.timers = Timers()
        self.venue = self._make_venue()
        self.faults.injected.update(self._store.fact(INJECTED, dict[str, int]) or {})
        self._synthetic = self._open_synthetic() if self._replay is None else None
        if self._replay is not None:
            self.venue.open_market(self._replay.contract, remembers=False)
        market = self._replay or self._synthetic
        assert market is not None
        self._firm = self._make_firm()
        self.pump = MarketPump(
            market=market, venue=self.venue, time=self.time, config=config, clock=clock, log=log
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    # composition

    def _open_replay(self) -> ReplayMarket | None:
        if self._config.source != "replay":
            return None
        assert self._config.replay_file is not None
        return ReplayMarket(self._config.replay_file, self._config.replay_symbol)

    def _start_ns(self) -> int:
        """Return where venue time begins: a recording's start, the stored time, or the default."""
        if self._replay is not None:
            return self._replay.first_ns
        if self._on_host_time:
            return self._clock.now_ns()
        stored = self._store.venue_ns()
        if stored is not None:
            return sessions.next_open_ns(stored)
        if self._config.venue_start is not None:
            return int(datetime.fromisoformat(self._config.venue_start).timestamp()) * 1_000_000_000
        return sessions.last_day_session_open_ns(self._clock.now_ns())

    def _make_venue(self) -> Venue:
        config = self._config
        rules = Rules(
            fees=config.fees_usd,
            bracket_ticks_min=config.bracket_ticks_min,
            close_cancels_brackets=config.close_cancels_brackets,
        )
        state = self._store.load(rules)
        # Stored orders are asked for before the first market event: their contracts resolve by date.
        state.now_ns = max(state.now_ns, self.time.now_ns())
        opened = []
        for one in config.accounts:
            known = state.accounts.get(one.id)
            account = Account(
                id=one.id,
                name=one.name,
                balance=one.balance if known is None else known.balance,
                can_trade=one.can_trade,
                auto_oco=one.auto_oco,
            )
            state.accounts[one.id] = account
            opened.append(AccountUpdated(account=account))
        self._store.write(state, list(opened), self.time.now_ns())
        lossless = self._replay is not None
        settings = VenueSettings(
            envelope=config.hub.envelope,
            snapshot_on_subscribe=config.hub.snapshot_on_subscribe,
            conflate_above_bytes=None if lossless else config.hub.conflate_above_bytes,
            unsent_max_bytes=config.hub.unsent_max_bytes,
            arrays=config.hub.arrays,
            last_quotes=not lossless and config.flood_quotes_per_s == 0,
            depth=config.flood_quotes_per_s == 0,
        )
        return Venue(
            state=state,
            store=self._store,
            settings=settings,
            now_ns=self.time.now_ns,
            monotonic_ns=self._clock.monotonic_ns,
            faults=self.faults,
            after=self.timers.after,
        )

    def _make_firm(self) -> Firm:
        """Return the firm with the accounts that have rules; it judges once, before anybody can trade."""
        rules = {one.id: one.firm_rules for one in self._config.accounts if any(one.firm_rules)}
        firm = Firm(venue=self.venue, store=self._store, rules=rules, clock=self._clock, log=self._log)
        firm.check()
        return firm

    def _open_synthetic(self) -> SyntheticMarket | FloodMarket:
        start_ns, seed = self.time.now_ns(), self._config.seed
        contracts = [active_contract(symbol, start_ns) for symbol in self._symbols]
        last_ticks: dict[str, int] = {}
        for one in contracts:
            began = self._beginning(one, start_ns)
            past = PastBars(one, seed=seed, end_ns=began[0], close_ticks=began[1], open_at=self._open_at)
            self.venue.open_market(one, past=past)
            bars = self.venue.minute_bars(one.id, began[0])
            last_ticks[one.id] = bars[-1].close if bars else began[1]
        if self._config.flood_quotes_per_s:
            return FloodMarket(contracts)
        return SyntheticMarket(
            contracts, seed=seed, start_ns=start_ns, last_ticks=last_ticks, open_at=self._open_at
        )

    def _beginning(self, contract: Contract, start_ns: int) -> tuple[int, int]:
        """Return when and at what price this contract's market first began."""
        name = f"began:{contract.id}"
        known = self._store.fact(name, tuple[int, int])
        if known is None:
            known = (start_ns // MINUTE_NS * MINUTE_NS, first_ticks(contract))
            self._store.put_fact(name, known)
        return known

    # life

    async def start(self) -> None:
        """Listen, and set the market going.

        Raises:
            CannotListen: If the address is taken or not ours.
        """
        secret = self._secret()
        login = Sessions(
            users=self._config.users,
            secret=secret,
            ttl_s=self._config.token_ttl_s,
            now_ns=self._clock.now_ns,
            faults=self.faults,
            revoked_ns=self._store.fact(REVOKED, int) or 0,
        )
        gateway = Gateway(
            config=self._config,
            endpoints=self._endpoints(),
            sessions=login,
            venue_now_ns=self.time.now_ns,
            monotonic_ns=self._clock.monotonic_ns,
        )
        self._door = Door(faults=self.faults, journal=self._store.journal, clock=self._clock, log=self._log)
        app = gateway.application(self._door.middleware)
        app.router.add_get("/sim/status", self._status)
        self._hubs = {
            name: self._hub_server(name, hub, secret, login)
            for name, hub in (("user", self.venue.user_hub), ("market", self.venue.market_hub))
        }
        for one in self._hubs.values():
            one.add_routes(app)
        self._control(login).add_routes(app)
        self.venue.subscribed = self.pump.on_subscribed
        if isinstance(self._synthetic, SyntheticMarket):
            self.venue.feed(self._synthetic.opening(self.time.now_ns()))
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=CLOSE_WITHIN_S
        )
        await self._runner.setup()
        listener = self._listen()
        await web.SockSite(self._runner, listener).start()
        host, port = listener.getsockname()[:2]
        self.url = f"http://{host}:{port}"
        self._tasks = [
            asyncio.create_task(self.pump.run(), name="market-pump"),
            asyncio.create_task(self._keep_house(), name="housekeeping"),
            asyncio.create_task(self._judge(), name="prop-firm"),
        ]
        self._log.info(
            "listening", url=self.url, source=self._config.source, venue_time=venue_text(self.time)
        )

    def _endpoints(self) -> Endpoints:
        order_faults = OrderFaults(
            venue=self.venue,
            faults=self.faults,
            after=self.timers.after,
            monotonic_ns=self._clock.monotonic_ns,
        )
        order_faults.answer_held()
        searches = Searches(
            venue=self.venue, config=self._config, faults=self.faults, order_faults=order_faults
        )
        return Endpoints(self.venue, searches, order_faults)

    def _control(self, login: Sessions) -> Control:
        ledger = Ledger(
            state=self.venue.state,
            store=self._store,
            faults=self.faults,
            venue_now_ns=self.time.now_ns,
            now_ns=self._clock.now_ns,
        )
        acts = Acts(venue=self.venue, store=self._store, sessions=login, hubs=self._hubs, clock=self._clock)
        return Control(enabled=self._config.control, faults=self.faults, ledger=ledger, acts=acts)

    def _listen(self) -> socket.socket:
        host, port = self._config.host, self._config.port
        try:
            return socket.create_server((host, port), backlog=128)
        except OSError as error:
            raise CannotListen(
                f"cannot listen on {host}:{port}: {error.strerror or error}; stop what runs there, "
                "or choose another simulator.port"
            ) from error

    def _hub_server(self, name: str, hub: Hub, secret: bytes, login: Sessions) -> HubServer:
        return HubServer(
            name=name,
            hub=hub,
            config=self._config.hub,
            secret=secret,
            authenticate=login.user_of,
            monotonic_ns=self._clock.monotonic_ns,
            sent=self.pump.on_sent,
            faults=self.faults,
            subject=(active_contract(self._symbols[0], self.time.now_ns()).id, self._config.accounts[0].id),
            log=self._log,
        )

    def _secret(self) -> bytes:
        """Return the key that signs tokens; kept with the database, so tokens survive a restart.

        It protects nothing but a simulator: made from settings and the first start's time.
        """
        known = self._store.fact("secret", str)
        if known is None:
            seed = f"{self._config.seed}:{self._clock.now_ns()}:{self._clock.monotonic_ns()}"
            known = hashlib.sha256(seed.encode()).hexdigest()
            self._store.put_fact("secret", known)
        return known.encode()

    @property
    def replay_finished(self) -> bool:
        """Whether the recording has been played to its end; the market is quiet."""
        return self._replay is not None and self._replay.finished and self.pump.finished

    async def run(self) -> None:
        """Wait until a task fails or this is cancelled."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Say goodbye to clients, close the port, write what is left."""
        self.timers.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            for one in self._hubs.values():
                one.close_all()
            await self._runner.cleanup()
            await self._door.close()
        self._save()
        self._store.close()

    # housekeeping

    async def _keep_house(self) -> None:
        while True:
            await self._clock.sleep(HOUSEKEEPING_S)
            for one in self._hubs.values():
                one.on_time()
            self._save()

    async def _judge(self) -> None:
        while self._firm.has_accounts:
            await self._clock.sleep(JUDGED_EVERY_S)
            self._firm.check()

    def _save(self) -> None:
        self.venue.save_bars()
        if self.faults.injected:
            self._store.put_fact(INJECTED, dict(self.faults.injected))

    async def _status(self, request: web.Request) -> web.Response:
        """The simulator's own page, apart from the gateway's protocol."""
        return web.json_response(
            {
                "source": self._config.source,
                "venue_time": venue_text(self.time),
                "replay": "finished" if self.replay_finished else "playing" if self._replay else "none",
                "replay_rows": self._replay.played if self._replay else 0,
                "events": self.pump.progress.done,
                "quotes_sent": self.venue.quotes_sent,
                "market_clients": len(self.venue.market_hub.clients),
                "user_clients": len(self.venue.user_hub.clients),
                "conflated": sum(one.conflated for one in self.venue.market_hub.clients),
            }
        )


@asynccontextmanager
async def serving(
    config: SimulatorConfig, *, database: Path, clock: Clock, log: Log
) -> AsyncIterator[Simulator]:
    """Run a simulator for the length of a block."""
    simulator = Simulator(config, database=database, clock=clock, log=log)
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()
