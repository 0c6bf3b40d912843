"""The two hubs without sockets: who subscribed to what, and what an invocation does.

A hub knows its clients by their `ServerConnection` (the sans-IO end of the SignalR
link) and a callback that wakes their writer. Messages are encoded once and handed to
every subscriber.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.broker.projectx.signalr import Invocation, ServerConnection

MARKET_TOPICS = {
    "ContractQuotes": "quotes",
    "ContractTrades": "trades",
    "ContractMarketDepth": "depth",
}
USER_TOPICS = {
    "Accounts": "accounts",
    "Orders": "orders",
    "Positions": "positions",
    "Trades": "trades",
}


class HubClient:
    """One connected client of one hub.

    Attributes:
        link: Its end of the protocol; holds what is still to be sent.
        wake: Tells its writer that there is something to send.
        batch: Market records of the present turn, handed to the link together.
        behind: At the start of this turn it had too much unsent: no quotes for it.
        stale: Contracts whose quotes were conflated away while it was behind.
        conflated: How many records it did not get for that.
    """

    __slots__ = ("batch", "behind", "conflated", "link", "name", "stale", "wake")

    def __init__(self, name: str, link: ServerConnection, wake: Callable[[], None]) -> None:
        self.name = name
        self.link = link
        self.wake = wake
        self.batch: list[bytes] = []
        self.behind = False
        self.stale: set[str] = set()
        self.conflated = 0

    def flush(self, now_ns: int) -> None:
        """Hand over what gathered in `batch`."""
        if self.batch:
            self.send(b"".join(self.batch), now_ns)
            self.batch.clear()

    def send(self, record: bytes, now_ns: int) -> None:
        """Queue records for this client; nothing happens once its link is closed."""
        if self.link.is_open:
            self.link.send_record(record, now_ns)
            self.wake()


class InvocationRefused(Exception):
    """The invocation fails; the text goes into the completion."""


class Hub:
    """Subscriptions of one hub: topic and key (contract id, account id or None) to clients."""

    def __init__(
        self,
        *,
        is_user_hub: bool,
        known_key: Callable[[object], bool],
        subscribed: Callable[[HubClient, str, object], None],
    ) -> None:
        """Args:
        known_key: Whether a contract (market) or an account (user) exists.
        subscribed: Called after each new subscription with client, topic and key.
        """
        self._is_user_hub = is_user_hub
        self._known_key = known_key
        self._subscribed = subscribed
        self.clients: list[HubClient] = []
        self._topics: dict[tuple[str, object], list[HubClient]] = {}
        self._methods: dict[str, tuple[str, bool]] = {}
        for name, topic in (USER_TOPICS if is_user_hub else MARKET_TOPICS).items():
            self._methods[f"Subscribe{name}"] = (topic, True)
            self._methods[f"Unsubscribe{name}"] = (topic, False)

    def subscribers(self, topic: str, key: object) -> list[HubClient]:
        """Return the live list of subscribers; callers may keep it, never change it."""
        return self._topics.setdefault((topic, key), [])

    def remove(self, client: HubClient) -> None:
        """Forget a client and its subscriptions."""
        if client in self.clients:
            self.clients.remove(client)
        for clients in self._topics.values():
            if client in clients:
                clients.remove(client)

    def invoke(self, client: HubClient, invocation: Invocation, now_ns: int) -> None:
        """Carry out an invocation; answer it when it carries an id."""
        error: str | None = None
        try:
            self._dispatch(client, invocation)
        except InvocationRefused as refused:
            error = str(refused)
        if invocation.invocation_id is not None:
            client.link.complete(invocation.invocation_id, now_ns, error=error)
            client.wake()

    def _dispatch(self, client: HubClient, invocation: Invocation) -> None:
        method = self._methods.get(invocation.target)
        if method is None:
            raise InvocationRefused(
                f"Failed to invoke '{invocation.target}' due to an error on the server. "
                "HubException: Method does not exist."
            )
        topic, start = method
        key = self._key(topic, invocation)
        clients = self.subscribers(topic, key)
        if not start:
            if client in clients:
                clients.remove(client)
        elif client not in clients:
            clients.append(client)
            self._subscribed(client, topic, key)

    def _key(self, topic: str, invocation: Invocation) -> object:
        wanted: type = int if self._is_user_hub else str
        expected = 0 if topic == "accounts" else 1
        try:
            arguments = msgspec.json.decode(invocation.arguments, type=list[wanted])  # type: ignore[valid-type]
        except msgspec.MsgspecError as error:
            raise InvocationRefused(
                f"Failed to invoke '{invocation.target}' due to an error on the server. "
                f"InvalidDataException: Error binding arguments: {error}"
            ) from error
        if len(arguments) != expected:
            raise InvocationRefused(
                f"Failed to invoke '{invocation.target}' due to an error on the server. "
                f"InvalidDataException: Invocation provides {len(arguments)} argument(s) "
                f"but target expects {expected}."
            )
        if not arguments:
            return None
        if not self._known_key(arguments[0]):
            what = "account" if self._is_user_hub else "contract"
            raise InvocationRefused(f"HubException: unknown {what} {arguments[0]!r}.")
        return arguments[0]
