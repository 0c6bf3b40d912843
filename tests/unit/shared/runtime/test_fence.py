from __future__ import annotations

import asyncio

import pytest

from shared.bus.port import Fenced
from shared.runtime.fence import AGE_S_MAX, Fence
from tests.support.clocks import ManualClock


class Bus:
    def __init__(self) -> None:
        self.asked = 0
        self.silent = False
        self.taken_over = False
        self.slow: asyncio.Event | None = None

    async def ask(self) -> None:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.slow is not None:
            await self.slow.wait()
        if self.taken_over:
            raise Fenced("epoch 1 is older than 2")


def test_a_fresh_answer_is_not_asked_for_again() -> None:
    async def scenario() -> None:
        clock, bus = ManualClock(), Bus()
        fence = Fence(clock)
        fence.begin(bus.ask)
        assert not fence.fresh, "nobody has confirmed anything yet"
        assert await fence.confirmed(1.0)
        clock.advance(AGE_S_MAX)
        assert await fence.confirmed(1.0)
        assert bus.asked == 1
        clock.advance(0.001)
        assert not fence.fresh
        assert await fence.confirmed(1.0)
        assert bus.asked == 2

    asyncio.run(scenario())


def test_after_a_long_sleep_no_and_silence_are_told_apart() -> None:
    async def scenario() -> None:
        clock, bus = ManualClock(), Bus()
        fence = Fence(clock)
        fence.begin(bus.ask)
        await fence.ask()
        clock.advance(60)
        bus.silent = True
        assert not await fence.confirmed(0.0)
        bus.silent, bus.taken_over = False, True
        with pytest.raises(Fenced):
            await fence.confirmed(1.0)

    asyncio.run(scenario())


def test_an_answer_that_waited_for_us_to_wake_is_none() -> None:
    """Frozen while the answer was on its way: another process may have taken over since."""

    async def scenario() -> None:
        clock, answers = ManualClock(), [None, Fenced("epoch 1 is older than 2")]

        async def ask() -> None:
            clock.advance(5)
            answer = answers.pop(0)
            if answer is not None:
                raise answer

        fence = Fence(clock)
        fence.begin(ask)
        with pytest.raises(Fenced):
            await fence.confirmed(60.0)

    asyncio.run(scenario())


def test_no_answer_from_before_the_bus_was_lost_counts() -> None:
    """Found by simulation: an older copy of Redis came back, and its intent left on the answer before."""

    async def scenario() -> None:
        clock, bus = ManualClock(), Bus()
        fence = Fence(clock)
        fence.begin(bus.ask)
        await fence.ask()
        fence.forget()
        assert not fence.fresh
        bus.slow = asyncio.Event()
        under_way = asyncio.create_task(fence.ask())
        await asyncio.sleep(0)
        fence.forget()
        bus.slow.set()
        await under_way
        assert not fence.fresh, "it may have been said before"
        assert await fence.confirmed(1.0)
        assert fence.fresh

    asyncio.run(scenario())
