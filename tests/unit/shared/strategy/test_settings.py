"""Settings are annotated attributes with a value; all problems are told at once."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Annotated, ClassVar

import pytest

from shared.strategy import Meta, Strategy
from shared.strategy.settings import StrategySettingsRefused, read_settings, setting_types


class Example(Strategy):
    lookback: Annotated[int, Meta(ge=1, le=10)] = 3
    factor: float = 1.5
    edge: Decimal = Decimal("0.25")
    name: str | None = None
    bars_kept: ClassVar[int] = 5
    highs: deque[float]


def test_settings_and_memory_are_told_apart() -> None:
    assert set(setting_types(Example)) == {"lookback", "factor", "edge", "name", "bar_interval_s"}


def test_values() -> None:
    values = read_settings(Example, {"factor": 2, "edge": "0.5", "lookback": 10})
    assert values == {
        "lookback": 10,
        "factor": 2.0,
        "edge": Decimal("0.5"),
        "name": None,
        "bar_interval_s": 60,
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lookbak": 3}, ["lookbak", "did you mean 'lookback'"]),
        ({"lookback": 11}, ["lookback", "<= 10", "got 11"]),
        ({"lookback": 1.5}, ["lookback", "int"]),
        ({"lookback": 0, "factor": "x", "zzz": 1}, ["lookback", "factor", "zzz", "there are"]),
        ({"bar_interval_s": 90}, ["bar_interval_s", "60"]),
    ],
)
def test_refusals(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(StrategySettingsRefused) as refused:
        read_settings(Example, given)
    for word in words:
        assert word in str(refused.value)


def test_names_of_the_base_class_are_taken() -> None:
    with pytest.raises(TypeError, match="position belongs to Strategy"):
        type("Shadow", (Strategy,), {"position": 3})
    with pytest.raises(TypeError, match="on_start"):
        type("Init", (Strategy,), {"__init__": lambda self: None})
