"""The least plan that still fails: faults are switched off one by one, then the world is shortened.

What is left says what a failure needs. Every step changes what is drawn after it, so a smaller plan may fail
elsewhere than the first did; it must fail by one of the same invariants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from typing import Any

from proof.simulation import mutations
from proof.simulation.plan import Plan

SHORTEST_S = 3.0
ALWAYS = ("seed", "kinds", "faults_s", "pace", "style", "tags")


def failing(plan: Plan, mutation: str | None = None) -> set[str]:
    """Play a plan and return the invariants that do not hold."""
    from proof.simulation.world import World

    with mutations.planted(mutation):
        world = World(deepcopy(plan))  # a world changes its plan when it heals
        world.play()
    return set(world.judge.record.violations)


def least(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Return a plan that fails and of which nothing can be taken away any more."""
    while (smaller := next((one for one in _smaller(plan) if fails(one)), None)) is not None:
        plan = smaller
    return plan


def words(plan: Plan) -> Iterator[str]:
    """Yield what a plan has that a calm one has not."""
    for name, value, calm in _settings(plan):
        if value != calm:
            yield f"{name}: {value}"
    yield f"pace {plan.pace}, style {plan.style}, seed {plan.seed}"


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Yield plans with one thing less, the larger things first."""
    for name in (one.name for one in fields(Plan)):
        value = getattr(plan, name)
        if isinstance(value, list) and len(value) > 1:
            yield _set(plan, name, [])
    for name, value, calm in _settings(plan):
        if isinstance(value, list):
            for at in range(len(value)):
                yield _set(plan, name, value[:at] + value[at + 1 :])
        elif value != calm:
            yield _set(plan, name, calm)
    if plan.tags != "enforced":
        yield replace(plan, tags="enforced")
    if plan.faults_s > SHORTEST_S:
        yield replace(plan, faults_s=round(max(SHORTEST_S, plan.faults_s * 0.75), 1))


def _settings(plan: Plan) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting by its name (`wire.late`), with what it is and what it is when nothing happens."""
    calm = Plan(seed=plan.seed)
    for one in fields(Plan):
        if one.name in ALWAYS:
            continue
        value, usual = getattr(plan, one.name), getattr(calm, one.name)
        if is_dataclass(value):
            for part in fields(value):
                yield f"{one.name}.{part.name}", getattr(value, part.name), getattr(usual, part.name)
        else:
            yield one.name, value, usual


def _set(plan: Plan, name: str, value: Any) -> Plan:
    outer, _, inner = name.partition(".")
    if inner:
        part: Any = getattr(plan, outer)
        value = replace(part, **{inner: value})
    changes: dict[str, Any] = {outer: value}
    return replace(plan, **changes)
