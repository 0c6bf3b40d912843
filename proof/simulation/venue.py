"""The broker that owns the truth: the venue's own core and endpoints, on virtual time, without a socket.

What happens to a request on its way is `wire.py`'s; here it has arrived. Everything that was ever true is
kept, so that checkers can ask, and so that searches can be answered from a moment ago.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import msgspec

from proof.simulation.door import Door
from proof.simulation.loop import NS_PER_S
from proof.simulation.market_hub import MarketHub
from proof.simulation.plan import Plan
from services.simulator import core, rows
from services.simulator.answers import Malformed, failed
from services.simulator.bars import MINUTE_NS, Bar
from services.simulator.config import SimulatorConfig
from services.simulator.contracts import active_contract
from services.simulator.endpoints import Endpoints
from services.simulator.faults import Faults
from services.simulator.order_faults import OrderFaults
from services.simulator.orders import Account, Fate, Fill, Order
from services.simulator.placing import PlaceOrder
from services.simulator.searches import Searches
from services.simulator.state import (
    AccountUpdated,
    Command,
    FillBooked,
    OrderUpdated,
    PositionUpdated,
    Reply,
    Rules,
    State,
)
from services.simulator.venue import Venue
from shared.broker.projectx.enums import OrderByIdErrorCode, OrderSide, OrderStatus, OrderType

ACCOUNT_ID = 1001
SYMBOL = "MES"
WINDOW_S = 10.0
REQUESTS_MAX = 50
"""The broker's budget, scaled: a window of 10 s instead of 60 s."""
REQUESTS_OF_GUARD = 30
"""More where guard looks as well: what it asks at once is not scaled with the window."""
TAG_WINDOW_S = 4.0
LOOK = "/api/Order/searchById"
HISTORY = "/api/History/retrieveBars"
SEARCHES = frozenset(
    {"/api/Order/search", "/api/Trade/search", "/api/Order/v2/query", "/api/Order/searchOpen"}
)
_CONFIG = SimulatorConfig()
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(slots=True)
class Landed:
    """One order of ours as the venue has it.

    Attributes:
        tag: What it was sent with, kept also where the venue forgets it.
    """

    tag: str
    order_id: int
    at_ns: int
    refused: bool


@dataclass(slots=True)
class Pushed:
    """One event of the user hub."""

    target: str
    body: bytes
    at_ns: int


@dataclass(slots=True)
class _Past:
    at_ns: list[int] = field(default_factory=list)
    order: list[Order] = field(default_factory=list)


class _NoFaults:
    """The simulator's own faults are off: a plan has its own."""

    class settings:  # noqa: N801
        active = ()

    def __init__(self) -> None:
        self.on_put: list[object] = []

    def draw(self, kind: str, name: str) -> None: ...

    def has(self, kind: str) -> bool:
        return False


class _View:
    """What `Endpoints` needs of a venue."""

    def __init__(self, state: State, venue: SimVenue) -> None:
        self.heard: list[object] = []
        self.state = state
        self.now_ns = venue.now_ns
        self.submit = venue.submit
        self.market = venue.market

    def minute_bars(self, contract_id: str, start_ns: int) -> Sequence[Any]:
        if self.market is not None:
            return self.market.bars.minutes
        last = self.state.books[contract_id].bid if contract_id in self.state.books else None
        if last is None:
            return []
        minute_ns = self.now_ns() // MINUTE_NS * MINUTE_NS
        return [Bar(open_ns=minute_ns, open=last, high=last, low=last, close=last, volume=1)]

    def second_bars(self, contract_id: str) -> Sequence[Any]:
        return []


class SimVenue:
    """See the module."""

    def __init__(self, plan: Plan, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self.plan = plan
        self.requests_max = REQUESTS_MAX + (REQUESTS_OF_GUARD if plan.guard.on else 0)
        rules = Rules(fees={SYMBOL: Decimal("0.37")})
        self.state = State(rules=rules, next_order_id=1000)
        self.state.accounts[ACCOUNT_ID] = Account(id=ACCOUNT_ID, name="SIM", balance=Decimal(50_000))
        self.contract = active_contract(SYMBOL, now_ns())
        self.state.contracts[self.contract.id] = self.contract
        self.landed: dict[str, list[Landed]] = {}
        self.tag_of: dict[int, str] = {}
        self.hears: Callable[[Pushed], None] = lambda pushed: None
        self.watch: Callable[[list[Command]], None] = lambda commands: None
        self.came: Callable[[str], None] = lambda tag: None
        self.tokens: set[str] = set()
        self.door: Door | None = None
        if plan.session.on:
            self.door = Door(plan.session, random.Random(f"door {plan.seed}"), now_ns)
        self.market: MarketHub | None = None
        if plan.feed.on:
            self.market = MarketHub(plan.feed, random.Random(f"market {plan.seed}"), self.contract, now_ns)
        self.storm = False
        self.lag_s = plan.search_lag_s
        self.forgets = plan.forgets
        self.externals: set[int] = set()
        self._past: dict[int, _Past] = {}
        self._rng = random.Random(f"venue {plan.seed}")
        self._forgetting = random.Random(f"forgets {plan.seed}")
        self._requests: deque[int] = deque()
        self._issued = 0
        self._decoders = {
            path: msgspec.json.Decoder(kind) for path, kind, _ in self._endpoints(self.state).table()
        }
        self._present = self._answers(self.state)

    def _answers(self, state: State) -> dict[str, Callable[[Any], rows.Row]]:
        return {path: answer for path, _, answer in self._endpoints(state).table()}

    def _endpoints(self, state: State) -> Endpoints:
        venue, faults = cast(Venue, _View(state, self)), cast(Faults, _NoFaults())
        order_faults = OrderFaults(
            venue=venue, faults=faults, after=lambda delay_s, call: None, monotonic_ns=self.now_ns
        )
        searches = Searches(venue=venue, config=_CONFIG, faults=faults, order_faults=order_faults)
        return Endpoints(venue, searches, order_faults)

    # -- requests ---------------------------------------------------------------

    def answer(self, path: str, body: bytes, token: str | None) -> tuple[int, bytes]:
        """Do what a request asks for; return status and body."""
        if path == "/api/Auth/loginKey" and self.door is None:
            return 200, _encode({"success": True, "errorCode": 0, "token": self.issue()})
        if self._over_budget(path):
            return 429, b""
        if self.door is not None:
            if (said := self.door.says(path, token)) is not None:
                return said
        elif token not in self.tokens:
            return 401, b""
        if path == "/api/Auth/validate":
            return 200, _encode({"success": True, "errorCode": 0, "newToken": None})
        if self.forgets and path == LOOK and self._forgetting.random() < self.forgets:
            return 200, _encode(failed(OrderByIdErrorCode.ORDER_NOT_FOUND, "Order not found.", order=None))
        answers = self._present
        if self.lag_s and path in SEARCHES:
            answers = self._answers(self._lagged())
        try:
            return 200, rows.encode(answers[path](self._decoders[path].decode(body)))
        except (msgspec.MsgspecError, Malformed):
            return 400, b"{}"

    def issue(self) -> str:
        self._issued += 1
        token = f"token-{self._issued}"
        self.tokens.add(token)
        return token

    def _over_budget(self, path: str) -> bool:
        if self.storm:
            return True
        if path == HISTORY and self.market is not None:
            return False  # counted apart, and no feed comes near to so many
        now_ns, requests = self.now_ns(), self._requests
        while requests and requests[0] <= now_ns - round(WINDOW_S * NS_PER_S):
            requests.popleft()
        if len(requests) >= self.requests_max:
            return True
        requests.append(now_ns)
        return False

    def submit(self, event: core.Request) -> Reply:
        tag = event.custom_tag if isinstance(event, PlaceOrder) else None
        if tag:
            event = msgspec.structs.replace(event, fate=self._fate())
        commands = core.decide(event, self.state)
        reply = commands[-1]
        assert isinstance(reply, Reply)
        if tag and reply.order_id is not None:
            self.tag_of[reply.order_id] = tag
            one = Landed(tag, reply.order_id, self.now_ns(), reply.code != 0)
            self.landed.setdefault(tag, []).append(one)
            self.came(tag)
        self._tell(commands)
        return reply

    def _fate(self) -> Fate:
        """Draw how this order will be treated: its tag, its fills, its legs."""
        plan, rng = self.plan, self._rng
        window_ns = {"enforced": None, "ignored": 0, "window": round(TAG_WINDOW_S * NS_PER_S)}[plan.tags]
        parts = plan.parts and rng.random() < plan.parts
        legs = plan.legs_rejected and rng.random() < plan.legs_rejected
        return Fate(
            tag_window_ns=window_ns,
            part_qty=1 if parts else None,
            part_gap_ns=rng.randrange(2 * NS_PER_S) if parts else 0,
            rejected_legs=rng.choice((("SL",), ("TP",), ("SL", "TP"))) if legs else (),
        )

    # -- the market and other people --------------------------------------------

    def touch(self, bid: int, qty: int) -> None:
        """Take a new touch, a tick wide."""
        self._tell(core.touch(self.state, self.contract.id, bid, qty, bid + 1, qty, self.now_ns()))
        if self.market is not None:
            self.market.touch(bid)

    def trade(self, price: int, qty: int) -> None:
        self._tell(core.trade(self.state, self.contract.id, price, qty, None, self.now_ns()))
        if self.market is not None:
            self.market.trade(price, qty)

    def open_session(self, is_open: bool) -> None:
        core.decide(core.SessionChanged(self.now_ns(), is_open), self.state)

    def external(self, rng: random.Random) -> int | None:
        """Somebody trades on the account by hand."""
        self.externals.add(self.state.next_order_id)
        reply = self.submit(
            PlaceOrder(
                now_ns=self.now_ns(), account_id=ACCOUNT_ID, contract_id=self.contract.id,
                type=int(OrderType.MARKET), side=rng.randrange(2), size=1,
            )
        )  # fmt: skip
        return reply.order_id if reply.code == 0 else None

    # -- what is told -----------------------------------------------------------

    def _tell(self, commands: list[Command]) -> None:
        now_ns = self.now_ns()
        self.watch(commands)
        for command in commands:
            match command:
                case OrderUpdated(order=order):
                    past = self._past.setdefault(order.id, _Past())
                    past.at_ns.append(now_ns)
                    past.order.append(order)
                    self._push("GatewayUserOrder", rows.hub_order_row(self.state, order), now_ns)
                case FillBooked(fill=fill):
                    self._push("GatewayUserTrade", rows.fill_row(self.state, fill), now_ns)
                case PositionUpdated(position=position):
                    self._push("GatewayUserPosition", rows.position_row(self.state, position), now_ns)
                case AccountUpdated(account=account):
                    self._push("GatewayUserAccount", rows.account_row(account), now_ns)

    def _push(self, target: str, row: rows.Row, now_ns: int) -> None:
        self.hears(Pushed(target, _encode([row]), now_ns))

    def _lagged(self) -> State:
        """Return the orders and fills as they were a moment ago; positions are never late."""
        then_ns = self.now_ns() - round(self.lag_s * NS_PER_S)
        orders: dict[int, Order] = {}
        for order_id, past in self._past.items():
            at = bisect_right(past.at_ns, then_ns)
            if at:
                orders[order_id] = past.order[at - 1]
        return msgspec.structs.replace(
            self.state, orders=orders, fills=[one for one in self.state.fills if one.created_ns <= then_ns]
        )

    # -- what checkers ask ------------------------------------------------------

    @property
    def net_qty(self) -> int:
        held = self.state.positions.get((ACCOUNT_ID, self.contract.id))
        return held.net_qty if held is not None else 0

    def working(self) -> list[Order]:
        return [
            one
            for one in self.state.orders.values()
            if one.status in (OrderStatus.OPEN, OrderStatus.PENDING, OrderStatus.SUSPENDED)
        ]

    def fills_of(self, order_id: int) -> list[Fill]:
        return [one for one in self.state.fills if one.order_id == order_id]

    def protection(self) -> int:
        """Return contracts of stops that work against the present position."""
        net = self.net_qty
        side = OrderSide.ASK if net > 0 else OrderSide.BID
        return sum(
            one.leaves
            for one in self.state.working.get(self.contract.id, ())
            if one.type in (OrderType.STOP, OrderType.TRAILING_STOP) and one.side is side
        )
