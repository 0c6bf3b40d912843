"""The market hub of the simulation, and what the checkers of the feed must not let pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from proof.simulation.checkers.feed import APPENDED_S, CONFIRMED_S, HEAD, LIVE_WITHIN_S, MD, QUOTES, READ_S
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.market_hub import MarketHub, SimMarketLink
from proof.simulation.plan import FeedPlan, Plan
from proof.simulation.scaled import PROBE_WAIT_S, STALE_AFTER_S
from proof.simulation.swarm import draw
from proof.simulation.venue import SYMBOL
from proof.simulation.world import World
from services.simulator.bars import MINUTE_NS
from shared.broker.port import LinkDown, LinkUp
from shared.domain.instrument import Instrument
from shared.domain.market import Bar, FeedGap, FeedHealth, MarketState, Quote, Trade
from shared.wire.codec import encode, kind_of

UP = LinkUp(connection=1, ts_recv_ns=0)
DOWN = LinkDown(reason="reset", retry_in_ns=0, planned=False, ts_recv_ns=0)
GAP = FeedGap(symbol=SYMBOL, reason="start", ts_from_ns=None, ts_to_ns=None, ts_recv_ns=0)


async def nothing(_: Incarnation) -> None: ...


@pytest.fixture
def world() -> Iterator[World]:
    """A world with a feed that stands still: what happens in it is what a test does."""
    one = World(Plan(seed=1, feed=FeedPlan(on=True, begins_s=40)))
    process = one.machine.add("feed", nothing)
    process.incarnations.append(Incarnation(process, 1))
    one.judge.streams.writers[HEAD] = feed(one)
    yield one
    one.loop.close()


def feed(world: World) -> Incarnation:
    return world.machine.processes["feed"].incarnations[0]


def hub(world: World) -> MarketHub:
    assert world.venue.market is not None
    return world.venue.market


def violated(world: World) -> set[str]:
    return set(world.judge.record.violations)


def quote(world: World, bid: float = 5000.0, **fields: Any) -> Quote:
    told = {"bid_px": bid, "ask_px": bid + 0.25, **fields}
    return Quote(symbol=SYMBOL, ts_event_ns=world.clock.true_ns() + round(bid), ts_recv_ns=0, **told)


def hear(world: World, *events: Quote | Trade) -> None:
    world.judge.feed.heard(feed(world), events, world.loop.now_s)


def write(world: World, *messages: msgspec.Struct) -> None:
    for message in messages:
        seq = world.judge.feed._read + 1
        world.redis.do(["XADD", MD, f"{seq}-{seq}", kind_of(message), encode(message)])
        world.judge.feed.wrote(feed(world))


def publish(world: World, bid: float | None = 5000.0, health: FeedHealth = FeedHealth.LIVE) -> None:
    ask = None if bid is None else bid + 0.25
    state = MarketState(
        symbol=SYMBOL, contract_id="MES", health=health, bid_px=bid, ask_px=ask, last_px=None,
        crossed=False, tick_size="0.25", tick_value="1.25", ts_event_ns=world.clock.true_ns(),
        ts_asof_ns=world.clock.now_ns(),
    )  # fmt: skip
    world.judge.feed.published(feed(world), [b"PUBLISH", QUOTES, encode(state)], 1)


def pass_time(world: World, seconds: float) -> None:
    for _ in range(round(seconds / 0.25)):
        world.loop.now_s += 0.25
        world.judge.feed.tick(0.25)


# -- the stream ---------------------------------------------------------------------


def test_what_was_told_is_in_the_stream_once_in_order_and_as_it_was(world: World) -> None:
    first, second = quote(world, 5000.0), quote(world, 5000.25)
    hear(world, first, second)
    write(world, GAP, first, second)
    assert not violated(world)


@pytest.mark.parametrize("rows", [(0, 0), (1,), (0, 2), (1, 0)])
def test_what_is_repeated_missing_changed_or_turned_round_is_found(
    world: World, rows: tuple[int, ...]
) -> None:
    first, second = quote(world, 5000.0), quote(world, 5000.25)
    hear(world, first)
    write(world, GAP, first)
    hear(world, second, third := quote(world, 5001.0))
    others = (second, third, msgspec.structs.replace(second, bid_px=4999.0))
    write(world, *(others[row] for row in rows))
    assert violated(world) == {"I-14"}


def test_a_gap_is_marked_at_the_start_and_after_a_fall(world: World) -> None:
    hear(world, first := quote(world))
    write(world, first)
    assert world.judge.record.violations == {"I-14": 1}
    world.judge.feed.linked(feed(world), UP)
    world.judge.feed.linked(feed(world), DOWN)
    hear(world, second := quote(world, 5001.0))
    write(world, second)
    assert world.judge.record.violations == {"I-14": 2}
    world.judge.feed.linked(feed(world), DOWN)
    hear(world, third := quote(world, 5002.0))
    write(world, GAP, third)
    assert world.judge.record.violations == {"I-14": 2}


def test_a_sparse_quote_is_merged_and_one_that_changes_nothing_is_no_message(world: World) -> None:
    first = quote(world)
    sparse = Quote(symbol=SYMBOL, ts_event_ns=first.ts_event_ns + 1, ts_recv_ns=0, ask_px=5000.5)
    hear(world, first, first, sparse)
    write(world, GAP, first, msgspec.structs.replace(sparse, bid_px=5000.0))
    assert not violated(world)


@pytest.mark.parametrize(("seconds", "broken"), [(APPENDED_S, set()), (2 * APPENDED_S + 0.5, {"I-14"})])
def test_what_was_taken_comes_to_the_stream_in_time(world: World, seconds: float, broken: set[str]) -> None:
    hear(world, quote(world))
    pass_time(world, seconds)
    assert violated(world) == broken


def test_a_bar_is_what_the_market_made_or_says_that_it_is_not_whole(world: World) -> None:
    made = hub(world).bars.minutes[0]
    opened, high, low, close = (0.25 * one for one in (made.open, made.high, made.low, made.close))
    bar = Bar(
        symbol=SYMBOL, interval_s=60, ts_open_ns=made.open_ns, open=opened, high=high, low=low, close=close,
        volume=made.volume, ts_recv_ns=0,
    )  # fmt: skip
    write(world, bar)
    assert not violated(world)
    later = msgspec.structs.replace(bar, ts_open_ns=bar.ts_open_ns + MINUTE_NS, volume=bar.volume + 99)
    write(world, msgspec.structs.replace(later, partial=True))
    assert not violated(world)
    write(world, msgspec.structs.replace(later, ts_open_ns=later.ts_open_ns + MINUTE_NS), bar)
    assert world.judge.record.violations == {"I-14": 2}


# -- the conflated state ------------------------------------------------------------


def test_live_are_only_the_prices_that_came(world: World) -> None:
    world.judge.feed.linked(feed(world), UP)
    hear(world, quote(world))
    publish(world)
    assert world.market_ns() == world.clock.true_ns()
    assert not violated(world)
    world.judge.feed.linked(feed(world), DOWN)
    pass_time(world, 1)
    publish(world)
    assert violated(world) == {"I-4"}


def test_live_is_no_market_that_trades_unheard_for_long(world: World) -> None:
    hear(world, quote(world))
    world.loop.now_s += STALE_AFTER_S + PROBE_WAIT_S + 1
    hub(world).trade(20_000, 1)  # after the feed's first look into the silence
    publish(world)
    assert not violated(world)
    world.loop.now_s += STALE_AFTER_S + PROBE_WAIT_S + 2
    publish(world)
    assert violated(world) == {"I-4"}


def test_live_is_no_market_whose_prices_wait_to_be_read(world: World) -> None:
    hear(world, quote(world))
    link = SimMarketLink(feed(world), world.network)
    link._put(b"")
    publish(world)
    assert not violated(world)
    world.loop.now_s += READ_S + 0.1
    publish(world)
    assert violated(world) == {"I-4"}


def test_an_older_feed_says_nothing_any_more(world: World) -> None:
    process = world.machine.processes["feed"]
    world.judge.streams.writers[HEAD] = Incarnation(process, 2)
    publish(world, None, FeedHealth.UNKNOWN)
    world.loop.now_s += CONFIRMED_S
    publish(world, None, FeedHealth.UNKNOWN)
    assert not violated(world)
    world.loop.now_s += 0.1
    publish(world, None, FeedHealth.UNKNOWN)
    assert violated(world) == {"I-17"}


def test_prices_that_come_make_the_market_live_again(world: World) -> None:
    world.judge.feed.linked(feed(world), UP)
    pass_time(world, APPENDED_S)
    for step in range(round(LIVE_WITHIN_S) + 2):
        hear(world, one := quote(world, 5000.0 + step))
        write(world, GAP, one)
        publish(world, None, FeedHealth.STALE)
        pass_time(world, 1)
    assert violated(world) == {"I-18"}
    assert "stale" in world.judge.feed.unsettled()


# -- the hub ------------------------------------------------------------------------


def linked(world: World) -> SimMarketLink:
    """Return a link that is up, with every subscription taken."""
    contract = world.venue.contract
    link = SimMarketLink(feed(world), world.network)
    link.subscribe(
        Instrument(
            symbol=SYMBOL, contract_id=contract.id, contract_name=contract.name,
            tick_size=contract.tick_size, tick_value=contract.tick_value,
        )
    )  # fmt: skip
    link._rise()
    return link


def test_every_push_has_a_time_of_its_own(world: World) -> None:
    times = [hub(world)._next_ns() for _ in range(3)]
    assert times == sorted(set(times))
    assert times[-1] - world.clock.true_ns() < NS_PER_S


def test_a_silent_hub_forgets_the_links_that_are_up_and_knows_new_ones(world: World) -> None:
    link = linked(world)
    hub(world).silent = True
    hub(world).touch(20_000)
    hub(world).heal()
    hub(world).touch(20_001)
    assert link.up
    assert link.forgotten
    link.fall("built anew")
    link._rise()
    assert not link.forgotten


def test_a_fifth_of_all_seeds_have_the_real_feed_some_of_them_with_guard_or_heartbeat() -> None:
    plans = [plan for plan in map(draw, range(400)) if plan.feed.on]
    assert 60 <= len(plans) <= 110
    assert sum(plan.guard.on for plan in plans) >= 8
    assert sum(plan.session.on for plan in plans) >= 8
