"""The code in docs/strategy.md runs."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.strategy.config import StrategySection
from services.strategy.rehearsal import Rehearsal

GUIDE = Path(__file__).parents[3] / "docs" / "strategy.md"


@pytest.fixture
def guide() -> Iterator[types.ModuleType]:
    module = types.ModuleType("strategy_guide")
    sys.modules[module.__name__] = module  # annotations are looked up in the module
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), vars(module))
    yield module
    del sys.modules[module.__name__]


def test_examples(guide: types.ModuleType) -> None:
    guide.test_buys_after_two_rising_bars()
    stage = Rehearsal(guide.Smooth, length=3)
    stage.quote(100.0)
    stage.restart()
    assert list(vars(stage.strategy)["spreads"]) == [0.25]
    stage = Rehearsal(guide.Follows)
    (order,) = stage.bar(100.0)
    assert order.bracket.plan.trail_ticks == 24


def test_settings_example() -> None:
    import tomllib

    (block,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    section = StrategySection.model_validate(tomllib.loads(block)["strategy"])
    assert section.instances[0].strategy_class == "strategies.two_bars:TwoBars"
