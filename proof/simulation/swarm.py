"""What one seed is: which faults are on, how strong, and when. Mixtures find what averages hide.

Each seed first draws which kinds of fault it has at all; some have none. Times are scaled: quarantine is 8 s
instead of 120 s, and what lands late or lags is scaled with it.
"""

from __future__ import annotations

import random
from dataclasses import fields
from functools import cache
from pathlib import Path

from proof.simulation import feed_plan, guard_plan, hosts_plan, recorder_plan, session_plan
from proof.simulation.plan import Kill, Outage, Plan, Stop

QUARANTINE_S = 8.0
SCALE = QUARANTINE_S / 120.0
LANDING_S_MAX = 200 * SCALE
SEARCH_LAG_S_MAX = 30 * SCALE
POSITION_MAX = 4
ORDER_QTY_MAX = 3
REGRESSION = Path(__file__).with_name("regression_seeds.txt")
SECTION, WITHOUT = "# -- ", "# -- without "
"""Seeds of a section failed before these kinds were there, and draw none of them."""


ORDER_POINTS = (
    ("execution", "ledger commit", "before"),
    ("execution", "ledger commit", "after"),
    ("execution", "http /api/Order/place", "before"),
    ("execution", "http /api/Order/place", "sent"),
    ("execution", "http /api/Order/place", "after"),
    ("execution", "http /api/Order/cancel", "sent"),
    ("execution", "http /api/Position/closeContract", "sent"),
    ("execution", "http /api/Order/search", "after"),
    ("execution", "bus julie_append", "before"),
    ("execution", "bus julie_append", "after"),
    ("execution", "bus XREAD", "after"),
    ("execution", "", "before"),
    ("broker_sync", "bus julie_append", "before"),
    ("broker_sync", "bus julie_append", "after"),
    ("broker_sync", "http /api/Position/searchOpen", "after"),
    ("broker_sync", "", "before"),
    ("worker", "bus julie_step", "before"),
    ("worker", "bus julie_step", "after"),
    ("worker", "", "before"),
)
WIRE_KINDS = (
    "not_sent", "request_lost", "reply_lost", "late", "wrong_status", "pending_code", "garbage", "refused",
)  # fmt: skip


def draw(seed: int) -> Plan:
    """Return the plan of one seed; the same seed gives the same plan."""
    plan = _first_drawn(seed)
    _add_newest_kinds(plan, _unknown_kinds().get(seed, frozenset()))
    return plan


def _first_drawn(seed: int) -> Plan:
    rng = random.Random(f"plan {seed}")
    plan = Plan(seed=seed)
    plan.workers = 1 + (rng.random() < 0.4)
    plan.pace = rng.choice((0.15, 0.35, 0.6))
    plan.style = rng.choice(("mixed", "mixed", "mixed", "flipper", "runaway", "patient"))
    plan.commands = _commands(rng)
    plan.bus_latency_s = rng.choice((0.0, 0.0, 0.001))
    plan.whole_house = rng.random() < 0.08
    if rng.random() < 0.06:
        return plan  # no faults at all
    kinds = [kind for kind in _DRAWS if rng.random() < 0.28]
    for kind in kinds:
        _DRAWS[kind](plan, rng)
    plan.kinds = tuple(kinds)
    _add_later_kinds(plan)
    return plan


def _add_later_kinds(plan: Plan) -> None:
    """Draw the kinds that came later from chances of their own: the plans of older seeds stay as they are."""
    rng = random.Random(f"later {plan.seed}")
    for kind, draw_one in _LATER.items():
        if rng.random() < 0.12:
            draw_one(plan, rng)
            plan.kinds += (kind,)


def _add_newest_kinds(plan: Plan, unknown: frozenset[str]) -> None:
    """Draw each of the newest kinds from chances of its own: one more of them shifts no other."""
    for kind, (chance, draw_one) in _NEWEST.items():
        rng = random.Random(f"{kind} {plan.seed}")
        if kind not in unknown and rng.random() < chance and draw_one(plan, rng):
            plan.kinds += (kind,)


@cache
def _unknown_kinds() -> dict[int, frozenset[str]]:
    """Return seed -> the kinds that were not there yet when it failed."""
    found: dict[int, frozenset[str]] = {}
    unknown: frozenset[str] = frozenset()
    for line in REGRESSION.read_text(encoding="utf-8").splitlines():
        if line.startswith(SECTION):
            kinds = line.removeprefix(WITHOUT).split(", ") if line.startswith(WITHOUT) else []
            assert set(kinds) <= set(_NEWEST), line
            unknown = frozenset(kinds)
        for seed in regression_seeds(line):
            found[seed] = unknown
    return found


def regression_seeds(text: str) -> list[int]:
    """Return the seeds of a text that has one a line, and after it why."""
    words = (line.partition("#")[0].strip() for line in text.splitlines())
    return [int(word) for word in words if word]


def _commands(rng: random.Random) -> list[tuple[float, str]]:
    """Draw what the operator says; what he halted he resumes, sometimes."""
    if rng.random() > 0.35:
        return []
    at_s, said = rng.uniform(4, 15), rng.choice(("halt", "halt", "flatten", "flatten", "halt-reducing"))
    commands = [(at_s, said)]
    if rng.random() < 0.5:
        commands.append((at_s + rng.uniform(1, 8), "resume"))
    return commands


def _span(rng: random.Random, plan: Plan, longest_s: float) -> tuple[float, float]:
    begin_s = rng.uniform(2, plan.faults_s - 1)
    return begin_s, rng.uniform(0.3, longest_s)


def _wire(plan: Plan, rng: random.Random) -> None:
    for name in WIRE_KINDS:
        if rng.random() < 0.35:
            setattr(plan.wire, name, rng.choice((0.05, 0.15, 0.4)))


def _late(plan: Plan, rng: random.Random) -> None:
    plan.wire.late = rng.choice((0.2, 0.5))
    plan.wire.reply_lost = max(plan.wire.reply_lost, rng.choice((0.1, 0.3)))


def _queries(plan: Plan, rng: random.Random) -> None:
    plan.wire.query_failed = rng.choice((0.05, 0.2, 0.5))


def _lag(plan: Plan, rng: random.Random) -> None:
    plan.search_lag_s = rng.uniform(0.1, SEARCH_LAG_S_MAX)


def _hub(plan: Plan, rng: random.Random) -> None:
    hub = plan.hub
    hub.duplicated = rng.choice((0.0, 0.1, 0.5))
    hub.dropped = rng.choice((0.0, 0.1, 0.5))
    hub.reordered = rng.random() < 0.5
    hub.delay_s = rng.choice((0.01, 0.2, 1.0))
    for _ in range(rng.randint(0, 2)):
        hub.falls.append(_span(rng, plan, 5))


def _kills(plan: Plan, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 4, 8))):
        process, point, when = rng.choice(ORDER_POINTS)
        skip = rng.choice((0, 0, 0, 1, 3)) if point else rng.randint(0, 40)
        plan.kills.append(Kill(rng.uniform(0.5, plan.faults_s), process, point, when, skip))
    if rng.random() < 0.15:  # all at once
        at_s = rng.uniform(3, plan.faults_s)
        plan.kills += [Kill(at_s, one, "now") for one in ("execution", "broker_sync", "worker")]


def _stops(plan: Plan, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 3)):
        process = rng.choice(("execution", "broker_sync", "worker"))
        at_s, for_s = _span(rng, plan, 9)
        plan.stops.append(Stop(at_s, process, for_s, rng.random() < 0.4))


def _outages(plan: Plan, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 2)):
        kind = rng.choice(("killed", "killed", "frozen", "emptied", "rolled_back", "misconf", "oom"))
        plan.outages.append(Outage(*_span(rng, plan, 4), kind))


def _bus(plan: Plan, rng: random.Random) -> None:
    plan.bus_lost = rng.choice((0.002, 0.01, 0.03))
    plan.bus_latency_s = rng.choice((0.0005, 0.005, 0.05))


def _jumps(plan: Plan, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 2)):
        plan.jumps.append((rng.uniform(2, plan.faults_s), rng.choice((-3600.0, -5.0, 5.0, 60.0, 3600.0))))


def _externals(plan: Plan, rng: random.Random) -> None:
    plan.externals = sorted(rng.uniform(2, plan.faults_s) for _ in range(rng.randint(1, 3)))


def _closed(plan: Plan, rng: random.Random) -> None:
    plan.closed.append(_span(rng, plan, 5))


def _storms(plan: Plan, rng: random.Random) -> None:
    plan.storms.append(_span(rng, plan, 6))


def _partitions(plan: Plan, rng: random.Random) -> None:
    plan.partitions.append(_span(rng, plan, 6))


def _disk(plan: Plan, rng: random.Random) -> None:
    plan.disk.append(_span(rng, plan, 3))


def _tags(plan: Plan, rng: random.Random) -> None:
    plan.tags = rng.choice(("ignored", "window"))


def _parts(plan: Plan, rng: random.Random) -> None:
    plan.parts = rng.choice((0.3, 0.9))


def _legs(plan: Plan, rng: random.Random) -> None:
    plan.legs_rejected = rng.choice((0.2, 0.6))


def _silences(plan: Plan, rng: random.Random) -> None:
    plan.silences.append(_span(rng, plan, 9))


def _long(plan: Plan, rng: random.Random) -> None:
    """The broker is away for longer than a quarantine: minutes, as it was seen to happen."""
    span = rng.uniform(3, 8), rng.uniform(QUARANTINE_S + 1, QUARANTINE_S + 4)
    rng.choice((plan.storms, plan.partitions, plan.blind)).append(span)
    plan.wire.reply_lost = max(plan.wire.reply_lost, 0.3)
    plan.wire.late = max(plan.wire.late, 0.3)
    plan.hub.dropped = max(plan.hub.dropped, 0.5)
    if rng.random() < 0.5:
        plan.commands.append((span[0] + rng.uniform(0.2, 3), "flatten"))


def _claims(plan: Plan, rng: random.Random) -> None:
    """The commit that everything rests on: a claim, cut off right before or after."""
    for _ in range(2):
        point, when = "ledger commit of a claim", rng.choice(("before", "after"))
        plan.kills.append(Kill(rng.uniform(0.5, 12), "execution", point, when))


def _connects(plan: Plan, rng: random.Random) -> None:
    """Connections that take their time, and halts while they do."""
    plan.wire.slow_connect = rng.choice((0.3, 0.9))
    at_s = rng.uniform(3, 10)
    while at_s < plan.faults_s:
        plan.commands += [(at_s, "halt"), (at_s + rng.uniform(1.5, 2.5), "resume")]
        at_s += rng.uniform(5, 8)


def _reboots(plan: Plan, rng: random.Random) -> None:
    """The machine starts anew, and its monotonic clock with it; ages of before go by the wall clock then."""
    if not plan.jumps:
        plan.reboots += [_span(rng, plan, 3) for _ in range(rng.choice((1, 1, 2)))]


def _changes(plan: Plan, rng: random.Random) -> bool:
    """Strategies that change their orders, beside all that they do without; halts that a change must obey."""
    plan.changes = True
    halts = rng.random()
    if halts < 0.2:
        _connects(plan, rng)
    elif halts < 0.45:
        plan.commands.append((rng.uniform(4, 9), "halt-reducing"))
    return True


def _set_back(plan: Plan, rng: random.Random) -> bool:
    """Redis comes back with less while the wall clock is an hour back: what is new has lower ids."""
    if plan.reboots:
        return False  # see `_reboots`
    at_s, for_s = rng.uniform(5, plan.faults_s - 4), rng.uniform(0.5, 2.5)
    plan.outages.append(Outage(at_s, for_s, rng.choice(("emptied", "rolled_back", "rolled_back"))))
    plan.jumps.append((at_s + for_s * rng.random(), -3600.0))
    if rng.random() < 0.5:  # said twice: that the second was lost, only who has read it can know
        plan.commands += [(at_s - 2.5, "halt"), (at_s - 0.2, "halt")]
    return True


def _storm_over_orders(plan: Plan, rng: random.Random) -> bool:
    """A storm in which what waits is to be canceled: the cancels must get through when it is over."""
    plan.changes = True
    at_s, for_s = rng.uniform(4, plan.faults_s - 8), rng.uniform(1.5, 4)
    plan.storms.append((at_s, for_s))
    plan.commands.append((at_s + rng.uniform(0.1, 0.5), "flatten"))
    return True


def _forgets(plan: Plan, rng: random.Random) -> bool:
    """A look at one order that has not caught up: it says that there is none, and the searches know it."""
    plan.forgets = rng.choice((0.1, 0.5))
    return True


def _guard(plan: Plan, rng: random.Random) -> bool:
    """The real guard keeps rules that half a minute may break."""
    guard_plan.draw(plan, rng)
    return True


def _session(plan: Plan, rng: random.Random) -> bool:
    """The real heartbeat keeps the session and judges who is alive."""
    if plan.guard.on:
        return False  # see `_guard_and_session`
    session_plan.draw(plan, rng)
    return True


def _guard_and_session(plan: Plan, rng: random.Random) -> bool:
    """Both: guard closes what it cannot look at, for want of a token too."""
    if not plan.guard.on:
        return False
    session_plan.draw(plan, rng)
    return True


def _hosts(plan: Plan, rng: random.Random) -> bool:
    """Real hosts hold the leases and supervise the workers."""
    hosts_plan.draw(plan, rng)
    return True


def _feed(plan: Plan, rng: random.Random) -> bool:
    """The real feed makes the market data of a hub that falls, is silent and refuses."""
    if plan.guard.on or plan.session.on:
        return False  # see `_feed_with_others`
    feed_plan.draw(plan, rng)
    return True


def _feed_with_others(plan: Plan, rng: random.Random) -> bool:
    """The real feed beside the real guard, which needs its prices, or the real heartbeat, which judges it."""
    if not (plan.guard.on or plan.session.on):
        return False
    feed_plan.draw(plan, rng)
    plan.stops += [Stop(at_s, "feed", for_s, False) for at_s, for_s in plan.session.feed_stops]
    plan.session.feed_stops.clear()
    if plan.guard.reopen_s:  # its hours are the market's, and this world begins later
        plan.guard.reopen_s += round(plan.feed.begins_s)
    if plan.guard.flat_by_s:
        plan.guard.flat_by_s += round(plan.feed.begins_s)
    return True


def _left_open(plan: Plan, rng: random.Random) -> bool:
    """Nothing hinders guard; a person opens positions and leaves them: an open loss is a loss."""
    if not plan.guard.on:
        return False
    _calm(plan)
    plan.guard.daily_loss = rng.choice((5, 9))
    plan.externals = sorted(rng.uniform(2, plan.faults_s - 8) for _ in range(rng.randint(2, 4)))
    return True


def _re_armed(plan: Plan, rng: random.Random) -> bool:
    """Any loss is too much, execution is frozen, and a person re-arms before anything is closed."""
    if not plan.guard.on:
        return False
    _calm(plan)
    at_s = rng.uniform(3, 8)
    plan.guard.daily_loss, plan.externals = 1, [at_s]
    plan.stops = [Stop(at_s - 0.2, "execution", 6.0)]
    plan.commands = [(at_s + after_s, "resume") for after_s in (0.8, 1.5, 2.2)]
    return True


def _turned(plan: Plan, rng: random.Random) -> bool:
    """The trading day turns while the broker's searches lag, and guard has not heard what was pushed."""
    if not plan.guard.on:
        return False
    _calm(plan)
    plan.guard.max_loss, plan.guard.reopen_s = 35, rng.randint(6, 10)
    plan.search_lag_s = SEARCH_LAG_S_MAX
    plan.externals = sorted(plan.guard.reopen_s + rng.uniform(-1.5, 1.5) for _ in range(5))
    plan.kills = [Kill(at_s, "guard", "now") for at_s in plan.externals[2:4]]
    return True


def _recorder(plan: Plan, rng: random.Random) -> bool:
    """The real recorder archives every stream, and deletes from Redis what it has archived."""
    recorder_plan.draw(plan, rng)
    return True


def _calm(plan: Plan) -> None:
    """Leave nothing but a guard without rules."""
    calm = Plan(seed=plan.seed, workers=plan.workers, pace=plan.pace, style=plan.style)
    for setting in fields(Plan):
        setattr(plan, setting.name, getattr(calm, setting.name))
    plan.guard.on, plan.kinds = True, ("guard",)


_DRAWS = {
    "wire": _wire,
    "late": _late,
    "queries": _queries,
    "lag": _lag,
    "hub": _hub,
    "kills": _kills,
    "kills again": _kills,
    "stops": _stops,
    "outages": _outages,
    "bus": _bus,
    "jumps": _jumps,
    "externals": _externals,
    "closed": _closed,
    "storms": _storms,
    "partitions": _partitions,
    "disk": _disk,
    "tags": _tags,
    "parts": _parts,
    "legs": _legs,
    "silences": _silences,
}
_LATER = {"long": _long, "claims": _claims, "connects": _connects, "reboots": _reboots}
_NEWEST = {
    "changes": (0.35, _changes),
    "set back": (0.12, _set_back),
    "storm over orders": (0.06, _storm_over_orders),
    "forgets": (0.08, _forgets),
    "guard": (0.2, _guard),
    "session": (0.2, _session),
    "guard and session": (0.35, _guard_and_session),
    "hosts": (0.15, _hosts),
    "feed": (0.27, _feed),
    "feed with others": (0.25, _feed_with_others),
    "recorder": (0.12, _recorder),
    "left open": (0.1, _left_open),
    "re-armed": (0.08, _re_armed),
    "turned": (0.08, _turned),
}
"""Kind -> its chance, and what draws it and says whether it fits the rest of the plan."""
