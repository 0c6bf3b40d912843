"""Guard's core as its shell runs it, over a broker of plain lists and a clock of plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from services.guard.core import decide
from services.guard.events import (
    AskFlatLook,
    AskLook,
    Command,
    Event,
    ExecutionBeat,
    ExecutionSaid,
    FlatLooked,
    Keep,
    Looked,
    LookFailed,
    Marked,
    Moment,
    Note,
    ReArmed,
    RemedyAnswered,
    Reported,
    Say,
    Send,
    Tick,
)
from services.guard.hours import Hours
from services.guard.profiles import PROFILES
from services.guard.record import Record
from services.guard.rules import Rules
from services.guard.state import Limits, State
from shared.domain.control import Control, Flatten, Halt, HaltKind, Resume, TradingState
from shared.domain.execution import FlattenProgressed, TradingStateChanged
from shared.domain.flat import Cancel, Look, Remedy
from shared.domain.market import FeedHealth, MarketState
from shared.domain.order import OrderStatus, OrderType, Side
from shared.domain.report import (
    AccountReport,
    FillReport,
    OrderReport,
    PositionReport,
    SyncHealth,
    SyncState,
)

S = 1_000_000_000
ACCOUNT = 1001
MES = "CON.F.US.MES.H26"
FEES = Decimal("0.37")
CHICAGO = ZoneInfo("America/Chicago")


def chicago(text: str) -> int:
    """Return a Chicago wall time, `2026-03-04 10:00`, as UTC nanoseconds."""
    return round(datetime.fromisoformat(text).replace(tzinfo=CHICAGO).timestamp()) * S


def make_hours(**changes: Any) -> Hours:
    values: dict[str, Any] = {
        "flat_by": time(15, 10),
        "reopen": time(17, 0),
        "zone": "America/Chicago",
        "symbols": ("MES",),
        "entries_end_s": 120.0,
        "flat_lead_s": 30.0,
    }
    return Hours(**{**values, **changes})


class PaperBroker:
    """One contract, one account: what happened at the broker, as guard's looks show it."""

    def __init__(self, balance: Decimal) -> None:
        self.balance = balance
        self.fills: list[FillReport] = []
        self.net_qty = 0
        self.avg_px = Decimal(0)
        self.working: dict[int, OrderReport] = {}
        self.closes_work = True
        self.cancels_work = True

    def trade(self, qty: int, px: Decimal | int | str, *, ts_ns: int, now_ns: int) -> FillReport:
        """Book a fill of `qty` signed contracts, fees included."""
        px = Decimal(px)
        realized = None
        if self.net_qty * qty < 0:
            assert abs(qty) <= abs(self.net_qty), "one fill closes or opens, as half turns do"
            direction = 1 if self.net_qty > 0 else -1
            realized = (px - self.avg_px) * abs(qty) * direction * 5
            self.balance += realized
        else:
            total = self.avg_px * abs(self.net_qty) + px * abs(qty)
            self.avg_px = total / (abs(self.net_qty) + abs(qty))
        self.net_qty += qty
        self.balance -= FEES * abs(qty)
        fill = FillReport(
            account_id=ACCOUNT,
            fill_id=len(self.fills) + 1,
            broker_order_id=1,
            contract_id=MES,
            side=Side.BUY if qty > 0 else Side.SELL,
            last_qty=abs(qty),
            last_px=px,
            fees=FEES * abs(qty),
            realized_pnl=realized,
            ts_event_ns=ts_ns,
            ts_recv_ns=now_ns,
        )
        self.fills.append(fill)
        return fill

    def order(self, number: int, status: OrderStatus = OrderStatus.NEW) -> OrderReport:
        report = OrderReport(
            account_id=ACCOUNT,
            broker_order_id=number,
            contract_id=MES,
            status=status,
            order_type=OrderType.STOP,
            side=Side.SELL,
            order_qty=1,
            cum_qty=0,
            ts_event_ns=0,
            ts_recv_ns=2**62,
        )
        self.working[number] = report
        return report

    def position(self, now_ns: int) -> PositionReport:
        return PositionReport(
            account_id=ACCOUNT,
            contract_id=MES,
            net_qty=self.net_qty,
            avg_px=self.avg_px,
            ts_event_ns=0,
            ts_recv_ns=now_ns,
        )


class GuardDesk:
    """Drives one core. Commands that wait for the outside are kept until a test lets them happen."""

    def __init__(
        self,
        rules: Rules | str = "topstep_50k",
        *,
        at: str = "2026-03-04 10:00",
        balance: int | str = 50_000,
        record: Record | None = None,
        since: str = "",
        hours: Hours | None = None,
        **limits: Any,
    ) -> None:
        self.rules = PROFILES[rules] if isinstance(rules, str) else rules
        self.hours = hours or make_hours()
        self.limits = Limits(**limits)
        self.since = since
        self.market_ns: int | None = chicago(at)
        self.now_ns = chicago("2026-06-01 12:00")
        self.mono_ns = 1_000 * S
        self.broker = PaperBroker(Decimal(balance))
        self.px = Decimal(5_000)
        self.quotes = True
        self.rest = True
        self.pushes = True
        self.bus_away = False
        self.execution_beats = True
        self.held: frozenset[str] | None = None
        self.record_on_disk = record
        self.said: list[Control] = []
        self.notes: list[Note] = []
        self.asked: list[AskLook] = []
        self.flat_asked = 0
        self.looks = 0
        self.flat_looks = 0
        self.remedies: list[Remedy] = []
        self.sent: list[Send] = []
        self.state = self._state()

    def _state(self) -> State:
        state = State(
            account_id=ACCOUNT,
            rules=self.rules,
            hours=self.hours,
            limits=self.limits,
            since=self.since,
            began_ns=self.mono_ns,
            sync=SyncHealth.IN_SYNC,
        )
        state.recall(self.record_on_disk)
        return state

    def restart(self) -> None:
        """Begin again with what is on disk."""
        self.asked.clear()
        self.sent.clear()
        self.flat_asked = 0
        self.state = self._state()

    # -- time and what comes in -----------------------------------------------------

    def at(self) -> Moment:
        return Moment(now_ns=self.now_ns, mono_ns=self.mono_ns, market_ns=self.market_ns)

    def feed(self, event: Event) -> list[Command]:
        commands = decide(event, self.state)
        for command in commands:
            match command:
                case Say(control=control):
                    self.said.append(control)
                case Note():
                    self.notes.append(command)
                case AskLook():
                    self.asked.append(command)
                case AskFlatLook():
                    self.flat_asked += 1
                case Send(remedy=remedy):
                    self.sent.append(command)
                    self.remedies.append(remedy)
                case Keep(record=record):
                    self.record_on_disk = record
        return commands

    def run(self, seconds: float, *, step_s: float = 0.1) -> None:
        """Let time pass: ticks, quotes, beats, looks answered, remedies obeyed."""
        until_ns = self.mono_ns + round(seconds * S)
        while self.mono_ns < until_ns:
            self.pass_time(step_s)
            if self.quotes:
                self.quote()
            if self.execution_beats:
                self.feed(ExecutionBeat(held=self.held, at=self.at()))
            self.feed(Tick(bus_away=self.bus_away, at=self.at()))
            self.answer_looks()
            self.answer_flat_looks()
            self.obey()

    def pass_time(self, seconds: float) -> None:
        step_ns = round(seconds * S)
        self.now_ns += step_ns
        self.mono_ns += step_ns
        if self.market_ns is not None:
            self.market_ns += step_ns

    def jump_market(self, to: str) -> None:
        self.market_ns = chicago(to)

    def quote(self, *, polled: bool = False, **changes: Any) -> None:
        px = float(self.px)
        values: dict[str, Any] = {
            "symbol": "MES", "contract_id": MES, "health": FeedHealth.LIVE, "bid_px": px, "ask_px": px,
            "last_px": px, "crossed": False, "tick_size": "0.25", "tick_value": "1.25",
            "ts_event_ns": self.market_ns or 0, "ts_asof_ns": self.now_ns,
        }  # fmt: skip
        market = MarketState(**{**values, **changes})
        self.feed(Marked(market=market, polled=polled, at=self.at()))

    def trade(self, qty: int, px: Decimal | int | str | None = None) -> None:
        """Let the account trade; broker_sync pushes it when pushes are on."""
        assert self.market_ns is not None
        fill = self.broker.trade(qty, self.px if px is None else px, ts_ns=self.market_ns, now_ns=self.now_ns)
        if self.pushes:
            self.feed(Reported(report=fill, at=self.at()))
            self.feed(Reported(report=self.broker.position(self.now_ns), at=self.at()))

    def look(self, *, fills: Sequence[FillReport] | None = None, balance: Decimal | None = None) -> Looked:
        asked = self.asked[-1] if self.asked else AskLook(fills_from_ns=None, working=False)
        from_ns = asked.fills_from_ns or 0
        rows = self.broker.fills if fills is None else fills
        position = self.broker.position(self.now_ns)
        return Looked(
            started=self.at(),
            account=AccountReport(
                account_id=ACCOUNT,
                name="SIM-50K",
                balance=self.broker.balance if balance is None else balance,
                can_trade=True,
                ts_recv_ns=self.now_ns,
            ),
            positions=[position] if position.net_qty else [],
            fills=[fill for fill in rows if fill.ts_event_ns >= from_ns],
            fills_from_ns=asked.fills_from_ns,
            working=list(self.broker.working.values()) if asked.working else None,
            at=self.at(),
        )

    def feed_ticks(self, seconds: float) -> list[Command]:
        """Let time pass with nothing but ticks; return what was wanted."""
        commands: list[Command] = []
        for _ in range(round(seconds * 10)):
            self.pass_time(0.1)
            commands += self.feed(Tick(bus_away=self.bus_away, at=self.at()))
            self.answer_looks()
        return commands

    def answer_looks(self) -> None:
        while self.asked:
            self.looks += 1
            if self.rest:
                self.feed(self.look())
            else:
                self.feed(LookFailed(reason="the broker is away", at=self.at()))
            self.asked.clear()

    def answer_flat_looks(self) -> None:
        while self.flat_asked:
            self.flat_asked = 0
            self.flat_looks += 1
            position = self.broker.position(self.now_ns)
            known = Look(
                started_ns=self.mono_ns,
                working=list(self.broker.working.values()),
                positions=[position] if position.net_qty else [],
            )
            unknown = Look(started_ns=self.mono_ns, working=None, positions=None)
            self.feed(FlatLooked(look=known if self.rest else unknown, at=self.at()))

    def obey(self) -> None:
        """Let the broker do what guard sent."""
        sent, self.sent = self.sent, []
        for one in sent:
            if self.rest and isinstance(one.remedy, Cancel):
                if self.broker.cancels_work:
                    self.broker.working.pop(one.remedy.broker_order_id, None)
            elif self.rest and self.broker.net_qty and self.broker.closes_work:
                self.trade(-self.broker.net_qty)
            self.feed(
                RemedyAnswered(remedy=one.remedy, sent_ns=one.sent_ns, outcome="Accepted", at=self.at())
            )

    def execution_obeys(self, *, closes: bool = True) -> None:
        """Let execution show the halt, and flatten."""
        halts = {HaltKind.GUARD: "guard"}
        changed = TradingStateChanged(state=TradingState.REDUCING, halts=halts, ts_ns=self.now_ns)
        self.feed(ExecutionSaid(message=changed, at=self.at()))
        if closes:
            progressed = FlattenProgressed(
                round=1, cancels=len(self.broker.working), closes=1, ts_ns=self.now_ns
            )
            self.feed(ExecutionSaid(message=progressed, at=self.at()))
            self.broker.working.clear()
            if self.broker.net_qty:
                self.trade(-self.broker.net_qty)

    def re_arm(self, *, ago_s: float = 0.0) -> Resume:
        """Say what a person says; `ago_s` ago, as the message tells."""
        ts_ns = self.now_ns - round(ago_s * 1e9)
        order = Resume(kind=HaltKind.OPERATOR, reason="looked at it", issuer="julie:test", ts_ns=ts_ns)
        self.feed(ReArmed(order=order, at=self.at()))
        return order

    def sync(self, health: SyncHealth) -> None:
        report = SyncState(account_id=ACCOUNT, health=health, reason="", ts_recv_ns=self.now_ns)
        self.feed(Reported(report=report, at=self.at()))

    # -- what can be seen -------------------------------------------------------------

    def started(self) -> GuardDesk:
        self.run(5)
        assert self.state.truth is not None
        return self

    @property
    def words(self) -> list[str]:
        """Return what was said: `halt`, `resume`, `flatten`."""
        return [type(one).__name__.lower() for one in self.said]

    @property
    def reason(self) -> str:
        return self.said[-1].reason

    def halts(self) -> list[str]:
        return [one.reason for one in self.said if isinstance(one, Halt)]

    def flattens(self) -> int:
        return sum(isinstance(one, Flatten) for one in self.said)

    def note_names(self) -> list[str]:
        return [note.name for note in self.notes]


def changed(rules: Rules, **changes: Any) -> Rules:
    return msgspec.structs.replace(rules, **changes)
