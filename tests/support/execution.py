"""Execution's core with a ledger in memory and a broker of plain lists: no loop, no socket, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from services.execution.core import decide
from services.execution.events import (
    Alarm,
    Cancel,
    CancelAnswered,
    CloseAnswered,
    CloseContract,
    Command,
    ControlRead,
    Event,
    HeartbeatHeard,
    IntentRead,
    MarketRead,
    Modify,
    ModifyAnswered,
    Moment,
    OrderQueried,
    Place,
    PlaceAnswered,
    Publish,
    QueryOrder,
    Recovered,
    ReportRead,
    Search,
    Searched,
    Tick,
)
from services.execution.ledger import Commit, Contents, Step
from services.execution.records import FillRecord, OrderRecord, Standing
from services.execution.state import NS_PER_S, Dirty, Rules, State
from shared.broker.port import Accepted, OrderTicket, Outcome, Rejected
from shared.domain.control import Control, SessionHealth
from shared.domain.execution import OrderDenied
from shared.domain.market import FeedHealth, MarketState
from shared.domain.order import Bracket, OrderStatus, OrderType, Side, SubmitOrder
from shared.domain.report import (
    FillReport,
    OrderReport,
    PositionReport,
    Report,
    SnapshotBegun,
    SnapshotTaken,
    SyncHealth,
    SyncState,
)
from shared.domain.risk import Limits
from shared.wire.codec import encode, kind_of

ACCOUNT = 1001
MES = "CON.F.US.MES.H26"
T0_NS = 1_772_461_800_000_000_000
BRACKET = Bracket(stop_loss_ticks=8, take_profit_ticks=16)

UNLATCHED = dict.fromkeys(
    ("intents_max", "entries_max", "flips_max", "rejects_max", "denials_max", "exits_per_min_max"), 10**6
)
"""Limits for tests in which strategies behave as none should, for another reason."""


def make_rules(**changes: Any) -> Rules:
    limits = {"symbols": frozenset({"MES"}), **changes.pop("limits", {})}
    return Rules(account_id=ACCOUNT, limits=Limits(**limits), **changes)


def make_market(**changes: Any) -> MarketState:
    values: dict[str, Any] = {
        "symbol": "MES",
        "contract_id": MES,
        "health": FeedHealth.LIVE,
        "bid_px": 5000.0,
        "ask_px": 5000.25,
        "last_px": 5000.0,
        "crossed": False,
        "tick_size": "0.25",
        "tick_value": "1.25",
        "ts_event_ns": T0_NS,
        "ts_asof_ns": T0_NS,
    }
    return MarketState(**{**values, **changes})


def make_submit(name: str = "o1", *, side: Side = Side.BUY, qty: int = 1, **changes: Any) -> SubmitOrder:
    values: dict[str, Any] = {
        "client_order_id": name,
        "strategy_id": "s1",
        "symbol": "MES",
        "side": side,
        "order_qty": qty,
        "cause": "md:{MES}@1-1",
        "ts_cause_ns": T0_NS,
        "expires_at_ns": T0_NS + 3_600 * NS_PER_S,
        "bracket": BRACKET,
    }
    return SubmitOrder(**{**values, **changes})


class MemoryLedger:
    """Keeps encoded records, as a disk would; `fail` makes the next commit raise."""

    def __init__(self) -> None:
        self.kept_steps: list[Step] = []
        self.orders: dict[str, bytes] = {}
        self.fills: dict[tuple[int, int], bytes] = {}
        self.standing: bytes | None = None
        self.cursors: dict[str, str] = {}
        self.commits = 0

    def commit(self, batch: Commit) -> None:
        self.commits += 1
        self.kept_steps += batch.steps
        for name, order in batch.orders.items():
            self.orders[name] = msgspec.json.encode(order)
        for key, fill in batch.fills.items():
            if fill is None:
                self.fills.pop(key, None)
            else:
                self.fills[key] = msgspec.json.encode(fill)
        if batch.standing is not None:
            self.standing = msgspec.json.encode(batch.standing)
        self.cursors.update(batch.cursors)

    def load(self) -> Contents:
        decode = msgspec.json.decode
        return Contents(
            last_seq=self.kept_steps[-1].seq if self.kept_steps else 0,
            standing=decode(self.standing, type=Standing) if self.standing else None,
            orders=[decode(value, type=OrderRecord) for _, value in sorted(self.orders.items())],
            fills=[decode(value, type=FillRecord) for _, value in sorted(self.fills.items())],
            cursors=dict(self.cursors),
        )

    def steps(self, first_seq: int, count: int) -> list[Step]:
        return [step for step in self.kept_steps if step.seq >= first_seq][:count]

    untidy = False

    def tidy(self) -> None:
        pass

    def close(self) -> None:
        pass


class PaperBroker:
    """What the broker holds. `lands` says what becomes of a POST; by default it is a working order."""

    def __init__(self) -> None:
        self.posts: list[OrderTicket] = []
        self.orders: dict[int, OrderReport] = {}
        self.fills: list[FillReport] = []
        self.next_id = 100
        self.next_fill = 1

    def place(self, ticket: OrderTicket) -> int:
        """Take an order with its bracket; return its id."""
        self.posts.append(ticket)
        return self.land(ticket)

    def land(self, ticket: OrderTicket) -> int:
        number = self.next_id
        self.next_id += 10
        self._put(number, ticket.side, ticket.order_qty, ticket.order_type, tag=ticket.client_order_id)
        if ticket.bracket is not None:
            for offset, kind in ((1, OrderType.STOP), (2, OrderType.LIMIT)):
                self._put(
                    number + offset,
                    ticket.side.opposite,
                    ticket.order_qty,
                    kind,
                    tag=f"AutoBracket-{number}",
                    status=OrderStatus.SUSPENDED,
                    parent=number,
                )
        return number

    def _put(
        self,
        number: int,
        side: Side,
        qty: int,
        kind: OrderType,
        *,
        tag: str | None,
        status: OrderStatus = OrderStatus.NEW,
        parent: int | None = None,
    ) -> None:
        self.orders[number] = OrderReport(
            account_id=ACCOUNT,
            broker_order_id=number,
            contract_id=MES,
            status=status,
            order_type=kind,
            side=side,
            order_qty=qty,
            cum_qty=0,
            ts_event_ns=T0_NS,
            ts_recv_ns=T0_NS,
            custom_tag=tag,
            parent_order_id=parent,
        )

    def external(self, *, side: Side = Side.BUY, qty: int = 1) -> int:
        number = self.next_id
        self.next_id += 10
        self._put(number, side, qty, OrderType.MARKET, tag=None)
        return number

    def fill(
        self, number: int, qty: int | None = None, px: str = "5000.25", at_ns: int = T0_NS
    ) -> FillReport:
        """Fill an order; its children wake, a filled child cancels its sibling."""
        order = self.orders[number]
        qty = order.order_qty - order.cum_qty if qty is None else qty
        cum_qty = order.cum_qty + qty
        status = OrderStatus.FILLED if cum_qty == order.order_qty else OrderStatus.PARTIALLY_FILLED
        self.set(number, status=status, cum_qty=cum_qty)
        for child in (number + 1, number + 2):
            if child in self.orders and self.orders[child].status is OrderStatus.SUSPENDED:
                self.set(child, status=OrderStatus.NEW)
        if order.parent_order_id is not None and status is OrderStatus.FILLED:
            sibling = 2 * order.parent_order_id + 3 - number
            if sibling in self.orders and self.orders[sibling].status.may_fill:
                self.set(sibling, status=OrderStatus.CANCELED)
        fill = FillReport(
            account_id=ACCOUNT,
            fill_id=self.next_fill,
            broker_order_id=number,
            contract_id=MES,
            side=order.side,
            last_qty=qty,
            last_px=Decimal(px),
            fees=Decimal("0.37") * qty,
            ts_event_ns=at_ns + self.next_fill,
            ts_recv_ns=T0_NS,
        )
        self.next_fill += 1
        self.fills.append(fill)
        return fill

    def set(self, number: int, **changes: Any) -> None:
        before = self.orders[number]
        later_ns = before.ts_event_ns + 1
        self.orders[number] = msgspec.structs.replace(before, ts_event_ns=later_ns, **changes)

    @property
    def net_qty(self) -> int:
        return sum(fill.side.sign * fill.last_qty for fill in self.fills)

    def position(self) -> PositionReport:
        """Return what the hub pushes after a fill, a flat position too."""
        return PositionReport(
            account_id=ACCOUNT,
            contract_id=MES,
            net_qty=self.net_qty,
            avg_px=Decimal(5000),
            ts_event_ns=T0_NS,
            ts_recv_ns=T0_NS,
        )

    def positions(self) -> list[PositionReport]:
        return [self.position()] if self.net_qty else []

    def working(self) -> list[OrderReport]:
        return [order for order in self.orders.values() if order.status.may_fill]


class Crashed(Exception):
    """Where a test kills the process."""


class Desk:
    """The core as the shell runs it: decide, commit, obey. What is to be sent waits in `to_send`."""

    def __init__(self, rules: Rules | None = None, *, ledger: MemoryLedger | None = None) -> None:
        self.rules = rules or make_rules()
        self.ledger = ledger or MemoryLedger()
        self.broker = PaperBroker()
        self.mono_ns = 10 * NS_PER_S
        self.now_ns = T0_NS
        self.boot = "first"
        self.to_send: list[Command] = []
        self.alarms: list[Alarm] = []
        self.crash_before_commit = False
        self.closes_work = True
        self.state = State(self.rules)
        self.start()

    # -- a process's life -------------------------------------------------------

    def start(self) -> None:
        """Begin from the ledger, as after any crash; what was to be sent is forgotten."""
        self.state = State(self.rules)
        contents = self.ledger.load()
        self.state.load(contents.standing, contents.orders, contents.fills)
        self.to_send.clear()
        self.feed(Recovered(lost=None, boot=self.boot, at=self.at()))

    def restart(self) -> None:
        self.start()
        self.ready()

    def ready(self) -> None:
        """Let everything that new exposure needs be there: a search, a snapshot, a market, a session."""
        self.tick()
        self.answer_searches()
        self.snapshot()
        self.report(
            SyncState(account_id=ACCOUNT, health=SyncHealth.IN_SYNC, reason="", ts_recv_ns=self.now_ns)
        )
        self.feed(HeartbeatHeard(at=self.at()))
        self.feed(MarketRead(market=make_market(ts_asof_ns=self.now_ns), at=self.at()))
        self.tick()

    # -- events -----------------------------------------------------------------

    def at(self) -> Moment:
        return Moment(now_ns=self.now_ns, mono_ns=self.mono_ns, venue_ns=self.now_ns)

    def pass_time(self, seconds: float) -> None:
        self.now_ns += round(seconds * NS_PER_S)
        self.mono_ns += round(seconds * NS_PER_S)

    def feed(self, event: Event) -> list[Command]:
        """Decide one event, commit, and put aside what is to be sent."""
        commands = decide(event, self.state)
        if self.crash_before_commit:
            raise Crashed
        messages = [one for one in commands if isinstance(one, Publish)]
        first = self.ledger.load().last_seq + 1
        steps = [
            Step(first + n, self.now_ns, kind_of(one.message), encode(one.message), one.cause)
            for n, one in enumerate(messages)
        ]
        dirty = self.state.dirty
        self.ledger.commit(Commit(steps, dirty.orders, dirty.fills, self.state.standing, {}))
        self.state.dirty = Dirty()
        self.alarms += [one for one in commands if isinstance(one, Alarm)]
        self.to_send += [one for one in commands if not isinstance(one, Alarm | Publish)]
        return commands

    def intent(self, intent: Any) -> list[Command]:
        event = IntentRead(
            intent=intent, strategy_id=intent.strategy_id, cause="intents:{1001}:s1@1-1", at=self.at()
        )
        return self.feed(event)

    def refusal(self, intent: Any) -> str:
        """Return the code that an intent is refused for, `` when it is not."""
        denied = only(self.intent(intent), OrderDenied)
        return denied[0].code if denied else ""

    def control(self, control: Control, *, by_operator: bool = True) -> list[Command]:
        return self.feed(ControlRead(control=control, by_operator=by_operator, cause="", at=self.at()))

    def report(self, *reports: Report) -> list[Command]:
        return [c for one in reports for c in self.feed(ReportRead(report=one, cause="", at=self.at()))]

    def order_reports(self, *numbers: int) -> list[Command]:
        return self.report(*[self.broker.orders[number] for number in numbers])

    def next_snapshot(self) -> None:
        """The broker's picture again, when the schedule asks for it; we look by ourselves in between."""
        self.pass_time(28)
        self.tick()
        self.answer_searches()
        self.pass_time(2)
        self.snapshot()

    def snapshot(self) -> list[Command]:
        """Report the whole account, as every reconcile does."""
        working, positions = self.broker.working(), self.broker.positions()
        return self.report(
            SnapshotBegun(account_id=ACCOUNT, ts_recv_ns=self.now_ns),
            *positions,
            *working,
            *self.broker.fills,
            SnapshotTaken(
                account_id=ACCOUNT,
                positions=len(positions),
                working_orders=len(working),
                ts_recv_ns=self.now_ns,
            ),
        )

    def tick(self) -> list[Command]:
        return self.feed(Tick(session=SessionHealth.ACTIVE, at=self.at()))

    # -- what is to be sent -------------------------------------------------------

    def take(self, kind: type[Any]) -> list[Any]:
        """Return and forget what of one kind waits to be sent."""
        taken = [one for one in self.to_send if isinstance(one, kind)]
        self.to_send = [one for one in self.to_send if not isinstance(one, kind)]
        return taken

    def answer(self, name: str, outcome: Outcome) -> list[Command]:
        return self.feed(PlaceAnswered(client_order_id=name, outcome=outcome, at=self.at()))

    def place_all(self) -> list[int]:
        """Send what is to be placed; all is accepted and shown. Return the broker's ids."""
        numbers = []
        for place in self.take(Place):
            number = self.broker.place(place.ticket)
            numbers.append(number)
            self.answer(place.ticket.client_order_id, Accepted(broker_order_id=number))
            self.report(
                *[one for one in self.broker.working() if number <= one.broker_order_id <= number + 2]
            )
        return numbers

    def fill_markets(self, numbers: list[int]) -> None:
        """Fill the market orders among these, as a market does."""
        for number in numbers:
            if self.broker.orders[number].order_type is OrderType.MARKET:
                self.report(self.broker.fill(number))
                self.show(number)

    def opened(self, name: str = "o1", **changes: Any) -> int:
        """Buy and fill; return the entry's broker id, its children being the next two."""
        self.intent(make_submit(name, **changes))
        (number,) = self.place_all()
        fill = self.broker.fill(number)
        self.report(fill)
        self.show(number)
        return number

    def show(self, number: int) -> None:
        self.order_reports(*[one for one in (number, number + 1, number + 2) if one in self.broker.orders])

    def answer_searches(self, *, failure: str | None = None) -> int:
        count = 0
        for _ in self.take(Search):
            count += 1
            if failure is not None:
                self.feed(Searched(started=self.at(), at=self.at(), failure=failure))
            else:
                broker = self.broker
                self.feed(
                    Searched(
                        started=self.at(),
                        at=self.at(),
                        orders=list(broker.orders.values()),
                        working=broker.working(),
                        fills=list(broker.fills),
                        positions=broker.positions(),
                    )
                )
        return count

    def run(
        self, seconds: float, *, step_s: float = 0.5, failure: str | None = None, places: bool = False
    ) -> None:
        """Let time pass with everything answered truthfully (or every search failing)."""
        for _ in range(round(seconds / step_s)):
            self.pass_time(step_s)
            self.feed(HeartbeatHeard(at=self.at()))
            self.tick()
            self.answer_searches(failure=failure)
            self.obey_cancels()
            self.obey_closes()
            self.obey_modifies()
            if places:
                self.fill_markets(self.place_all())
            for query in self.take(QueryOrder):
                seen = self.broker.orders.get(query.broker_order_id)
                number = query.broker_order_id
                self.feed(OrderQueried(broker_order_id=number, report=seen, failure=failure, at=self.at()))

    def obey_cancels(self) -> list[int]:
        numbers = []
        for cancel in self.take(Cancel):
            number = cancel.broker_order_id
            numbers.append(number)
            if number not in self.broker.orders:
                gone = Rejected(code=2, reason="Order not found.")
                self.feed(CancelAnswered(broker_order_id=number, outcome=gone, at=self.at()))
                continue
            if self.broker.orders[number].status.may_fill:
                self.broker.set(number, status=OrderStatus.CANCELED)
                for child in (number + 1, number + 2):
                    if (
                        child in self.broker.orders
                        and self.broker.orders[child].status is OrderStatus.SUSPENDED
                    ):
                        self.broker.set(child, status=OrderStatus.CANCELED)
            self.feed(CancelAnswered(broker_order_id=number, outcome=Accepted(), at=self.at()))
        return numbers

    def obey_modifies(self) -> list[Modify]:
        """Change what works and show it, as the hub would."""
        obeyed: list[Modify] = self.take(Modify)
        for change in obeyed:
            number = change.broker_order_id
            changes = {
                name: value
                for name in ("order_qty", "limit_price", "stop_price")
                if (value := getattr(change, name)) is not None
            }
            order = self.broker.orders[number]
            works = order.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
            works = works and changes.get("order_qty", order.order_qty) > order.cum_qty
            outcome: Outcome = Accepted() if works else Rejected(code=3, reason="Order is not open.")
            if works:
                self.broker.set(number, **changes)
            name = change.client_order_id
            self.feed(ModifyAnswered(client_order_id=name, outcome=outcome, at=self.at()))
            if works:
                self.order_reports(number)
        return obeyed

    def obey_closes(self) -> list[str]:
        closed = []
        for close in self.take(CloseContract):
            closed.append(close.contract_id)
            net_qty = self.broker.net_qty
            if net_qty and self.closes_work:
                side = Side.SELL if net_qty > 0 else Side.BUY
                number = self.broker.external(side=side, qty=abs(net_qty))
                self.broker.fill(number, px="5001")
            self.feed(CloseAnswered(contract_id=close.contract_id, outcome=Accepted(), at=self.at()))
        return closed

    # -- what is known --------------------------------------------------------------

    def order(self, name: str = "o1") -> OrderRecord:
        return self.state.orders[name]

    def status(self, name: str = "o1") -> OrderStatus:
        return self.state.orders[name].status

    def net_qty(self, strategy_id: str = "s1") -> int:
        return self.state.net_qty(strategy_id, MES)

    def messages(self, kind: type[Any]) -> list[Any]:
        """Return every published message of one kind, decoded from the ledger."""
        tag = kind.__struct_config__.tag.encode()
        return [msgspec.json.decode(s.value, type=kind) for s in self.ledger.kept_steps if s.kind == tag]

    def alarm_names(self) -> set[str]:
        return {alarm.name for alarm in self.alarms}


def durable(state: State) -> dict[str, Any]:
    """Return everything of a state that must survive a restart, for comparison."""
    return {
        "orders": state.orders,
        "fills": {number: sorted(parts, key=lambda one: one.part) for number, parts in state.fills.items()},
        "standing": state.standing,
        "positions": {key: book.position for key, book in state.books.items() if book.position.fees},
        "days": {key: dict(book.pnl_of_day) for key, book in state.books.items() if book.pnl_of_day},
        "open": set(state.open),
        "children": {name: sorted(children) for name, children in state.children.items()},
        "by_broker_id": state.by_broker_id,
        "ownerless": {number: fills for number, fills in state.ownerless.items() if fills},
        "net_of_fills": {contract: net for contract, net in state.net_of_fills.items() if net},
    }


def only(commands: Sequence[Command], kind: type[Any]) -> list[Any]:
    """Return what of one kind is among `commands`; a `Publish` is opened first."""
    opened = [one.message if isinstance(one, Publish) else one for one in commands]
    return [one for one in opened if isinstance(one, kind)]
