"""What a proving machine does at the venue by hand: an order of somebody else, a session taken away."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from services.simulator import core
from services.simulator.closing import ClosePosition
from services.simulator.contracts import PRODUCTS, active_contract
from services.simulator.hub_socket import HubServer
from services.simulator.login import Sessions
from services.simulator.placing import PlaceOrder
from services.simulator.rows import Row
from services.simulator.state import Reply
from services.simulator.store import Store
from services.simulator.venue import Venue
from shared.broker.projectx.enums import OrderType
from shared.runtime.clock import Clock

REVOKED = "revoked_ns"


class Place(msgspec.Struct, frozen=True, tag="place", tag_field="act", kw_only=True):
    """An order by hand, without a tag. `symbol` stands for its front month; prices in points."""

    account_id: int
    symbol: str
    side: int
    size: int
    type: int = int(OrderType.MARKET)
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None


class Cancel(msgspec.Struct, frozen=True, tag="cancel", tag_field="act", kw_only=True):
    """An order cancelled by hand."""

    account_id: int
    order_id: int


class Close(msgspec.Struct, frozen=True, tag="close", tag_field="act", kw_only=True):
    """A position closed by hand."""

    account_id: int
    symbol: str


class Revoke(msgspec.Struct, frozen=True, tag="revoke", tag_field="act"):
    """Every session token issued so far becomes invalid; links that stand stay."""


class Logout(msgspec.Struct, frozen=True, tag="logout", tag_field="act", kw_only=True):
    """GatewayLogout to all clients of both hubs, whose links are closed."""

    message: str = "You have been logged out: only one active session is allowed."


class HangUp(msgspec.Struct, frozen=True, tag="hang_up", tag_field="act", kw_only=True):
    """A hub's links end: `close` lets clients come back, `close_for_good` forbids it, `cut` says nothing."""

    hub: Literal["user", "market", "both"] = "both"
    how: Literal["close", "close_for_good", "cut"] = "close"


Act = Place | Cancel | Close | Revoke | Logout | HangUp


class NotPossible(Exception):
    """The act names something that is not there; says what there is."""


class Acts:
    """Carry out acts.

    Orders are answered with `{"code", "message", "order_id"}`, codes as in the gateway's endpoint; acts on
    hubs with `{"clients"}`, how many were hit.
    """

    def __init__(
        self, *, venue: Venue, store: Store, sessions: Sessions, hubs: Mapping[str, HubServer], clock: Clock
    ) -> None:
        self._venue = venue
        self._store = store
        self._journal = store.journal
        self._sessions = sessions
        self._hubs = hubs
        self._clock = clock

    def perform(self, act: Act, body: bytes) -> Row:
        """Carry out one act.

        Raises:
            NotPossible: If it names a symbol that is not listed.
        """
        if isinstance(act, Revoke):
            self._store.put_fact(REVOKED, self._sessions.revoke_all())
            return {}
        if isinstance(act, Logout):
            return {"clients": sum(one.log_out(act.message) for one in self._hubs.values())}
        if isinstance(act, HangUp):
            named = self._hubs.values() if act.hub == "both" else [self._hubs[act.hub]]
            return {"clients": sum(one.hang_up(act.how) for one in named)}
        return self._trade(act, body)

    def _trade(self, act: Place | Cancel | Close, body: bytes) -> Row:
        request = self._request(act)
        attempt = self._journal.attempt(f"by hand: {type(act).__name__.lower()}", body, self._clock.now_ns())
        reply: Reply = self._venue.submit(request)
        self._journal.processed(attempt, reply.code, reply.order_id, self._clock.now_ns())
        return {"code": reply.code, "message": reply.message, "order_id": reply.order_id}

    def _request(self, act: Place | Cancel | Close) -> core.Request:
        now_ns = self._venue.now_ns()
        if isinstance(act, Cancel):
            return core.CancelOrder(now_ns=now_ns, account_id=act.account_id, order_id=act.order_id)
        if act.symbol not in PRODUCTS:
            raise NotPossible(f"{act.symbol!r} is not listed; there are {', '.join(PRODUCTS)}")
        contract_id = active_contract(act.symbol, now_ns).id
        if isinstance(act, Close):
            return ClosePosition(now_ns=now_ns, account_id=act.account_id, contract_id=contract_id)
        return PlaceOrder(
            now_ns=now_ns,
            account_id=act.account_id,
            contract_id=contract_id,
            type=act.type,
            side=act.side,
            size=act.size,
            limit_price=act.limit_price,
            stop_price=act.stop_price,
        )
