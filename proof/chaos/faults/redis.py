"""Redis killed, frozen, emptied, set back, cut, out of disk, out of memory; and replies lost on the way."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from pathlib import Path

from proof.chaos.everysec import acknowledged_and_lost
from proof.chaos.faults import action
from proof.chaos.processes import until
from proof.chaos.strace import injecting
from proof.chaos.world import SERVICES, World
from shared.domain.execution import TradingStateChanged

COMMANDS = (b"julie_append", b"julie_step", b"XREAD", b"julie_open", b"julie_budget", b"PUBLISH")
OUT_OF_MEMORY_S = 4.0
PROBE_S = 0.2
LEDGER_FAILED = "the ledger failed"


def aof_folder(world: World) -> Path:
    return world.installation.redis_folder / "appendonlydir"


@action("F-4", "redis")
async def kill_redis(world: World, chance: random.Random) -> None:
    """A few kills under load; with `appendfsync always` nothing acknowledged may be missing."""
    for _ in range(chance.randint(1, 4)):
        world.watch.disturb(5.0)
        if world.kill("redis"):
            world.record.inject("F-4")
        await asyncio.sleep(chance.uniform(0.5, 3.0))


@action("F-5", "redis")
async def kill_redis_on_slow_disk(world: World, chance: random.Random) -> None:
    """Each fsync takes long, then the kill comes."""
    pid = world.processes["redis"].pid
    if pid is None:
        return
    delay_ms = chance.choice((50, 300, 1500))
    world.watch.disturb(10.0)
    slow = [f"inject=fdatasync,fsync:delay_exit={delay_ms * 1000}"]
    with world.hindering("redis"):
        async with injecting(pid, slow):
            await asyncio.sleep(chance.uniform(1.5, 4.0))
            if world.kill("redis"):
                world.record.inject("F-5")
    await asyncio.sleep(1.0)


@action("F-6", "redis", "execution", "standstill")
async def empty_redis(world: World, chance: random.Random) -> None:
    """Redis comes back with nothing."""

    def empty() -> None:
        shutil.rmtree(aof_folder(world), ignore_errors=True)

    await _come_back_other(world, "emptied", empty)


@action("F-6", "redis", "execution", "standstill")
async def set_redis_back(world: World, chance: random.Random) -> None:
    """Redis comes back as it was some seconds ago."""
    copy = world.installation.folder / "aof-copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(aof_folder(world), copy)
    await asyncio.sleep(chance.uniform(3.0, 10.0))

    def put_back() -> None:
        shutil.rmtree(aof_folder(world), ignore_errors=True)
        shutil.move(copy, aof_folder(world))

    await _come_back_other(world, "set back", put_back)


@action("F-6", "redis", "execution", "standstill")
async def cut_redis_file(world: World, chance: random.Random) -> None:
    """The end of its file is missing, cut at any byte."""

    def cut() -> None:
        newest = max(aof_folder(world).glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        size = newest.stat().st_size
        with newest.open("r+b") as file:
            file.truncate(max(0, size - chance.randint(1, 20_000)))

    await _come_back_other(world, "cut", cut)


async def _come_back_other(world: World, how: str, change: object) -> None:
    assert callable(change)
    one = world.processes["redis"]
    await world.watch.close_life()
    one.hold()
    world.watch.disturb(30.0)
    world.kill("redis")
    await until(lambda: one.pid is None, within_s=5.0, poll_s=0.02)
    change()
    world.watch.forget_all()
    world.rebuilt_ns.append(time.time_ns())
    world.tell("redis changed", how=how)
    one.release()
    world.record.inject("F-6")
    world.record.reach(f"Redis {how}")
    await until(lambda: world.trading is not None and world.all_ready(), within_s=60.0)


@action("F-7", "redis")
async def freeze_redis(world: World, chance: random.Random) -> None:
    await world.stand_still("redis", chance.choice((1.0, 4.0, 10.0)))
    world.record.inject("F-7")


@action("F-8", "redis")
async def fill_redis_disk(world: World, chance: random.Random) -> None:
    """Its file takes no more bytes: with `always` the server ends, and cannot hide it."""
    one = world.processes["redis"]
    pid, exits = one.pid, len(one.exits)
    if pid is None:
        return
    world.watch.disturb(10.0)
    newest = max(aof_folder(world).glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
    async with injecting(pid, ["inject=write:error=ENOSPC"], path=newest):
        ended = await until(lambda: len(one.exits) > exits, within_s=5.0)
    world.tell("redis disk full", ended=ended)
    if ended:
        world.record.inject("F-8")
        world.record.reach("Redis ended on a full disk")


@action("F-8", "execution", "standstill")
async def fill_ledger_disk(world: World, chance: random.Random) -> None:
    """The ledger takes no more bytes: nothing may be sent, trading halts, a person resumes."""
    pid = world.processes["execution"].service_pid
    if pid is None:
        return
    world.watch.disturb(20.0)
    name = chance.choice(("ENOSPC", "EIO"))
    wal = Path(f"{world.installation.ledger}-wal")
    calls = "fsync,fdatasync" if name == "EIO" else "pwrite64,write"
    begun_ns = time.time_ns()

    def halted() -> bool:
        said = world.orders_said(TradingStateChanged)
        return any(one.ts_ns > begun_ns and LEDGER_FAILED in " ".join(one.halts.values()) for one in said)

    with world.hindering("execution"):
        async with injecting(pid, [f"inject={calls}:error={name}"], path=wal):
            await asyncio.sleep(chance.uniform(3.0, 6.0))
    if await until(halted, within_s=20.0):
        world.record.inject("F-8")
        world.record.reach("halted by a failing ledger")


@action("F-9", "redis")
async def no_memory_in_redis(world: World, chance: random.Random) -> None:
    info = await world.operator.run("INFO", "memory")
    if info is None:
        return
    used = info["used_memory"] if isinstance(info, dict) else 0
    world.watch.disturb(OUT_OF_MEMORY_S + 5.0)
    refused = False
    await world.operator.run("CONFIG", "SET", "maxmemory", str(int(used) + 20_000))
    try:
        for _ in range(round(OUT_OF_MEMORY_S / PROBE_S)):
            await asyncio.sleep(PROBE_S)
            wrote = await world.operator.run("SET", "chaos:probe", "1")
            refused = refused or (wrote is None and await world.operator.run("PING") is not None)
    finally:
        for _ in range(50):
            if await world.operator.run("CONFIG", "SET", "maxmemory", "0") is not None:
                break
            await asyncio.sleep(0.2)
    if refused:
        world.record.inject("F-9")


@action("F-10")
async def lose_replies(world: World, chance: random.Random) -> None:
    """The command is done, and the client never hears so."""
    client = chance.choice((*SERVICES, "worker"))
    needles = chance.sample(COMMANDS, 3)
    link = world.link(client, "redis")
    before = link.lost
    link.toxics.lose_reply_to += needles
    await until(lambda: not link.toxics.lose_reply_to, within_s=5.0)
    link.toxics.lose_reply_to.clear()
    await asyncio.sleep(0.1)
    if link.lost > before:
        world.record.inject("F-10", link.lost - before)
        world.tell("replies lost", client=client, count=link.lost - before)


@action("F-5", "control-server")
async def lose_with_everysec(world: World, chance: random.Random) -> None:
    """The proof that the fault bites: with one fsync a second the same kill loses acknowledged writes."""
    acknowledged, lost = await acknowledged_and_lost(world.installation.folder / "everysec")
    world.tell("everysec control", acknowledged=acknowledged, lost=lost)
    if lost:
        world.record.inject("F-5")
        world.record.reach("control run: everysec lost acknowledged writes")
