"""What the shell asks before it publishes: the rest of it is tried with a real bus (`test_feed_chain`)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.feed.config import FeedConfig
from services.feed.events import PublishState
from services.feed.outlet import Outlet
from services.feed.shell import CONFIRMED_NS, Shell
from shared.broker.port import MarketPort
from shared.bus.port import Fenced
from shared.domain.market import FeedHealth, MarketState
from shared.runtime.config import JulieSection
from shared.runtime.service import Context

VIEW = MarketState(
    symbol="MES", contract_id="CON.F.US.MES.H26", health=FeedHealth.LIVE, bid_px=5000.0, ask_px=5000.25,
    last_px=None, crossed=False, tick_size="0.25", tick_value="1.25", ts_event_ns=1, ts_asof_ns=1,
)  # fmt: skip


class Bus:
    def __init__(self) -> None:
        self.published: list[str] = []

    async def set_and_publish(self, key: str, channel: str, value: bytes) -> None:
        self.published.append(key)
        raise asyncio.CancelledError  # one is enough


class FencedWriter:
    last_seq = acked_seq = 0

    def append(self, message: object) -> int: ...  # type: ignore[empty-body]

    async def check(self) -> None:
        raise Fenced("another feed has taken over")


def make_shell(bus: Bus) -> Shell:
    context = SimpleNamespace(
        clock=SimpleNamespace(monotonic_ns=lambda: 10 * CONFIRMED_NS), bus=bus, config=FeedConfig(),
        julie=JulieSection(symbols=("MES",)),
    )  # fmt: skip
    shell = Shell(
        cast(Context[FeedConfig], context), cast(MarketPort, SimpleNamespace(market_link=lambda: None))
    )
    shell._outlets["MES"] = Outlet("MES", cast(Any, FencedWriter()), 1_000)
    shell._perform(PublishState(VIEW))
    return shell


def test_who_has_not_heard_for_long_that_he_still_writes_asks_before_he_vouches() -> None:
    bus = Bus()
    with pytest.raises(Fenced):
        asyncio.run(make_shell(bus)._publish_views())
    assert bus.published == []


def test_who_was_frozen_while_he_asked_asks_again() -> None:
    """The answer from before has waited for him to wake."""
    bus, now_ns = Bus(), 10 * CONFIRMED_NS

    class Asked(FencedWriter):
        times = 0

        async def check(self) -> None:
            nonlocal now_ns
            self.times += 1
            if self.times > 1:
                raise Fenced("another feed has taken over")
            now_ns += 5 * CONFIRMED_NS

    shell = make_shell(bus)
    shell._clock = cast(Any, SimpleNamespace(monotonic_ns=lambda: now_ns))
    shell._outlets["MES"] = Outlet("MES", cast(Any, Asked()), 1_000)
    with pytest.raises(Fenced):
        asyncio.run(shell._publish_views())
    assert bus.published == []


def test_what_has_waited_for_him_to_wake_is_not_published() -> None:
    """The clock was set back while he was frozen: by its time it looked like a view of now."""
    bus, now_ns = Bus(), 10 * CONFIRMED_NS

    class Asked(FencedWriter):
        times = 0

        async def check(self) -> None:
            nonlocal now_ns
            self.times += 1
            now_ns += 5 * CONFIRMED_NS if self.times == 1 else 0

    shell = make_shell(bus)
    shell._clock = cast(Any, SimpleNamespace(monotonic_ns=lambda: now_ns))
    shell._outlets["MES"] = Outlet("MES", cast(Any, Asked()), 1_000)

    async def scenario() -> None:
        task = asyncio.create_task(shell._publish_views())
        for _ in range(10):
            await asyncio.sleep(0)
        assert bus.published == []
        shell._perform(PublishState(VIEW))
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert bus.published == ["quote:{MES}"]


def test_who_has_heard_it_just_now_does_not_ask() -> None:
    bus = Bus()
    shell = make_shell(bus)
    shell._confirmed_mono_ns = 10 * CONFIRMED_NS
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(shell._publish_views())
    assert bus.published == ["quote:{MES}"]
