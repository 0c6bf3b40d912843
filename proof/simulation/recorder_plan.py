"""What a world with the recorder draws: it dies and freezes, its disk fails, and Redis forgets."""

from __future__ import annotations

import random

from proof.simulation.plan import Outage, Plan, Span, Stop

POINTS = (
    ("archive list", "before"),
    ("archive list", "after"),
    ("archive write", "before"),
    ("archive write", "after"),
    ("archive merge", "before"),
    ("archive merge", "after"),
    ("archive remove", "after"),
    ("archive note", "after"),
    ("bus XRANGE", "after"),
    ("bus XTRIM", "before"),
    ("bus XTRIM", "after"),
    ("", "before"),
)


def draw(plan: Plan, rng: random.Random) -> None:
    """Add the recorder and its faults to a plan."""
    plan.recorder.on = True
    plan.recorder.slow_s = rng.choice((0.0, 0.05, 0.3))
    for draw_one in (_kills, _kills, _freezes, _disk, _redis, _set_back):
        if rng.random() < 0.35:
            draw_one(plan, rng)


def _span(plan: Plan, rng: random.Random, longest_s: float) -> Span:
    return rng.uniform(1, plan.faults_s - 2), rng.uniform(0.3, longest_s)


def _kills(plan: Plan, rng: random.Random) -> None:
    plan.kill_at(POINTS, "recorder", rng)


def _freezes(plan: Plan, rng: random.Random) -> None:
    """Another one is started beside it, and waits for the lock."""
    for _ in range(rng.randint(1, 2)):
        at_s, for_s = _span(plan, rng, 6)
        plan.stops.append(Stop(at_s, "recorder", for_s, rng.random() < 0.5))


def _disk(plan: Plan, rng: random.Random) -> None:
    plan.recorder.fails += [_span(plan, rng, 4) for _ in range(rng.randint(1, 2))]


def _redis(plan: Plan, rng: random.Random) -> None:
    kind = rng.choice(("killed", "frozen", "emptied", "emptied", "rolled_back", "rolled_back"))
    plan.outages.append(Outage(*_span(plan, rng, 3), kind))


def _set_back(plan: Plan, rng: random.Random) -> None:
    """Redis forgets while the clock is set back: what is new has ids that the archive has passed."""
    if plan.reboots:
        return  # see `swarm._reboots`
    at_s, for_s = _span(plan, rng, 2)
    plan.outages.append(Outage(at_s, for_s, rng.choice(("emptied", "rolled_back"))))
    plan.jumps.append((at_s + for_s * rng.random(), rng.choice((-5.0, -5.0, -60.0))))
