"""What an author can ask for, and what is a mistake."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from services.strategy.rehearsal import Rehearsal
from shared.domain.market import FeedHealth
from shared.domain.order import ModifyOrder, OrderType, SubmitOrder
from shared.strategy import ActionRefused, Bar, Quote, StopPlan, Strategy


class Does(Strategy):
    """Does on each quote what the test wants."""

    def on_quote(self, quote: Quote) -> None:
        WISH[0](self)


WISH: list[Any] = [None]


def ask(wish: Any, **how: Any) -> Any:
    WISH[0] = wish
    return Rehearsal(Does, **how).quote(100.0)


@pytest.mark.parametrize(
    ("wish", "order_type", "limit_price", "stop_price"),
    [
        (lambda s: s.buy(1), OrderType.MARKET, None, None),
        (lambda s: s.buy(1, limit=99.75), OrderType.LIMIT, Decimal("99.75"), None),
        (lambda s: s.sell(1, trigger=Decimal("99.5")), OrderType.STOP, None, Decimal("99.5")),
        (
            lambda s: s.buy(1, limit=101.0, trigger=100.5),
            OrderType.STOP_LIMIT,
            Decimal(101),
            Decimal("100.5"),
        ),
        (lambda s: s.buy(1, limit=s.on_tick(99.8)), OrderType.LIMIT, Decimal("99.75"), None),
        (lambda s: s.sell(1, trail=s.ticks(8)), OrderType.TRAILING_STOP, None, None),
        (lambda s: s.buy(1, join=True), OrderType.JOIN_BID, None, None),
        (lambda s: s.sell(1, join=True), OrderType.JOIN_ASK, None, None),
    ],
)
def test_order_kinds(
    wish: Any, order_type: OrderType, limit_price: Decimal | None, stop_price: Decimal | None
) -> None:
    (order,) = ask(wish)
    assert isinstance(order, SubmitOrder)
    assert (order.order_type, order.limit_price, order.stop_price) == (order_type, limit_price, stop_price)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (lambda s: s.buy(0), "whole number"),
        (lambda s: s.buy(1.5), "whole number"),
        (lambda s: s.buy(1, stop=8), "self.ticks"),
        (lambda s: s.buy(1, stop=s.ticks(0)), "at least one tick"),
        (lambda s: s.buy(1, target=s.ticks(8)), "needs a stop"),
        (lambda s: s.buy(1, limit=99.8), "on_tick"),
        (lambda s: s.buy(1, limit=float("nan")), "on_tick"),
        (lambda s: s.buy(1, symbol="XYZ"), "not among the symbols"),
        (lambda s: s.buy(1, join=True, limit=100.0), "make the price themselves"),
        (lambda s: s.buy(1, trail=s.ticks(8), trigger=100.0), "make the price themselves"),
        (lambda s: s.buy(1, trail=8), "self.ticks"),
        (lambda s: s.buy(1, plan=StopPlan(break_even_after_ticks=8)), "needs a stop"),
        (lambda s: s.buy(1, stop=s.ticks(8), plan=StopPlan()), "neither"),
        (
            lambda s: s.buy(
                1, stop=s.ticks(8), plan=StopPlan(break_even_after_ticks=4, break_even_offset_ticks=4)
            ),
            "not below",
        ),
        (lambda s: s.buy(1, stop=s.ticks(8), plan=StopPlan(trail_after_ticks=4)), "at least 1"),
    ],
)
def test_mistakes_are_errors(wish: Any, words: str) -> None:
    with pytest.raises(ActionRefused, match=words):
        ask(wish)


def test_loop_of_orders_ends() -> None:
    def wish(s: Strategy) -> None:
        for _ in range(1_000):
            s.buy(1, add=True)

    assert len(ask(wish)) == 32


def test_add_allows_several_entries() -> None:
    def wish(s: Strategy) -> None:
        s.buy(1, limit=99.0)
        s.buy(1, limit=98.0)
        s.buy(1, limit=97.0, add=True)

    assert [o.limit_price for o in ask(wish)] == [Decimal(99), Decimal(97)]


def test_modify() -> None:
    def wish(s: Strategy) -> None:
        order = s.buy(1, limit=99.0)
        assert order is not None
        s.modify(order, limit=99.25)

    _, change = ask(wish)
    assert isinstance(change, ModifyOrder) and change.limit_price == Decimal("99.25")


def test_close_is_possible_on_a_stale_feed() -> None:
    WISH[0] = lambda s: s.buy(1)
    stage = Rehearsal(Does)
    (order,) = stage.quote(100.0)
    stage.fill(order, 100.25)
    stage.feed_is(FeedHealth.STALE)
    WISH[0] = lambda s: (s.buy(1), s.close())
    assert [type(i).__name__ for i in stage.quote(100.0)] == ["ClosePosition"]
    assert stage.suppressed == {"not_live": 1}


class Pair(Strategy):
    """Two symbols in one instance: `symbol` is that of the event in hand."""

    def on_bar(self, bar: Bar) -> None:
        assert self.symbol == bar.symbol
        if self.flat:
            self.buy(1)
        other = "MNQ" if bar.symbol == "MES" else "MES"
        if self.market(other).position:
            self.close(other)


def test_two_symbols() -> None:
    stage = Rehearsal(Pair, symbols=("MES", "MNQ"))
    (first,) = stage.bars(100.0, symbol="MES")
    assert first.symbol == "MES"
    stage.fill(first, 100.0)
    second = stage.bars(200.0, symbol="MNQ")
    assert [(type(i).__name__, i.symbol) for i in second] == [
        ("SubmitOrder", "MNQ"),
        ("ClosePosition", "MES"),
    ]
    assert len({i.client_order_id for i in [first, *second]}) == 3
