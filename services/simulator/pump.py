"""The market's pump: moves a source of market data to venue time and hands it to the venue.

Three sources, three paces. A synthetic market follows venue time and never waits for a
client. A replay loses nothing: it waits for the slowest. A flood follows real time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from services.simulator import sessions
from services.simulator.bars import MINUTE_NS
from services.simulator.config import HOST_TIME, SimulatorConfig
from services.simulator.hub import HubClient
from services.simulator.market_replay import ReplayMarket
from services.simulator.market_synthetic import FloodMarket, SyntheticMarket
from services.simulator.venue import Venue
from services.simulator.venue_time import VenueTime
from shared.runtime.clock import Clock
from shared.runtime.logs import Log
from shared.runtime.schedule import Progress

REPLAY_ROWS_PER_TURN = 400  # as many records as one frame may hold: about 100 KB
SYNTHETIC_EVENTS_PER_TURN = 2_000
FLOOD_QUOTES_PER_TURN = 2_000
LONG_CLOSURE_NS = 120 * MINUTE_NS  # longer than the daily break


def speed_of(config: SimulatorConfig) -> float:
    return 1.0 if config.speed is None else config.speed


def venue_text(time: VenueTime) -> str:
    """Return venue time for people, New York time."""
    return datetime.fromtimestamp(time.now_ns() // 1_000_000_000, sessions.NEW_YORK).isoformat()


class MarketPump:
    """Run one market.

    Attributes:
        progress: Where market events are counted.
        finished: A recording has been played to its end.
    """

    def __init__(
        self,
        *,
        market: ReplayMarket | FloodMarket | SyntheticMarket,
        venue: Venue,
        time: VenueTime,
        config: SimulatorConfig,
        clock: Clock,
        log: Log,
    ) -> None:
        self.progress = Progress()
        self.finished = False
        self.on_finished: Callable[[], None] = lambda: None
        self._market = market
        self._venue = venue
        self._time = time
        self._config = config
        self._clock = clock
        self._log = log
        self._subscribed = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Pump until cancelled, or until a recording ends."""
        if isinstance(self._market, ReplayMarket):
            await self._run_replay(self._market)
            await asyncio.Event().wait()  # the market is quiet from now on; the venue stays
        elif isinstance(self._market, FloodMarket):
            await self._run_flood(self._market)
        else:
            await self._run_synthetic(self._market)

    async def _run_synthetic(self, market: SyntheticMarket) -> None:
        self._time.start()
        while True:
            events = market.advance(self._time.now_ns(), SYNTHETIC_EVENTS_PER_TURN)
            self._venue.feed(events)
            self.progress.did(self._clock.now_ns(), len(events))
            if not events and not self._venue.state.session_open:
                self._skip_weekend()
            busy = len(events) >= SYNTHETIC_EVENTS_PER_TURN
            await self._clock.sleep(0 if busy else self._config.step_ms / 1000)

    def _skip_weekend(self) -> None:
        """Jump to shortly before the next opening when that is far."""
        if self._config.venue_start == HOST_TIME or not self._config.skip_weekends:
            return
        opens_ns = sessions.next_open_ns(self._time.now_ns())
        if opens_ns - self._time.now_ns() > LONG_CLOSURE_NS:
            self._time.jump(opens_ns - MINUTE_NS)
            self._log.info("weekend_skipped", venue_time=venue_text(self._time))

    async def _run_flood(self, market: FloodMarket) -> None:
        """Make what real time says is due; a flood that cannot be kept up with is not made up for."""
        self._time.start()
        per_second = self._config.flood_quotes_per_s
        made = 0
        start_ns = self._clock.monotonic_ns()
        while True:
            due = int((self._clock.monotonic_ns() - start_ns) * per_second / 1e9) - made
            now = min(due, FLOOD_QUOTES_PER_TURN)
            made += due
            if now > 0:
                self._venue.feed(market.make(now, self._time.now_ns()))
                self.progress.did(self._clock.now_ns(), now)
            await self._clock.sleep(self._config.step_ms / 1000)

    async def _run_replay(self, market: ReplayMarket) -> None:
        """Play every row, in order, losing nothing: a slow client slows the replay."""
        if self._config.replay_start == "subscribed":
            self._log.info("replay_waits", contract=market.contract.id)
            await self._subscribed.wait()
        speed = speed_of(self._config)
        self._log.info("replay_started", contract=market.contract.id, speed=speed)
        as_fast_as_read = speed == 0
        self._time.start()
        while not market.finished:
            until_ns = 1 << 62 if as_fast_as_read else self._time.now_ns()
            events = market.advance(until_ns, REPLAY_ROWS_PER_TURN)
            if events and as_fast_as_read:
                self._time.reach(events[-1].now_ns)
            self._venue.feed(events)
            self.progress.did(self._clock.now_ns(), len(events))
            await self._wait_for_room()
            full = len(events) == REPLAY_ROWS_PER_TURN
            await self._clock.sleep(0 if full or as_fast_as_read else self._config.step_ms / 1000)
        if as_fast_as_read:
            self._time.set_speed(1.0)  # clients still expect a clock that runs
        self.finished = True
        self.on_finished()
        self._log.info("replay_finished", rows=market.played)

    async def _wait_for_room(self) -> None:
        """Wait until no client has more unsent bytes than the limit; nothing is ever dropped."""
        limit = self._config.hub.conflate_above_bytes
        while any(client.link.output_bytes > limit for client in self._venue.market_hub.clients):
            self._room.clear()
            await self._room.wait()

    def on_sent(self, client: HubClient) -> None:
        """Hear that a client's queue was written out, or that the client left."""
        self._room.set()
        if client.stale and client.link.is_open:
            self._venue.caught_up(client)

    def on_subscribed(self, contract_id: str) -> None:
        """Hear of a market subscription: the first full one starts a replay."""
        replayed = isinstance(self._market, ReplayMarket) and contract_id == self._market.contract.id
        if replayed and self._venue.has_full_subscriber(contract_id):
            self._subscribed.set()
