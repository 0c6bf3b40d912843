from __future__ import annotations

import asyncio

import pytest

from shared.runtime.schedule import LATENESS_WINDOW_TURNS, Progress, turns
from tests.support.clocks import ManualClock


def run_turns(work_s: list[float], *, interval_s: float = 10) -> tuple[list[tuple[int, float]], Progress]:
    """Run turns that take so long; return (turn, when it began) and what was recorded."""
    clock, progress = ManualClock(), Progress(interval_s=interval_s)
    begun: list[tuple[int, float]] = []

    async def work() -> None:
        async for turn in turns(clock, interval_s, progress):
            if len(begun) == len(work_s):
                return
            begun.append((turn, clock.elapsed_ns / 1e9))
            clock.advance(work_s[len(begun) - 1])

    asyncio.run(work())
    return begun, progress


@pytest.mark.parametrize(
    ("work_s", "begun", "skipped"),
    [
        ([0, 0, 0], [(0, 0), (1, 10), (2, 20)], 0),
        ([4, 9, 1], [(0, 0), (1, 10), (2, 20)], 0),  # what a turn takes does not move the next one
        ([12, 1, 1], [(0, 0), (2, 20), (3, 30)], 1),  # turn 1 passed while turn 0 ran
        ([35, 1], [(0, 0), (4, 40)], 3),
    ],
)
def test_schedule_is_absolute(work_s: list[float], begun: list[tuple[int, float]], skipped: int) -> None:
    seen, progress = run_turns(work_s)
    assert seen == begun
    assert progress.skipped == skipped


def test_lateness_is_measured_against_the_schedule() -> None:
    clock, progress = ManualClock(), Progress()

    class Lazy(ManualClock):
        async def sleep(self, seconds: float) -> None:
            await clock.sleep(seconds + 0.25)

        def monotonic_ns(self) -> int:
            return clock.monotonic_ns()

    async def work() -> None:
        async for turn in turns(Lazy(), 10, progress):
            if turn == 2:
                return

    asyncio.run(work())
    assert list(progress.lateness_ms) == [250, 250, 250]


def test_duty_is_bounded_and_readable() -> None:
    progress = Progress(interval_s=1)
    for n in range(5_000):
        progress.was_late(n)
    duty = progress.duty()
    assert len(progress.lateness_ms) == LATENESS_WINDOW_TURNS
    assert (duty.lateness_ms_last, duty.lateness_ms_max, duty.lateness_ms_p99) == (4_999, 4_999, 4_990)


def test_waiting_counts_from_its_beginning_and_ends_with_work() -> None:
    progress = Progress()
    progress.waits(100)
    progress.waits(200)
    assert progress.duty().waiting_since_ns == 100
    progress.did(300, count=4)
    duty = progress.duty()
    assert (duty.waiting_since_ns, duty.done, duty.ts_done_ns) == (0, 4, 300)
