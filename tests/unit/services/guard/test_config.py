"""Settings: profiles, what differs from them, and what is refused in words."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from services.guard.config import GuardConfig
from services.guard.profiles import PROFILES
from services.guard.rules import Rules, Scale
from shared.runtime.config import JulieSection, SettingsRefused


def config(**values: Any) -> GuardConfig:
    return GuardConfig.model_validate(values)


def rules(**values: Any) -> Rules:
    return config(accounts=[{"id": 1001, **values}]).account(1001).rules()


def test_an_account_has_its_profile() -> None:
    assert rules(profile="topstep_100k") == PROFILES["topstep_100k"]


def test_what_differs_from_the_profile() -> None:
    found = rules(
        profile="topstep_50k",
        start_balance=52_000,
        max_loss=1_500,
        daily_loss=0,
        trailing_eod=False,
        floor_stops_at_start=False,
        contracts_max=[[0, 2], [1_000, "2.5"]],
    )
    assert found == Rules(
        profile="topstep_50k",
        start_balance=Decimal(52_000),
        max_loss=Decimal(1_500),
        daily_loss=None,
        trailing_eod=False,
        floor_stops_at_start=False,
        scaling=(
            Scale(profit=Decimal(0), contracts=Decimal(2)),
            Scale(profit=Decimal(1_000), contracts=Decimal("2.5")),
        ),
    )


def test_an_account_that_nobody_named_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsRefused) as refused:
        config(accounts=[{"id": 1, "profile": "none"}]).account(1001)
    assert "guard: account 1001 has no rules; set guard.profile" in str(refused.value)
    assert "topstep_50k" in str(refused.value)


def test_one_profile_for_every_other_account() -> None:
    found = config(profile="topstep_150k", accounts=[{"id": 1, "profile": "none"}])
    assert found.account(1001).rules() == PROFILES["topstep_150k"]
    assert found.account(1).rules() == PROFILES["none"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"profile": "topstep"}, "no profile 'topstep'; there are none, topstep_50k"),
        ({"accounts": [{"id": 1, "profile": "x"}]}, "no profile 'x'"),
        ({"accounts": [{"id": 1, "profile": "none"}] * 2}, "an account is listed twice"),
        ({"accounts": [{"profile": "none"}]}, "Field required"),
        ({"accounts": [{"id": 1, "profile": "none", "max_los": 1}]}, "Extra inputs"),
        ({"accounts": [{"id": 1, "profile": "none", "max_loss": -1}]}, "greater than or equal to 0"),
        (
            {"accounts": [{"id": 1, "profile": "none", "contracts_max": [[500, 3], [0, 2]]}]},
            "begin with the lowest profit",
        ),
        ({"accounts": [{"id": 1, "profile": "none", "contracts_max": [[0, -1]]}]}, "must not be negative"),
        ({"accounts": [{"id": 1, "profile": "none", "since": "yesterday"}]}, "date"),
        ({"flat_by": "3 pm"}, "'3 pm' is not a time of day; write 15:10"),
        ({"accounts": [{"id": 1, "profile": "none", "reopen": "25:00"}]}, "'25:00' is not a time of day"),
        ({"zone": "Chicago"}, "no time zone 'Chicago'; write America/Chicago"),
        ({"blind_action": "pray"}, "'flatten' or 'halt'"),
        ({"flat_lead_s": 1}, "greater than or equal to 5"),
    ],
)
def test_what_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        config(**values)
    assert told in str(refused.value)


def julie(**values: Any) -> JulieSection:
    return JulieSection.model_validate(values)


def test_leads_are_real_seconds() -> None:
    found = config(profile="topstep_50k", flat_lead_s=30, entries_end_s=120).hours(julie(market_speed=10))
    assert (found.flat_lead_s, found.entries_end_s) == (300, 1_200)
    assert found.flat_by == time(15, 10)


def test_entries_end_no_later_than_closing_begins() -> None:
    found = config(profile="topstep_50k", flat_lead_s=60, entries_end_s=0).hours(julie())
    assert found.entries_end_s == 60


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"profile": "none"}, None),
        ({"profile": "none", "flat_by": "15:00"}, time(15, 0)),
        ({"profile": "topstep_50k"}, time(15, 10)),
        ({"profile": "topstep_50k", "flat_by": ""}, None),
        ({"profile": "topstep_50k", "flat_by": "14:30"}, time(14, 30)),
    ],
)
def test_who_has_to_be_flat(row: dict[str, Any], expected: time | None) -> None:
    assert config(accounts=[{"id": 1001, **row}]).hours(julie()).flat_by == expected
