"""Wall clocks that jump, of one service at a time, by libfaketime. Monotonic time goes on as it should."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from proof.chaos.faults import action
from proof.chaos.processes import until
from proof.chaos.world import BEAT_NAMES, SERVICES, World

LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")
JUMP_SEEN_S = 5.0
"""Beats are older than the moment they are looked at."""
JUMPS = ("+60", "-60", "+3600", "-3600")


class NoFaketime(RuntimeError):
    """libfaketime is not installed."""


def library() -> Path:
    """Raises: NoFaketime: If it is not there; install the package libfaketime."""
    for folder in LIBRARIES:
        path = Path(folder) / "libfaketime.so.1"
        if path.exists():
            return path
    raise NoFaketime("libfaketime.so.1 is not there; install the package libfaketime")


@action("F-14", "standstill")
async def jump_clock(world: World, chance: random.Random) -> None:
    """A service's wall clock jumps while it runs, and back again later."""
    name = chance.choice([one for one in SERVICES if one != "simulator"])
    one = world.processes[name]
    file = world.installation.folder / f"faketime-{name}"
    file.write_text("+0")
    one.extra |= {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    world.watch.disturb(30.0)
    with world.hindering(name):  # what it says of the time is not to be believed
        await _jumped(world, name, file, chance)
        for variable in list(one.extra):
            if "FAKE" in variable or variable == "LD_PRELOAD":
                del one.extra[variable]
        world.kill(name, whole=True)
    await world.back(name)


async def _jumped(world: World, name: str, file: Path, chance: random.Random) -> None:
    world.kill(name, whole=True)
    if not await world.back(name):
        return
    jump = chance.choice(JUMPS)
    world.tell("clock jumps", process=name, seconds=jump)
    file.write_text(jump)
    world.clocks_jumped.add(name)
    seconds = chance.uniform(3.0, 8.0)
    # What it says of the time in its beats tells whether the library took hold.
    if await until(lambda: jumped_s(world, name, int(jump)) < JUMP_SEEN_S, within_s=seconds):
        world.record.inject("F-14")
    await asyncio.sleep(seconds)
    file.write_text("+0")
    world.tell("clock is right again", process=name)
    await asyncio.sleep(1.0)


def jumped_s(world: World, name: str, jump_s: int) -> float:
    """Return how far the newest beat of a process is from the time that it should tell."""
    beat = world.watch.beats[BEAT_NAMES.get(name, name)]
    return abs(beat.ts_ns / 1e9 - time.time() - jump_s)
