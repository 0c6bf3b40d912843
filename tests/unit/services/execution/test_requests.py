"""What a round trip costs of the broker's request budget: reports come first, questions only for doubts."""

from __future__ import annotations

from collections import Counter

from services.execution.events import (
    Cancel,
    CancelAnswered,
    Command,
    HeartbeatHeard,
    MarketRead,
    Modify,
    Place,
    QueryOrder,
    Search,
)
from shared.broker.port import Accepted
from shared.domain.order import ClosePosition, OrderStatus
from tests.support.execution import T0_NS, Desk, make_market, make_submit

COST = {Place: 1, Cancel: 1, Modify: 1, QueryOrder: 1, Search: 3}


class Hub(Desk):
    """A broker whose user hub tells everything at once; requests are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.ready()
        self.asked: Counter[str] = Counter()

    def feed(self, event: object) -> list[Command]:
        commands = super().feed(event)  # type: ignore[arg-type]
        if hasattr(self, "asked"):
            for one in commands:
                if type(one) in COST:
                    self.asked[type(one).__name__] += COST[type(one)]
        return commands

    def filled(self, number: int, px: str = "5000.25") -> None:
        """Fill an order and tell all of it, the order before its fill, as the gateway does."""
        fill = self.broker.fill(number, px=px)
        self.order_reports(number)
        self.report(fill, self.broker.position())
        family = self.broker.orders[number].parent_order_id or number
        self.show(family)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.pass_time(0.25)
            self.feed(HeartbeatHeard(at=self.at()))
            self.feed(MarketRead(market=make_market(ts_asof_ns=self.now_ns), at=self.at()))
            self.tick()
            for cancel in self.take(Cancel):
                number = cancel.broker_order_id
                self.broker.set(number, status=OrderStatus.CANCELED)
                self.feed(CancelAnswered(broker_order_id=number, outcome=Accepted(), at=self.at()))
                self.order_reports(number)
            self.answer_searches()

    def enter(self, name: str) -> int:
        self.intent(make_submit(name))
        (number,) = self.place_all()
        self.filled(number)
        return number


def test_target_costs_one_request() -> None:
    desk = Hub()
    number = desk.enter("o1")
    desk.wait(5)
    desk.filled(number + 2, "5004.25")
    desk.wait(20)
    assert desk.net_qty() == 0
    assert not desk.state.open
    assert desk.asked == {"Place": 1}


def test_exit_at_market_costs_two_and_a_cancel_for_each_leg() -> None:
    desk = Hub()
    desk.enter("o1")
    desk.wait(5)
    desk.intent(
        ClosePosition(
            client_order_id="x",
            strategy_id="s1",
            symbol="MES",
            cause="c",
            ts_cause_ns=T0_NS,
            expires_at_ns=desk.now_ns + 10**10,
        )
    )
    (exit_,) = desk.place_all()
    desk.filled(exit_)
    desk.wait(20)
    assert not desk.state.open
    assert desk.asked == {"Place": 2, "Cancel": 2}


def test_round_trips_by_stop_or_target_leave_room_in_the_budget() -> None:
    desk = Hub()
    for n in range(10):
        number = desk.enter(f"o{n}")
        desk.wait(2)
        desk.filled(number + 1 + n % 2, "4998.25")
        desk.wait(2)
    assert sum(desk.asked.values()) == 10


def test_report_that_does_not_come_is_asked_for() -> None:
    desk = Hub()
    number = desk.enter("o1")
    fill = desk.broker.fill(number + 2, px="5004.25")  # the hub says nothing of it
    desk.order_reports(number + 2)
    assert desk.net_qty() == 1
    desk.wait(3)
    assert desk.asked["Search"] == 3  # orders, fills, positions; once
    assert desk.net_qty() == 0
    assert fill.fill_id in desk.state.fills
