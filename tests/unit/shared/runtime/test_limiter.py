from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from shared.bus.port import BusAway
from shared.runtime.clock import NS_PER_S
from shared.runtime.config import BrokerSection
from shared.runtime.limiter import (
    AWAY_BELIEVED_S,
    GENERAL_WINDOW_S,
    HISTORY_WINDOW_S,
    LOCAL_SHARE,
    SPARE_KEPT_S,
    SPARES_AFTER_S,
    SharedLimiter,
)
from tests.support.clocks import ManualClock


class CountedBudget:
    """The bus's part of the limiter: answers waits in order, then grants."""

    def __init__(self, *waits_s: float, away: bool = False) -> None:
        self.waits_s = list(waits_s)
        self.away = away
        self.asked: list[dict[str, Any]] = []
        self.paused: list[tuple[str, float]] = []
        self.said: list[tuple[str, bytes]] = []
        self.known: dict[str, float] = {}

    async def budget(self, name: str, *, last: str, **asked: Any) -> float | None:
        if self.away:
            raise BusAway("away")
        if last and last not in self.known:
            return None
        self.asked.append({"name": name, **asked})
        if not self.waits_s:
            self.known[asked["member"]] = 0.0
        return self.waits_s.pop(0) if self.waits_s else 0.0

    async def budget_recall(self, name: str, window_s: float, granted: Mapping[str, float]) -> None:
        self.known.update(granted)

    async def budget_pause(self, name: str, seconds: float) -> None:
        if self.away:
            raise BusAway("away")
        self.paused.append((name, seconds))

    async def publish(self, channel: str, value: bytes) -> None:
        self.said.append((channel, value))

    async def subscribe(self, channels: list[str]) -> AsyncIterator[tuple[str, bytes]]:
        for said in self.said:
            if said[0] in channels:
                yield said


def make_limiter(
    bus: CountedBudget, clock: ManualClock, *, spares: int = 0, blind: bool = False
) -> SharedLimiter:
    return SharedLimiter(
        bus=bus,  # type: ignore[arg-type]
        clock=clock,
        broker=BrokerSection(user_name="demo"),
        process="feed",
        spares=spares,
        blind=lambda: blind,
    )


def test_waits_as_long_as_the_budget_says() -> None:
    bus, clock = CountedBudget(1.5, 0.25), ManualClock()
    asyncio.run(make_limiter(bus, clock).acquire("general", False))
    assert clock.slept_s == [1.5, 0.25]
    assert len(bus.asked) == 3


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "general",
            {"name": "demo.general", "requests_max": 190, "window_s": GENERAL_WINDOW_S, "reserve": 50},
        ),
        ("history", {"name": "demo.history", "requests_max": 45, "window_s": HISTORY_WINDOW_S, "reserve": 0}),
    ],
)
def test_each_kind_has_its_own_window(kind: Any, expected: dict[str, object]) -> None:
    bus = CountedBudget()
    asyncio.run(make_limiter(bus, ManualClock()).acquire(kind, True))
    (asked,) = bus.asked
    assert {name: asked[name] for name in expected} == expected
    assert asked["urgent"] is True


@pytest.mark.parametrize(("blind", "reserve"), [(True, 30), (False, 50)])
def test_who_is_blind_goes_before_those_who_see(blind: bool, reserve: int) -> None:
    bus = CountedBudget()
    limiter = make_limiter(bus, ManualClock(), blind=blind)
    asyncio.run(limiter.acquire("general", False))
    assert bus.asked[0]["reserve"] == reserve


def test_every_request_is_a_member_of_its_own() -> None:
    """Two requests with one name would count as one."""
    bus, clock = CountedBudget(1.0), ManualClock()
    limiter = make_limiter(bus, clock)

    async def work() -> None:
        await limiter.acquire("general", False)
        await limiter.acquire("general", False)

    asyncio.run(work())
    assert len({asked["member"] for asked in bus.asked}) == 3


def test_local_share_while_the_bus_is_away() -> None:
    """Exits go on without Redis, within what each process may take on its own."""
    clock = ManualClock()
    limiter = make_limiter(CountedBudget(away=True), clock)

    async def work() -> None:
        for _ in range(LOCAL_SHARE):
            await limiter.acquire("general", True)
        assert clock.elapsed_ns == 0
        await limiter.acquire("general", True)
        assert clock.elapsed_ns > 0

    asyncio.run(work())


def test_a_used_up_share_does_not_outlast_the_outage() -> None:
    """One lost reply, then a burst: the next request waited for the local window while Redis had room."""
    clock = ManualClock()
    bus = CountedBudget(away=True)
    limiter = make_limiter(bus, clock)

    async def work() -> None:
        for _ in range(LOCAL_SHARE - LOCAL_SHARE // 2):
            await limiter.acquire("general", False)
        bus.away = False
        await limiter.acquire("general", False)

    asyncio.run(work())
    assert clock.elapsed_ns == round(AWAY_BELIEVED_S * NS_PER_S)
    assert len(bus.asked) == 1


def test_pause_reaches_every_process() -> None:
    bus = CountedBudget()
    asyncio.run(make_limiter(bus, ManualClock()).pause("general", 12))
    assert bus.paused == [("demo.general", 12)]


def test_pause_holds_here_while_the_bus_is_away() -> None:
    clock = ManualClock()
    limiter = make_limiter(CountedBudget(away=True), clock)

    async def work() -> None:
        await limiter.pause("general", 12)
        await limiter.acquire("general", True)

    asyncio.run(work())
    assert clock.elapsed_ns >= 12_000_000_000


def test_spare_needs_no_question() -> None:
    bus, clock = CountedBudget(), ManualClock()
    limiter = make_limiter(bus, clock, spares=1)

    async def story() -> None:
        keeping = asyncio.create_task(limiter.keep_spares())
        await asyncio.sleep(0)
        assert len(bus.asked) == 1
        await limiter.acquire("general", False)
        assert len(bus.asked) == 1
        await limiter.acquire("general", False)
        assert len(bus.asked) == 2
        keeping.cancel()

    asyncio.run(story())


class Standing(ManualClock):
    """Whoever sleeps does so until cancelled."""

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await asyncio.Event().wait()


def test_a_process_that_starts_takes_none_in_its_first_moments() -> None:
    bus, clock = CountedBudget(), Standing()

    async def story() -> None:
        keeping = asyncio.create_task(make_limiter(bus, clock, spares=1).keep_spares())
        await asyncio.sleep(0)
        assert clock.slept_s == [SPARES_AFTER_S] and bus.asked == []
        keeping.cancel()

    asyncio.run(story())


def test_old_spare_is_not_used() -> None:
    bus, clock = CountedBudget(), ManualClock()
    limiter = make_limiter(bus, clock, spares=1)

    async def story() -> None:
        keeping = asyncio.create_task(limiter.keep_spares())
        await asyncio.sleep(0)
        clock.advance(SPARE_KEPT_S + 1)
        await limiter.acquire("general", False)
        assert len(bus.asked) == 2
        keeping.cancel()

    asyncio.run(story())


def test_who_keeps_spares_ends_when_told_to_in_the_moment_in_which_one_is_used() -> None:
    """Found by simulation: it went on for ever, and the process that had failed waited for it."""

    async def scenario() -> None:
        limiter = make_limiter(CountedBudget(), ManualClock(), spares=1)
        keeping = asyncio.create_task(limiter.keep_spares())
        for _ in range(5):
            await asyncio.sleep(0)
        await limiter.acquire("general", False)
        keeping.cancel()
        done, _ = await asyncio.wait({keeping}, timeout=5.0)
        assert done and keeping.cancelled()

    asyncio.run(scenario())


def test_pause_of_another_process_takes_spares_back() -> None:
    bus, clock = CountedBudget(), ManualClock()
    limiter, other = make_limiter(bus, clock, spares=1), make_limiter(bus, clock)

    async def story() -> None:
        keeping = asyncio.create_task(limiter.keep_spares())
        await asyncio.sleep(0)
        await other.pause("general", 5.0)
        assert bus.said == [("pauses:{demo.general}", b"5000")]
        await limiter.hear_pauses()
        await limiter.acquire("general", False)
        assert len(bus.asked) == 2
        keeping.cancel()

    asyncio.run(story())


def test_pause_takes_spares_back() -> None:
    bus, clock = CountedBudget(), ManualClock()
    limiter = make_limiter(bus, clock, spares=1)

    async def story() -> None:
        keeping = asyncio.create_task(limiter.keep_spares())
        await asyncio.sleep(0)
        await limiter.pause("general", 5.0)
        await limiter.acquire("general", False)
        assert len(bus.asked) == 2
        keeping.cancel()

    asyncio.run(story())


def test_places_that_redis_has_lost_are_counted_again() -> None:
    bus, clock = CountedBudget(), ManualClock()
    limiter = make_limiter(bus, clock)

    async def story() -> None:
        for _ in range(3):
            await limiter.acquire("general", False)
            clock.advance(25.0)
        lost = list(bus.known)
        bus.known.clear()
        await limiter.acquire("general", False)
        assert list(bus.known)[:2] == lost[1:]  # the first is out of the window
        assert [bus.known[member] for member in lost[1:]] == [50.0, 25.0]
        assert len(bus.known) == 3

    asyncio.run(story())


def test_what_was_sent_while_redis_was_away_is_counted_when_it_is_back() -> None:
    bus, clock = CountedBudget(away=True), ManualClock()
    limiter = make_limiter(bus, clock)

    async def story() -> None:
        await limiter.acquire("general", True)
        bus.away = False
        clock.advance(AWAY_BELIEVED_S)
        await limiter.acquire("general", True)
        assert sorted(bus.known.values()) == [0.0, AWAY_BELIEVED_S]

    asyncio.run(story())


def test_nobody_relies_on_a_place_that_redis_may_have_dropped() -> None:
    bus, clock = CountedBudget(), ManualClock()
    limiter = make_limiter(bus, clock)

    async def story() -> None:
        await limiter.acquire("general", False)
        clock.advance(GENERAL_WINDOW_S - 1.0)
        bus.known.clear()
        await limiter.acquire("general", False)
        assert len(bus.known) == 1

    asyncio.run(story())
