"""What faults hit: seeded, filtered, counted, over in time."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.simulator.config import SimulatorConfig
from services.simulator.fault_settings import FaultsConfig
from services.simulator.faults import Faults

PATH = "/api/Order/place"


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def make(*faults: dict[str, Any], seed: int = 1, clock: Clock | None = None) -> Faults:
    settings = FaultsConfig.model_validate({"seed": seed, "active": faults})
    return Faults(settings, clock or Clock())


def hits(faults: Faults, times: int, kind: str = "status", name: str = PATH) -> list[bool]:
    return [faults.draw(kind, name) is not None for _ in range(times)]


def test_same_seed_same_hits_and_another_seed_others() -> None:
    fault = {"kind": "status", "rate": 0.3}
    first = hits(make(fault), 200)
    assert first == hits(make(fault), 200)
    assert first != hits(make(fault, seed=2), 200)
    assert 35 < sum(first) < 85


def test_a_fault_draws_apart_from_its_neighbours() -> None:
    alone = make({"kind": "status", "rate": 0.3})
    beside = make({"kind": "status", "rate": 0.3}, {"kind": "slow", "delay_s": [1, 2], "rate": 0.5})
    found = []
    for _ in range(100):
        beside.draw("slow", PATH)
        found.append(beside.draw("status", PATH) is not None)
    assert found == hits(alone, 100)


def test_skip_then_count_then_over() -> None:
    faults = make({"kind": "status", "skip": 2, "count": 3, "name": "third"})
    assert hits(faults, 8) == [False, False, True, True, True, False, False, False]
    assert faults.injected == {"third": 3}
    assert not faults.has("status")


def test_what_is_not_named_is_neither_hit_nor_counted() -> None:
    faults = make({"kind": "cut_after", "only": ["/api/Order/"], "count": 1})
    assert not any(hits(faults, 3, "cut_after", "/api/Position/searchOpen"))
    assert hits(faults, 2, "cut_after", "/api/Order/cancel") == [True, False]


def test_some_kinds_hit_only_orders_unless_told() -> None:
    faults = make({"kind": "wrong_code"}, {"kind": "late_landing", "delay_s": 3})
    assert not any(hits(faults, 2, "wrong_code", "/api/Order/search"))
    hit = faults.draw("late_landing", PATH)
    assert hit is not None
    assert (hit.delay_s, hit.fault.http_status) == (3.0, 504)


def test_over_after_its_time_and_replaced_as_a_whole() -> None:
    clock = Clock()
    faults = make({"kind": "status", "for_s": 2}, clock=clock)
    assert hits(faults, 1) == [True]
    clock.now_ns = 2_000_000_000
    assert hits(faults, 1) == [False]
    faults.put(FaultsConfig.model_validate({"active": [{"kind": "status", "status": 429}]}))
    assert hits(faults, 1) == [True]
    faults.put(FaultsConfig())
    assert hits(faults, 1) == [False]
    assert faults.injected == {"status": 2}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"kind": "flood"}, "no fault 'flood'; there are status"),
        ({"kind": "status", "rate": 0}, "rate"),
        ({"kind": "slow"}, "slow needs delay_s"),
        ({"kind": "stall", "delay_s": [2, 1]}, "must rise"),
        ({"kind": "status", "often": 1}, "often"),
    ],
)
def test_refused_faults(fault: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SimulatorConfig.model_validate({"faults": {"active": [fault]}})


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("venue", False)],
)
def test_control_needs_a_loopback_host(host: str, allowed: bool) -> None:
    if allowed:
        assert SimulatorConfig.model_validate({"host": host, "control": True}).control
    else:
        with pytest.raises(ValidationError, match=r"set simulator\.host to 127\.0\.0\.1"):
            SimulatorConfig.model_validate({"host": host, "control": True})
