"""Every code of the table is reached by some test: the pure check's in `test_risk`, the others here."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from services.execution.events import IntentRead, MarketRead
from shared.domain.denials import CODES
from shared.domain.execution import OrderDenied
from shared.domain.hours import Blackout
from shared.domain.order import CancelOrder, ClosePosition, ModifyOrder, OrderType, Side
from tests.support.execution import Desk, make_market, make_rules, make_submit, only
from tests.unit.shared.domain import test_risk


def make(kind: type[Any], name: str, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "client_order_id": name,
        "strategy_id": "s1",
        "symbol": "MES",
        "cause": "c",
        "ts_cause_ns": 0,
    }
    return kind(**{**values, **changes})


def close(desk: Desk, name: str) -> Any:
    return make(ClosePosition, name, expires_at_ns=desk.now_ns + 10**9)


def foreign(desk: Desk) -> str:
    event = IntentRead(intent=make_submit("o1"), strategy_id="s2", cause="c", at=desk.at())
    (denied,) = only(desk.feed(event), OrderDenied)
    return str(denied.code)


def already_closing(desk: Desk) -> str:
    desk.opened("o0")
    assert desk.refusal(close(desk, "c0")) == ""
    return desk.refusal(close(desk, "c1"))


def exits_canceled(desk: Desk) -> str:
    desk.opened("o0")
    desk.pass_time(1)
    desk.ready()
    exit_ = make_submit(
        "x", side=Side.SELL, order_type=OrderType.LIMIT, limit_price=Decimal(5010), bracket=None
    )
    assert desk.refusal(exit_) == ""
    desk.place_all()
    return desk.refusal(close(desk, "c0"))


def resting(desk: Desk) -> None:
    desk.intent(make_submit("limit", order_type=OrderType.LIMIT, limit_price=Decimal(4990)))
    desk.place_all()


def nothing_to_change(desk: Desk) -> str:
    resting(desk)
    return desk.refusal(make(ModifyOrder, "limit"))


def change_unanswered(desk: Desk) -> str:
    resting(desk)
    assert desk.refusal(make(ModifyOrder, "limit", limit_price=Decimal(4991))) == ""
    return desk.refusal(make(ModifyOrder, "limit", limit_price=Decimal(4992)))


def change_expired(desk: Desk) -> str:
    desk.intent(make_submit("o0"))
    return desk.refusal(make(ModifyOrder, "o0", order_qty=2, expires_at_ns=desk.now_ns))


def not_working(desk: Desk) -> str:
    desk.intent(make_submit("o0"))  # not answered yet
    return desk.refusal(make(ModifyOrder, "o0", order_qty=2))


def protective(desk: Desk) -> str:
    desk.opened("o0")
    return desk.refusal(make(ModifyOrder, "o0:sl", order_qty=5))


def through_market(desk: Desk) -> str:
    desk.opened("o0")
    return desk.refusal(make(ModifyOrder, "o0:sl", stop_price=Decimal("5000.25")))


def ended(desk: Desk) -> str:
    desk.state.settled.put_order("gone", 7, 1)
    return desk.refusal(make(CancelOrder, "gone"))


def open_loss_unknown(desk: Desk) -> str:
    desk.opened("o0")
    rolled = make_market(contract_id="CON.F.US.MES.M26", ts_asof_ns=desk.now_ns + 1)
    desk.feed(MarketRead(market=rolled, at=desk.at()))
    return desk.refusal(make_submit("o1", qty=2))


HERE: dict[str, Callable[[Desk], str]] = {
    "foreign_strategy": foreign,
    "client_order_id": lambda desk: desk.refusal(make_submit("x" * 99)),
    "order_type": lambda desk: desk.refusal(make_submit("o1", order_type=OrderType.JOIN_BID)),
    "order_unknown": lambda desk: desk.refusal(make(CancelOrder, "nobody")),
    "order_ended": ended,
    "nothing_to_change": nothing_to_change,
    "change_unanswered": change_unanswered,
    "change_expired": change_expired,
    "not_working": not_working,
    "protective_qty": protective,
    "stop_through_market": through_market,
    "flat": lambda desk: desk.refusal(close(desk, "c0")),
    "already_closing": already_closing,
    "exits_canceled": exits_canceled,
    "open_loss_unknown": open_loss_unknown,
    "blackout": lambda desk: desk.refusal(make_submit("o1")),
}


@pytest.mark.proves("I-3")
@pytest.mark.parametrize("code", HERE)
def test_refusals_of_intents(code: str) -> None:
    blackouts = (Blackout.parse("00:00-23:59 UTC"),) if code == "blackout" else ()
    types = frozenset({OrderType.MARKET, OrderType.LIMIT})
    desk = Desk(make_rules(limits={"blackouts": blackouts}, order_types=types))
    desk.ready()
    assert HERE[code](desk) == code
    told = desk.messages(OrderDenied)[-1]
    assert told.code == code and all(isinstance(value, str) for value in told.numbers.values())


def test_every_code_is_reached() -> None:
    tests = (test_risk.test_orders, test_risk.test_exposures, test_risk.test_markets)
    pure = {case[1] for test in tests for mark in _marks(test) for case in mark.args[1]}
    assert CODES.keys() - HERE.keys() - pure == set()


def _marks(test: Any) -> list[Any]:
    return [mark for mark in test.pytestmark if mark.name == "parametrize"]


def test_an_exit_of_a_short_is_a_buy() -> None:
    desk = Desk()
    desk.ready()
    desk.opened("o0", side=Side.SELL)
    assert desk.refusal(make_submit("o1", side=Side.BUY, bracket=None)) == ""
