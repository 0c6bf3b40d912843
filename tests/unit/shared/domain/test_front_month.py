from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from shared.domain.front_month import (
    NoFrontMonth,
    choose,
    contract_month,
    roll_at_ns,
    roll_date,
    third_friday,
)
from shared.domain.instrument import Instrument


def make_instrument(month: str = "H26", *, symbol: str = "MES", active: bool = True) -> Instrument:
    return Instrument(
        symbol=symbol,
        contract_id=f"CON.F.US.{symbol}.{month}",
        contract_name=f"{symbol}{month[0]}{month[-1]}",
        tick_size=Decimal("0.25"),
        tick_value=Decimal("1.25"),
        active=active,
    )


@pytest.mark.parametrize(
    ("month", "expected"),
    [
        (date(2026, 3, 1), date(2026, 3, 20)),
        (date(2024, 3, 1), date(2024, 3, 15)),  # the month begins on a Friday
        (date(2026, 12, 1), date(2026, 12, 18)),
    ],
)
def test_third_friday(month: date, expected: date) -> None:
    assert third_friday(month) == expected


def test_roll_is_the_monday_before_and_begins_on_sunday_evening() -> None:
    assert roll_date(make_instrument("H26")) == date(2026, 3, 16)
    sunday = datetime(2026, 3, 15, 22, tzinfo=UTC)  # 17:00 Chicago, summer time
    assert roll_at_ns(make_instrument("H26")) == int(sunday.timestamp()) * 10**9


@pytest.mark.parametrize(
    ("today", "offered", "expected"),
    [
        (date(2026, 3, 13), ["M26", "H26"], "H26"),  # Friday before the roll
        (date(2026, 3, 16), ["H26", "M26"], "M26"),  # the roll date itself
        (date(2026, 3, 16), ["H26"], "H26"),  # the broker has not followed: only an active month trades
        (date(2026, 12, 20), ["Z26", "H27", "M27"], "H27"),  # over the year
        (None, ["M26", "H26"], "H26"),  # date unknown: the nearest
    ],
)
def test_choose(today: date | None, offered: list[str], expected: str) -> None:
    found = [make_instrument(month) for month in offered]
    assert choose("MES", found, today).contract_id.endswith(expected)


def test_other_products_and_inactive_months_are_passed_over() -> None:
    found = [make_instrument(symbol="ES"), make_instrument("Z25", active=False), make_instrument("H26")]
    assert choose("MES", found, date(2026, 1, 5)).contract_id == "CON.F.US.MES.H26"


def test_unknown_symbol_names_what_there_is() -> None:
    with pytest.raises(NoFrontMonth) as caught:
        choose("MSE", [make_instrument(), make_instrument("Z25", symbol="ES", active=False)], None)
    text = str(caught.value)
    assert "'MSE'" in text
    assert "MESH6 (MES)" in text
    assert "not active" in text


def test_month_that_cannot_be_read_is_unknown() -> None:
    odd = make_instrument("PERP")
    assert contract_month(odd) is None
    assert roll_at_ns(odd) is None
    assert choose("MES", [odd, make_instrument("H26")], date(2026, 1, 5)).contract_id.endswith("H26")
