"""The example strategy, tried the way the guide tells authors to."""

from __future__ import annotations

import pytest

from services.strategy.rehearsal import Rehearsal
from shared.domain.order import ClosePosition, Side, StopPlan, SubmitOrder
from strategies.breakout import Breakout


@pytest.mark.parametrize(("close", "side"), [(101.0, Side.BUY), (99.0, Side.SELL), (100.25, None)])
def test_entry(close: float, side: Side | None) -> None:
    stage = Rehearsal(Breakout)
    assert stage.bars(100.0, 100.0, 100.0) == []
    orders = stage.bars(close)
    assert [getattr(o, "side", None) for o in orders] == ([side] if side else [])


def test_stop_and_target_travel_with_the_entry() -> None:
    stage = Rehearsal(Breakout, stop_ticks=4, target_ticks=6)
    (order,) = stage.bars(100.0, 100.0, 100.0, 101.0)
    assert isinstance(order, SubmitOrder) and order.bracket is not None
    assert (order.bracket.stop_loss_ticks, order.bracket.take_profit_ticks) == (4, 6)


def test_break_even_is_a_setting() -> None:
    for ticks, plan in ((0, None), (8, StopPlan(break_even_after_ticks=8))):
        stage = Rehearsal(Breakout, break_even_ticks=ticks)
        (order,) = stage.bars(100.0, 100.0, 100.0, 101.0)
        assert order.bracket.plan == plan


def test_one_position_at_a_time_and_out_after_a_while() -> None:
    stage = Rehearsal(Breakout, hold_bars_max=2)
    (order,) = stage.bars(100.0, 100.0, 100.0, 101.0)
    assert stage.bars(102.0) == []  # not filled yet: it waits
    stage.fill(order, 101.25)
    assert stage.bars(103.0) == []
    stage.restart()  # what it counts survives
    (close,) = stage.bars(104.0)
    assert isinstance(close, ClosePosition)
    stage.fill(close, 104.0)
    assert stage.strategy.flat
    assert len(stage.bars(105.0)) == 1


def test_free_again_after_its_stop() -> None:
    stage = Rehearsal(Breakout)
    (order,) = stage.bars(100.0, 100.0, 100.0, 101.0)
    stage.fill(order, 101.0)
    stage.bracket_fills(99.0)
    assert stage.strategy.flat
    assert [getattr(o, "side", None) for o in stage.bars(98.0)] == [Side.SELL]
