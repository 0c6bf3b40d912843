"""Position, working and unknown orders together stay within the limit, whatever is asked and answered."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.execution.events import Place
from services.execution.state import NS_PER_S
from shared.broker.port import Accepted, NotSent, OrderTicket, Rejected, Unknown
from shared.domain.order import CancelOrder, OrderStatus, Side
from tests.support.execution import UNLATCHED, Desk, make_rules, make_submit

LIMIT = 4
STRATEGIES = ("s1", "s2")


class Limits(RuleBasedStateMachine):
    """Without brackets: protective orders lie at the broker and are counted by nobody."""

    def __init__(self) -> None:
        super().__init__()
        limits = {"position_max": LIMIT, "require_bracket": False, "daily_loss_max": 10**9, **UNLATCHED}
        self.desk = Desk(make_rules(limits=limits, quarantine_s=10**6))
        self.desk.ready()
        self.limbo: list[OrderTicket] = []
        self.count = 0

    @rule(side=st.sampled_from(Side), qty=st.integers(0, 5), strategy_id=st.sampled_from(STRATEGIES))
    def submit(self, side: Side, qty: int, strategy_id: str) -> None:
        self.count += 1
        self.desk.pass_time(1)
        self.desk.ready()
        wish = make_submit(
            f"o{self.count}",
            side=side,
            qty=qty,
            strategy_id=strategy_id,
            bracket=None,
            expires_at_ns=self.desk.now_ns + 5 * NS_PER_S,
        )
        self.desk.intent(wish)

    @rule(how=st.sampled_from(["accepted", "reply lost", "limbo", "rejected", "not sent"]))
    def answer(self, how: str) -> None:
        for place in self.desk.take(Place):
            name = place.ticket.client_order_id
            if how == "accepted":
                self.desk.answer(name, Accepted(broker_order_id=self.desk.broker.place(place.ticket)))
            elif how == "reply lost":
                self.desk.broker.place(place.ticket)
                self.desk.answer(name, Unknown(reason=how))
            elif how == "limbo":
                self.limbo.append(place.ticket)
                self.desk.answer(name, Unknown(reason=how))
            elif how == "rejected":
                self.desk.answer(name, Rejected(code=2, reason="no"))
            else:
                self.desk.answer(name, NotSent(reason="refused"))

    @rule()
    def land_late(self) -> None:
        if self.limbo:
            self.desk.broker.place(self.limbo.pop())

    @rule(data=st.data(), qty=st.integers(1, 4), told=st.booleans())
    def fill(self, data: st.DataObject, qty: int, told: bool) -> None:
        working = {n: o for n, o in self.desk.broker.orders.items() if o.status.may_fill}
        if working:
            number = data.draw(st.sampled_from(sorted(working)))
            left = working[number].order_qty - working[number].cum_qty
            fill = self.desk.broker.fill(number, min(qty, left))
            if told:
                self.desk.report(fill)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.desk.state.open:
            order = self.desk.state.open[data.draw(st.sampled_from(sorted(self.desk.state.open)))]
            self.desk.intent(
                CancelOrder(
                    client_order_id=order.client_order_id,
                    strategy_id=order.strategy_id,
                    symbol="MES",
                    cause="c",
                    ts_cause_ns=0,
                )
            )
            self.desk.obey_cancels()

    @rule()
    def die(self) -> None:
        for place in self.desk.to_send:
            if isinstance(place, Place):
                self.limbo.append(place.ticket)  # it may have left
        self.desk.start()

    @rule()
    def time(self) -> None:
        self.desk.run(5, step_s=2.5)

    @invariant()
    def within_the_limit(self) -> None:
        """By the broker's truth and everything that may still become true."""
        broker, worst = self.desk.broker, dict.fromkeys(Side, 0)
        for order in broker.orders.values():
            if order.status.may_fill:
                assert order.side is not None
                worst[order.side] += order.order_qty - order.cum_qty
        for ticket in self.limbo + [one.ticket for one in self.desk.to_send if isinstance(one, Place)]:
            worst[ticket.side] += ticket.order_qty
        assert broker.net_qty + worst[Side.BUY] <= LIMIT
        assert -broker.net_qty + worst[Side.SELL] <= LIMIT

    @invariant()
    def no_order_of_nothing(self) -> None:
        assert all(ticket.order_qty > 0 for ticket in self.desk.broker.posts)

    def teardown(self) -> None:
        assert all(o.status is not OrderStatus.ABSENT for o in self.desk.state.orders.values())


Limits.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLimits = pytest.mark.proves("I-10")(Limits.TestCase)
