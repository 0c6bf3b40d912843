"""Execution's core, ready to trade: what becomes of a message that should not have come through."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from proof.fuzz.engine import PromiseBroken
from services.execution.core import decide
from services.execution.events import (
    ControlRead,
    Event,
    HeartbeatHeard,
    IntentRead,
    MarketRead,
    Moment,
    Place,
    Recovered,
    ReportRead,
    Searched,
    Tick,
)
from services.execution.state import Rules, State
from shared.domain.control import Control, SessionHealth, TradingState
from shared.domain.market import FeedHealth, MarketState
from shared.domain.order import Bracket, Intent, OrderType, Side, SubmitOrder
from shared.domain.report import Report, SnapshotBegun, SnapshotTaken, SyncHealth, SyncState
from shared.domain.risk import Limits

ACCOUNT = 123
NOW_NS = 1_753_105_500_000_000_000
AT = Moment(now_ns=NOW_NS, mono_ns=10_000_000_000, venue_ns=NOW_NS)
BID, ASK, TICK_SIZE = Decimal("6335.00"), Decimal("6335.25"), Decimal("0.25")
INTENT = SubmitOrder(
    client_order_id="sim.s1.after",
    strategy_id="s1",
    symbol="ES",
    side=Side.BUY,
    order_qty=1,
    cause="md:{ES}@1-1",
    ts_cause_ns=NOW_NS,
    expires_at_ns=NOW_NS + 5_000_000_000,
    order_type=OrderType.LIMIT,
    limit_price=BID,
    bracket=Bracket(stop_loss_ticks=8),
)
INPUTS_MAX = 200
"""After so many the floor is laid anew, so that nothing piles up."""


class Floor:
    """One account that may trade one contract."""

    def __init__(self, *, contract_id: str) -> None:
        self._contract_id = contract_id
        self._left = 0
        self._count = 0
        self._state = State(Rules(account_id=ACCOUNT, limits=Limits(symbols=frozenset({"ES"}))))

    def intent(self, intent: Intent) -> None:
        event = IntentRead(intent=intent, strategy_id=intent.strategy_id, cause="intents@1-1", at=AT)
        for place in self._decide(event):
            self._allowed(place)

    def report(self, report: Report) -> None:
        """A report may make execution protect a position or leave it, never open one."""
        for place in self._decide(ReportRead(report=report, cause="reports@1-1", at=AT)):
            order = self._state.orders[place.ticket.client_order_id]
            if not order.reduce_only:
                raise PromiseBroken(f"{report} led to {place}")
        self._go_on()

    def control(self, control: Control) -> None:
        if self._decide(ControlRead(control=control, by_operator=True, cause="control@1-1", at=AT)):
            raise PromiseBroken(f"{control} led to an order")

    def market(self, market: MarketState) -> None:
        if self._decide(MarketRead(market=market, at=AT)):
            raise PromiseBroken(f"{market} led to an order")
        self._go_on()
        self._left = 0  # the next input meets the sound market again

    def _go_on(self) -> None:
        """Time passes and the next intent comes: whatever was taken in must not break them."""
        self._count += 1
        intent = msgspec.structs.replace(INTENT, client_order_id=f"sim.s1.after{self._count}")
        decide(Tick(session=SessionHealth.ACTIVE, at=AT), self._state)
        decide(IntentRead(intent=intent, strategy_id="s1", cause="intents@1-2", at=AT), self._state)

    def _decide(self, event: Event) -> list[Place]:
        if self._left <= 0:
            self._lay()
        self._left -= 1
        return [command for command in decide(event, self._state) if isinstance(command, Place)]

    def _allowed(self, place: Place) -> None:
        ticket, limits = place.ticket, self._state.rules.limits
        room = limits.collar_ticks * TICK_SIZE
        prices = [px for px in (ticket.limit_price, ticket.stop_price) if px is not None]
        trading, order = self._state.trading_state, self._state.orders[ticket.client_order_id]
        closing = order.reduce_only and trading is TradingState.REDUCING  # an earlier input may have halted
        sound = (
            (trading is TradingState.ACTIVE or closing)
            and 1 <= ticket.order_qty <= limits.order_qty_max
            and ticket.contract_id == self._contract_id
            and ticket.expires_at_ns is not None
            and ticket.expires_at_ns > NOW_NS
            and 0 < len(ticket.client_order_id) <= 36
            and all(px.is_finite() and px % TICK_SIZE == 0 for px in prices)
            and all(BID - room <= px <= ASK + room for px in prices)
            and ticket.client_order_id in self._state.dirty.orders
        )
        if not sound:
            raise PromiseBroken(f"sent: {ticket}")

    def _lay(self) -> None:
        self._left = INPUTS_MAX
        self._state = state = State(self._state.rules)
        market = MarketState(
            symbol="ES",
            contract_id=self._contract_id,
            health=FeedHealth.LIVE,
            bid_px=float(BID),
            ask_px=float(ASK),
            last_px=float(BID),
            crossed=False,
            tick_size=str(TICK_SIZE),
            tick_value="12.5",
            ts_event_ns=NOW_NS,
            ts_asof_ns=NOW_NS,
        )
        reports: list[Report] = [
            SnapshotBegun(account_id=ACCOUNT, ts_recv_ns=NOW_NS),
            SnapshotTaken(account_id=ACCOUNT, positions=0, working_orders=0, ts_recv_ns=NOW_NS),
            SyncState(account_id=ACCOUNT, health=SyncHealth.IN_SYNC, reason="", ts_recv_ns=NOW_NS),
        ]
        events: list[Event] = [
            Recovered(lost=None, boot="1", at=AT),
            Tick(session=SessionHealth.ACTIVE, at=AT),
            Searched(started=AT, at=AT),
            *[ReportRead(report=one, cause="", at=AT) for one in reports],
            HeartbeatHeard(at=AT),
            MarketRead(market=market, at=AT),
        ]
        for event in events:
            decide(event, state)
        if not state.ready or state.trading_state is not TradingState.ACTIVE:
            raise PromiseBroken("the floor is not open: nothing would be tested")
