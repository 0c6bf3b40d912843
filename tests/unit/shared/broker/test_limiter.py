from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.limiter import LocalLimiter, SlidingWindow

SECOND = 1_000_000_000


class HandClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.time_ns = 0
        self.slept: list[float] = []

    def now_ns(self) -> int:
        return self.time_ns

    def monotonic_ns(self) -> int:
        return self.time_ns

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time_ns += round(seconds * SECOND)


@given(st.lists(st.tuples(st.integers(0, 5 * SECOND), st.booleans()), max_size=80))
@pytest.mark.proves("I-25")
def test_no_window_ever_holds_more_than_the_limit(steps: list[tuple[int, bool]]) -> None:
    window = SlidingWindow(requests_max=5, window_s=10, reserve=2)
    now_ns = 0
    granted: list[tuple[int, bool]] = []
    for pause_ns, urgent in steps:
        now_ns += pause_ns
        wait_ns = window.take(now_ns, urgent=urgent)
        if wait_ns == 0:
            granted.append((now_ns, urgent))
        else:
            now_ns += wait_ns  # what it said is enough when nobody else comes
            assert window.take(now_ns, urgent=urgent) == 0
            granted.append((now_ns, urgent))
        recent = [kind for time_ns, kind in granted if now_ns - 10 * SECOND < time_ns]
        assert len(recent) <= 5
        if not urgent:
            assert len(recent) <= 3


@pytest.mark.proves("I-25")
def test_reserve_is_for_what_is_urgent() -> None:
    window = SlidingWindow(requests_max=3, window_s=10, reserve=1)
    assert [window.take(0, urgent=False) for _ in range(3)] == [0, 0, 10 * SECOND]
    assert [window.take(0, urgent=True) for _ in range(2)] == [0, 10 * SECOND]


def test_pause_holds_everything_and_only_grows() -> None:
    window = SlidingWindow(requests_max=3, window_s=10, reserve=1)
    window.pause(0, 5.0)
    window.pause(0, 2.0)
    assert window.take(SECOND, urgent=True) == 4 * SECOND
    assert window.take(5 * SECOND, urgent=False) == 0


def test_limiter_waits_and_history_has_its_own_window() -> None:
    clock = HandClock()
    limiter = LocalLimiter(clock=clock, sleep=clock.sleep, general_max=3, history_max=1, urgent_reserve=1)

    async def scenario() -> None:
        await limiter.acquire("general", urgent=False)
        await limiter.acquire("general", urgent=False)
        await limiter.acquire("history", urgent=False)
        assert clock.slept == []
        await limiter.acquire("general", urgent=True)
        assert clock.slept == []
        await limiter.acquire("general", urgent=False)
        assert clock.slept == [60.0]
        await limiter.pause("history", 100.0)
        await limiter.acquire("history", urgent=False)
        assert clock.slept == [60.0, 100.0]

    asyncio.run(scenario())


def test_ordinary_requests_keep_their_order_and_an_urgent_one_passes() -> None:
    clock = HandClock()
    done: list[str] = []
    gate = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await gate.wait()
        await clock.sleep(seconds)

    limiter = LocalLimiter(clock=clock, sleep=sleep, general_max=2, urgent_reserve=1)

    async def ask(name: str, urgent: bool) -> None:
        await limiter.acquire("general", urgent)
        done.append(name)

    async def scenario() -> None:
        waiting = [asyncio.create_task(ask(name, False)) for name in ("a", "b", "c")]
        waiting.append(asyncio.create_task(ask("cancel", True)))
        for _ in range(10):  # every task runs until it waits
            await asyncio.sleep(0)
        assert done == ["a", "cancel"]
        gate.set()
        await asyncio.gather(*waiting)
        assert done == ["a", "cancel", "b", "c"]

    asyncio.run(scenario())


@pytest.mark.parametrize("reserve", [5, -1])
def test_reserve_must_leave_room(reserve: int) -> None:
    with pytest.raises(AssertionError):
        SlidingWindow(requests_max=5, window_s=1, reserve=reserve)
