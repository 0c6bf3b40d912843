"""What a world with strategy hosts draws: hosts that die and freeze, and strategies that fail and hang."""

from __future__ import annotations

import random

from proof.simulation.plan import BOMB_EVERY_S, Kill, Outage, Plan, Stop, Trouble

POINTS = (
    ("bus julie_lease", "before"),
    ("bus julie_lease", "after"),
    ("bus julie_lease", "after"),
    ("bus julie_renew", "before"),
    ("bus julie_renew", "after"),
    ("bus julie_release", "before"),
    ("bus julie_release", "after"),
    ("", "before"),
)
"""Where a host is killed."""
TTLS_S = (0.3, 1.2, 2.0, 4.0, 7.0)
"""Freezes shorter and longer than a lease is valid."""


def draw(plan: Plan, rng: random.Random) -> None:
    """Add the hosts, their instances and their faults to a plan."""
    hosts = plan.hosts
    hosts.on = True
    hosts.count = 1 + (rng.random() < 0.7)
    plan.workers = max(plan.workers, 1 + (rng.random() < 0.6))
    for draw_one in (_kills, _freezes, _freezes, _workers, _troubles, _troubles, _redis, _takeover, _jumps):
        if rng.random() < 0.35:
            draw_one(plan, rng)
    if rng.random() < 0.3:
        hosts.asked_to_stop = sorted(rng.uniform(2, plan.faults_s) for _ in range(rng.randint(1, 2)))


def _kills(plan: Plan, rng: random.Random) -> None:
    point, when = rng.choice(POINTS)
    at_s = rng.uniform(0.2, 4)
    while at_s < plan.faults_s:
        plan.kills.append(Kill(at_s, "host", point, when, 0 if point else rng.randint(0, 40)))
        if rng.random() < 0.4:  # so that leases are there to be taken
            plan.kills.append(Kill(at_s + rng.uniform(0.1, 1), "host", "now"))
        at_s += BOMB_EVERY_S


def _freezes(plan: Plan, rng: random.Random) -> None:
    """No second one is started beside it: the names of hosts differ."""
    for _ in range(rng.randint(1, 3)):
        at_s, for_s = rng.uniform(1, plan.faults_s - 2), rng.choice(TTLS_S) * rng.uniform(0.8, 1.2)
        plan.stops.append(Stop(at_s, "host", for_s))
        if rng.random() < 0.3:  # its workers write nothing as it wakes, and so learn nothing by themselves
            names = [f"s{number}" for number in range(1, plan.workers + 1)]
            plan.hosts.troubles += [Trouble(at_s + for_s - 1.5, name, "dawdles", 6) for name in names]


def _workers(plan: Plan, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 3)):
        at_s = rng.uniform(1, plan.faults_s - 1)
        if rng.random() < 0.5:
            plan.stops.append(Stop(at_s, "worker", rng.uniform(0.3, 6)))
        else:
            plan.kills.append(Kill(at_s, "worker", "now"))


def _troubles(plan: Plan, rng: random.Random) -> None:
    """A strategy that raises or hangs: once, now and then, or until it is switched off."""
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(("raises", "raises", "sticks", "sticks", "dawdles"))
        strategy_id = f"s{rng.randint(1, plan.workers)}"
        times = rng.choice((1, 1, 2, 3, 5))
        plan.hosts.troubles.append(Trouble(rng.uniform(0, plan.faults_s - 2), strategy_id, kind, times))


def _redis(plan: Plan, rng: random.Random) -> None:
    kind = rng.choice(("killed", "frozen", "emptied", "emptied", "rolled_back", "rolled_back", "oom"))
    at_s = rng.choice((rng.uniform(0.1, 1.5), rng.uniform(1, plan.faults_s - 2)))
    plan.outages.append(Outage(at_s, rng.uniform(0.3, 4), kind))


def _takeover(plan: Plan, rng: random.Random) -> None:
    """A host is frozen for longer than its leases, and Redis or the clock fails while another takes them."""
    at_s = rng.uniform(2, plan.faults_s - 6)
    plan.stops.append(Stop(at_s, "host", rng.uniform(2.5, 6)))
    then_s = at_s + rng.uniform(1, 3)
    which = rng.random()
    if which < 0.6:
        plan.outages.append(Outage(then_s, rng.uniform(0.3, 2), rng.choice(("emptied", "rolled_back"))))
    if which > 0.4 and not plan.reboots:  # see `swarm._reboots`
        plan.jumps.append((then_s + rng.uniform(0, 1), rng.choice((-3600.0, -5.0, 5.0, 3600.0))))


def _jumps(plan: Plan, rng: random.Random) -> None:
    """Leases follow the server's wall clock."""
    if not plan.reboots:
        plan.jumps.append((rng.uniform(1, plan.faults_s), rng.choice((-3600.0, -5.0, -5.0, 5.0, 3600.0))))
