"""Too little of everything: processor, memory, descriptors, disk time."""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from contextlib import suppress
from functools import partial

from proof.chaos.faults import action
from proof.chaos.processes import descriptors, rss_mb, until
from proof.chaos.world import SERVICES, World

BURN = "while True: pass"
HOG = "import time; kept = bytearray(%d << 20); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(60)"
MEMORY_MB = 512
HEADROOM_BYTES = 1 << 20
"""One arena of Python's; a service takes more of them when it begins."""
NO_DESCRIPTORS = (b"Too many open files", b"Errno 24")
NO_MEMORY = (b"MemoryError", b"Cannot allocate memory", b"can't start new thread")
LOWEST_FREE = 3
"""No descriptor from here on: the standard streams stay."""


async def _spawn(code: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code)


async def _end(processes: list[asyncio.subprocess.Process]) -> None:
    for one in processes:
        with suppress(ProcessLookupError):
            one.kill()
    await asyncio.gather(*(one.wait() for one in processes))


@action("F-15", "cpu")
async def burn(world: World, chance: random.Random) -> None:
    """Eight loops that never rest, and half a gigabyte that is written over."""
    seconds = chance.uniform(4.0, 8.0)
    world.watch.disturb(seconds + 5.0)
    burners = [await _spawn(BURN) for _ in range(8)]
    burners.append(await _spawn(HOG % MEMORY_MB))
    world.tell("burn", seconds=seconds)
    try:
        await asyncio.sleep(seconds)
    finally:
        await _end(burners)
    world.record.inject("F-15")


@action("F-16", "limits")
async def limit_memory(world: World, chance: random.Random) -> None:
    """A service starts anew and may map hardly more than its parent has, as often as it tries."""
    name = chance.choice([one for one in SERVICES if one != "simulator"])
    one = world.processes[name]
    parent, pid = one.pid, one.service_pid
    size = _virtual_bytes(parent) if parent is not None else 0
    if parent is None or pid is None or not size:
        return
    world.watch.disturb(20.0)
    since_bytes = _said_bytes(world, name)
    with suppress(ProcessLookupError), world.hindering(name):
        kept = resource.prlimit(parent, resource.RLIMIT_AS)
        resource.prlimit(parent, resource.RLIMIT_AS, (size + HEADROOM_BYTES, kept[1]))
        try:
            world.kill(name)
            since_s = time.monotonic()
            world.tell("memory limit", process=name, rss_mb=round(rss_mb(parent)), limit_mb=size >> 20)
            begun = await until(lambda: one.service_pid not in (pid, None), within_s=3.0, poll_s=0.01)
            first = one.service_pid if begun else None
            bites = partial(_shows, world, name, first, since_s, since_bytes, NO_MEMORY)
            seen = await until(bites, within_s=chance.uniform(4.0, 8.0))
        finally:
            for limited in (parent, one.service_pid):
                if limited is not None:
                    resource.prlimit(limited, resource.RLIMIT_AS, kept)
        if seen:
            world.record.inject("F-16")
        world.tell("memory limit ends", process=name, seen=seen)
    await world.back(name)


def _said_bytes(world: World, name: str) -> int:
    """Return how much a service has written to its log."""
    return (world.installation.logs / f"{name}.log").stat().st_size


def _shows(
    world: World, name: str, pid: int | None, since_s: float, since_bytes: int, words: tuple[bytes, ...]
) -> bool:
    """Has a service said one of these since, or ended (if its pid is known) without being killed?"""
    with (world.installation.logs / f"{name}.log").open("rb") as file:
        file.seek(since_bytes)
        new = file.read()
    killed = any(one.process == name and one.mono_s >= since_s for one in world.kills)
    ended = pid is not None and world.processes[name].service_pid != pid and not killed
    return ended or any(word in new for word in words)


def _virtual_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


@action("F-17", "limits")
async def no_descriptors(world: World, chance: random.Random) -> None:
    """No file or socket can be opened any more: it fails or goes on, but is not half alive."""
    name = chance.choice([one for one in SERVICES if one != "simulator"])
    pid = world.processes[name].service_pid
    if pid is None:
        return
    with suppress(ProcessLookupError):
        kept = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        # Below what is open: what is closed by the cut could be opened again otherwise.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (LOWEST_FREE, kept[1]))
        world.watch.disturb(15.0)
        world.tell("no descriptors", process=name, open=descriptors(pid))
        since_s, since_bytes = time.monotonic(), _said_bytes(world, name)
        with world.hindering(name):
            cut = sum(link.reset() for link in world.links(name))  # it must connect again, and cannot
            await asyncio.sleep(chance.uniform(3.0, 6.0))
        seen = _shows(world, name, pid, since_s, since_bytes, NO_DESCRIPTORS)
        connected = sum(link.connections for link in world.links(name))
        world.tell("descriptors again", process=name, cut=cut, seen=seen, connected=connected)
        if cut and (seen or not connected):
            world.record.inject("F-17")
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, kept)
    await world.back(name)
