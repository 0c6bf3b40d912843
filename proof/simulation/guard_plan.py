"""What a world with a guard draws: rules that half a minute may break, and what hinders guard meanwhile."""

from __future__ import annotations

import random

from proof.simulation.plan import BOMB_EVERY_S, Kill, Outage, Plan, Stop

POINTS = (
    ("record write", "before"),
    ("record write", "after"),
    ("http /api/Order/cancel", "sent"),
    ("http /api/Order/cancel", "after"),
    ("http /api/Position/closeContract", "sent"),
    ("http /api/Position/closeContract", "after"),
    ("bus julie_append", "before"),
    ("bus julie_append", "after"),
    ("", "before"),
)


def draw(plan: Plan, rng: random.Random) -> None:
    """Add the guard, its rules and its faults to a plan."""
    plan.guard.on = True
    _rules(plan, rng)
    for draw_one in (_kills, _freezes, _wedged, _redis, _blind, _disk, _re_arms, _played_again):
        if rng.random() < 0.3:
            draw_one(plan, rng)
    plan.commands.sort(key=lambda command: command[0])


def _rules(plan: Plan, rng: random.Random) -> None:
    guard = plan.guard
    which = rng.random()
    if which < 0.6 or which > 0.9:
        guard.daily_loss = rng.choice((5, 9, 16, 30))
    if which > 0.5:
        guard.max_loss = rng.choice((6, 12, 20, 35))
        guard.floor_stops = rng.random() < 0.5
    if rng.random() < 0.25:
        guard.contracts = rng.choice(((("0", "0.2"),), (("0", "0.3"),), (("0", "0.1"), ("5", "0.4"))))
    hours = rng.random()
    if hours < 0.25:
        guard.flat_by_s = rng.randint(9, 16)
        guard.reopen_s = guard.flat_by_s + rng.randint(1, 6)
    elif hours < 0.45:
        guard.reopen_s = rng.randint(5, 15)
    guard.blind_flattens = rng.random() < 0.8
    guard.record_s = rng.choice((0.0, 0.01, 0.3))


def _kills(plan: Plan, rng: random.Random) -> None:
    point, when = rng.choice(POINTS)
    if point.startswith("http"):
        _by_itself(plan, rng)
    at_s = rng.uniform(1, 5)
    while at_s < plan.faults_s:
        plan.kills.append(Kill(at_s, "guard", point, when))
        at_s += BOMB_EVERY_S


def _by_itself(plan: Plan, rng: random.Random) -> None:
    """Guard sends nothing itself while execution obeys: a rule is broken by hand while that is frozen."""
    plan.guard.contracts = (("0", "0.1"),)
    at_s = rng.uniform(4, 9)
    plan.stops.append(Stop(at_s, "execution", rng.uniform(6, 9)))
    plan.externals = sorted([*plan.externals, *(at_s + rng.uniform(0.2, 3) for _ in range(3))])


def _freezes(plan: Plan, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 2)):
        plan.stops.append(Stop(rng.uniform(2, 14), "guard", rng.uniform(0.5, 6), rng.random() < 0.5))


def _wedged(plan: Plan, rng: random.Random) -> None:
    """Execution is frozen or keeps dying, while somebody may trade on by hand."""
    at_s = rng.uniform(4, 11)
    if rng.random() < 0.7:
        plan.stops.append(Stop(at_s, "execution", rng.uniform(5, 12)))
    else:
        plan.kills += [Kill(at_s + 1.2 * n, "execution", "now") for n in range(6)]
    if rng.random() < 0.3:
        plan.externals = sorted([*plan.externals, *(at_s + rng.uniform(0.2, 3) for _ in range(2))])


def _redis(plan: Plan, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 2)):
        kind = rng.choice(("killed", "frozen", "emptied", "rolled_back", "oom"))
        plan.outages.append(Outage(rng.uniform(4, 14), rng.uniform(0.5, 6), kind))


def _blind(plan: Plan, rng: random.Random) -> None:
    """No answers, no prices, or neither: a position that nobody can judge."""
    span = rng.uniform(3, 9), rng.uniform(5, 9)
    which = rng.random()
    if which < 0.7:
        plan.silences.append(span)
    if which > 0.4:
        plan.blind.append(span)


def _disk(plan: Plan, rng: random.Random) -> None:
    plan.guard.record_fails.append((rng.uniform(0, 10), rng.uniform(1, 7)))


def _re_arms(plan: Plan, rng: random.Random) -> None:
    plan.commands += [(rng.uniform(6, plan.faults_s), "resume") for _ in range(rng.randint(1, 3))]


def _played_again(plan: Plan, rng: random.Random) -> None:
    """A resume of a person comes again when Redis has come back with less.

    Only too many contracts are no breach any more when all is closed: nothing else holds the latch then.
    """
    if rng.random() < 0.7:
        plan.guard.daily_loss = plan.guard.max_loss = 0
        plan.guard.contracts = (("0", "0.1"),)
    at_s = rng.uniform(4, 9)
    plan.commands.append((at_s, "resume"))
    plan.outages.append(Outage(at_s + rng.uniform(0.5, 2), rng.uniform(0.3, 1.5), "rolled_back"))
    plan.commands += [(at_s + rng.uniform(3, 5), "resume-again"), (at_s + rng.uniform(5, 8), "resume-again")]
