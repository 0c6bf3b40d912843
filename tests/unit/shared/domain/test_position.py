"""Positions from fills: average price, realized result, fees apart."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.order import Side
from shared.domain.position import Position, apply_fill, unrealized_pnl

FIVE = Decimal(5)


def after(*fills: tuple[int, str]) -> Position:
    """Apply (signed qty, price) fills of a contract worth 5 a point, fees 0.37 a contract."""
    position = Position()
    for signed, px in fills:
        side = Side.BUY if signed > 0 else Side.SELL
        fees = Decimal("0.37") * abs(signed)
        position = apply_fill(
            position, side=side, qty=abs(signed), px=Decimal(px), multiplier=FIVE, fees=fees
        )
    return position


@pytest.mark.parametrize(
    ("fills", "net_qty", "avg_px", "realized"),
    [
        ([(2, "100")], 2, "100", "0"),
        ([(1, "100"), (1, "101")], 2, "100.5", "0"),
        ([(2, "100"), (-1, "103")], 1, "100", "15"),  # 3 points x 5
        ([(2, "100"), (-2, "99")], 0, "0", "-10"),
        ([(-2, "100"), (2, "99")], 0, "0", "10"),
        ([(1, "100"), (-3, "102")], -2, "102", "10"),  # closes one, opens two
        ([(1, "100"), (-3, "102"), (2, "101")], 0, "0", "20"),
    ],
)
def test_fills(fills: list[tuple[int, str]], net_qty: int, avg_px: str, realized: str) -> None:
    position = after(*fills)
    assert position.net_qty == net_qty
    assert position.avg_px == Decimal(avg_px)
    assert position.realized_pnl == Decimal(realized)
    assert position.fees == Decimal("0.37") * sum(abs(qty) for qty, _ in fills)


def test_unrealized() -> None:
    assert unrealized_pnl(after((-2, "100")), mark_px=Decimal("99.5"), multiplier=FIVE) == 5


@given(st.lists(st.tuples(st.integers(-5, 5).filter(bool), st.integers(90, 110)), max_size=20))
@pytest.mark.proves("I-8")
def test_flat_means_that_all_cash_is_realized(fills: list[tuple[int, int]]) -> None:
    position = after(*[(qty, str(px)) for qty, px in fills])
    assert position.net_qty == sum(qty for qty, _ in fills)
    cash = -sum(Decimal(qty * px) for qty, px in fills) * FIVE
    open_value = position.net_qty * position.avg_px * FIVE
    assert abs(position.realized_pnl - (cash + open_value)) < Decimal("1e-15")
