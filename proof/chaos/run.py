"""One run: start, warm up, faults, heal, come to rest, check everything."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from proof.chaos.checkers import endurance, orders, positions, secrets, streams, switch, timing
from proof.chaos.checkers.evidence import Evidence
from proof.chaos.installation import ROOT, Installation
from proof.chaos.plans import Chaos, Plan
from proof.chaos.processes import until
from proof.chaos.sampler import FLAT_S, FLAT_SLACK_S
from proof.chaos.watch import Seen, Watch
from proof.chaos.world import World
from proof.record import Record
from shared.domain.control import TradingState
from shared.runtime.build import BUILD

RECORDS = ROOT / "build" / "proof"
WARM_UP_S = 10.0
BACK_S = 120.0
REST_S = 180.0
GET_FLAT_S = 120.0
"""For the sake of rest; beyond `FLAT_S` it is a violation."""


async def run(plan: Plan, *, name: str, seed: int, seconds: float, strict: bool) -> tuple[Record, World]:
    """Return the record and the world, which has stopped."""
    record = Record(
        machine="chaos",
        plan=name,
        command=f"make chaos SEED={seed} SECONDS={seconds:g} PLAN={name}",
        build=BUILD,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    started = time.monotonic()
    installation = Installation(every_s=plan.every_s, seed=seed, load=plan.load, keep_s=plan.keep_s)
    world = World(installation, record, seed)
    this = asyncio.current_task()
    assert this is not None
    # A run that is told to stop ends what it has started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    commands: list[bytes] = []
    final: dict[str, list[Seen]] = {}
    try:
        await world.open()
        commands = _command_lines(world)
        world.tell("warm-up")
        await asyncio.sleep(WARM_UP_S)
        world.tell("chaos", plan=name, seed=seed)
        await Chaos(world, plan, seed).run(seconds)
        if plan.row and seconds >= plan.seconds:
            record.inject(plan.row)
        await come_to_rest(world, record)
        final = await read_streams(world)
    finally:
        await world.close()
    evidence = Evidence.gather(world, final)
    orders.check(evidence, record)
    positions.check(evidence, record)
    streams.check(evidence, record)
    switch.check(evidence, record)
    timing.check(evidence, record, strict=strict)
    secrets.check(evidence, record, commands)
    if plan.row == "F-32":
        endurance.check(world.sampler, record)
    record.seconds = round(time.monotonic() - started, 1)
    return record, world


async def come_to_rest(world: World, record: Record) -> None:
    """End all faults, see that it trades again, then make it flat and wait until nothing moves."""
    world.heal()
    world.tell("heal")
    back = await until(world.all_ready, within_s=BACK_S)
    record.check("I-18", back, f"not ready {BACK_S:g} s after the faults: {world.unready()}")
    if world.halts:
        await world.operator.resume("the faults are over")
    active = await until(lambda: world.trading is TradingState.ACTIVE, within_s=BACK_S)
    record.check("I-2", active, f"trading is {world.trading} after the faults: {world.halts}")
    world.tell("at rest soon", trading=str(world.trading))
    await asyncio.sleep(5.0)
    await world.operator.halt("the run is over")
    await asyncio.sleep(3.0)
    held = bool(world.books.held())
    await world.operator.flatten("the run is over")
    begun = time.monotonic()
    flat = await until(lambda: not world.books.held(), within_s=GET_FLAT_S)
    took_s = time.monotonic() - begun
    if held:
        world.flat_s.append(took_s)
    for figure, times_s in (("flat", world.flat_s), ("breach_to_flat", world.breach_s)):
        if times_s:
            record.figures[f"{figure}_s_max"] = round(max(times_s), 2)
            record.figures[f"{figure}_samples"] = len(times_s)
    words = f"not flat {took_s:.0f} s after a flatten, with no fault left: {world.books.positions()}"
    record.check("I-26", flat and took_s <= FLAT_S + FLAT_SLACK_S, words)
    await until(lambda: _nothing_open(world), within_s=REST_S, poll_s=1.0)
    await world.processes.stop("strategy")  # first: what is asked for last has its end, too, when all is read
    await asyncio.sleep(2.0)
    world.tell("at rest")


def _nothing_open(world: World) -> bool:
    beat = world.watch.beats.get("execution")
    return beat is not None and beat.detail.get("open_orders") == "0" and beat.detail.get("in_doubt") == "0"


async def read_streams(world: World) -> dict[str, list[Seen]]:
    """Read every stream that is watched, whole."""
    last = Watch(world.installation.address)
    client = world.installation.address.once_client()
    try:
        await world.watch.finish(client)  # first: what comes in between is in the later look only
        await last.look(client)
    finally:
        with suppress(OSError):
            await client.aclose()
    return dict(last.streams)


def _command_lines(world: World) -> list[bytes]:
    ours = world.processes.all.values()
    pids = [pid for one in ours for pid in (one.pid, one.service_pid) if pid] + list(
        world.processes.workers()
    )
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def put_away(world: World, *, keep: bool) -> Path | None:
    """Remove the run's folder, or return it."""
    if keep:
        return world.installation.folder
    shutil.rmtree(world.installation.folder, ignore_errors=True)
    return None
