"""Processes that die, freeze, or do not come up."""

from __future__ import annotations

import asyncio
import random
import time
from typing import get_args

from proof.chaos.faults import ALONE, action
from proof.chaos.processes import until
from proof.chaos.world import BEAT_NAMES, SERVICES, Kill, World
from shared.domain.control import TradingState
from shared.runtime.marks import Mark

MARKS: tuple[Mark, ...] = get_args(Mark)
KILLED_AT: dict[Mark, str] = {mark: f"kill_{mark}" for mark in MARKS}
"""Mark -> the action that kills there."""
KILLABLE = tuple(name for name in SERVICES if name != "simulator")
FROZEN_S = (1.0, 4.5, 7.0)
WHOLE_SHARE = 0.1
"""Of kills that take the warm parent too."""
AGAIN_SHARE = 0.15
"""Of kills of a service that are followed by another one, before it is back or soon after."""
ZYGOTE_SHARE = 0.3
"""Of kills of the strategy host that hit its zygote instead."""
SETTLED_NS = 3_500_000_000
MARK_WITHIN_S = 25.0
"""How long an order is waited for."""


def someone(world: World, chance: random.Random) -> str:
    """Return a service or `strategy:ID`, a strategy's worker; mostly one that has lived for a while.

    Supervisors wait longer before each start of what keeps dying young, and rightly so.
    """
    workers = sorted(name for name in world.watch.beats if name.startswith("strategy:"))
    names = [*KILLABLE, *workers]
    now_ns = time.time_ns()
    weights = []
    for name in names:
        beat = world.watch.beats.get(BEAT_NAMES.get(name, name))
        settled = beat is not None and now_ns - beat.started_at_ns > SETTLED_NS
        weights.append(1.0 if settled else 0.1)
    return chance.choices(names, weights)[0]


def kill(world: World, name: str, *, whole: bool = False) -> bool:
    return world.kill_worker(name) if name.startswith("strategy:") else world.kill(name, whole=whole)


@action("F-1")
async def kill_one(world: World, chance: random.Random) -> None:
    """A kill; now and then a second one of the same."""
    name = someone(world, chance)
    if name == "strategy" and chance.random() < ZYGOTE_SHARE:
        killed = world.kill_zygote()
    else:
        killed = kill(world, name, whole=chance.random() < WHOLE_SHARE)
    if not killed:
        return
    world.record.inject("F-1")
    if chance.random() < AGAIN_SHARE and not name.startswith("strategy:"):
        await asyncio.sleep(chance.uniform(0.05, 1.5))
        ready = world.watch.ready_again(BEAT_NAMES.get(name, name))
        if kill(world, name):
            world.record.inject("F-1")
            world.record.reach("killed again before it was ready", times=int(not ready))


@action("F-1")
async def kill_many(world: World, chance: random.Random) -> None:
    """A wave of kills at random moments; between two waves there is time to trade."""
    for _ in range(chance.randint(8, 13)):
        await kill_one(world, chance)
        await asyncio.sleep(chance.uniform(0.0, 0.8))


@action("F-1", "redis")
async def kill_venue(world: World, chance: random.Random) -> None:
    """The broker itself goes away and comes back with its books."""
    if world.kill("simulator"):
        world.watch.disturb(10.0)
        world.record.inject("F-1")


async def die_at(world: World, mark: Mark) -> None:
    """Have execution die at a marked point of the order path; count that only when it was there."""
    file = world.installation.mark
    one = world.processes["execution"]
    await until(lambda: world.trading is TradingState.ACTIVE, within_s=MARK_WITHIN_S)
    pid = one.service_pid
    if pid is None:
        return
    file.write_text(f"{mark}:kill")
    # Who is at the mark removes the file and dies of it; who else dies meanwhile leaves it there.
    reached = await until(lambda: not file.exists(), within_s=MARK_WITHIN_S, poll_s=0.01)
    file.unlink(missing_ok=True)
    if not reached:
        return
    world.watch.killed("execution", pid)
    world.kills.append(Kill("execution", time.monotonic()))
    world.record.inject("F-2")
    world.record.reach(f"killed at {mark}")
    world.tell("died at mark", mark=mark, pid=pid)


@action("F-2", "execution")
async def kill_at_mark(world: World, chance: random.Random) -> None:
    """Execution dies at any of the marked points of the order path."""
    await die_at(world, chance.choice(MARKS))


def _killing_at(mark: Mark) -> None:
    async def kill_at(world: World, chance: random.Random) -> None:
        await die_at(world, mark)

    kill_at.__name__ = KILLED_AT[mark]
    action("F-2", "execution")(kill_at)


for _mark in MARKS:
    _killing_at(_mark)


@action("F-3", "redis", "execution")
async def kill_all(world: World, chance: random.Random) -> None:
    """All at once; they come back in random order.

    Each is held back until its turn and starts cold beside all others, so none counts as killed alone.
    """
    names = list(SERVICES)
    chance.shuffle(names)
    started_s = time.monotonic()
    for name in names:
        world.processes[name].hold()
        world.kill(name, whole=True)
    world.watch.disturb()
    world.record.inject("F-3")
    for name in names:
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        world.processes[name].release()
    if await until(lambda: not world.watch.waiting, within_s=60.0):
        world.restarts_s.append(time.monotonic() - started_s)


@action("F-1", ALONE)
async def freeze_one(world: World, chance: random.Random) -> None:
    """SIGSTOP for a while: the process is there and does nothing."""
    name = chance.choice(KILLABLE)
    await world.in_order()
    await world.stand_still(name, chance.choice(FROZEN_S))
    world.record.inject("F-1")


@action("F-1", ALONE)
async def stay_dead(world: World, chance: random.Random) -> None:
    """Killed, and not started again in time: it must be noticed and trading must halt."""
    name = chance.choice(KILLABLE)
    await world.in_order()
    await world.stand_still(name, chance.uniform(4.5, 8.0), dead=True)
    world.record.inject("F-1")


@action("F-29", "crashloop")
async def crash_loop(world: World, chance: random.Random) -> None:
    """A service that dies at every start, until somebody corrects its settings."""
    name = chance.choice(KILLABLE)
    one = world.processes[name]
    section = "JULIE_RECORDER__SCAN_INTERVAL_S" if name == "recorder" else "JULIE_JULIE__BEAT_INTERVAL_S"
    one.extra[section] = "-1"
    starts = one.starts
    with world.hindering(name):
        world.kill(name, whole=True)
        await asyncio.sleep(chance.uniform(3.0, 6.0))
        one.extra.pop(section, None)
    if one.starts > starts + 1:
        world.record.inject("F-29")
    world.tell("settings corrected", process=name)
    await world.back(name)


@action("F-29", "execution")
async def stop_while_sending(world: World, chance: random.Random) -> None:
    """SIGTERM to execution at any moment: it must end within 5 s and leave nothing untold."""
    import signal

    one = world.processes["execution"]
    pid, exits = one.service_pid, len(one.exits)
    if pid is None:
        return
    world.watch.killed("execution", pid, cold=True)
    world.tell("terminate", process="execution", pid=pid)
    started_s = time.monotonic()
    one.signal(signal.SIGTERM, whole=True)
    ended = await until(lambda: len(one.exits) > exits, within_s=10.0, poll_s=0.05)
    took_s = time.monotonic() - started_s
    world.record.inject("F-29")
    world.record.figures["stop_while_sending_s_max"] = max(
        took_s, world.record.figures.get("stop_while_sending_s_max", 0.0)
    )
    world.record.check("I-18", ended, f"execution did not end within 10 s of SIGTERM (pid {pid})")
