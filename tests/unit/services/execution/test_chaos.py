"""Answers, hub events and the process may fail in any way; when faults stop, all must come out right."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.execution.events import Place
from services.execution.records import EXTERNAL
from services.execution.state import NS_PER_S
from shared.broker.port import Accepted, NotSent, Rejected, Unknown
from shared.domain.execution import OrderClaimed
from shared.domain.order import ClosePosition, OrderStatus, OrderType, Side
from tests.support.execution import MES, UNLATCHED, Desk, durable, make_rules, make_submit

LIMIT = 6
STRATEGIES = ("s1", "s2")
WORKING = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


class Chaos(RuleBasedStateMachine):
    """One account, two strategies, a broker that does what it wants, a process that dies."""

    def __init__(self) -> None:
        super().__init__()
        limits = {"position_max": LIMIT, "daily_loss_max": 10**9, **UNLATCHED}
        # What a start has in memory is compared with what was there: nothing has left it by then.
        self.desk = Desk(make_rules(limits=limits, settle_after_s=1e6))
        self.desk.ready()
        self.count = 0

    def wait(self, seconds: float = 1.0) -> None:
        self.desk.pass_time(seconds)
        self.desk.ready()

    @rule(side=st.sampled_from(Side), qty=st.integers(1, 4), strategy_id=st.sampled_from(STRATEGIES))
    def submit(self, side: Side, qty: int, strategy_id: str) -> None:
        self.count += 1
        self.wait()
        name = f"o{self.count}"
        expires_at_ns = self.desk.now_ns + 5 * NS_PER_S
        wish = make_submit(name, side=side, qty=qty, strategy_id=strategy_id, expires_at_ns=expires_at_ns)
        self.desk.intent(wish)
        self.desk.intent(wish)  # delivered twice

    @rule(strategy_id=st.sampled_from(STRATEGIES))
    def close(self, strategy_id: str) -> None:
        self.count += 1
        self.wait()
        self.desk.intent(
            ClosePosition(
                client_order_id=f"c{self.count}",
                strategy_id=strategy_id,
                symbol="MES",
                cause="c",
                ts_cause_ns=0,
                expires_at_ns=self.desk.now_ns + 5 * NS_PER_S,
            )
        )

    @rule(
        how=st.sampled_from(["accepted", "reply lost", "request lost", "rejected", "not sent"]),
        fills=st.booleans(),
    )
    def answer(self, how: str, fills: bool) -> None:
        desk = self.desk
        for place in desk.take(Place):
            name = place.ticket.client_order_id
            if how in ("accepted", "reply lost"):
                number = desk.broker.place(place.ticket)
                if fills:
                    desk.broker.fill(number)
            if how == "accepted":
                desk.answer(name, Accepted(broker_order_id=number))
            elif how == "rejected":
                desk.answer(name, Rejected(code=2, reason="no"))
            elif how == "not sent":
                desk.answer(name, NotSent(reason="refused"))
            else:
                desk.answer(name, Unknown(reason=how))

    @rule(data=st.data())
    def fill(self, data: st.DataObject) -> None:
        working = [n for n, o in self.desk.broker.orders.items() if o.status in WORKING]
        if working:
            number = data.draw(st.sampled_from(sorted(working)))
            order = self.desk.broker.orders[number]
            self.desk.broker.fill(
                number, data.draw(st.integers(1, order.order_qty - order.cum_qty)), px="5001"
            )

    @rule(data=st.data())
    def child_is_lost(self, data: st.DataObject) -> None:
        """The broker drops a stop or a target that it had made."""
        broker = self.desk.broker
        children = [n for n, o in broker.orders.items() if o.parent_order_id and o.status.may_fill]
        if children:
            broker.set(data.draw(st.sampled_from(sorted(children))), status=OrderStatus.CANCELED)

    @rule(side=st.sampled_from(Side))
    def by_hand(self, side: Side) -> None:
        number = self.desk.broker.external(side=side)
        self.desk.broker.fill(number, px="5001")

    @rule(data=st.data())
    def hub(self, data: st.DataObject) -> None:
        """Some events come, in any order; the others are lost."""
        said = [*self.desk.broker.orders.values(), *self.desk.broker.fills]
        if said:
            self.desk.report(*data.draw(st.lists(st.sampled_from(said), max_size=5)))

    @rule()
    def die(self) -> None:
        before = durable(self.desk.state)
        self.desk.start()
        for name, order in before["orders"].items():
            after = self.desk.state.orders[name]
            assert order.status in (after.status, OrderStatus.PENDING_NEW)

    @rule(seconds=st.sampled_from([1, 20, 150]), failure=st.sampled_from([None, "503"]))
    def time(self, seconds: int, failure: str | None) -> None:
        self.desk.run(seconds, step_s=2.5, failure=failure)

    @invariant()
    def one_post_an_intent(self) -> None:
        posts = Counter(ticket.client_order_id for ticket in self.desk.broker.posts)
        assert all(count == 1 for count in posts.values()), posts

    @invariant()
    def claims_come_first(self) -> None:
        claimed = {message.client_order_id for message in self.desk.messages(OrderClaimed)}
        assert {ticket.client_order_id for ticket in self.desk.broker.posts} <= claimed

    @invariant()
    def never_given_up_while_the_broker_has_it(self) -> None:
        tags = {order.custom_tag for order in self.desk.broker.orders.values()}
        absent = {n for n, o in self.desk.state.orders.items() if o.status is OrderStatus.ABSENT}
        assert not absent & tags

    def teardown(self) -> None:
        """Faults stop: within bounds all is known, and equal to what the broker holds."""
        desk = self.desk
        self.answer("request lost", False)
        desk.ready()
        markets = [n for n, o in desk.broker.orders.items() if o.order_type is OrderType.MARKET]
        desk.fill_markets([n for n in markets if desk.broker.orders[n].status in WORKING])
        for _ in range(3):
            desk.run(80, step_s=2.0, places=True)
            desk.snapshot()
        state = desk.state
        assert not state.doubts
        for order in state.orders.values():
            assert order.status not in (OrderStatus.PENDING_NEW, OrderStatus.UNKNOWN), order
            assert 0 <= order.cum_qty <= order.order_qty or order.status is OrderStatus.DENIED, order
        assert state.contract_qty(MES) == desk.broker.net_qty
        assert sum(desk.net_qty(one) for one in (*STRATEGIES, EXTERNAL)) == desk.broker.net_qty
        assert not state.standing.halts, state.standing.halts
        at_broker = {number: order.status for number, order in desk.broker.orders.items()}
        for number, name in state.by_broker_id.items():
            assert state.orders[name].status is at_broker[number], (
                state.orders[name],
                desk.broker.orders[number],
            )
        assert not state.gaps
        for side in Side:
            held = sum(max(0, -side.sign * desk.net_qty(one)) for one in STRATEGIES)
            working = [one for one in desk.broker.working() if one.order_type is OrderType.STOP]
            stops = sum(
                one.order_qty - one.cum_qty for one in working if one.side is side and one.status in WORKING
            )
            assert stops == held, (side, stops, held)
        again = Desk(desk.rules, ledger=desk.ledger)
        assert durable(again.state) == durable(state)


Chaos.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestChaos = Chaos.TestCase
