"""Every refusal names the instance and the remedy."""

from __future__ import annotations

import pytest

from services.strategy.loading import InstanceRefused, load


@pytest.mark.parametrize(
    ("path", "settings", "words"),
    [
        ("strategies.nowhere:X", {}, ["b1", "no module 'strategies.nowhere'"]),
        ("strategies.breakout:Brakeout", {}, ["no strategy class 'Brakeout'", "Breakout"]),
        ("strategies.breakout", {}, ["package.module:Class"]),
        ("strategies.breakout:Breakout", {"stop_tick": 4}, ["stop_tick", "did you mean 'stop_ticks'"]),
        ("strategies.breakout:Breakout", {"stop_ticks": 0, "qty": "x"}, ["stop_ticks", ">= 1", "qty"]),
    ],
)
def test_refusals(path: str, settings: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InstanceRefused) as refused:
        load("b1", path, settings)
    for word in ["strategy b1", *words]:
        assert word in str(refused.value)


def test_hash_follows_the_settings() -> None:
    one = load("b1", "strategies.breakout:Breakout", {})
    two = load("b1", "strategies.breakout:Breakout", {"qty": 2})
    assert one.settings["lookback_bars"] == 3
    assert one.settings_hash != two.settings_hash
    assert one.settings_hash == load("b2", "strategies.breakout:Breakout", {}).settings_hash
