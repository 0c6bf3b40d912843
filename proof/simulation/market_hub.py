"""The market hub of a world with the real feed, and the link on which the feed hears it.

What is pushed are the bytes of the simulator's wire, read by the real translator: quotes with only what has
changed, trades in arrays. A hub that is silent tells nothing, and its links stay up; who was linked then
hears nothing any more until he builds a new link, as with a connection of which only one end knows that it
is over.

Each push has a time of its own, by which checkers know it again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Raw, Struct

from proof.simulation.machine import BEFORE, Incarnation
from proof.simulation.plan import FeedPlan
from services.simulator.bars import MINUTE_NS, Bar, BarBook
from services.simulator.contracts import Contract
from services.simulator.core import MarketTraded
from services.simulator.market_wire import ContractWire, IsoClock
from shared.broker.port import (
    LinkDown,
    LinkEvent,
    LinkUp,
    MarketEvent,
    SubscriptionRefused,
    SubscriptionTaken,
)
from shared.broker.projectx.links import ProjectXMarketLink
from shared.broker.projectx.market import QUOTE_TARGET, TRADE_TARGET, MarketTranslator
from shared.domain.instrument import Instrument

if TYPE_CHECKING:
    from proof.simulation.wire import Network

RECONNECT_S = 0.4
ANSWER_S = 0.02
ASK_AGAIN_S = 0.7
OVERTAKEN_S = 0.3
PAST_MINUTES = 3
"""History that is older than the world."""
SUBSCRIPTIONS = {QUOTE_TARGET: "SubscribeContractQuotes", TRADE_TARGET: "SubscribeContractTrades"}
STEP_NS = 1_000
"""Between two pushes of one moment."""


class Call(Struct, frozen=True):
    """One record of the hub: what it calls at its clients."""

    target: str
    arguments: Raw


_call = msgspec.json.Decoder(Call)


class Watch(Protocol):
    """Who looks at what a life of the feed hears."""

    def heard(self, incarnation: Incarnation, events: Sequence[object], came_s: float) -> None:
        """The process has taken what one frame held, which came at that time."""
        ...

    def linked(self, incarnation: Incarnation, event: LinkEvent) -> None: ...


class MarketHub:
    """See the module.

    Attributes:
        down: Nobody gets a link, and those that were up have fallen.
        silent: Nothing is pushed.
        refusing: Subscriptions are refused.
        traded_ns: When the market has traded.
    """

    def __init__(
        self, plan: FeedPlan, rng: random.Random, contract: Contract, now_ns: Callable[[], int]
    ) -> None:
        self.plan = plan
        self.rng = rng
        self.down = self.silent = self.refusing = False
        self.links: list[SimMarketLink] = []
        self.traded_ns: list[int] = []
        self.bars = BarBook()
        self.reach: Callable[[str], None] = lambda state: None
        self.watch: Watch | None = None
        self._contract = contract
        self._now_ns = now_ns
        self._told_ns = 0
        self._wire = ContractWire(contract, IsoClock())
        begins_ns = now_ns() // MINUTE_NS * MINUTE_NS
        for back in range(PAST_MINUTES, 0, -1):
            for _ in range(3):
                self.bars.add(begins_ns - back * MINUTE_NS, 20_000 + rng.randint(-4, 4), rng.randint(1, 3))

    # -- the market ---------------------------------------------------------------

    def touch(self, bid: int) -> None:
        """Tell of a touch that is a tick wide."""
        record = self._wire.quote(bid, bid + 1, self._next_ns())
        self._wire.keep(bid, 1, bid + 1, 1)
        if record is not None:
            self._push(record)

    def trade(self, price: int, qty: int) -> None:
        """Tell of a trade, then of the last price and volume that it made."""
        at_ns = self._next_ns()
        self.bars.add(at_ns, price, qty)
        self.traded_ns.append(at_ns)
        self._push(self._wire.trade(MarketTraded(at_ns, self._contract.id, price, qty, None)))
        self._push(self._wire.last_quote(self._next_ns()))

    def minute(self, open_ns: int) -> Bar | None:
        """Return what the trades of a minute make of it."""
        return next((bar for bar in self.bars.minutes if bar.open_ns == open_ns), None)

    def snapshot(self) -> bytes | None:
        return self._wire.quote_snapshot(self._next_ns())

    def _next_ns(self) -> int:
        self._told_ns = max(self._now_ns() // STEP_NS * STEP_NS, self._told_ns + STEP_NS)
        return self._told_ns

    def _push(self, record: bytes) -> None:
        for link in self.links:
            link.push(record)

    # -- faults -------------------------------------------------------------------

    def fall(self, on: bool) -> None:
        self.down = on
        if on:
            self.drop_links()

    def drop_links(self) -> None:
        for link in list(self.links):
            link.fall("the connection was reset")

    def refuses(self) -> bool:
        return self.refusing and self.rng.random() < 0.7

    def heal(self) -> None:
        """From here on links hold; one that was forgotten before is still to be found out."""
        self.down = self.silent = self.refusing = False
        self.plan = FeedPlan(on=True, begins_s=self.plan.begins_s, snapshots=self.plan.snapshots)


class SimMarketLink:
    """Stands where the market hub's link stands; see `shared.broker.port.MarketLink`.

    Attributes:
        forgotten: The hub does not know this link any more, and nobody has told it.
    """

    def __init__(self, incarnation: Incarnation, network: Network) -> None:
        assert network.venue.market is not None
        self._hub = network.venue.market
        self._incarnation = incarnation
        self._network = network
        self._translator = MarketTranslator()
        self._wanted: list[tuple[str, str]] = []
        self._refused: set[tuple[str, str]] = set()
        self._taken: set[tuple[str, str]] = set()
        self._queue: asyncio.Queue[bytes | list[LinkEvent]] = asyncio.Queue()
        self._waits_s: deque[float] = deque()
        self._connections = 0
        self._last_s = 0.0
        self.up = self.forgotten = False
        self._hub.links.append(self)
        incarnation.on_death.append(self._gone)
        network.machine.later(ANSWER_S, self._rise)

    @property
    def unread_s(self) -> float:
        """For how long the oldest of what has come waits to be read."""
        return self._network.machine.loop.now_s - self._waits_s[0] if self._waits_s else 0.0

    def is_of(self, incarnation: Incarnation) -> bool:
        return self._incarnation is incarnation

    # -- the port -----------------------------------------------------------------

    async def events(self) -> AsyncIterator[Sequence[MarketEvent | LinkEvent]]:
        watch = self._hub.watch
        assert watch is not None
        while True:
            item = await self._queue.get()
            self._incarnation.point("market event", BEFORE)
            came_s = self._waits_s.popleft()
            if isinstance(item, list):
                for event in item:
                    self._network.machine.trace("market link", event)
                    watch.linked(self._incarnation, event)
                yield item
                continue
            self._network.machine.trace("market hub", item.decode())
            call = _call.decode(item)
            events: list[Any] = self._translator.events(
                call.target, call.arguments, self._network.clock.now_ns()
            )
            watch.heard(self._incarnation, events, came_s)
            yield events

    def subscribe(self, instrument: Instrument) -> None:
        self._translator.add(instrument)
        for method in ProjectXMarketLink.METHODS:
            subscription = (f"Subscribe{method}", instrument.contract_id)
            if subscription not in self._wanted:
                self._wanted.append(subscription)
                self._later(ANSWER_S, partial(self._ask, subscription))

    def unsubscribe(self, contract_id: str) -> None:
        self._wanted = [one for one in self._wanted if one[1] != contract_id]
        self._taken = {one for one in self._taken if one[1] != contract_id}

    def reconnect(self, reason: str) -> None:
        self.fall(reason)

    async def close(self) -> None:
        self._gone()

    # -- what happens to it -------------------------------------------------------

    def push(self, record: bytes) -> None:
        """Send a record of the hub on its way, if this link is to have it."""
        hub, rng = self._hub, self._hub.rng
        call = _call.decode(record[:-1])
        if not self.up or SUBSCRIPTIONS[call.target] not in {method for method, _ in self._taken}:
            return
        if hub.silent or self.forgotten:
            self.forgotten = True
            hub.reach("market hub silent on a link that is up")
            return
        delay_s = rng.random() * hub.plan.delay_s + 0.002
        quote = call.target == QUOTE_TARGET
        if quote and hub.plan.overtaken and rng.random() < hub.plan.overtaken:
            hub.reach("quote overtaken")
            self._arrive_in(delay_s + rng.random() * OVERTAKEN_S, record)
            return
        self._last_s = max(self._last_s, self._network.machine.loop.now_s + delay_s)
        self._arrive_in(self._last_s - self._network.machine.loop.now_s, record)
        if quote and hub.plan.repeated and rng.random() < hub.plan.repeated:
            hub.reach("quote repeated")
            self._arrive_in(self._last_s - self._network.machine.loop.now_s, record)

    def fall(self, reason: str) -> None:
        if not self.up:
            return
        self.up = False
        self._hub.reach("market hub fell")
        now_ns = self._network.clock.now_ns()
        self._put([LinkDown(reason=reason, retry_in_ns=0, planned=False, ts_recv_ns=now_ns)])
        self._network.machine.later(RECONNECT_S, self._rise)

    def _rise(self) -> None:
        if self not in self._hub.links:
            return
        if self._network.cut or self._hub.down:
            self._network.machine.later(RECONNECT_S, self._rise)
            return
        self.up, self.forgotten = True, False
        self._connections += 1
        self._taken.clear()
        self._refused.clear()
        said = [event for one in self._wanted if (event := self._answer(one)) is not None]
        self._put([*said, LinkUp(connection=self._connections, ts_recv_ns=self._network.clock.now_ns())])
        for subscription in self._taken:
            self._begin(subscription)

    def _ask(self, subscription: tuple[str, str]) -> None:
        """Ask for one subscription while the link is up."""
        if subscription not in self._wanted or subscription in self._taken:
            return
        if (event := self._answer(subscription)) is not None:
            self._put([event])
        if subscription in self._taken:
            self._begin(subscription)

    def _answer(self, subscription: tuple[str, str]) -> LinkEvent | None:
        """Have the hub take or refuse a subscription; that it takes one at once is no news."""
        target, argument = subscription
        now_ns = self._network.clock.now_ns()
        if self._hub.refuses():
            self._hub.reach(f"{target} refused")
            self._refused.add(subscription)
            self._later(ASK_AGAIN_S, partial(self._ask, subscription))
            return SubscriptionRefused(target=target, argument=argument, error="busy", ts_recv_ns=now_ns)
        self._taken.add(subscription)
        if subscription not in self._refused:
            return None
        self._refused.discard(subscription)
        return SubscriptionTaken(
            target=target, argument=argument, still_refused=len(self._refused), ts_recv_ns=now_ns
        )

    def _begin(self, subscription: tuple[str, str]) -> None:
        if subscription[0] == SUBSCRIPTIONS[QUOTE_TARGET] and self._hub.plan.snapshots:
            record = self._hub.snapshot()
            if record is not None:
                self.push(record)

    def _arrive_in(self, delay_s: float, record: bytes) -> None:
        self._later(delay_s, lambda: self._put(record[:-1]))

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Do it unless the link has fallen by then."""
        connection = self._connections

        def unless_fallen() -> None:
            if self.up and connection == self._connections:
                call()

        self._network.machine.later(delay_s, unless_fallen)

    def _put(self, item: bytes | list[LinkEvent]) -> None:
        self._waits_s.append(self._network.machine.loop.now_s)
        self._queue.put_nowait(item)

    def _gone(self) -> None:
        self.up = False
        if self in self._hub.links:
            self._hub.links.remove(self)
