"""The simulator's sockets and tasks: one TCP port for REST and both hubs, one market pump.

The pump moves the market to venue time and hands it out, a housekeeper pings, cuts and saves once
a second, a prop firm judges the accounts that have its rules, and aiohttp serves. All state has one
owner, the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from services.simulator import founding
from services.simulator.acts import REVOKED, Acts
from services.simulator.config import SimulatorConfig
from services.simulator.contracts import active_contract
from services.simulator.control import Control
from services.simulator.door import Door
from services.simulator.endpoints import Endpoints
from services.simulator.faults import Faults
from services.simulator.firm import Firm
from services.simulator.gateway import Gateway
from services.simulator.hub import Hub
from services.simulator.hub_socket import HubServer
from services.simulator.ledger import Ledger
from services.simulator.login import Sessions
from services.simulator.market_replay import ReplayMarket
from services.simulator.market_synthetic import FloodMarket, SyntheticMarket
from services.simulator.order_faults import OrderFaults
from services.simulator.pump import MarketPump, speed_of, venue_text
from services.simulator.searches import Searches
from services.simulator.store import Store
from services.simulator.timers import Timers
from services.simulator.venue import Venue
from services.simulator.venue_time import VenueTime
from shared.runtime.clock import Clock
from shared.runtime.logs import Log

HOUSEKEEPING_S = 1.0
JUDGED_EVERY_S = 0.1
CLOSE_WITHIN_S = 2.0
INJECTED = "injected"
DEFAULT_SYMBOLS = ("MES", "MNQ")


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
        self._store = Store(database, time_name=f"venue_ns:{config.source}")
        self._replay = self._open_replay()
        self.time = VenueTime(clock.monotonic_ns, start_ns=self._start_ns(), speed=speed_of(config))
        self.faults = Faults(config.faults, clock.monotonic_ns)
        self.timers = Timers()
        self.venue = self._make_venue()
        self.faults.injected.update(self._store.fact(INJECTED, dict[str, int]) or {})
        market: ReplayMarket | FloodMarket | SyntheticMarket
        if self._replay is not None:
            market = self._replay
            self.venue.open_market(market.contract, remembers=False)
        else:
            contracts = [active_contract(symbol, self.time.now_ns()) for symbol in self._symbols]
            market = founding.open_synthetic(config, self.venue, self._store, contracts)
        self._market = market
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
        if self._replay is not None:
            return self._replay.first_ns
        return founding.start_ns(self._config, self._store, self._clock.now_ns())

    def _make_venue(self) -> Venue:
        return Venue(
            state=founding.load_state(self._config, self._store, self.time.now_ns()),
            store=self._store,
            settings=founding.venue_settings(self._config),
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
        if isinstance(self._market, SyntheticMarket):
            self.venue.feed(self._market.opening(self.time.now_ns()))
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
