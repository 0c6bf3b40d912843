"""What any broker offers, in our words, split by who uses it.

Four ports, so that a process holds only the powers it needs: heartbeat the session,
feed the market, broker_sync the account, execution the orders. A simulated broker
implements the same protocols without a socket.

Two kinds of call, two kinds of failure:

* A *question* (bars, orders, positions) answers or raises a `BrokerQueryFailed`. It
  never returns an empty list on failure: an explicit empty list means "nothing",
  everything else means "unknown".
* A *mutation* (place, modify, cancel, close) never raises for what the world does. It
  returns one of four outcomes; `Unknown` is one of them and the only honest word for
  a timeout. Nothing is ever sent twice by this layer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Literal, Protocol

from msgspec import Struct

from shared.domain.instrument import Instrument
from shared.domain.market import Bar, Depth, Quote, Trade
from shared.domain.order import Bracket, OrderType, Side
from shared.domain.report import AccountReport, FillReport, OrderReport, PositionReport

# -- outcomes of a mutation -------------------------------------------------------


class Accepted(Struct, frozen=True, kw_only=True):
    """The broker took it. An acknowledgment is not a fill.

    Attributes:
        broker_order_id: Of a placed order; None for what has no id (cancel, close).
    """

    broker_order_id: int | None = None


class Rejected(Struct, frozen=True, kw_only=True):
    """The broker refused, definitely: it did not happen and will not."""

    code: int
    reason: str


class NotSent(Struct, frozen=True, kw_only=True):
    """Proven not to have left this machine: it may be tried again under the same id."""

    reason: str


class Unknown(Struct, frozen=True, kw_only=True):
    """It may or may not have happened; only a fresh look at the broker can tell.

    Attributes:
        http_status: When there was an answer at all.
        code: When the answer carried an error code.
    """

    reason: str
    http_status: int | None = None
    code: int | None = None


Outcome = Accepted | Rejected | NotSent | Unknown


class OrderTicket(Struct, frozen=True, kw_only=True):
    """One order as it is to be sent.

    Attributes:
        client_order_id: Sent along; the broker refuses a second order with the same one, for ever.
        trail_price: Absolute price level, for a trailing stop only.
        bracket: Unsigned ticks; the signs are added at the border.
        expires_at_ns: Wall clock. Not sent after this, also when the rate limit made it wait.
        urgent: It gets us out of a position: may use the reserve of the rate limit.
    """

    account_id: int
    client_order_id: str
    contract_id: str
    side: Side
    order_qty: int
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    bracket: Bracket | None = None
    expires_at_ns: int | None = None
    urgent: bool = False


# -- session ----------------------------------------------------------------------


class Credentials(Struct, frozen=True, kw_only=True):
    """Never printed, logged or sent anywhere but to the login."""

    user_name: str
    api_key: str

    def __repr__(self) -> str:
        return "Credentials(...)"


class SessionToken(Struct, frozen=True, kw_only=True):
    """Attributes: expires_at_ns: by our clock; as the token itself says, else after the documented life."""

    value: str
    expires_at_ns: int

    def __repr__(self) -> str:
        return f"SessionToken(..., expires_at_ns={self.expires_at_ns})"


class LoggedIn(Struct, frozen=True, kw_only=True):
    token: SessionToken


class LoginRefused(Struct, frozen=True, kw_only=True):
    """Attributes: fatal: trying again is useless until a person has done what `remedy` says."""

    code: int
    sentence: str
    remedy: str
    fatal: bool


class Validated(Struct, frozen=True, kw_only=True):
    """Attributes: new_token: replaces the old one; None: keep the old one."""

    new_token: SessionToken | None


class SessionGone(Struct, frozen=True, kw_only=True):
    """The broker does not accept the token any more: log in again."""

    reason: str


# -- what a hub link says ---------------------------------------------------------


class FrameRefused(Struct, frozen=True, kw_only=True):
    """Input of the broker that could not be understood. Kept, counted, reported, never guessed.

    Attributes:
        origin: Hub target or REST endpoint.
        field: Name on the wire of what is wrong; empty when all of it is.
        raw: At most 2,048 bytes of it.
    """

    origin: str
    field: str
    reason: str
    raw: bytes
    ts_recv_ns: int


class LinkUp(Struct, frozen=True, kw_only=True):
    """The link is open and every subscription that was wanted then has been answered.

    What happened before is lost: read the REST truth once, then apply events.
    """

    connection: int  # 1 for the first, rising
    ts_recv_ns: int


class LinkDown(Struct, frozen=True, kw_only=True):
    """Attributes: planned: our own reconnect, to carry a fresh token; not a fault."""

    reason: str
    retry_in_ns: int
    planned: bool
    ts_recv_ns: int


class SubscriptionRefused(Struct, frozen=True, kw_only=True):
    """The hub said no to one subscription; the others go on. It is asked again, with pauses that grow.

    Every refusal is told. It ends with `SubscriptionTaken` or `LinkDown`.
    """

    target: str
    argument: str
    error: str
    ts_recv_ns: int


class SubscriptionTaken(Struct, frozen=True, kw_only=True):
    """The hub has taken a subscription that it refused on this connection before.

    What it would have said meanwhile is lost.

    Attributes:
        still_refused: How many others of this link are.
    """

    target: str
    argument: str
    still_refused: int
    ts_recv_ns: int


class LoggedOut(Struct, frozen=True, kw_only=True):
    """The broker ended our session on this hub, usually in favor of another device. Alarm."""

    text: str
    ts_recv_ns: int


LinkEvent = LinkUp | LinkDown | SubscriptionRefused | SubscriptionTaken | LoggedOut | FrameRefused
MarketEvent = Quote | Trade | Depth
AccountEvent = AccountReport | OrderReport | PositionReport | FillReport


class MarketLink(Protocol):
    """Market data of any number of contracts over one link, which it keeps up for ever."""

    def events(self) -> AsyncIterator[Sequence[MarketEvent | LinkEvent]]:
        """Yield everything one received frame held, in order.

        A `Quote` is as sparse as the broker sent it: None means *unchanged*; merging is the reader's.
        """
        ...

    def subscribe(self, instrument: Instrument) -> None:
        """Want quotes, trades and depth of `instrument`, now and after every reconnect."""
        ...

    def unsubscribe(self, contract_id: str) -> None: ...

    def reconnect(self, reason: str) -> None:
        """Drop the link and build a new one: for a feed that is up and silent."""
        ...

    async def close(self) -> None: ...


class AccountLink(Protocol):
    """Pushes about one or more accounts over one link, which it keeps up for ever."""

    def events(self) -> AsyncIterator[Sequence[AccountEvent | LinkEvent]]: ...

    def reconnect(self, reason: str) -> None: ...

    async def close(self) -> None: ...


# -- ports ------------------------------------------------------------------------


class Capabilities(Struct, frozen=True, kw_only=True):
    """What this broker can and cannot do.

    Attributes:
        unique_client_order_id: It refuses a second order with the same id.
        brackets: Stop and target may travel with the entry.
        suspended_visible: `working_orders` shows bracket children that wait for their entry.
        order_types: That may be placed.
        bars_max: Of one request.
    """

    unique_client_order_id: bool
    brackets: bool
    suspended_visible: bool
    order_types: frozenset[OrderType]
    bars_max: int


class VenueClock(Protocol):
    def venue_now_ns(self) -> int | None:
        """Return the broker's wall clock as far as its answers told, None before the first."""
        ...


class SessionPort(Protocol):
    """For heartbeat alone: one process owns the session."""

    async def login(self) -> LoggedIn | LoginRefused: ...

    async def validate(self, token: SessionToken) -> Validated | SessionGone: ...

    async def logout(self, token: SessionToken) -> None: ...


class MarketPort(VenueClock, Protocol):
    async def search_contracts(self, text: str) -> list[Instrument]:
        """Return what matches; may hold other products: match by symbol and `active`, never the first."""
        ...

    async def available_contracts(self) -> list[Instrument]: ...

    async def contract_by_id(self, contract_id: str) -> Instrument | None:
        """Return the contract, also an expired month; None when the broker says that there is none."""
        ...

    async def bars(
        self, instrument: Instrument, *, interval_s: int, start_ns: int, end_ns: int, partial: bool = False
    ) -> list[Bar]:
        """Return the bars that opened in [start, end), oldest first, each once, however many pages."""
        ...

    def market_link(self) -> MarketLink: ...


class AccountPort(VenueClock, Protocol):
    async def accounts(self, *, only_active: bool = True) -> list[AccountReport]: ...

    async def positions(self, account_id: int) -> list[PositionReport]:
        """Return open positions. An explicit empty list is the only thing that means flat."""
        ...

    async def orders_since(
        self, account_id: int, start_ns: int, end_ns: int | None = None
    ) -> list[OrderReport]:
        """Return every order created in the window, closed ones too."""
        ...

    async def open_orders(self, account_id: int) -> list[OrderReport]:
        """Return orders with status Open only; suspended bracket children are not among them."""
        ...

    async def working_orders(self, account_id: int) -> list[OrderReport]:
        """Return every order that may still execute, suspended bracket children too."""
        ...

    async def order_by_id(self, account_id: int, broker_order_id: int) -> OrderReport | None:
        """Return the order; None when the broker says that there is none."""
        ...

    async def fills_since(
        self, account_id: int, start_ns: int, end_ns: int | None = None
    ) -> list[FillReport]: ...

    def account_link(self, account_ids: Sequence[int]) -> AccountLink: ...


class OrderPort(VenueClock, Protocol):
    """For execution alone. Nothing here is ever sent twice."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def place(self, ticket: OrderTicket, *, held: Callable[[], str | None] = lambda: None) -> Outcome:
        """Send an order once.

        Args:
            held: Why it may not leave any more, if so. Asked as the last thing before it leaves: a place in
                the request budget and a connection may have taken seconds to come.
        """
        ...

    async def modify(
        self,
        account_id: int,
        broker_order_id: int,
        *,
        order_qty: int | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail_price: Decimal | None = None,
        urgent: bool = False,
        expires_at_ns: int | None = None,
        held: Callable[[], str | None] = lambda: None,
    ) -> Outcome:
        """Change a working order; None leaves a value as it is. `held` is asked as for `place`.

        Args:
            urgent: It is about what protects a position: it may use the reserve.
        """
        ...

    async def cancel(
        self, account_id: int, broker_order_id: int, *, held: Callable[[], str | None] = lambda: None
    ) -> Outcome:
        """Cancel a working order. `held` is asked as for `place`."""
        ...

    async def close_contract(
        self, account_id: int, contract_id: str, *, held: Callable[[], str | None] = lambda: None
    ) -> Outcome:
        """Close the position at market. Resting stops and targets stay alive: cancel them.

        Args:
            held: Asked as for `place`: by then it may be another position, which nobody wants closed.
        """
        ...

    async def partial_close(self, account_id: int, contract_id: str, order_qty: int) -> Outcome: ...


# -- what the adapter needs from its process --------------------------------------

LimitKind = Literal["general", "history"]


class Limiter(Protocol):
    """The budget of the credential, shared by all processes that use it."""

    async def acquire(self, kind: LimitKind, urgent: bool) -> None:
        """Wait until one request may be sent; `urgent` (cancel, flatten) may use the reserve.

        Raises:
            LimiterUnavailable: If the budget cannot be asked.
        """
        ...

    async def pause(self, kind: LimitKind, pause_s: float) -> None:
        """The broker said "too many": let nothing through for this long."""
        ...


class Clock(Protocol):
    def now_ns(self) -> int:
        """Return the wall clock, UTC."""
        ...

    def monotonic_ns(self) -> int: ...
