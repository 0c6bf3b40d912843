"""What one seed does to the broker session: tokens that end, logins that fail, a heartbeat that dies.

Times are scaled as `swarm.SCALE` says: a token lives for seconds instead of a day and is validated every 4 s
instead of every 60. What was promised about lost processes (3 s, 5 s) is not scaled.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from proof.simulation.plan import Kill, Outage, Plan, SessionPlan, Span, Stop

FAULTS_S = 26.0
"""Longer than other worlds: trading begins when heartbeat has seen every process for a while."""
LIVES_S = (8.0, 14.0, 24.0)
POINTS = (
    ("http /api/Auth/loginKey", "before"),
    ("http /api/Auth/loginKey", "sent"),
    ("http /api/Auth/loginKey", "after"),
    ("http /api/Auth/validate", "sent"),
    ("http /api/Auth/validate", "after"),
    ("bus SET session:token", "before"),
    ("bus SET session:token", "after"),
    ("bus MULTI", "after"),
    ("bus julie_append", "before"),
    ("bus julie_append", "after"),
)
"""Where heartbeat is killed."""


@dataclass(slots=True)
class Drawn:
    """What the plan gets beside what it has: `_trade_on` takes back what was drawn here, and nothing else."""

    session: SessionPlan
    kills: list[Kill] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    jumps: list[tuple[float, float]] = field(default_factory=list)
    slow_connect: float = 0.0


def draw(plan: Plan, rng: random.Random) -> None:
    """Add the heartbeat, its session and its faults to a plan."""
    drawn = _drawn(rng)
    plan.session = drawn.session
    plan.faults_s = FAULTS_S
    plan.kills += drawn.kills
    plan.stops += drawn.stops
    plan.outages += drawn.outages
    plan.wire.slow_connect = max(plan.wire.slow_connect, drawn.slow_connect)
    if not plan.reboots:  # see `swarm._reboots`
        plan.jumps += drawn.jumps


def _drawn(rng: random.Random) -> Drawn:
    """Draw how the session fares; each kind from a chance of its own."""
    session = SessionPlan(on=True, life_s=rng.choice(LIVES_S), renews=rng.choice((0.0, 0.5, 1.0)))
    drawn = Drawn(session)
    if rng.random() < 0.3:
        session.revoked = sorted(rng.uniform(3, FAULTS_S - 2) for _ in range(rng.randint(1, 3)))
    if rng.random() < 0.25:
        session.dead_on_arrival = rng.choice((0.3, 0.8))
    if rng.random() < 0.15:
        session.over_on_arrival = rng.choice((0.3, 0.8))
    if rng.random() < 0.3:
        session.login_failed = rng.choice((0.3, 0.8))
    if rng.random() < 0.25:
        session.hangs = rng.choice((0.1, 0.4))
    if rng.random() < 0.25:
        session.slow = rng.choice((0.2, 0.7))
    if rng.random() < 0.3:
        session.validate_failed = rng.choice((0.2, 0.6))
    if rng.random() < 0.2:
        session.refused = rng.choice((0.05, 0.3))
    if rng.random() < 0.15:
        session.denied.append(_span(rng, 8))
    if rng.random() < 0.15:
        session.feed_stops.append(_span(rng, 9))
    if rng.random() < 0.5:
        _kill(drawn, rng)
    if rng.random() < 0.45:
        _freeze(drawn, rng)
    if rng.random() < 0.4:
        rng.choice(TOGETHER)(drawn, rng)
    if rng.random() < 0.2:
        kind = rng.choice(("killed", "frozen", "emptied", "emptied", "rolled_back", "misconf"))
        drawn.outages.append(Outage(*_span(rng, 3), kind))
    if rng.random() < 0.12:
        drawn.jumps.append((rng.uniform(2, FAULTS_S), rng.choice((-3600.0, -5.0, 5.0, 3600.0))))
    return drawn


def _kill(drawn: Drawn, rng: random.Random) -> None:
    """Heartbeat dies on its way: it must find its token again, or ask for another."""
    revoked = drawn.session.revoked
    if not revoked:
        revoked += sorted(rng.uniform(3, FAULTS_S - 3) for _ in range(2))
    for _ in range(rng.randint(2, 5)):
        point, when = rng.choice(POINTS)
        # Mostly when it is about to find its token dead, and to log in.
        at_s = rng.choice(revoked) + rng.uniform(0, 2) if rng.random() < 0.7 else rng.uniform(0.2, FAULTS_S)
        drawn.kills.append(Kill(at_s, "heartbeat", point, when, rng.choice((0, 0, 0, 1))))


def _freeze(drawn: Drawn, rng: random.Random) -> None:
    """Somebody falls silent; now and then heartbeat itself, with another one started in its place."""
    for _ in range(rng.randint(1, 3)):
        process = rng.choice(("heartbeat", "heartbeat", "broker_sync", "broker_sync", "execution", "worker"))
        at_s, for_s = _span(rng, 9)
        drawn.stops.append(Stop(at_s, process, for_s, rng.random() < 0.4))


def _silent_then_starting(drawn: Drawn, rng: random.Random) -> None:
    """Silent for nearly too long, then dead, then starting without a session: one loss, and not two."""
    process = rng.choice(("broker_sync", "broker_sync", "execution"))
    for _ in range(2):
        at_s, for_s = rng.uniform(5, FAULTS_S - 10), rng.uniform(1.6, 2.6)
        drawn.stops.append(Stop(at_s, process, for_s, False))
        drawn.kills.append(Kill(at_s + for_s - 0.05, process, "now", "before", 0))
        drawn.session.revoked.append(at_s)
        drawn.session.denied.append((at_s - 0.5, 9.0))


def _both_away(drawn: Drawn, rng: random.Random) -> None:
    """Heartbeat dies while execution is frozen: what it said before waits in execution's socket."""
    _trade_on(drawn)
    at_s = rng.uniform(5, 10)
    drawn.stops.append(Stop(at_s, "execution", rng.uniform(5, 8), False))
    drawn.stops.append(Stop(at_s + rng.uniform(0.3, 1.5), "heartbeat", rng.uniform(12, 14), False))


def _deaf(drawn: Drawn, rng: random.Random) -> None:
    """Heartbeat falls silent while orders wait for their connections."""
    _trade_on(drawn)
    drawn.slow_connect = 0.9
    drawn.stops.append(Stop(rng.uniform(5, 12), "heartbeat", rng.uniform(8, 14), False))


def _trade_on(drawn: Drawn) -> None:
    """Take back what keeps everybody from trading: orders have to be under way."""
    drawn.session = SessionPlan(on=True)
    drawn.stops.clear()
    drawn.kills.clear()
    drawn.outages.clear()


def _frozen_over_a_loss(drawn: Drawn, rng: random.Random) -> None:
    """A process dies while heartbeat is frozen, and cannot do its job when it is back."""
    at_s, for_s = rng.uniform(1, 14), rng.uniform(3, 7)
    drawn.stops.append(Stop(at_s, "heartbeat", for_s, False))
    process = rng.choice(("broker_sync", "execution"))
    drawn.stops.append(Stop(at_s + rng.uniform(0.2, 1.5), process, for_s + rng.uniform(0, 4), False))


def _two(drawn: Drawn, rng: random.Random) -> None:
    """Heartbeat wakes beside its successor, which has a new token by then."""
    at_s, for_s = rng.uniform(3, 14), rng.uniform(2, 8)
    drawn.session.revoked.append(at_s + rng.uniform(0.5, for_s))
    drawn.stops.append(Stop(at_s, "heartbeat", for_s, True))


TOGETHER = (_silent_then_starting, _both_away, _both_away, _both_away, _deaf, _frozen_over_a_loss, _two)


def _span(rng: random.Random, longest_s: float) -> Span:
    return rng.uniform(2, FAULTS_S - 1), rng.uniform(0.3, longest_s)
