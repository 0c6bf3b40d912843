from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.market_time import WINDOW_NS, MarketTime

S = 10**9


@given(
    st.lists(st.tuples(st.integers(0, 5 * S), st.integers(0, 3 * S)), min_size=1, max_size=50),
    st.sampled_from([1.0, 2.0, 100.0]),
)
def test_estimate_is_never_ahead_of_the_venue(steps: list[tuple[int, int]], speed: float) -> None:
    """Events are told late by any delay: the estimate may lag, but a bar is never closed early."""
    time = MarketTime(venue=True, speed=speed)
    mono_ns = 10 * S
    for step_ns, delay_ns in steps:
        mono_ns += step_ns
        time.observe(int((mono_ns - delay_ns) * speed), mono_ns)
        estimate_ns = time.now(0, mono_ns)
        assert estimate_ns is not None
        assert estimate_ns <= mono_ns * speed + 1


def test_least_delayed_event_counts() -> None:
    time = MarketTime(venue=False)
    time.observe(100 * S, 10 * S)
    time.observe(100 * S, 11 * S)  # a second late
    assert time.now(0, 12 * S) == 102 * S


def test_old_estimates_are_forgotten() -> None:
    time = MarketTime(venue=False)
    time.observe(100 * S, 10 * S)
    for at_s in (41, 72):
        time.observe((at_s + 85) * S, at_s * S)  # five seconds behind from now on
    assert time.now(0, 72 * S) == 157 * S
    assert WINDOW_NS == 30 * S


def test_another_date_after_a_new_connection() -> None:
    time = MarketTime(venue=True)
    time.observe(10_000 * S, 1 * S)
    time.restart()
    time.observe(500 * S, 2 * S)
    assert time.now(0, 3 * S) == 501 * S


def test_wall_clock_only_without_events_and_never_for_a_venue_of_its_own_date() -> None:
    assert MarketTime(venue=False).now(7, 1) == 7
    assert MarketTime(venue=True).now(7, 1) is None


def test_the_brokers_word_beats_our_wall_clock_and_events_beat_both() -> None:
    time = MarketTime(venue=False)
    time.tell(3_600 * S, 1 * S)
    assert time.now(7, 2 * S) == 3_601 * S
    time.observe(3_605 * S, 3 * S)
    assert time.now(7, 3 * S) == 3_605 * S


def test_old_answers_do_not_pull_the_estimate_back() -> None:
    time = MarketTime(venue=True, speed=10.0)
    time.tell(1_000 * S, 1 * S)
    time.tell(1_001 * S, 2 * S)  # carried on in real time by the border; the venue is ten times faster
    assert time.now(0, 2 * S) == 1_010 * S
