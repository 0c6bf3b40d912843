"""The firm's arithmetic: each rule just short of its limit, at it, and past it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.guard.profiles import PROFILES
from services.guard.record import Record, Rule
from services.guard.rules import Figures, Rules, broken, contracts_allowed, contracts_of, floor, left, near

D = Decimal
COMBINE = PROFILES["topstep_50k"]
FUNDED = PROFILES["topstep_xfa_50k"]


def record(start: object = 50_000, high: object = 50_000, eod: object = 50_000) -> Record:
    return Record(
        account_id=1,
        since="",
        day="2026-03-04",
        start_balance=D(str(start)),
        eod_balance=D(str(eod)),
        high_balance=D(str(high)),
    )


def figures(balance: object = 50_000, **changes: Any) -> Figures:
    values: dict[str, Any] = {"open_pnl": D(0), "day_realized": D(0), "contracts": D(0), **changes}
    return Figures(balance=D(str(balance)), **values)


def rules_broken(found: Figures, rules: Rules, known: Record) -> list[Rule]:
    return [one.rule for one in broken(found, rules, known)]


@pytest.mark.parametrize(
    ("realized", "open_pnl", "expected"),
    [
        ("-999.99", "0", []),
        ("-1000", "0", [Rule.DAILY_LOSS]),
        ("-1000.01", "0", [Rule.DAILY_LOSS]),
        ("-500", "-499.99", []),
        ("-500", "-500", [Rule.DAILY_LOSS]),
        ("200", "-1199.99", []),
        ("200", "-1200", [Rule.DAILY_LOSS]),
        ("-1500", "500.01", []),
    ],
)
def test_daily_loss_counts_what_is_open(realized: str, open_pnl: str, expected: list[Rule]) -> None:
    found = figures(55_000, day_realized=D(realized), open_pnl=D(open_pnl))
    assert rules_broken(found, COMBINE, record()) == expected


@pytest.mark.parametrize(
    ("balance", "open_pnl", "expected"),
    [
        ("48000.01", "0", []),
        ("48000", "0", [Rule.MAX_LOSS]),
        ("47999.99", "0", [Rule.MAX_LOSS]),
        ("48900", "-899.99", []),
        ("48900", "-900", [Rule.MAX_LOSS]),
        ("49000", "-1000", [Rule.MAX_LOSS, Rule.DAILY_LOSS]),
        ("47000", "1000.01", []),
    ],
)
def test_maximum_loss_is_checked_against_equity(balance: str, open_pnl: str, expected: list[Rule]) -> None:
    assert rules_broken(figures(balance, open_pnl=D(open_pnl)), COMBINE, record()) == expected


@pytest.mark.parametrize(
    ("high", "expected"),
    [(50_000, 48_000), (50_500, 48_500), ("51999.99", "49999.99"), (52_000, 50_000), (60_000, 50_000)],
)
def test_the_floor_trails_the_highest_end_of_day_up_to_the_start(high: object, expected: object) -> None:
    assert floor(COMBINE, record(high=high)) == D(str(expected))


def test_a_floor_may_trail_for_ever_or_not_at_all() -> None:
    known = record(high=60_000)
    assert floor(msgspec.structs.replace(COMBINE, floor_stops_at_start=False), known) == 58_000
    assert floor(msgspec.structs.replace(COMBINE, trailing_eod=False), known) == 48_000
    assert floor(PROFILES["none"], known) is None


def test_a_funded_account_begins_at_zero() -> None:
    assert floor(FUNDED, record(start=0, high=0)) == -2_000
    assert floor(FUNDED, record(start=0, high=1_200)) == -800
    assert floor(FUNDED, record(start=0, high=9_000)) == 0


@pytest.mark.parametrize(
    ("eod", "expected"),
    [("-500", 2), (0, 2), ("1499.99", 2), (1_500, 3), ("1999.99", 3), (2_000, 5), (9_000, 5)],
)
def test_contracts_grow_with_the_profit_of_the_last_end_of_day(eod: object, expected: int) -> None:
    assert contracts_allowed(FUNDED, record(start=0, high=9_000, eod=eod)) == expected


@pytest.mark.parametrize(
    ("held", "expected"),
    [(D("4.9"), []), (D(5), []), (D("5.1"), [Rule.CONTRACTS])],
)
def test_contracts(held: Decimal, expected: list[Rule]) -> None:
    assert rules_broken(figures(contracts=held), COMBINE, record()) == expected


def test_ten_micros_are_one_contract_and_an_unknown_symbol_is_unknown() -> None:
    assert contracts_of([("MES", 15), ("MNQ", -5), ("ES", -2)]) == 4
    assert contracts_of([("MES", 1), (None, 1)]) is None
    assert contracts_of([(None, 0)]) == 0


def test_what_is_unknown_breaks_nothing_and_has_no_distance() -> None:
    found = figures(10, open_pnl=None, day_realized=D(-5_000), contracts=None)
    assert broken(found, COMBINE, record()) == []
    assert left(found, COMBINE, record()) == {}
    assert found.equity is None


def test_no_rule_is_broken_without_rules() -> None:
    found = figures(-1, day_realized=D(-99_999), contracts=D(500))
    assert broken(found, PROFILES["none"], record()) == []


@pytest.mark.parametrize(("balance", "expected"), [("48500.01", False), ("48500", True), ("47000", True)])
def test_near_a_limit(balance: str, expected: bool) -> None:
    assert near(figures(balance), COMBINE, record(), D("0.25")) is expected


def test_the_reason_has_the_figures() -> None:
    (found,) = broken(figures(day_realized=D("-700"), open_pnl=D("-300.5")), COMBINE, record())
    assert found.reason == "daily loss: -1000.50 (realized -700.00, open -300.50), the limit is 1000.00"


@pytest.mark.parametrize("name", [name for name in PROFILES if name != "none"])
def test_profiles_have_all_rules(name: str) -> None:
    rules = PROFILES[name]
    assert rules.start_balance is not None
    assert rules.max_loss is not None
    assert rules.daily_loss is not None
    assert rules.daily_loss < rules.max_loss
    assert [step.profit for step in rules.scaling] == sorted(step.profit for step in rules.scaling)
