"""What a world with the real feed draws: a hub that falls, is silent and refuses, and a feed that dies.

A world begins late in a minute of the market, so that the minute ends in the middle of it.
"""

from __future__ import annotations

import random

from proof.simulation.plan import Kill, Outage, Plan, Span, Stop

POINTS = (
    ("bus julie_append", "before"),
    ("bus julie_append", "after"),
    ("bus SET", "before"),
    ("bus SET", "after"),
    ("http /api/Contract/search", "sent"),
    ("http /api/Contract/search", "after"),
    ("http /api/History/retrieveBars", "sent"),
    ("http /api/History/retrieveBars", "after"),
    ("market event", "before"),
    ("", "before"),
)
OPENING = "bus julie_open"
FAULTS_S = 22.0
"""Longer than other worlds: that a silent link is silent takes two looks at the broker's history."""
PACE = 0.5
"""Quotes come twice as often as from the stand-in, so strategies do something at every second of them."""


def draw(plan: Plan, rng: random.Random) -> None:
    """Add the feed, its hub and its faults to a plan."""
    feed = plan.feed
    plan.faults_s = max(plan.faults_s, FAULTS_S)
    plan.pace *= PACE
    feed.on = True
    feed.begins_s = rng.uniform(40, 57)
    feed.snapshots = rng.random() < 0.6
    feed.delay_s = rng.choice((0.01, 0.05, 0.3))
    for draw_one in DRAWS:
        if rng.random() < 0.3:
            draw_one(plan, rng)


def _span(rng: random.Random, shortest_s: float, longest_s: float) -> Span:
    return rng.uniform(1.5, FAULTS_S - 6), rng.uniform(shortest_s, longest_s)


def _falls(plan: Plan, rng: random.Random) -> None:
    plan.feed.falls += [_span(rng, 0.1, 4) for _ in range(rng.randint(1, 4))]


def _silences(plan: Plan, rng: random.Random) -> None:
    """Short ones end before anybody notices; the link that was up then stays silent all the same."""
    plan.feed.silences += [_span(rng, 0.5, 9) for _ in range(rng.randint(1, 2))]


def _refusals(plan: Plan, rng: random.Random) -> None:
    """Subscriptions are asked for when a link is new: it falls as the refusals begin."""
    for _ in range(rng.randint(1, 2)):
        at_s, for_s = _span(rng, 2, 7)
        plan.feed.refusals.append((at_s, for_s))
        plan.feed.falls.append((at_s + 0.1, 0.2))


def _quotes(plan: Plan, rng: random.Random) -> None:
    plan.feed.repeated = rng.choice((0.0, 0.1, 0.5))
    plan.feed.overtaken = rng.choice((0.0, 0.1, 0.3))


def _kills(plan: Plan, rng: random.Random) -> None:
    plan.kill_at(POINTS, "feed", rng)


def _opening(plan: Plan, rng: random.Random) -> None:
    """Dead, and dead again as its successor opens the stream."""
    at_s, when = rng.uniform(2, FAULTS_S - 6), rng.choice(("before", "after"))
    plan.kills.append(Kill(at_s, "feed", "now"))
    plan.kills += [Kill(at_s + 0.3 * number, "feed", OPENING, when) for number in range(1, 7)]


def _freezes(plan: Plan, rng: random.Random) -> None:
    """It wakes with what has come meanwhile in its socket; often another one has taken its place."""
    for _ in range(rng.randint(1, 3)):
        at_s, for_s = _span(rng, 0.4, 6)
        plan.stops.append(Stop(at_s, "feed", for_s, rng.random() < 0.4))


def _redis(plan: Plan, rng: random.Random) -> None:
    kind = rng.choice(("killed", "frozen", "emptied", "rolled_back", "rolled_back", "oom"))
    plan.outages.append(Outage(*_span(rng, 0.5, 5), kind))


def _others(plan: Plan, rng: random.Random) -> None:
    """What hits everybody: questions without an answer, a closed market, a wall clock that jumps."""
    which = rng.randrange(3)
    if which == 0:
        plan.wire.query_failed = max(plan.wire.query_failed, rng.choice((0.2, 0.6)))
    elif which == 1:
        plan.closed.append(_span(rng, 2, 6))
    elif not plan.reboots:  # see `swarm._reboots`
        plan.jumps.append((rng.uniform(1, FAULTS_S), rng.choice((-3600.0, -5.0, 5.0, 3600.0))))


DRAWS = (_falls, _silences, _refusals, _quotes, _kills, _opening, _freezes, _freezes, _redis, _others)
"""Each from a chance of its own; a feed that wakes twice as often."""
