"""Newer kinds of fault come to new seeds; what older seeds have shown they show again."""

from __future__ import annotations

import pytest

from proof.simulation import mutations, planting, swarm
from proof.simulation.runs import regression_seeds

NEWEST = set(swarm._NEWEST)


def test_seeds_that_failed_before_the_newest_kinds_draw_none_of_them() -> None:
    plan = swarm.draw(132303)
    assert 132303 in regression_seeds()
    assert not plan.changes
    assert not NEWEST & set(plan.kinds)
    assert len(plan.jumps) == 1


def test_a_seed_that_failed_before_a_kind_draws_all_others() -> None:
    late = {"guard and session", "feed with others", "left open", "re-armed", "turned", "recorder"}
    drawn = [swarm.draw(seed).kinds for seed, unknown in swarm._unknown_kinds().items() if unknown == late]
    assert any("guard" in kinds for kinds in drawn)
    assert not any(late & set(kinds) for kinds in drawn)
    assert late <= {kind for seed in range(200) for kind in swarm.draw(seed).kinds}


def test_a_quarter_of_all_seeds_change_their_orders() -> None:
    assert sum(swarm.draw(seed).changes for seed in range(400)) >= 100


def test_some_ordinary_seeds_lose_entries_and_an_hour_at_once() -> None:
    plans = [swarm.draw(seed) for seed in range(mutations.SEEDS_MAX)]
    assert sum("set back" in plan.kinds for plan in plans) >= 25


def test_every_fifth_of_the_ordinary_seeds_has_a_guard() -> None:
    plans = [swarm.draw(seed) for seed in range(mutations.SEEDS_MAX)]
    assert sum(plan.guard.on for plan in plans) >= 80
    assert all(plan.guard.on == ("guard" in plan.kinds) for plan in plans)


def test_the_newest_kinds_shift_nothing_that_was_drawn_before() -> None:
    plan, first = swarm.draw(196), swarm._first_drawn(196)
    assert "set back" in plan.kinds
    assert plan.outages[: len(first.outages)] == first.outages
    assert plan.wire == first.wire


def test_a_bug_that_only_a_rare_seed_shows_is_no_bug_of_the_list() -> None:
    with pytest.raises(AssertionError, match="not caught"):
        planting.bug(caught_in=mutations.SEEDS_MAX)
    assert all(0 <= seed < mutations.SEEDS_MAX for seed in mutations.CAUGHT.values())
