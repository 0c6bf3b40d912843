"""Links cut, slowed, sliced, half open, one way and both ways."""

from __future__ import annotations

import asyncio
import random

from proof.chaos.faults import action
from proof.chaos.processes import until
from proof.chaos.proxy import Link
from proof.chaos.world import World

LINKS = (
    ("execution", "redis"), ("execution", "rest"), ("broker_sync", "redis"), ("broker_sync", "rest"),
    ("broker_sync", "user"), ("feed", "redis"), ("feed", "market"), ("feed", "rest"), ("heartbeat", "redis"),
    ("heartbeat", "rest"), ("guard", "redis"), ("guard", "rest"), ("strategy", "redis"), ("worker", "redis"),
    ("recorder", "redis"),
)  # fmt: skip
PLACE = b"POST /api/Order/place"
ORDER_WITHIN_S = 20.0
"""How long the next order is waited for."""


def some_link(world: World, chance: random.Random) -> Link:
    return world.link(*chance.choice(LINKS))


@action("F-11")
async def partition(world: World, chance: random.Random) -> None:
    """Nothing passes, one way or both ways; afterwards it goes on where it stopped, or is reset."""
    link = some_link(world, chance)
    way = chance.choice(("up", "down", "both"))
    seconds = chance.choice((1.0, 4.0, 8.0))
    world.watch.disturb(seconds + 5.0)
    link.toxics.hold_up = way in ("up", "both")
    link.toxics.hold_down = way in ("down", "both")
    link.toxics.refuse = way == "both" and chance.random() < 0.5
    world.tell("partition", link=link.name, way=way, seconds=seconds, refuse=link.toxics.refuse)
    try:
        await asyncio.sleep(seconds)
    finally:
        if chance.random() < 0.4:
            link.reset()
        link.heal()
    world.record.inject("F-11")
    world.record.reach(f"partition of {link.name}")


@action("F-11")
async def reset(world: World, chance: random.Random) -> None:
    """Every connection of one link is cut hard, a few times."""
    link = some_link(world, chance)
    for _ in range(chance.randint(1, 4)):
        if link.reset():
            world.record.inject("F-11")
            world.tell("reset", link=link.name)
        await asyncio.sleep(chance.uniform(0.1, 1.5))


@action("F-11")
async def bad_line(world: World, chance: random.Random) -> None:
    """Slow, jittery, narrow or in slices."""
    link = some_link(world, chance)
    seconds = chance.uniform(3.0, 8.0)
    world.watch.disturb(seconds)
    toxics = link.toxics
    kind = chance.choice(("latency", "bandwidth", "slices"))
    if kind == "latency":
        toxics.latency_s, toxics.jitter_s = chance.uniform(0.02, 0.4), chance.uniform(0.0, 0.4)
    elif kind == "bandwidth":
        toxics.bytes_per_s = chance.randint(5_000, 50_000)
    else:
        toxics.slice_bytes = chance.randint(1, 40)
    world.tell("bad line", link=link.name, kind=kind, seconds=seconds)
    try:
        await asyncio.sleep(seconds)
    finally:
        link.heal()
    world.record.inject("F-11")


@action("F-11", "redis")
async def half_open(world: World, chance: random.Random) -> None:
    """The server goes, and one client is not told: its connection stays and is silent."""
    link = world.link(chance.choice(("execution", "broker_sync", "feed", "worker")), "redis")
    link.toxics.half_open = True
    world.watch.disturb(10.0)
    world.kill("redis")
    world.tell("half open", link=link.name)
    try:
        await asyncio.sleep(chance.uniform(2.0, 6.0))
    finally:
        link.heal()
        link.reset()
    world.record.inject("F-11")


@action("F-31", "place")
async def close_as_order_is_written(world: World, chance: random.Random) -> None:
    """The kept connection ends as the POST is written: it is unknown whether the venue has the order."""
    link = world.link("execution", "rest")
    before = link.cut
    link.toxics.cut_on += [PLACE]
    await until(lambda: link.cut > before, within_s=ORDER_WITHIN_S)
    link.toxics.cut_on.clear()
    if link.cut > before:
        world.record.inject("F-31", link.cut - before)
        world.tell("cut as an order was written", count=link.cut - before)


@action("F-10", "place")
async def lose_answer_of_order(world: World, chance: random.Random) -> None:
    """The venue has the order, the answer is lost on the way."""
    link = world.link("execution", "rest")
    before = link.lost
    link.toxics.lose_reply_to += [PLACE]
    await until(lambda: link.lost > before, within_s=ORDER_WITHIN_S)
    link.toxics.lose_reply_to.clear()
    await asyncio.sleep(0.1)
    if link.lost > before:
        world.record.inject("F-10", link.lost - before)
        world.record.reach("answer of an order lost")
