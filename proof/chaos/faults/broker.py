"""A gateway that refuses, lingers, lies about what it did, lands orders late; and orders by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Literal

from proof.chaos.faults import action
from proof.chaos.installation import ACCOUNT_ID, SYMBOLS
from proof.chaos.world import World

Side = Literal["buy", "sell"]
PLACE = "/api/Order/place"
SEARCHES = ("/api/Order/search", "/api/Trade/search", "/api/Position/search")


async def misbehave(
    world: World, row: str, seconds: float, *faults: Mapping[str, Any], least: int = 1
) -> int:
    """Put faults in force for a while; count that when they hit at all. Returns how often they did."""
    world.watch.disturb(seconds + 5.0)
    before = await world.venue.hits()
    world.tell("venue faults", faults=[dict(one) for one in faults], seconds=seconds)
    async with world.venue.faults(*faults):
        await asyncio.sleep(seconds)
    hits = sum((await world.venue.hits()).values()) - sum(before.values())
    if hits >= least:
        world.record.inject(row)
    world.tell("venue hits", hits=hits)
    return hits


@action("F-18")
async def too_many_requests(world: World, chance: random.Random) -> None:
    """429 for everything, for a while."""
    fault = {"kind": "status", "status": 429, "rate": chance.choice((0.5, 1.0))}
    if chance.random() < 0.5:
        fault["retry_after_s"] = 2
    await misbehave(world, "F-18", chance.uniform(3.0, 10.0), fault)


@action("F-18")
async def server_errors(world: World, chance: random.Random) -> None:
    fault = {"kind": "status", "status": chance.choice((500, 502, 503)), "rate": 0.4}
    await misbehave(world, "F-18", chance.uniform(4.0, 10.0), fault)


@action("F-18")
async def strange_answers(world: World, chance: random.Random) -> None:
    """Empty, HTML, half of the JSON, null lists: done, and badly told."""
    kinds = ("empty_body", "html_body", "truncated_json", "null_lists", "wrong_status", "cut_after")
    faults = [{"kind": kind, "rate": 0.3} for kind in chance.sample(kinds, 3)]
    await misbehave(world, "F-18", chance.uniform(4.0, 8.0), *faults)


@action("F-18")
async def slow_answers(world: World, chance: random.Random) -> None:
    fault = {"kind": "slow", "rate": 0.5, "delay_s": [0.5, 10.0]}
    await misbehave(world, "F-18", chance.uniform(4.0, 8.0), fault)


@action("F-18")
async def no_login(world: World, chance: random.Random) -> None:
    """The door to the session is shut while heartbeat starts anew."""
    fault = {"kind": "status", "status": 503, "only": ["/api/Auth"]}
    world.kill("heartbeat")
    await misbehave(world, "F-18", chance.uniform(4.0, 8.0), fault)


@action("F-20")
async def malformed_bodies(world: World, chance: random.Random) -> None:
    """Half of a JSON and lists that are null, in whatever is asked."""
    faults = ({"kind": "truncated_json", "rate": 0.4}, {"kind": "null_lists", "rate": 0.4})
    await misbehave(world, "F-20", chance.uniform(3.0, 6.0), *faults)


@action("F-23", "place")
async def late_landing(world: World, chance: random.Random) -> None:
    """The request times out or is refused, and the order is there a while later."""
    fault = {
        "kind": "late_landing",
        "delay_s": chance.choice(([0.2, 2.0], [2.0, 9.0], [15.0, 40.0])),
        "status": chance.choice((504, 400, 0, 500)),
        "rate": 0.7,
    }
    if await misbehave(world, "F-23", chance.uniform(5.0, 10.0), fault):
        world.record.reach("late landing")


@action("F-23", "place")
async def refused_and_placed(world: World, chance: random.Random) -> None:
    """Answered 400, or `unknown`, and placed all the same."""
    faults = (
        {"kind": "wrong_status", "status": 400, "only": [PLACE], "rate": 0.6},
        {"kind": "wrong_code", "code": chance.choice((6, 7)), "only": [PLACE], "rate": 0.6},
    )
    await misbehave(world, "F-23", chance.uniform(5.0, 10.0), *faults)


@action("F-24", "place")
async def searches_fail(world: World, chance: random.Random) -> None:
    """Searches fail or take long, while the fate of orders is unknown."""
    faults = (
        {"kind": "cut_after", "only": [PLACE], "rate": 0.5},
        {"kind": "status", "status": 500, "only": list(SEARCHES), "rate": 0.7},
        {"kind": "slow", "only": list(SEARCHES), "delay_s": [0.5, 4.0], "rate": 0.5},
    )
    await misbehave(world, "F-24", chance.uniform(6.0, 12.0), *faults)


@action("F-24", "place")
async def searches_lag(world: World, chance: random.Random) -> None:
    """Searches answer what was true a while ago, while the fate of orders is unknown."""
    faults = (
        {"kind": "cut_after", "only": [PLACE], "rate": 0.5},
        {"kind": "search_lag", "delay_s": chance.choice((2.0, 5.0, 15.0)), "rate": 0.7},
        {"kind": "hide_orders", "delay_s": [1.0, 6.0], "rate": 0.5},
    )
    await misbehave(world, "F-24", chance.uniform(6.0, 12.0), *faults)


@action("F-20")
async def malformed_frames(world: World, chance: random.Random) -> None:
    """Records that make no sense, and good ones in pieces, on both hubs."""
    faults = (
        {"kind": "frame_garbage", "rate": 0.2},
        {"kind": "frame_fragments", "rate": 0.3},
        {"kind": "frame_pieces", "rate": 0.3},
    )
    await misbehave(world, "F-20", chance.uniform(3.0, 6.0), *faults)


@action("F-21")
async def user_events_astray(world: World, chance: random.Random) -> None:
    """What the user hub tells is dropped, repeated, delayed, shuffled; fills come first."""
    kinds = ("event_drop", "event_repeat", "event_delay", "event_shuffle", "fills_first")
    faults: list[dict[str, Any]] = [
        {"kind": kind, "rate": 0.1 if kind == "event_drop" else 0.4} for kind in chance.sample(kinds, 3)
    ]
    for one in faults:
        if one["kind"] == "event_delay":
            one["delay_s"] = [0.1, 3.0]
        elif one["kind"] == "event_repeat":
            one["copies"] = 5
    await misbehave(world, "F-21", chance.uniform(6.0, 12.0), *faults)


@action("F-21", "place")
async def cancels_race_fills(world: World, chance: random.Random) -> None:
    """A cancel is accepted and comes too late; an order opens or is refused later than it was accepted."""
    faults = (
        {"kind": "cancel_late", "delay_s": [0.2, 3.0], "rate": 0.5},
        {"kind": "cancel_after_fill", "rate": 0.3},
        {"kind": "accept_late", "delay_s": [0.2, 2.0], "rate": 0.3},
        {"kind": "reject_late", "delay_s": [0.2, 2.0], "rate": 0.2},
    )
    await misbehave(world, "F-21", chance.uniform(8.0, 15.0), *faults)


@action("F-22")
async def partial_fills(world: World, chance: random.Random) -> None:
    """Fills in parts, with the line to the venue cut between them."""
    link = world.link("broker_sync", "user")

    async def cut() -> None:
        for _ in range(3):
            await asyncio.sleep(chance.uniform(1.0, 3.0))
            link.reset()

    cutting = asyncio.create_task(cut())
    fault = {"kind": "partial_fills", "parts": 3, "delay_s": [0.5, 20.0], "rate": 0.8}
    await misbehave(world, "F-22", chance.uniform(6.0, 12.0), fault)
    await cutting


@action("F-25")
async def strange_market(world: World, chance: random.Random) -> None:
    """Crossed, far off, zero, negative, stale prices, or none at all."""
    kinds = ("market_crossed", "market_spike", "market_zero", "market_negative", "market_stale")
    faults = [{"kind": kind, "rate": 0.1} for kind in chance.sample(kinds, 2)]
    if chance.random() < 0.4:
        faults.append({"kind": "market_freeze", "rate": 1.0})
    await misbehave(world, "F-25", chance.uniform(4.0, 10.0), *faults)


@action("F-19", "session")
async def tokens_die(world: World, chance: random.Random) -> None:
    """The next token dies early, whatever it says; the venue starts anew so that one is asked for now."""
    fault = {"kind": "early_expiry", "delay_s": chance.uniform(3.0, 8.0)}
    world.kill("simulator", whole=True)
    await asyncio.sleep(2.0)
    await misbehave(world, "F-19", chance.uniform(10.0, 15.0), fault)


@action("F-19", "redis")
async def lose_sessions(world: World, chance: random.Random) -> None:
    """The venue starts anew and knows no token: whoever holds one is refused until there is another."""
    if world.kill("simulator"):
        world.watch.disturb(15.0)
        world.record.inject("F-19")
        await asyncio.sleep(5.0)


@action("F-22", "by hand")
async def trade_by_hand(world: World, chance: random.Random) -> None:
    """Somebody trades on the account past us, and closes it again."""
    symbol = chance.choice(SYMBOLS)
    ways: tuple[tuple[Side, Side], ...] = (("buy", "sell"), ("sell", "buy"))
    side, back = chance.choice(ways)
    size = chance.randint(1, 2)
    world.by_hand = max(world.by_hand, size)
    async with world.venue.hand() as venue, world.by_hand_now():
        if venue is None:
            return
        placed = await venue.place_external(account_id=ACCOUNT_ID, symbol=symbol, side=side, size=size)
        if placed["code"] == 0:
            world.record.inject("F-22")
        world.tell("by hand", symbol=symbol, side=side, size=size)
        await asyncio.sleep(chance.uniform(1.0, 4.0))
        await venue.place_external(account_id=ACCOUNT_ID, symbol=symbol, side=back, size=size)
        world.tell("by hand", symbol=symbol, side=back, size=size)


@action("F-22")
async def fills_while_cut_off(world: World, chance: random.Random) -> None:
    """Orders fill while nobody hears the venue's events."""
    links = [world.link("broker_sync", "user"), world.link("broker_sync", "rest")]
    seconds = chance.uniform(4.0, 10.0)
    world.watch.disturb(seconds + 5.0)
    before = world.books.fills()
    for link in links:
        link.toxics.hold_down = True
    try:
        await asyncio.sleep(seconds)
        unheard = world.books.fills() - before
    finally:
        for link in links:
            link.reset()
            link.heal()
    world.tell("cut off", fills=unheard)
    if unheard:
        world.record.inject("F-22")
