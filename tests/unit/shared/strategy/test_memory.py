"""What an author keeps in attributes comes back as it was, or is refused by name."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from services.strategy.rehearsal import Rehearsal
from shared.domain.order import Side
from shared.strategy import ATR, EMA, SMA, Quote, Strategy
from shared.strategy.memory import MemoryRefused, load_attributes, save_attributes


class Level(msgspec.Struct):
    px: float
    touched: list[int]


class Holds(Strategy):
    recent: deque[tuple[int, float]]
    levels: dict[str, Level]
    by_tick: dict[int, list[Decimal]]
    pair: tuple[int, str]
    flags: set[str]
    side: Side
    fast: EMA
    last_quote: Quote | None

    def on_start(self) -> None:
        self.recent = deque([(1, 2.0)], maxlen=3)
        self.levels = {"a": Level(1.5, [1, 2])}
        self.by_tick = {4: [Decimal("0.10")]}
        self.pair = (1, "x")
        self.flags = {"b", "a"}
        self.side = Side.SELL
        self.fast = EMA(3)
        self.fast.add(5.0)
        self.last_quote = None
        self._count = 7
        self.ratio = 0.1
        self.best = float("-inf")
        self.names = ["x", "y"]


def test_everything_comes_back() -> None:
    stage = Rehearsal(Holds)
    before = {k: v for k, v in vars(stage.strategy).items() if k != "_desk"}
    stage.restart()
    after = {k: v for k, v in vars(stage.strategy).items() if k != "_desk"}
    assert after == before
    assert vars(stage.strategy)["recent"].maxlen == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (deque([1]), "annotate"),
        ((1, 2), "annotate"),
        (Decimal(1), "annotate"),
        (object(), "annotate"),
        ({1: 2}, "annotate"),
        ([float("inf")], "use None"),
    ],
)
def test_refused_attributes_are_named(value: Any, words: str) -> None:
    class Keeps(Strategy):
        def on_start(self) -> None:
            self.thing = value

    with pytest.raises(MemoryRefused) as refused:
        Rehearsal(Keeps)
    assert "Keeps.thing" in str(refused.value) and words in str(refused.value)


def test_saved_value_that_does_not_fit() -> None:
    stage = Rehearsal(Holds)
    saved = save_attributes(stage.strategy) | {"pair": "nonsense"}
    with pytest.raises(MemoryRefused, match=r"Holds\.pair"):
        load_attributes(stage.strategy, saved)


class OwnWay(Strategy):
    def on_start(self) -> None:
        self.window = {1, 2}

    def save(self) -> Any:
        return sorted(self.window)

    def load(self, saved: Any) -> None:
        self.window = set(saved)


def test_save_and_load_of_the_author() -> None:
    stage = Rehearsal(OwnWay)
    stage.restart()
    assert vars(stage.strategy)["window"] == {1, 2}


def test_indicators_are_independent_objects() -> None:
    one, two = SMA(2), SMA(2)
    one.add(1.0)
    assert two.window == [] and ATR(3).value is None
