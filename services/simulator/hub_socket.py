"""The hubs' sockets: negotiate, upgrade, one reader and one writer task per client.

All writes of a socket go through its one writer, which sends whatever has gathered
since its last turn as one WebSocket frame.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from contextlib import suppress

import msgspec
from aiohttp import ClientConnectionResetError, WSMsgType, web

from services.simulator import frames
from services.simulator.config import HubConfig
from services.simulator.faults import Faults
from services.simulator.hub import Hub, HubClient
from shared.broker.projectx.signalr import (
    HANDSHAKE_REQUEST,
    SERVER_RECORD_BYTES_MAX,
    Closed,
    HubEvent,
    Invocation,
    KeepAlive,
    Malformed,
    ServerConnection,
    encode_invocation,
)
from shared.runtime.logs import Log

NEGOTIATED_FOR_S = 15.0  # how long a negotiated id waits for its WebSocket
NEGOTIATED_MAX = 1_000


class VenueConnection(ServerConnection):
    """The venue's end of a link, which may take other handshake versions than 1."""

    def __init__(self, *, keep_alive: KeepAlive, versions: tuple[int, ...]) -> None:
        super().__init__(keep_alive=keep_alive)
        self._versions = versions

    def _shake_hands(self, record: bytes, now_ns: int) -> HubEvent:
        """Read an accepted version as 1: the JSON protocol is the same in all of them."""
        try:
            request = msgspec.json.decode(record, type=_Handshake)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return super()._shake_hands(record, now_ns)  # refuses it, in its own words
        if request.protocol == "json" and request.version in self._versions:
            return super()._shake_hands(HANDSHAKE_REQUEST[:-1], now_ns)
        return super()._shake_hands(record, now_ns)


class _Handshake(msgspec.Struct, frozen=True):
    protocol: str
    version: int


class HubServer:
    """Serve one hub at `/hubs/<name>`."""

    def __init__(
        self,
        *,
        name: str,
        hub: Hub,
        config: HubConfig,
        secret: bytes,
        authenticate: Callable[[web.Request], str | None],
        monotonic_ns: Callable[[], int],
        sent: Callable[[HubClient], None],
        faults: Faults,
        subject: tuple[str, int],
        log: Log,
    ) -> None:
        """Args:
        authenticate: Returns the user of a request, None when its token is no good.
        sent: Called when a client's queue has just been written out.
        subject: Contract and account that made-up records pretend to be about.
        """
        self.hub = hub
        self._name = name
        self._config = config
        self._secret = secret
        self._authenticate = authenticate
        self._monotonic_ns = monotonic_ns
        self._sent = sent
        self._faults = faults
        self._subject = subject
        self._transports: dict[HubClient, asyncio.Transport] = {}
        self._log = log
        self._negotiated: dict[str, int | None] = {}  # id -> offered until; None: taken by a socket
        self._negotiations = 0
        self._connections = 0
        self._keep_alive = KeepAlive(
            ping_after_ns=int(config.ping_after_s * 1e9),
            peer_silent_after_ns=int(config.silent_after_s * 1e9),
            handshake_within_ns=int(config.handshake_within_s * 1e9),
        )

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post(f"/hubs/{self._name}/negotiate", self._negotiate)
        app.router.add_get(f"/hubs/{self._name}", self._serve)

    async def _negotiate(self, request: web.Request) -> web.Response:
        if self._authenticate(request) is None:
            return web.Response(status=401)
        now_ns = self._monotonic_ns()
        for old in [one for one, until in self._negotiated.items() if until is not None and until < now_ns]:
            del self._negotiated[old]
        if len(self._negotiated) >= NEGOTIATED_MAX:
            return web.json_response({"error": "too many connections are being negotiated"})
        connection_id, token = self._new_id(), self._new_id()
        version = 1 if request.query.get("negotiateVersion", "0") != "0" else 0
        self._negotiated[token if version else connection_id] = now_ns + int(NEGOTIATED_FOR_S * 1e9)
        answer: dict[str, object] = {
            "negotiateVersion": version,
            "connectionId": connection_id,
            "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text"]}],
        }
        if version:
            answer["connectionToken"] = token
        return web.json_response(answer)

    def _new_id(self) -> str:
        self._negotiations += 1
        digest = hmac.digest(self._secret, f"{self._name}{self._negotiations}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        user = self._authenticate(request)
        if user is None:
            return web.Response(status=401)
        if len(self.hub.clients) >= self._config.clients_max:
            return web.Response(status=503, text="Too many connections")
        negotiated = request.query.get("id")
        if negotiated is not None:
            if negotiated not in self._negotiated:
                return web.Response(status=404, text="No Connection with that ID")
            if self._negotiated[negotiated] is None:
                return web.Response(status=409, text="The connection is already in use")
            self._negotiated[negotiated] = None
        socket = web.WebSocketResponse(
            compress=False, autoping=True, max_msg_size=2 * SERVER_RECORD_BYTES_MAX, decode_text=False
        )
        await socket.prepare(request)
        self._connections += 1
        try:
            await self._run(socket, request, f"{self._name}-{self._connections}")
        finally:
            if negotiated is not None:
                self._negotiated.pop(negotiated, None)
        return socket

    async def _run(self, socket: web.WebSocketResponse, request: web.Request, name: str) -> None:
        wake = asyncio.Event()
        link = VenueConnection(keep_alive=self._keep_alive, versions=self._config.handshake_versions)
        link.start(self._monotonic_ns())
        client = HubClient(name, link, wake.set)
        self.hub.clients.append(client)
        assert request.transport is not None
        # Not isinstance: transports of uvloop are none of asyncio's classes.
        self._transports[client] = request.transport
        writer = asyncio.create_task(self._write(socket, client, wake), name=f"hub-writer-{name}")
        self._log.info("hub_client_connected", client=name)
        try:
            await self._read(socket, client)
        finally:
            self.hub.remove(client)
            del self._transports[client]
            wake.set()
            if not link.is_closed:
                link.close(self._monotonic_ns())
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer
            self._sent(client)
            await socket.close()
            self._log.info("hub_client_disconnected", client=name)

    async def _read(self, socket: web.WebSocketResponse, client: HubClient) -> None:
        async for message in socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            data = message.data if isinstance(message.data, bytes) else message.data.encode()
            for event in client.link.receive(data, self._monotonic_ns()):
                if isinstance(event, Invocation):
                    self.hub.invoke(client, event, self._monotonic_ns())
                elif isinstance(event, Malformed):
                    self._log.warning(
                        "record_unreadable", client=client.name, why=event.reason, raw=event.raw
                    )
                elif isinstance(event, Closed):
                    self._log.info("hub_link_over", client=client.name, why=event.detail)
                    client.wake()
                    return
            client.wake()

    async def _write(self, socket: web.WebSocketResponse, client: HubClient, wake: asyncio.Event) -> None:
        """Send what gathers in the link, one frame per turn, until the link is over."""
        while True:
            await wake.wait()
            wake.clear()
            data = client.link.take_output()
            try:
                if data:
                    await self._send(socket, client, data)
                    self._sent(client)
                if client.link.is_closed:
                    await socket.close()
                    return
            except (ClientConnectionResetError, ConnectionError):
                return

    async def _send(self, socket: web.WebSocketResponse, client: HubClient, data: bytes) -> None:
        """Send whole records as one frame, unless a fault acts."""
        draw, name = self._faults.draw, self._name
        if garbage := draw("frame_garbage", name):
            chosen = garbage.fault.what
            what: frames.Garbage = garbage.rng.choice(frames.GARBAGE) if chosen is None else chosen
            contract_id, account_id = self._subject
            data += frames.garbage(what, contract_id=contract_id, account_id=account_id)
        if cut := draw("frame_pieces", name):
            for piece in frames.pieces(data, cut.fault.parts, cut.rng):
                await socket.send_frame(piece, WSMsgType.TEXT)
        elif cut := draw("frame_fragments", name):
            # aiohttp cannot send fragments; what it has sent is with the transport already.
            self._transports[client].write(frames.fragments(data, cut.fault.parts, cut.rng))
        else:
            await socket.send_frame(data, WSMsgType.TEXT)

    def hang_up(self, how: str) -> int:
        """End every client's link; return how many.

        Args:
            how: `close` lets them come back, `close_for_good` forbids it, `cut` says nothing.
        """
        for client in tuple(self.hub.clients):
            if how == "cut":
                self._transports[client].abort()
            else:
                client.link.close(self._monotonic_ns(), allow_reconnect=how == "close")
                client.wake()
        return len(self.hub.clients)

    def log_out(self, message: str) -> int:
        """Send GatewayLogout to every client and close its link; return how many."""
        record = encode_invocation("GatewayLogout", msgspec.Raw(msgspec.json.encode([message])))
        for client in tuple(self.hub.clients):
            client.send(record, self._monotonic_ns())
        return self.hang_up("close")

    def on_time(self) -> None:
        """Ping quiet clients and cut silent ones; called about once a second."""
        now_ns = self._monotonic_ns()
        for client in tuple(self.hub.clients):
            for event in client.link.on_time(now_ns):
                if isinstance(event, Closed):
                    self._log.warning("hub_client_cut", client=client.name, why=event.detail)
            client.wake()

    def close_all(self) -> None:
        """Tell every client that the venue goes away."""
        for client in tuple(self.hub.clients):
            client.link.close(self._monotonic_ns(), allow_reconnect=True)
            client.wake()
