"""Contract ids, active months and the roll."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from services.simulator import contracts


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2026, 3, 15), (2026, 3)),
        (date(2026, 3, 16), (2026, 6)),  # the Monday before the third Friday, March 20
        (date(2026, 12, 13), (2026, 12)),
        (date(2026, 12, 14), (2027, 3)),
        (date(2023, 12, 25), (2024, 3)),
    ],
)
def test_lead_month(day: date, expected: tuple[int, int]) -> None:
    assert contracts.lead_month(day) == expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-03-15T16:59:00-05:00", date(2026, 3, 15)),
        ("2026-03-15T17:00:00-05:00", date(2026, 3, 16)),  # Sunday evening is Monday's session
    ],
)
def test_trading_date_turns_at_17_chicago(moment: str, expected: date) -> None:
    assert contracts.trading_date(ns(moment)) == expected


@pytest.mark.parametrize(
    ("symbol", "contract_id", "name", "symbol_id"),
    [
        ("ES", "CON.F.US.EP.H26", "ESH6", "F.US.EP"),
        ("NQ", "CON.F.US.ENQ.H26", "NQH6", "F.US.ENQ"),
        ("MES", "CON.F.US.MES.H26", "MESH6", "F.US.MES"),
        ("M2K", "CON.F.US.M2K.H26", "M2KH6", "F.US.M2K"),
    ],
)
def test_spelling(symbol: str, contract_id: str, name: str, symbol_id: str) -> None:
    one = contracts.active_contract(symbol, ns("2026-02-02T12:00:00+00:00"))
    assert (one.id, one.name, one.symbol_id) == (contract_id, name, symbol_id)


@pytest.mark.parametrize(
    ("contract_id", "known"),
    [
        ("CON.F.US.ENQ.H25", True),  # past
        ("CON.F.US.ENQ.M26", True),  # coming
        ("CON.F.US.ENQ.F26", False),  # not a quarter month
        ("CON.F.US.ENQ.H30", False),  # not listed yet
        ("CON.F.US.NQ.H26", False),  # the exchange's ticker is not the root
        ("", False),
        ("CON.F.US.ENQ.H2", False),
    ],
)
def test_resolve(contract_id: str, known: bool) -> None:
    assert (contracts.resolve(contract_id, ns("2026-02-02T12:00:00+00:00")) is not None) is known


def test_search_is_generous() -> None:
    found = contracts.search("es", ns("2026-02-02T12:00:00+00:00"))
    assert [one.product.symbol for one in found][:2] == ["ES", "MES"]


def test_available_lists_every_active_month() -> None:
    now_ns = ns("2026-02-02T12:00:00+00:00")
    assert all(contracts.is_active(one, now_ns) for one in contracts.available(now_ns))
