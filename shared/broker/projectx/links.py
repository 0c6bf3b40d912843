"""Hub links as their readers see them: an endless stream of batches that heals itself.

All decisions are in `session.py`. This file only does what it is told: opens, sends,
closes, and hands every frame over with the time it came. One reader, one writer task,
one timer. The frame path has no queue and no task hop: a reader that is slow makes the
socket stop reading, and TCP makes the broker wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from msgspec import Raw, Struct

from shared.broker.port import AccountEvent, Clock, FrameRefused, LinkEvent, MarketEvent
from shared.broker.projectx import link_words as words
from shared.broker.projectx.link_words import Command, Event, LinkSettings, Subscription
from shared.broker.projectx.market import MarketTranslator
from shared.broker.projectx.session import Phase, State, decide
from shared.broker.projectx.signalr import Invocation
from shared.broker.projectx.tokens import life_ns
from shared.broker.projectx.translate import user_events
from shared.broker.projectx.transport import HubGoneError, HubSocket, open_hub_socket
from shared.domain.instrument import Instrument

TICK_S: Final = 0.25  # resolution of every pause and timeout of a link
FRAMES_TO_SEND_MAX: Final = 10_000
GOODBYE_WITHIN_S: Final = 2.0

T = TypeVar("T")
Translate = Callable[[str, Raw, int], Sequence[T]]
"""(target, arguments, ts_recv_ns) -> events; refusals are among them."""


class HubAccess(Struct, frozen=True, kw_only=True):
    """What any link needs from its process.

    Attributes:
        url: Of the hubs, such as `https://rtc.topstepx.com/hubs`.
        token: Newest session token, asked before each connection.
        chance: Numbers in [0, 1), for the jitter of pauses.
        venue_now_ns: The broker's wall clock, None while it has not told.
    """

    url: str
    token: Callable[[], str | None]
    clock: Clock
    chance: Callable[[], float]
    venue_now_ns: Callable[[], int | None] = lambda: None
    settings: LinkSettings = LinkSettings()
    open_socket: Callable[[str, str], Awaitable[HubSocket]] = open_hub_socket


class HubLink(Generic[T]):
    """One hub link. `events()` is for one reader and runs the link while it is read."""

    def __init__(self, access: HubAccess, *, hub: str, translate: Translate[T]) -> None:
        self._access = access
        self._url = f"{access.url.rstrip('/')}/{hub}"
        self._translate = translate
        self._state = State(hub=hub, settings=access.settings)
        self._socket: HubSocket | None = None
        self._opening = False
        self._batches: deque[list[T | LinkEvent]] = deque()
        self._to_send: asyncio.Queue[tuple[HubSocket, bytes]] = asyncio.Queue(FRAMES_TO_SEND_MAX)
        self._wake = asyncio.Event()
        self._helpers: list[asyncio.Task[None]] = []
        self._chance = 0.0  # the last number drawn: frames are too many to draw one for each

    @property
    def phase(self) -> Phase:
        return self._state.phase

    async def events(self) -> AsyncIterator[Sequence[T | LinkEvent]]:
        """Yield everything one received frame held, in order; ends after `close()` only."""
        self._helpers = [asyncio.create_task(self._write()), asyncio.create_task(self._keep_time())]
        try:
            self._apply(words.Started(at=self._at()))
            while True:
                while self._batches:
                    yield self._batches.popleft()
                if self._state.phase is Phase.STOPPED:
                    return
                if self._socket is not None:
                    await self._read(self._socket)
                elif self._opening:
                    await self._open()
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self._dismiss_helpers()
            if self._socket is not None:
                self._socket.abort()
                self._socket = None

    def reconnect(self, reason: str) -> None:
        """Drop the link and build a new one."""
        self._apply(words.ReconnectAsked(reason=reason, at=self._at()))

    async def close(self) -> None:
        """Say goodbye and end `events()`."""
        socket, self._socket = self._socket, None
        commands = decide(words.Stopped(at=self._at()), self._state)
        self._wake.set()
        self._dismiss_helpers()
        if socket is None:
            return
        try:
            async with asyncio.timeout(GOODBYE_WITHIN_S):
                for command in commands:
                    if isinstance(command, words.SendFrame):
                        await socket.send(command.data)
                await socket.close()
        except (TimeoutError, HubGoneError):
            socket.abort()

    # for the links below

    def want(self, subscription: Subscription) -> None:
        self._apply(words.Wanted(subscription=subscription, at=self._at()))

    def unwant(self, subscription: Subscription, goodbye: Subscription) -> None:
        self._apply(words.Unwanted(subscription=subscription, goodbye=goodbye, at=self._at()))

    # the shell

    async def _read(self, socket: HubSocket) -> None:
        try:
            data = await socket.receive()
        except HubGoneError as error:
            if socket is self._socket:  # not when we closed it ourselves
                self._socket = None
                self._apply(words.Lost(reason=str(error), at=self._at()))
            return
        if socket is self._socket:
            clock = self._access.clock
            at = words.At(clock.monotonic_ns(), clock.now_ns(), self._chance)
            self._apply(words.FrameReceived(data=data, at=at))

    async def _open(self) -> None:
        self._opening = False
        token = self._access.token()
        if token is None:
            self._apply(words.OpenFailed(reason="there is no session token yet", at=self._at()))
            return
        try:
            socket = await self._access.open_socket(self._url, token)
        except HubGoneError as error:
            self._apply(words.OpenFailed(reason=str(error), at=self._at()))
            return
        if self._state.phase is not Phase.OPENING:
            socket.abort()  # closed while it was being opened
            return
        self._socket = socket
        at = self._at()
        left_ns = life_ns(token, at.ts_ns, self._access.venue_now_ns())
        self._apply(words.Opened(token_life_ns=left_ns, at=at))

    async def _write(self) -> None:
        while True:
            socket, data = await self._to_send.get()
            try:
                await socket.send(data)
            except HubGoneError:
                continue  # the reader hears of it too, and says so

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            next_ns = self._state.next_time_ns
            now_ns = self._access.clock.monotonic_ns()
            if self._state.phase is Phase.LIVE or (next_ns is not None and now_ns >= next_ns):
                self._apply(words.Tick(at=self._at()))

    def _dismiss_helpers(self) -> None:
        for helper in self._helpers:
            helper.cancel()
        self._helpers.clear()

    def _apply(self, event: Event) -> None:
        for command in decide(event, self._state):
            self._perform(command, event.at.ts_ns)

    def _perform(self, command: Command, ts_ns: int) -> None:
        match command:
            case words.Deliver(records=records):
                self._batches.append(self._translated(records, ts_ns))
            case words.SendFrame(data=data):
                self._send(data)
            case words.OpenSocket():
                self._opening = True
            case words.CloseSocket():
                if self._socket is not None:
                    self._socket.abort()
                    self._socket = None
        self._wake.set()

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            return
        try:
            self._to_send.put_nowait((self._socket, data))
        except asyncio.QueueFull:
            self._socket.abort()  # it takes nothing any more; the reader hears of it

    def _translated(self, records: list[Invocation | LinkEvent], ts_ns: int) -> list[T | LinkEvent]:
        batch: list[T | LinkEvent] = []
        translate = self._translate
        for record in records:
            if isinstance(record, Invocation):
                batch += translate(record.target, record.arguments, ts_ns)
            else:
                batch.append(record)
        return batch

    def _at(self) -> words.At:
        access = self._access
        self._chance = access.chance()
        return words.At(access.clock.monotonic_ns(), access.clock.now_ns(), self._chance)


class ProjectXMarketLink(HubLink[MarketEvent | FrameRefused]):
    """See `shared.broker.port.MarketLink`."""

    METHODS: Final = ("ContractQuotes", "ContractTrades", "ContractMarketDepth")

    def __init__(self, access: HubAccess) -> None:
        self._translator = MarketTranslator()
        super().__init__(access, hub="market", translate=self._translator.events)

    def subscribe(self, instrument: Instrument) -> None:
        """Want quotes, trades and depth of `instrument`, now and after every reconnect."""
        self._translator.add(instrument)
        for method in self.METHODS:
            self.want(Subscription(f"Subscribe{method}", instrument.contract_id))

    def unsubscribe(self, contract_id: str) -> None:
        for method in self.METHODS:
            self.unwant(
                Subscription(f"Subscribe{method}", contract_id),
                Subscription(f"Unsubscribe{method}", contract_id),
            )
        # The translator keeps the contract: what is on its way is not an error.


class ProjectXAccountLink(HubLink[AccountEvent | FrameRefused]):
    """See `shared.broker.port.AccountLink`."""

    def __init__(
        self, access: HubAccess, account_ids: Sequence[int], instruments: Mapping[str, Instrument]
    ) -> None:
        super().__init__(
            access,
            hub="user",
            translate=lambda target, arguments, ts_ns: user_events(target, arguments, ts_ns, instruments),
        )
        self.want(Subscription("SubscribeAccounts"))
        for account_id in account_ids:
            for method in ("SubscribeOrders", "SubscribePositions", "SubscribeTrades"):
                self.want(Subscription(method, account_id))
