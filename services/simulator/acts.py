"""What a proving machine does at the venue by hand: an order of somebody else, a session taken away."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from services.simulator import core
from services.simulator.contracts import PRODUCTS, active_contract
from services.simulator.journal import Journal
from services.simulator.placing import PlaceOrder
from services.simulator.rows import Row
from services.simulator.state import Reply
from services.simulator.venue import Venue
from shared.broker.projectx.enums import OrderType
from shared.runtime.clock import Clock


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


Act = Place | Cancel | Close


class NotPossible(Exception):
    """The act names something that is not there; says what there is."""


class Acts:
    """Carry out acts; an answer is `{"code", "message", "order_id"}`, codes as in the gateway's endpoint."""

    def __init__(self, *, venue: Venue, journal: Journal, clock: Clock) -> None:
        self._venue = venue
        self._journal = journal
        self._clock = clock

    def perform(self, act: Act, body: bytes) -> Row:
        """Carry out one act.

        Raises:
            NotPossible: If it names a symbol that is not listed.
        """
        request = self._request(act)
        attempt = self._journal.attempt(f"by hand: {type(act).__name__.lower()}", body, self._clock.now_ns())
        reply: Reply = self._venue.submit(request)
        self._journal.processed(attempt, reply.code, reply.order_id, self._clock.now_ns())
        return {"code": reply.code, "message": reply.message, "order_id": reply.order_id}

    def _request(self, act: Act) -> core.Request:
        now_ns = self._venue.now_ns()
        if isinstance(act, Cancel):
            return core.CancelOrder(now_ns=now_ns, account_id=act.account_id, order_id=act.order_id)
        if act.symbol not in PRODUCTS:
            raise NotPossible(f"{act.symbol!r} is not listed; there are {', '.join(PRODUCTS)}")
        contract_id = active_contract(act.symbol, now_ns).id
        if isinstance(act, Close):
            return core.ClosePosition(now_ns=now_ns, account_id=act.account_id, contract_id=contract_id)
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
