"""The feed between a real venue and a real server: simulator, SignalR, shell, bus."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from itertools import pairwise

import pytest

from services.feed.config import FeedConfig
from services.feed.shell import run as serve_feed
from shared.bus.bus import RedisBus
from shared.bus.port import Fenced
from shared.domain.control import SessionHealth, SessionState
from shared.domain.market import (
    Bar,
    BarsWanted,
    ContractResolved,
    Depth,
    FeedGap,
    FeedHealth,
    FeedState,
    MarketState,
    Quote,
    Trade,
)
from shared.domain.messages import Message
from shared.runtime.clock import SystemClock
from shared.runtime.config import BrokerSection, JulieSection
from shared.runtime.session import STATE_FIELD
from shared.wire import topics
from shared.wire.codec import decode, encode
from tests.support import real_hour
from tests.support.eventually import eventually
from tests.support.feed import Feed, running_feed
from tests.support.service_context import running, service_context
from tests.support.simulator import refusing, running_simulator
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.integration

SPEED = 60.0
TWO = {"symbols": ("MES", "MNQ"), "market_speed": SPEED}
SIMULATOR = {"symbols": ("MES", "MNQ"), "speed": SPEED}


async def health(feed: Feed, symbol: str) -> FeedHealth | None:
    value = await feed.bus.get(topics.quote(symbol))
    state = decode(b"market_state", value) if value else None
    return state.health if isinstance(state, MarketState) else None


async def live(feed: Feed, symbol: str) -> bool:
    return await health(feed, symbol) is FeedHealth.LIVE


def no_hole(messages: list[Message], interval_s: int = 60) -> bool:
    """Return whether every interval since the first quote has its one bar: the venue trades in each minute.

    Its made-up history before that has quiet minutes.
    """
    since_ns = next(m.ts_event_ns for m in messages if isinstance(m, Quote))
    opened = [m.ts_open_ns for m in messages if isinstance(m, Bar) and m.interval_s == interval_s]
    assert opened == sorted(set(opened))
    opened = [ts for ts in opened if ts + interval_s * 10**9 > since_ns]
    return all(b - a == interval_s * 10**9 for a, b in pairwise(opened))


def rebuilt(messages: list[Message], bars: list[Bar]) -> None:
    """Check every bar that was built from trades against the trades of the stream."""
    for bar in bars:
        if bar.source != "trades" or bar.partial:
            continue
        end_ns = bar.ts_open_ns + bar.interval_s * 10**9
        trades = [m for m in messages if isinstance(m, Trade) and bar.ts_open_ns <= m.ts_event_ns < end_ns]
        prices = [t.px for t in trades]
        assert (bar.open, bar.high, bar.low, bar.close) == (
            prices[0],
            max(prices),
            min(prices),
            prices[-1],
        )
        assert (bar.volume, bar.trades) == (sum(t.qty for t in trades), len(trades))


def test_two_instruments_over_one_link() -> None:
    async def scenario() -> None:
        with running_valkey() as server:
            async with (
                running_simulator(**SIMULATOR) as simulator,
                running_feed(simulator.url, server.address, julie=TWO, bar_intervals_s=(60, 300)) as feed,
            ):
                for symbol in ("MES", "MNQ"):
                    await eventually(lambda symbol=symbol: live(feed, symbol), what=f"{symbol} live")
                    await eventually(
                        lambda symbol=symbol: _trade_bars(feed, symbol, 2), within_s=20, what="live bars"
                    )
                assert feed.beat.ready or await eventually(lambda: feed.beat.ready)
                for symbol in ("MES", "MNQ"):
                    messages = await feed.stream(symbol)
                    kinds = Counter(type(m) for m in messages)
                    assert kinds[ContractResolved] == 1
                    assert kinds[FeedGap] == 2
                    assert min(kinds[Quote], kinds[Trade], kinds[Depth]) > 10
                    for interval_s in (60, 300):
                        bars = [m for m in messages if isinstance(m, Bar) and m.interval_s == interval_s]
                        assert no_hole(messages, interval_s)
                        assert not any(bar.partial for bar in bars[1:])
                        rebuilt(messages, bars)

    asyncio.run(scenario())


async def _trade_bars(feed: Feed, symbol: str, count: int) -> bool:
    bars = await feed.of(symbol, Bar)
    return sum(bar.source == "trades" and bar.interval_s == 60 for bar in bars) >= count


def test_unknown_symbol_is_named_and_the_others_go_on() -> None:
    async def scenario() -> None:
        with running_valkey() as server:
            async with (
                running_simulator(**SIMULATOR) as simulator,
                running_feed(
                    simulator.url, server.address, julie={"symbols": ("MES", "MSE"), "market_speed": SPEED}
                ) as feed,
            ):
                await eventually(lambda: live(feed, "MES"))
                await eventually(lambda: "'MSE'" in feed.beat.detail.get("MSE", ""))
                states = await feed.of("MSE", FeedState)
                assert states[-1].health is FeedHealth.UNKNOWN
                assert "MESZ6" in states[-1].reason or "MES" in states[-1].reason

    asyncio.run(scenario())


def test_lost_link_is_bracketed_and_its_bars_are_filled() -> None:
    async def scenario() -> None:
        with running_valkey() as server:
            async with (
                running_simulator(**SIMULATOR) as simulator,
                running_feed(simulator.url, server.address, julie=TWO) as feed,
            ):
                await eventually(lambda: _trade_bars(feed, "MES", 1), within_s=20)
                feed.shell._link.reconnect("pulled by the test")

                async def bracketed() -> bool:
                    gaps = await feed.of("MES", FeedGap)
                    return [g.ts_to_ns is None for g in gaps[2:4]] == [True, False]

                await eventually(bracketed, what="the gap's end")
                before = len(await feed.of("MES", Bar))

                async def more() -> bool:
                    return len(await feed.of("MES", Bar)) >= before + 3

                await eventually(more, within_s=20)
                messages = await feed.stream("MES")
                bars = [m for m in messages if isinstance(m, Bar)]
                assert no_hole(messages)
                assert not any(bar.partial for bar in bars)
                rebuilt(messages, bars)

    asyncio.run(scenario())


def test_restart_publishes_no_bar_twice() -> None:
    async def scenario() -> None:
        with running_valkey() as server:
            async with running_simulator(**SIMULATOR) as simulator:
                for _ in range(3):
                    async with running_feed(simulator.url, server.address, julie=TWO) as feed:
                        before = len(await feed.of("MES", Bar))

                        async def more(feed: Feed = feed, before: int = before) -> bool:
                            return len(await feed.of("MES", Bar)) >= before + 3

                        await eventually(more, within_s=20)
                        messages = await feed.stream("MES")
                assert no_hole(messages)

    asyncio.run(scenario())


FAST = 240.0


def test_interval_that_a_strategy_asks_for_is_published() -> None:
    """Before the wish, during it, and by the next feed: each bar once, and made of the minutes."""

    async def scenario() -> None:
        with running_valkey() as server:
            async with running_simulator(symbols=("MES",), speed=FAST) as simulator:
                julie = {"symbols": ("MES",), "market_speed": FAST}
                async with running_feed(simulator.url, server.address, julie=julie) as feed:
                    await eventually(lambda: _trade_bars(feed, "MES", 3), within_s=20)
                    assert not await _of_interval(feed, 120)
                    wish = BarsWanted(interval_s=120, symbols=["MES", "ES"])
                    bad = BarsWanted(interval_s=90, symbols=["MES"])
                    await feed.bus.hash_set(
                        topics.BARS_WANTED,
                        {"1001:two": encode(wish), "1001:odd": encode(bad), "1001:junk": b"300"},
                    )

                    async def live_ones(feed: Feed = feed) -> bool:
                        bars = await _of_interval(feed, 120)
                        return sum(bar.source == "trades" for bar in bars) >= 4

                    await eventually(live_ones, within_s=20, what="four bars of live minutes")
                    assert "90 s" in feed.beat.detail["alarm"]
                    assert "bars:wanted 1001:junk" in feed.beat.refused.words()
                async with running_feed(simulator.url, server.address, julie=julie) as feed:
                    before = len(await _of_interval(feed, 120))

                    async def goes_on(feed: Feed = feed) -> bool:
                        return len(await _of_interval(feed, 120)) >= before + 4

                    await eventually(goes_on, within_s=20, what="the next feed goes on")
                    messages = await feed.stream("MES")
                assert no_hole(messages)
                assert no_hole(messages, 120)
                folded(messages, 120)

    asyncio.run(scenario())


async def _of_interval(feed: Feed, interval_s: int) -> list[Bar]:
    return [bar for bar in await feed.of("MES", Bar) if bar.interval_s == interval_s]


def folded(messages: list[Message], interval_s: int) -> None:
    """Check each larger bar against the minutes of the stream."""
    minutes = [m for m in messages if isinstance(m, Bar) and m.interval_s == 60]
    larger = [m for m in messages if isinstance(m, Bar) and m.interval_s == interval_s]
    for bar in larger:
        end_ns = bar.ts_open_ns + interval_s * 10**9
        part = [m for m in minutes if bar.ts_open_ns <= m.ts_open_ns < end_ns]
        assert not bar.partial
        assert (bar.open, bar.close) == (part[0].open, part[-1].close)
        assert (bar.high, bar.low) == (max(m.high for m in part), min(m.low for m in part))
        assert bar.volume == sum(m.volume for m in part)


def test_trades_that_the_hub_refused_once_come_in_the_end() -> None:
    async def scenario() -> None:
        with running_valkey() as server, ExitStack() as refused:
            async with running_simulator(**SIMULATOR) as simulator:
                refused.enter_context(refusing(simulator.venue.market_hub, "SubscribeContractTrades"))
                async with running_feed(simulator.url, server.address, julie=TWO) as feed:

                    async def stale() -> bool:
                        states = await feed.of("MES", FeedState)
                        return any("SubscribeContractTrades" in state.reason for state in states)

                    await eventually(stale, within_s=20)
                    assert not await feed.of("MES", Trade)
                    refused.close()
                    await eventually(lambda: live(feed, "MES"), within_s=20)
                    await eventually(lambda: _trade_bars(feed, "MES", 3), within_s=20)
                    messages = await feed.stream("MES")
                assert no_hole(messages)

    asyncio.run(scenario())


def test_second_feed_fences_the_first() -> None:
    async def scenario() -> None:
        with running_valkey() as server:
            async with (
                running_simulator(**SIMULATOR) as simulator,
                running_feed(simulator.url, server.address, julie=TWO) as feed,
            ):
                await eventually(lambda: live(feed, "MES"))
                clock = SystemClock()
                other = RedisBus(server.address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
                await other.ready()
                await other.open(topics.md("MES"))
                await eventually(feed.task.done, what="the fenced feed ends")
                assert feed.task.exception() is not None
                assert _holds(feed.task.exception(), Fenced)
                await other.close()

    asyncio.run(scenario())


def test_second_feed_fences_the_first_in_a_silent_market() -> None:
    """The first one would go on telling its old prices, and the second one its new ones, by turns."""

    async def scenario() -> None:
        with running_valkey() as server:
            async with AsyncExitStack() as venue:
                simulator = await venue.enter_async_context(running_simulator(**SIMULATOR))
                async with running_feed(simulator.url, server.address, julie=TWO, backfill_hold_s=1) as feed:
                    await eventually(lambda: live(feed, "MES"))
                    await venue.aclose()

                    async def silent() -> bool:
                        counts = []
                        for _ in range(2):
                            counts.append([await feed.bus.length(topics.md(s)) for s in ("MES", "MNQ")])
                            await asyncio.sleep(1.5)
                        return counts[0] == counts[1]

                    await eventually(silent, within_s=20)
                    clock = SystemClock()
                    other = RedisBus(server.address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
                    await other.ready()
                    await other.open(topics.md("MES"))
                    await eventually(feed.task.done, what="the fenced feed ends")
                    assert _holds(feed.task.exception(), Fenced)
                    await other.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("said", [SessionHealth.RENEWING, SessionHealth.UNKNOWN])
def test_feed_starts_with_a_token_whatever_is_said_of_the_session(said: SessionHealth) -> None:
    """The broker may fail to confirm a token for hours, and take it all the time."""

    async def scenario() -> None:
        with running_valkey() as server:
            async with running_simulator(**SIMULATOR) as simulator:
                async with running_feed(simulator.url, server.address, julie=TWO) as first:
                    token = first.token
                broker = BrokerSection(rest_url=simulator.url, hub_url=f"{simulator.url}/hubs")
                julie = JulieSection.model_validate({"market_clock": "venue", **TWO})
                async with service_context(
                    server.address, "feed", FeedConfig.model_validate({}), julie=julie, broker=broker
                ) as context:
                    session = SessionState(
                        health=said, token_version=1, token_expires_at_ns=context.clock.now_ns() + 10**13,
                        ts_validated_ns=0, reason="", ts_ns=context.clock.now_ns(),
                    )  # fmt: skip
                    await context.bus.set(topics.SESSION_TOKEN, token.encode())
                    await context.bus.hash_set(topics.SESSION_STATE, {STATE_FIELD: encode(session)})
                    async with running(serve_feed(context)):
                        await eventually(lambda: context.beat.ready, within_s=20)

    asyncio.run(scenario())


def _holds(error: BaseException | None, kind: type) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_holds(part, kind) for part in error.exceptions)
    return isinstance(error, kind)


def test_redis_away_for_less_than_the_buffer_loses_nothing() -> None:
    async def scenario() -> None:
        with running_valkey() as server:
            async with (
                running_simulator(**SIMULATOR) as simulator,
                running_feed(simulator.url, server.address, julie=TWO) as feed,
            ):
                await eventually(lambda: live(feed, "MES"))
                taken = feed.shell.state.markets["MES"].trades
                server.pause()
                await eventually(lambda: feed.shell.state.markets["MES"].trades > taken + 50)
                server.resume()
                wanted = feed.shell.state.markets["MES"].trades

                async def all_there() -> bool:
                    return len(await feed.of("MES", Trade)) >= wanted

                await eventually(all_there)
                assert len(await feed.of("MES", FeedGap)) == 2

    asyncio.run(scenario())


def test_redis_away_for_longer_leaves_a_marked_gap_and_no_hole_in_the_bars() -> None:
    async def scenario() -> None:
        with running_valkey() as server:
            async with (
                running_simulator(**SIMULATOR) as simulator,
                running_feed(simulator.url, server.address, julie=TWO, pending_max=1_000) as feed,
            ):
                await eventually(lambda: live(feed, "MES"))
                await eventually(lambda: _trade_bars(feed, "MES", 1), within_s=20)
                server.pause()
                await eventually(lambda: feed.shell.state.markets["MES"].shedding, within_s=30)
                server.resume()
                await eventually(lambda: not feed.shell.state.markets["MES"].shedding)

                async def gaps_closed() -> bool:
                    gaps = await feed.of("MES", FeedGap)
                    return any("bus was away" in g.reason and g.ts_to_ns is not None for g in gaps)

                await eventually(gaps_closed)
                before = len(await feed.of("MES", Bar))

                async def more() -> bool:
                    return len(await feed.of("MES", Bar)) >= before + 4

                await eventually(more, within_s=20)
                assert no_hole(await feed.stream("MES"))

    asyncio.run(scenario())


@real_hour.needs_real_hour
def test_real_hour_is_in_the_stream_once_and_in_order() -> None:
    expected = real_hour.expected()

    async def scenario() -> list[Message]:
        with running_valkey() as server:
            async with (
                running_simulator(
                    source="replay", replay_file=real_hour.FILE, replay_symbol="ES", speed=600.0
                ) as simulator,
                running_feed(
                    simulator.url,
                    server.address,
                    julie={"symbols": ("ES",), "market_speed": 600.0},
                    bar_intervals_s=(60, 300),
                ) as feed,
            ):

                async def all_there() -> bool:
                    return (
                        feed.shell.state.markets["ES"].trades >= len(expected.trades)
                        and len(await feed.of("ES", Trade)) >= len(expected.trades)
                        and len(await feed.of("ES", Depth)) >= len(expected.depth)
                    )

                await eventually(all_there, within_s=60, what="the whole file")

                last_ns = real_hour.bars(300)["ts_open_ns"][-1]

                def last_bar() -> bool:
                    # Not from the stream: reading all of it holds up this loop, and with it the feed.
                    folders = feed.shell.state.markets["ES"].folders
                    return any(one.interval_s == 300 and one.published_ns >= last_ns for one in folders)

                await eventually(last_bar, within_s=30, what="the last bar")
                return await feed.stream("ES")

    messages = asyncio.run(scenario())
    quotes = [(m.bid_px, m.ask_px) for m in messages if isinstance(m, Quote)]
    changes = [quotes[0], *(b for a, b in pairwise(quotes) if a != b)]
    assert changes == [e.values for e in expected.quotes]
    assert [(m.px, m.qty) for m in messages if isinstance(m, Trade)] == [e.values for e in expected.trades]
    assert [(str(m.side), m.px, m.resting_qty) for m in messages if isinstance(m, Depth)] == [
        e.values for e in expected.depth
    ]
    for interval_s in (60, 300):
        ours = [
            (m.ts_open_ns, m.open, m.high, m.low, m.close, m.volume, m.trades)
            for m in messages
            if isinstance(m, Bar) and m.interval_s == interval_s
        ]
        assert ours == list(real_hour.bars(interval_s).iter_rows())
