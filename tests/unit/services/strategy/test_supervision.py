"""Who runs what, and when a worker must die."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.strategy.spec import EXIT_FENCED, EXIT_REFUSED, EXIT_ROLLED_BACK, EXIT_STRATEGY_FAILED, Seen
from services.strategy.supervision import (
    KILLED,
    NS_PER_S,
    Acquire,
    AskStop,
    Due,
    Exited,
    Kill,
    LeaseGranted,
    LeaseLost,
    Looked,
    Phase,
    Placed,
    Release,
    Rules,
    Seat,
    Start,
    State,
    StopAsked,
    decide,
    state_of,
)

MS = 1_000_000
RULES = Rules(failures_max=3)


def seen(
    handled: int = 0, *, busy: bool = False, ready: bool = True, away: bool = False, turns: int = 0
) -> Seen:
    return Seen(busy, handled, 0, 0, 0, ready, "0-0", 0, away, turns, 0, "")


def running(instances: tuple[str, ...] = ("a",)) -> State:
    """Return a host whose workers run at time 0."""
    state = state_of("h1", list(instances), RULES)
    for name in instances:
        decide(LeaseGranted(name, 7, 0), state)
    decide(Due(0), state)
    for name in instances:
        decide(Looked(name, 0, seen(), 50), state)
    return state


def test_life_of_an_instance() -> None:
    state = state_of("h1", ["a"], RULES)
    assert decide(Placed(0, {"a": ""}, frozenset()), state) == [Acquire("a")]
    assert decide(LeaseGranted("a", 7, 10), state) == []
    assert decide(Due(10), state) == [Start("a", 7)]
    assert decide(Due(11), state) == []
    decide(Looked("a", 20, seen(), 50), state)
    assert state.seats["a"].phase is Phase.RUNNING
    assert decide(StopAsked(30), state) == [AskStop("a")]
    assert decide(Exited("a", 40, 0, ""), state) == [Release("a", 7)]


def test_a_host_takes_back_what_it_held_before_it_was_killed() -> None:
    """Under the same name: a lone host counted its own earlier leases as its share, and took none."""
    state = state_of("h1", ["a", "b"], RULES)
    commands = decide(Placed(0, {"a": "h1", "b": "h1"}, frozenset({"h1"})), state)
    assert sorted(commands) == [Acquire("a"), Acquire("b")]

    shared = state_of("h1", ["a", "b"], RULES)
    assert decide(Placed(0, {"a": "h1", "b": "h2"}, frozenset({"h1", "h2"})), shared) == [Acquire("a")]


def test_before_it_has_seen_the_others_a_host_takes_only_what_was_its_own() -> None:
    state = state_of("h1", ["a", "b", "c"], RULES)
    holders = {"a": "h1", "b": "", "c": "h2"}
    assert decide(Placed(0, holders, frozenset(), settling=True), state) == [Acquire("a")]


@pytest.mark.parametrize(
    ("looks", "killed"),
    [
        # (ms, handled, turns, busy)
        ([(0, 1, 1, True), (1_000, 1, 1, True)], False),
        ([(0, 1, 1, True), (600, 1, 1, True), (1_001, 1, 1, True)], True),
        (
            [(0, 1, 1, True), (1_600, 1, 1, True), (2_000, 1, 1, True)],
            False,
        ),  # we were frozen, perhaps it too
        ([(0, 1, 1, True), (1_600, 1, 1, True), (2_600, 1, 1, True), (2_601, 1, 1, True)], True),
        ([(0, 1, 1, True), (600, 2, 1, True), (1_200, 2, 1, True)], False),  # it moved
        ([(0, 1, 1, True), (600, 1, 2, True), (1_200, 1, 2, True)], False),  # a batch of skipped kinds
        ([(0, 1, 1, False), (9_000, 1, 1, False), (9_100, 1, 2, True), (10_000, 1, 2, True)], False),  # idle
    ],
)
def test_deadline_of_a_callback(looks: list[tuple[int, int, int, bool]], killed: bool) -> None:
    state = running()
    commands = []
    for ms, handled, turns, busy in looks:
        commands += decide(Looked("a", ms * MS, seen(handled, busy=busy, turns=turns), 50), state)
    assert [type(c) for c in commands] == ([Kill] if killed else [])


def test_redis_away_is_not_a_hang() -> None:
    state = running()
    for s in range(100):
        assert decide(Looked("a", s * NS_PER_S, seen(1, busy=True, away=True), 50), state) == []


def test_a_worker_that_stands_still_outside_of_a_callback_is_killed() -> None:
    """Stopped, or in a cgroup that is frozen: no callback was open, and it was called alive for ever."""
    state = running()
    for ms in range(50, 5_050, 50):
        assert decide(Looked("a", ms * MS, seen(), 50), state) == []
    (kill,) = decide(Looked("a", 5_050 * MS, seen(), 50), state)
    assert kill == Kill("a", "it stands still, outside of a callback, for more than 5 s")
    decide(Exited("a", 5_100 * MS, KILLED, ""), state)
    seat = state.seats["a"]
    assert (seat.phase, seat.reason) == (Phase.WAITING, kill.why)


@pytest.mark.parametrize(
    ("looks", "killed"),
    [
        # (every ms, how often, turns rise, away)
        ([(50, 400, True, False)], False),  # a quiet market
        ([(50, 90, False, False), (50, 400, False, True), (50, 90, False, False)], False),  # Redis away
        ([(50, 60, False, False), (9_000, 1, False, False), (50, 30, False, False)], False),  # we were frozen
        ([(50, 60, False, False), (9_000, 1, False, False), (50, 50, False, False)], True),
    ],
)
def test_what_is_no_standing_still(looks: list[tuple[int, int, bool, bool]], killed: bool) -> None:
    state, ms, turns, commands = running(), 0, 0, []
    for every_ms, times, rise, away in looks:
        for _ in range(times):
            ms, turns = ms + every_ms, turns + rise
            commands += decide(Looked("a", ms * MS, seen(turns=turns, away=away), 50), state)
    assert [type(c) for c in commands] == ([Kill] if killed else [])


def test_a_worker_that_starts_has_its_own_time_to_move() -> None:
    state = state_of("h1", ["a"], RULES)
    decide(LeaseGranted("a", 1, 0), state)
    decide(Due(0), state)
    for ms in range(50, 14_000, 50):
        assert decide(Looked("a", ms * MS, seen(ready=False), 50), state) == []


def test_memory_limit() -> None:
    (kill,) = decide(Looked("a", 1, seen(), 513), running())
    assert isinstance(kill, Kill) and "memory_max_mb" in kill.why


def test_slow_start_is_killed() -> None:
    state = state_of("h1", ["a"], RULES)
    decide(LeaseGranted("a", 1, 0), state)
    decide(Due(0), state)
    for s in range(1, 17):
        assert decide(Looked("a", s * NS_PER_S, seen(ready=False, busy=True), 50), state) == []
    assert [type(c) for c in decide(Looked("a", 17 * NS_PER_S, seen(ready=False, busy=True), 50), state)] == [
        Kill
    ]


def test_failures_back_off_and_latch() -> None:
    state = running()
    starts = []
    for n in range(3):
        at = n * 60 * NS_PER_S
        decide(Exited("a", at, EXIT_STRATEGY_FAILED, "ZeroDivisionError"), state)
        seat = state.seats["a"]
        starts.append((seat.start_at_ns - at) // MS if seat.phase is Phase.WAITING else None)
        decide(Due(at + 30 * NS_PER_S), state)
    assert starts == [500, 1_000, None]
    assert state.seats["a"].phase is Phase.OFF
    assert "failed 3 times" in state.seats["a"].reason and "ZeroDivisionError" in state.seats["a"].reason


def test_a_redis_that_lost_entries_slows_a_strategy_down_and_never_switches_it_off() -> None:
    state = running()
    seat = state.seats["a"]
    waits_s: list[float] = []
    now_ns = 0
    for _ in range(9):
        decide(Exited("a", now_ns, EXIT_ROLLED_BACK, "md:{MES} ends before our place"), state)
        waits_s.append((seat.start_at_ns - now_ns) / NS_PER_S)
        now_ns = seat.start_at_ns
        assert decide(Due(now_ns), state) == [Start("a", 7)]
    assert waits_s == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    decide(Exited("a", now_ns, EXIT_STRATEGY_FAILED, "ValueError"), state)
    assert len(seat.failures_ns) == 1
    assert seat.phase is Phase.WAITING


@pytest.mark.parametrize(("lived_s", "failures"), [(2, 1), (3, 0)])
def test_worker_that_others_killed_after_a_while_starts_again_at_once(lived_s: int, failures: int) -> None:
    state = running()
    decide(Exited("a", lived_s * NS_PER_S, -9, ""), state)
    assert len(state.seats["a"].failures_ns) == failures
    assert decide(Due(lived_s * NS_PER_S), state) == ([] if failures else [Start("a", 7)])


def test_worker_that_we_killed_has_failed_however_long_it_lived() -> None:
    state = running()
    decide(Looked("a", 60 * NS_PER_S, seen(), 1_000_000), state)
    decide(Exited("a", 60 * NS_PER_S, -9, ""), state)
    assert len(state.seats["a"].failures_ns) == 1


def test_refused_is_off_at_once() -> None:
    state = running()
    decide(Exited("a", 1, EXIT_REFUSED, "no module"), state)
    assert (state.seats["a"].phase, state.seats["a"].reason) == (Phase.OFF, "no module")


def test_fenced_worker_means_the_lease_is_elsewhere() -> None:
    state = running()
    assert decide(Exited("a", 1, EXIT_FENCED, ""), state) == []
    assert not state.seats["a"].ours


def test_lost_lease_kills() -> None:
    state = running()
    assert decide(LeaseLost("a"), state) == [Kill("a", "its lease was lost")]
    assert decide(Exited("a", 1, -9, ""), state) == []


def test_a_worker_that_is_asked_to_stop_again_has_no_more_time() -> None:
    """A host that was giving it back and was stopped itself began to wait anew."""
    state = running()
    assert decide(StopAsked(0), state) == [AskStop("a")]
    assert decide(StopAsked(2 * NS_PER_S), state) == []
    late_ns = RULES.stop_deadline_ns + 1
    assert decide(Looked("a", late_ns, seen(1, busy=True), 50), state) == [
        Kill("a", "it did not stop when asked")
    ]


@pytest.mark.parametrize("code", [KILLED, EXIT_FENCED])
def test_how_a_worker_of_a_lost_lease_ended_says_nothing_of_the_next_lease(code: int) -> None:
    """Granted again before its end was seen, the lease was forgotten, or the end counted as a failure."""
    state = running()
    assert decide(LeaseLost("a"), state) == [Kill("a", "its lease was lost")]
    decide(LeaseGranted("a", 8, 10), state)
    assert decide(Due(10), state) == [], "two of them would run"
    assert decide(Exited("a", 20, code, ""), state) == []
    assert decide(Due(30), state) == [Start("a", 8)]
    assert state.seats["a"].failures_ns == []


def test_a_lease_under_our_name_is_taken_whatever_our_share_is() -> None:
    """Who lives keeps others from a lease of his name: beyond his share it was nobody's, for ever."""
    state = running(("a",))
    state.seats["b"] = Seat("b")
    placed = Placed(10, {"b": "h1"}, frozenset({"h1", "h2"}))
    assert decide(placed, state) == [Acquire("b")]
    decide(LeaseGranted("b", 9, 10), state)
    assert decide(Placed(20, {}, frozenset({"h1", "h2"})), state) == [Release("b", 9)], "its share is one"


def test_instance_of_a_live_host_is_left_alone() -> None:
    state = state_of("h1", ["a", "b"], RULES)
    commands = decide(Placed(0, {"a": "h2", "b": ""}, frozenset({"h2"})), state)
    assert commands == [Acquire("b")]


def test_instances_of_a_dead_host_are_taken() -> None:
    state = state_of("h1", ["a", "b"], RULES)
    commands = decide(Placed(0, {"a": "h2", "b": "h2"}, frozenset()), state)
    assert {c.instance for c in commands if isinstance(c, Acquire)} == {"a", "b"}


@settings(max_examples=100, deadline=None)
@given(n=st.integers(0, 12), joins=st.lists(st.integers(0, 3), min_size=1, max_size=4), data=st.data())
def test_hosts_spread_evenly_and_never_share(n: int, joins: list[int], data: st.DataObject) -> None:
    """Hosts come one after the other; every one looks at the leases in any order; one dies at the end."""
    names = [f"i{k}" for k in range(n)]
    lease: dict[str, str] = dict.fromkeys(names, "")
    hosts: dict[str, State] = {}

    def turn(host: str) -> None:
        state = hosts[host]
        holders = {k: v for k, v in lease.items() if not state.seats[k].ours}
        for command in decide(Placed(0, holders, frozenset(hosts)), state):
            if isinstance(command, Acquire) and lease[command.instance] not in hosts:
                lease[command.instance] = host
                decide(LeaseGranted(command.instance, 1, 0), state)
            elif isinstance(command, Release):
                lease[command.instance] = ""

    def settle() -> None:
        for _ in range(30):
            for host in data.draw(st.permutations(sorted(hosts))):
                turn(host)

    for k, pause in enumerate(joins):
        hosts[f"h{k}"] = state_of(f"h{k}", names, RULES)
        for _ in range(pause):
            turn(f"h{k}")
    settle()
    for dead in [None, *sorted(hosts)[:1]]:
        if dead is not None and len(hosts) > 1:
            del hosts[dead]
            settle()
        counts = [sum(seat.ours for seat in state.seats.values()) for state in hosts.values()]
        assert sum(counts) == n
        assert max(counts) - min(counts) <= 1
        assert all(lease[name] in hosts for name in names)
