"""Between a process and the broker: requests and pushes that are lost, late, doubled or answered wrongly.

The real adapter stands on top of this (`shared.broker.projectx`), so what an answer *means* is decided by the
code that decides it in production. What has left a process arrives, or not, whether it lives or not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from proof.simulation.loop import NS_PER_S, SimClock
from proof.simulation.machine import AFTER, BEFORE, Incarnation, Machine
from proof.simulation.plan import Wire
from proof.simulation.swarm import LANDING_S_MAX
from proof.simulation.venue import Pushed, SimVenue
from shared.broker.port import AccountEvent, LinkDown, LinkEvent, LinkUp
from shared.broker.projectx import translate
from shared.broker.projectx.transport import CONNECT_WITHIN_S, HttpReply, NoAnswerError, NotSentError

TIMEOUT_S = 2.5
CONNECT_S_MAX = 3.0
SENT = "sent"
RECONNECT_S = 0.4
PLACE = "/api/Order/place"
CANCEL, MODIFY = "/api/Order/cancel", "/api/Order/modify"
ORDER_SEARCH = "/api/Order/search"
MUTATIONS = frozenset(
    {PLACE, CANCEL, MODIFY, "/api/Position/closeContract",
     "/api/Position/partialCloseContract"}
)  # fmt: skip
WRONG = (400, 404, 408, 429, 500, 502, 503, 504)
REFUSALS = (
    b'{"success":false,"errorCode":2,"errorMessage":"Rejected by the exchange.","orderId":null}',
    b'{"success":false,"errorCode":3,"errorMessage":"Insufficient funds.","orderId":null}',
    b'{"success":false,"errorCode":4,"errorMessage":"Account violation.","orderId":null}',
)
GARBAGE = (b"", b"<html>busy</html>", b'{"success":true,"errorCode":0,"orderId":null}', b'{"succ', b"null")
PENDING = (
    b'{"success":false,"errorCode":6,"errorMessage":"Order pending.","orderId":null}',
    b'{"success":false,"errorCode":7,"errorMessage":"Unknown error.","orderId":null}',
)


@dataclass(slots=True, frozen=True)
class Post:
    """One request that left, as the checkers see it. Attributes: late: something holds it on its way."""

    path: str
    body: bytes
    at_ns: int
    incarnation: Incarnation
    arrives: bool
    late: bool = False


class Network:
    """All that stands between the processes and the venue."""

    def __init__(
        self,
        *,
        machine: Machine,
        venue: SimVenue,
        clock: SimClock,
        wire: Wire,
        rng: random.Random,
        reach: Callable[[str], None],
        sent: Callable[[Post], None],
        arrived: Callable[[str, bytes], None],
        asked: Callable[[str, Incarnation], None],
    ) -> None:
        self.asked = asked
        self.arrived = arrived
        self.machine = machine
        self.venue = venue
        self.clock = clock
        self.wire = wire
        self.rng = rng
        self.reach = reach
        self.sent = sent
        self.cut = False
        self.closed_hub = False
        self.blind = False
        self.links: list[SimAccountLink] = []
        self.last_landing_s = 0.0
        self._unordered = random.Random(rng.random())
        self.tried: Callable[[str, Incarnation], None] = lambda path, incarnation: None
        self.over: Callable[[str, Incarnation], None] = lambda path, incarnation: None
        self.heard: Callable[[str, Incarnation, str | None, int, bytes], None] = (
            lambda path, incarnation, token, status, body: None
        )
        venue.hears = self.push

    # -- pushes -----------------------------------------------------------------

    def push(self, pushed: Pushed) -> None:
        hub, rng = self.venue.plan.hub, self._unordered
        for link in self.links:
            if not link.up:
                continue
            if hub.dropped and rng.random() < hub.dropped:
                self.reach("user event dropped")
                continue
            copies = 2 if hub.duplicated and rng.random() < hub.duplicated else 1
            for _ in range(copies):
                link.arrive_in(rng.random() * hub.delay_s + 0.002, pushed)

    def heal(self) -> None:
        """From here on everything arrives, once and in time."""
        self.cut = self.closed_hub = self.blind = False
        self.wire = Wire()
        hub = self.venue.plan.hub
        hub.duplicated = hub.dropped = 0.0
        hub.reordered = False
        hub.delay_s = 0.01
        self.venue.lag_s = self.venue.forgets = 0.0
        self.venue.storm = False

    def drop_links(self) -> None:
        for link in self.links:
            link.fall("the connection was reset")


class SimHttp:
    """Stands where `transport.Http` stands: one POST, one reply or a reason why there is none."""

    def __init__(self, incarnation: Incarnation, network: Network) -> None:
        self._incarnation = incarnation
        self._network = network
        self._behind_ns: int | None = None

    def venue_now_ns(self) -> int | None:
        """Return the broker's clock as its answers told, which count whole seconds."""
        self._incarnation.alive()
        return None if self._behind_ns is None else self._network.clock.true_ns() - self._behind_ns

    async def close(self) -> None: ...

    async def post(
        self, path: str, body: bytes, *, token: str | None, within_s: float,
        connect_within_s: float = CONNECT_WITHIN_S, withheld: Callable[[], str | None] = lambda: None,
        secrets: Iterable[str] = (),
    ) -> HttpReply:  # fmt: skip
        net, incarnation = self._network, self._incarnation
        name = f"http {path}"
        incarnation.point(name, BEFORE)
        net.tried(path, incarnation)
        rng, wire = net.rng, net.wire
        up_s, down_s = rng.random() * wire.latency_s, rng.random() * wire.latency_s
        if net.cut or (wire.not_sent and rng.random() < wire.not_sent):
            await asyncio.sleep(up_s)
            incarnation.alive()
            net.reach("proven not sent")
            raise NotSentError("connection refused")
        if path in MUTATIONS and wire.slow_connect and rng.random() < wire.slow_connect:
            await self._connect(rng.uniform(0.1, CONNECT_S_MAX), connect_within_s)
        if (reason := withheld()) is not None:
            net.reach("withheld with the connection in hand")
            raise NotSentError(reason)
        fate = self._fate(path)
        if net.venue.door is not None:
            net.venue.door.on_the_way(path, fate)
        reply: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        net.asked(path, incarnation)
        if path in MUTATIONS:
            arrives = fate.arrives_in_s is not None
            net.sent(Post(path, body, net.clock.true_ns(), incarnation, arrives, bool(fate.arrives_in_s)))
        self._send(path, body, token, fate, up_s, down_s, reply)
        incarnation.point(name, SENT)
        try:
            async with asyncio.timeout(min(within_s, fate.timeout_s)):
                status, answer = await reply
        except TimeoutError:
            incarnation.alive()
            net.machine.trace(incarnation.name, name, "no answer")
            raise NoAnswerError("TimeoutError") from None
        finally:
            net.over(path, incarnation)
        net.heard(path, incarnation, token, status, answer)
        net.machine.trace(incarnation.name, name, status)
        incarnation.point(name, AFTER)
        if self._behind_ns is None:
            self._behind_ns = net.clock.true_ns() % NS_PER_S
        return HttpReply(status=status, body=answer, retry_after_s=3.0 if status == 429 else None)

    async def _connect(self, takes_s: float, within_s: float) -> None:
        net, incarnation = self._network, self._incarnation
        await asyncio.sleep(min(takes_s, within_s))
        incarnation.alive()
        if takes_s > within_s:
            net.reach("no connection in time")
            raise NotSentError("TimeoutError")

    def _send(
        self, path: str, body: bytes, token: str | None, fate: Fate, up_s: float, down_s: float,
        reply: asyncio.Future[tuple[int, bytes]],
    ) -> None:  # fmt: skip
        net = self._network

        def answered(status: int, content: bytes) -> None:
            if not reply.done() and not net.cut:  # a cut also takes answers that were on their way
                reply.set_result((status, content))

        def arrive() -> None:
            status, content = net.venue.answer(path, body, token)
            if path in MUTATIONS:
                net.arrived(path, body)
            if not fate.reply_lost and fate.instead is None:
                net.machine.later(down_s + fate.reply_after_s, lambda: answered(status, content))

        if fate.arrives_in_s is not None:
            net.machine.later(up_s + fate.arrives_in_s, arrive)
        if fate.instead is not None:
            status, content = fate.instead
            net.machine.later(up_s + down_s + 0.001, lambda: answered(status, content))

    def _fate(self, path: str) -> Fate:
        net = self._network
        wire, rng, reach = net.wire, net.rng, net.reach
        fate = Fate()
        if path not in MUTATIONS:
            if net.blind or (wire.query_failed and rng.random() < wire.query_failed):
                reach("question without an answer")
                how = rng.randrange(3)
                fate.arrives_in_s = None
                if how:
                    fate.instead = (
                        (rng.choice(WRONG[4:]), b"") if how == 1 else (200, rng.choice(GARBAGE[:2]))
                    )
                else:
                    fate.timeout_s = rng.uniform(0.05, TIMEOUT_S)
            return fate
        if wire.late and rng.random() < wire.late:
            fate.arrives_in_s = rng.random() ** 2 * LANDING_S_MAX
        if wire.request_lost and rng.random() < wire.request_lost:
            reach("unknown: request lost")
            fate.arrives_in_s, fate.reply_lost = None, True
            fate.timeout_s = rng.uniform(0.05, TIMEOUT_S)
        elif wire.reply_lost and rng.random() < wire.reply_lost:
            reach("unknown: reply lost")
            fate.reply_lost = True
            fate.timeout_s = rng.uniform(0.05, TIMEOUT_S)
        elif wire.wrong_status and rng.random() < wire.wrong_status:
            reach("unknown: wrong status")
            fate.instead = (rng.choice(WRONG), b"")
            if rng.random() < 0.4:
                fate.arrives_in_s = None
        elif path == PLACE and wire.pending_code and rng.random() < wire.pending_code:
            reach("unknown: code 6 or 7")
            fate.instead = (200, rng.choice(PENDING))
            if rng.random() < 0.4:
                fate.arrives_in_s = None
        elif wire.garbage and rng.random() < wire.garbage:
            reach("unknown: unreadable answer")
            fate.instead = (200, rng.choice(GARBAGE))
        elif path == PLACE and wire.refused and rng.random() < wire.refused:
            reach("refused by the broker")
            fate.arrives_in_s, fate.instead = None, (200, rng.choice(REFUSALS))
        if fate.arrives_in_s:
            reach("late landing")
        return fate


@dataclass(slots=True)
class Fate:
    """Attributes: arrives_in_s: None: never."""

    arrives_in_s: float | None = 0.0
    reply_lost: bool = False
    instead: tuple[int, bytes] | None = None
    timeout_s: float = TIMEOUT_S
    reply_after_s: float = 0.0


class SimAccountLink:
    """Stands where the user hub's link stands."""

    def __init__(self, incarnation: Incarnation, network: Network) -> None:
        self._incarnation = incarnation
        self._network = network
        self._queue: asyncio.Queue[list[Pushed] | LinkEvent] = asyncio.Queue()
        self._connections = 0
        self._last_s = 0.0
        self.up = False
        network.links.append(self)
        incarnation.on_death.append(self._gone)
        network.machine.later(0.02, self._rise)

    def _gone(self) -> None:
        self.up = False
        if self in self._network.links:
            self._network.links.remove(self)

    def _rise(self) -> None:
        if self._incarnation.dead or self not in self._network.links:
            return
        if self._network.cut or self._network.closed_hub:
            self._network.machine.later(RECONNECT_S, self._rise)
            return
        self.up = True
        self._connections += 1
        self._queue.put_nowait(LinkUp(connection=self._connections, ts_recv_ns=self._network.clock.now_ns()))

    def fall(self, reason: str) -> None:
        if not self.up:
            return
        self.up = False
        self._network.reach("user hub fell")
        retry_ns = round(RECONNECT_S * 1e9)
        now_ns = self._network.clock.now_ns()
        self._queue.put_nowait(
            LinkDown(reason=reason, retry_in_ns=retry_ns, planned=False, ts_recv_ns=now_ns)
        )
        self._network.machine.later(RECONNECT_S, self._rise)

    def arrive_in(self, delay_s: float, pushed: Pushed) -> None:
        connection, loop = self._connections, self._network.machine.loop
        if not self._network.venue.plan.hub.reordered:
            delay_s = max(delay_s, self._last_s - loop.now_s)
            self._last_s = loop.now_s + delay_s

        def arrive() -> None:
            if self.up and connection == self._connections:
                self._queue.put_nowait([pushed])

        self._network.machine.later(delay_s, arrive)

    async def events(self) -> AsyncIterator[Sequence[AccountEvent | LinkEvent]]:
        while True:
            item = await self._queue.get()
            self._incarnation.point("hub event", BEFORE)
            if not isinstance(item, list):
                yield [item]
                continue
            batch: list[Any] = []
            ts_ns = self._network.clock.now_ns()
            for pushed in item:
                self._network.machine.trace("hub", pushed.target, pushed.body.decode())
                batch += translate.user_events(pushed.target, msgspec.Raw(pushed.body), ts_ns, {})
            yield batch

    def reconnect(self, reason: str) -> None:
        self.fall(reason)

    async def close(self) -> None:
        self._gone()
