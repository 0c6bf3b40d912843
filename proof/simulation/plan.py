"""What a world is drawn to be: everything that happens to it, said before it begins.

`swarm` draws it from a seed; `guard_plan`, `session_plan`, `hosts_plan`, `feed_plan` and
`recorder_plan` draw their parts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

BOMB_EVERY_S = 3.0
"""So long a kill waits for its point: one after the other they wait for all the time of a world."""
Span = tuple[float, float]
"""When something begins, and for how many seconds it lasts."""


@dataclass(slots=True)
class Wire:
    """Chances per request of what happens to it on its way to the broker and back."""

    not_sent: float = 0.0
    request_lost: float = 0.0
    reply_lost: float = 0.0
    late: float = 0.0
    wrong_status: float = 0.0
    pending_code: float = 0.0
    garbage: float = 0.0
    refused: float = 0.0
    query_failed: float = 0.0
    slow_connect: float = 0.0
    latency_s: float = 0.02


@dataclass(slots=True)
class Hub:
    duplicated: float = 0.0
    dropped: float = 0.0
    reordered: bool = False
    delay_s: float = 0.01
    falls: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class Kill:
    """Attributes: point: where it strikes (empty: at the next call of any port)."""

    at_s: float
    process: str
    point: str = ""
    when: str = "before"
    skip: int = 0


@dataclass(slots=True)
class Stop:
    """Attributes: twin: the supervisor takes it for dead and starts another beside it."""

    at_s: float
    process: str
    for_s: float
    twin: bool = False


@dataclass(slots=True)
class Outage:
    """Attributes: kind: `killed`, `frozen`, `emptied`, `rolled_back`, `misconf` or `oom`."""

    at_s: float
    for_s: float
    kind: str


@dataclass(slots=True)
class GuardPlan:
    """Whether the real guard runs, and by which rules: USD that half a minute may lose. 0: no such rule.

    Attributes:
        contracts: Steps of profit and contracts, ten of ours are one.
        floor_stops: The floor of the maximum loss rises no further than the starting balance.
        flat_by_s: The account must be flat so long after the start of the world.
        reopen_s: Then the trading day turns.
        blind_flattens: What cannot be judged is closed.
        record_s: Longest time in which the disk writes its record.
        record_fails: When the disk does not take it.
    """

    on: bool = False
    daily_loss: int = 0
    max_loss: int = 0
    contracts: tuple[tuple[str, str], ...] = ()
    floor_stops: bool = True
    flat_by_s: int = 0
    reopen_s: int = 0
    blind_flattens: bool = True
    record_s: float = 0.0
    record_fails: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class SessionPlan:
    """Chances are per request.

    Attributes:
        on: The real heartbeat keeps the session and judges, in place of the stand-in.
        life_s: How long a token lives.
        renews: Chance that a validation brings a new token.
        revoked: When every token that was given so far ends, whatever it says.
        dead_on_arrival: A token that the broker never accepts.
        over_on_arrival: A token that says itself that it has ended.
        login_failed: A login that the broker does not manage: 5xx, no token, an unknown error.
        hangs: A login or validation without an answer.
        slow: A login or validation that is answered after a second or two.
        validate_failed: A validation that is answered with an error that says nothing of the token.
        refused: A request of another process that is answered with 401, whatever its token.
        denied: When logins are refused for good: wrong credentials.
        feed_stops: When the feed (which has a stand-in) does not beat.
    """

    on: bool = False
    life_s: float = 24.0
    renews: float = 0.5
    revoked: list[float] = field(default_factory=list)
    dead_on_arrival: float = 0.0
    over_on_arrival: float = 0.0
    login_failed: float = 0.0
    hangs: float = 0.0
    slow: float = 0.0
    validate_failed: float = 0.0
    refused: float = 0.0
    denied: list[Span] = field(default_factory=list)
    feed_stops: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class Trouble:
    """What a strategy does instead of its work.

    Attributes:
        kind: `raises`, `sticks`, or `dawdles`: takes nearly as long as a callback may.
        times: In so many callbacks, one after the other, be it in several lives.
    """

    at_s: float
    strategy_id: str
    kind: str
    times: int = 1


@dataclass(slots=True)
class HostsPlan:
    """Attributes:
    on: Real strategy hosts run the workers; elsewhere each worker holds its lease itself.
    count: How many hosts there are.
    asked_to_stop: When a host is told to stop in good order, and is started again.
    """

    on: bool = False
    count: int = 1
    asked_to_stop: list[float] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)


@dataclass(slots=True)
class FeedPlan:
    """Whether the real feed runs, and what its hub does. Chances are per quote.

    Attributes:
        begins_s: How far the market's minute has gone as the world begins.
        snapshots: A new subscription is told all that is known at once.
        repeated: A quote that comes twice.
        overtaken: A quote that comes after a later one.
        falls: When no link to the hub holds.
        silences: When the hub tells nothing on links that are up.
        refusals: When most subscriptions are refused.
    """

    on: bool = False
    begins_s: float = 0.0
    snapshots: bool = True
    delay_s: float = 0.01
    repeated: float = 0.0
    overtaken: float = 0.0
    falls: list[Span] = field(default_factory=list)
    silences: list[Span] = field(default_factory=list)
    refusals: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class RecorderPlan:
    """Attributes:
    on: The real recorder archives the streams and trims them.
    slow_s: Longest time that a file takes.
    fails: When the disk takes none.
    """

    on: bool = False
    slow_s: float = 0.0
    fails: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """Everything that is drawn before a world begins.

    Attributes:
        blind: When the broker answers no question, while it still takes orders.
        changes: The strategies change what works: sizes, prices, trails, stops that follow a plan.
        forgets: Chance that a look at a single order says that there is none.
    """

    seed: int
    faults_s: float = 18.0
    kinds: tuple[str, ...] = ()
    whole_house: bool = False
    workers: int = 1
    wire: Wire = field(default_factory=Wire)
    hub: Hub = field(default_factory=Hub)
    search_lag_s: float = 0.0
    tags: str = "enforced"
    parts: float = 0.0
    legs_rejected: float = 0.0
    kills: list[Kill] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    bus_lost: float = 0.0
    bus_latency_s: float = 0.0
    jumps: list[tuple[float, float]] = field(default_factory=list)
    reboots: list[Span] = field(default_factory=list)
    externals: list[float] = field(default_factory=list)
    closed: list[Span] = field(default_factory=list)
    storms: list[Span] = field(default_factory=list)
    partitions: list[Span] = field(default_factory=list)
    blind: list[Span] = field(default_factory=list)
    disk: list[Span] = field(default_factory=list)
    commands: list[tuple[float, str]] = field(default_factory=list)
    silences: list[Span] = field(default_factory=list)
    pace: float = 0.35
    style: str = "mixed"
    changes: bool = False
    forgets: float = 0.0
    guard: GuardPlan = field(default_factory=GuardPlan)
    session: SessionPlan = field(default_factory=SessionPlan)
    hosts: HostsPlan = field(default_factory=HostsPlan)
    feed: FeedPlan = field(default_factory=FeedPlan)
    recorder: RecorderPlan = field(default_factory=RecorderPlan)

    def kill_at(self, points: Sequence[tuple[str, str]], process: str, rng: random.Random) -> None:
        """Have a process killed whenever it comes by one of its points, for all the time of the world.

        Args:
            points: Where and when, see `Kill`; one of them is drawn.
        """
        point, when = rng.choice(points)
        at_s = rng.uniform(0.3, 4)
        while at_s < self.faults_s:
            self.kills.append(Kill(at_s, process, point, when, rng.choice((0, 0, 1, 3))))
            at_s += BOMB_EVERY_S
