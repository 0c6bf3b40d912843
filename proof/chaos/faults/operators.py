"""People and programs that mean well or not: kill switch, forged commands, second instances, rogues."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time

from proof.chaos.faults import ALONE, action
from proof.chaos.installation import ACCOUNT_ID, ROOT
from proof.chaos.processes import until
from proof.chaos.world import World
from shared.domain.control import HaltKind, Resume, TradingState
from shared.domain.execution import FlattenFinished
from shared.runtime.config import halt_flag
from shared.wire import topics
from shared.wire.codec import encode, kind_of

FLAT_S = 30.0


@action("F-27", "operator", "redis", "execution", "standstill")
async def flatten_in_trouble(world: World, chance: random.Random) -> None:
    """Flatten while something else is broken; after it heals the account is flat in time."""
    trouble = chance.choice(("redis killed", "execution killed", "broker slow", "user hub cut", "none"))
    world.watch.disturb(40.0)
    link = world.link("execution", "rest")
    if trouble == "broker slow":
        link.toxics.latency_s = 1.0
    elif trouble == "user hub cut":
        world.link("broker_sync", "user").toxics.refuse = True
        world.link("broker_sync", "user").reset()
    held = {symbol: qty for symbol, qty in world.venue_positions().items() if qty}
    begun = time.monotonic()
    if not await world.operator_flatten(f"chaos: {trouble}"):
        return
    if trouble == "redis killed":
        world.kill("redis")
    elif trouble == "execution killed":
        world.kill("execution")
    flat = await until(lambda: not any(world.venue_positions().values()), within_s=60.0)
    took_s = time.monotonic() - begun
    link.heal()
    world.link("broker_sync", "user").heal()
    world.record.inject("F-27")
    world.tell("flatten", trouble=trouble, held=held, flat=flat, took_s=round(took_s, 2))
    escalated = any(not one.flat for one in world.orders_said(FlattenFinished))
    world.record.check("I-26", flat or escalated, f"not flat 60 s after a flatten during: {trouble}")
    if held and flat:
        world.flat_s.append(took_s)
        world.record.reach(f"flat from a position during: {trouble}")
    await until(lambda: world.trading is TradingState.HALTED, within_s=10.0)
    await asyncio.sleep(2.0)
    await world.operator_resume("chaos: flatten is over")


@action("F-27", ALONE, "operator", "redis", "execution", "standstill")
async def panic_with_all_frozen(world: World, chance: random.Random) -> None:
    """`julie panic` while every service and Redis stand still: only the credentials are needed."""
    await world.in_order()
    frozen = [one for name, one in world.processes.all.items() if name != "simulator"]
    held = {contract: qty for contract, qty in world.venue_positions().items() if qty}
    world.watch.disturb(60.0)
    for one in frozen:
        one.signal(signal.SIGSTOP)
    begun = time.monotonic()
    world.tell("panic", held=held)
    try:
        getting_out = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "julie", "panic", "--yes", "--reason", "chaos",
            cwd=ROOT, env=world.installation.environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await getting_out.communicate()
        took_s = time.monotonic() - begun
        left = {contract: qty for contract, qty in world.venue_positions().items() if qty}
        world.tell("panic ended", code=getting_out.returncode, took_s=round(took_s, 2), left=left)
        flat = getting_out.returncode == 0 and not left
        words = f"panic ended with {getting_out.returncode}, left {left}: {said[-500:].decode()}"
        # A panic that says that it could not calls for a person, which is the promise too.
        record = world.record
        record.check("I-26", flat or bool(getting_out.returncode), words)
        record.inject("F-27")
        if held and flat:
            world.flat_s.append(took_s)
            record.reach("panic: flat from a position, all else frozen")
    finally:
        for one in frozen:
            one.signal(signal.SIGCONT)
    await world.in_order()
    halt_flag(world.installation.data).unlink(missing_ok=True)
    await asyncio.sleep(2.0)
    await world.operator_resume("chaos: panic is over")


@action("F-27", "operator", "redis", "execution", "standstill")
async def breach(world: World, chance: random.Random) -> None:
    """The day's loss passes the prop firm's limit: guard halts, and the account is flat soon after.

    In half of the cases execution is frozen meanwhile, so that guard has to close by itself.
    """
    guard, execution = world.processes["guard"], world.processes["execution"]
    await world.in_order()
    world.watch.disturb(90.0)
    rules = [{"id": ACCOUNT_ID, "profile": "none", "daily_loss": "1"}]
    guard.extra["JULIE_GUARD__ACCOUNTS"] = json.dumps(rules)
    world.kill("guard", whole=True)
    try:
        if not await until(lambda: HaltKind.GUARD in world.halts, within_s=45.0, poll_s=0.05):
            return
        begun = time.monotonic()
        held = {contract: qty for contract, qty in world.venue_positions().items() if qty}
        frozen = bool(held) and chance.random() < 0.5
        if frozen:
            execution.signal(signal.SIGSTOP)
        world.tell("breach", held=held, execution_frozen=frozen)
        flat = await until(lambda: not any(world.venue_positions().values()), within_s=60.0, poll_s=0.05)
        took_s = time.monotonic() - begun
        execution.signal(signal.SIGCONT)
        world.tell("after breach", flat=flat, took_s=round(took_s, 2))
        world.record.inject("F-27")
        world.record.check("I-26", flat, f"not flat 60 s after a breach of {rules}, held {held}")
        if held and flat:
            world.breach_s.append(took_s)
            world.record.reach("flat after a breach" + (", execution frozen" if frozen else ""))
        await asyncio.sleep(3.0)
    finally:
        execution.signal(signal.SIGCONT)
        guard.extra.clear()
        world.kill("guard", whole=True)
    await world.back("guard")
    await world.operator_resume("chaos: the breach is over")


@action("F-30", "operator")
async def forged_commands(world: World, chance: random.Random) -> None:
    """Resumes that are old, from the wrong writer or no command at all, while an operator's halt stands."""
    await world.operator_halt("chaos: nobody may lift this")
    if not await until(lambda: HaltKind.OPERATOR in world.halts, within_s=20.0):
        return
    old_ns = time.time_ns() - 3_600_000_000_000
    forged = [
        (
            topics.CONTROL_OPERATOR,
            Resume(kind=HaltKind.OPERATOR, reason="old", issuer="chaos", ts_ns=old_ns),
        ),
        (
            topics.CONTROL_HEARTBEAT,
            Resume(kind=HaltKind.OPERATOR, reason="not yours", issuer="heartbeat", ts_ns=time.time_ns()),
        ),
    ]
    for stream, message in forged:
        await world.append_raw(stream, kind_of(message), encode(message))
    await world.append_raw(topics.CONTROL_OPERATOR, b"resume", b'{"kind":"operator"')
    world.record.inject("F-30", len(forged) + 1)
    await asyncio.sleep(3.0)
    stands = HaltKind.OPERATOR in world.halts
    world.record.check("I-29", stands, f"a forged resume lifted an operator's halt: {world.halts}")
    await world.operator_resume("chaos: forged commands are over")


@action("F-12", "execution", "standstill")
async def two_executions(world: World, chance: random.Random) -> None:
    """One is frozen between claim and POST, a second one starts, then the first wakes."""
    mark = world.installation.mark
    mark.write_text("after_claim:stop")
    one = world.processes["execution"]
    frozen = await until(lambda: not mark.exists(), within_s=20.0)
    mark.unlink(missing_ok=True)
    if not frozen:
        return
    world.watch.disturb(30.0)
    world.tell("frozen at mark", pid=one.service_pid)
    other = world.processes.add("execution2", [sys.executable, "-m", "services.execution"])
    world.processes.start(other.name)
    try:
        await asyncio.sleep(chance.uniform(4.0, 9.0))
        world.tell("first execution wakes", second=other.pid)
        one.signal(signal.SIGCONT)
        await asyncio.sleep(3.0)
        if other.pid is not None and one.service_pid is not None:
            world.record.inject("F-12")
            world.record.reach("two executions at once")
    finally:
        one.signal(signal.SIGCONT)
        await world.processes.stop(other.name)
        del world.processes.all[other.name]
    await world.back("execution")


@action("F-28", "standstill")
async def mixed_settings(world: World, chance: random.Random) -> None:
    """A service that trading needs comes back with other settings than the rest."""
    name = chance.choice(("feed", "broker_sync", "execution"))
    one = world.processes[name]
    one.extra["JULIE_BROKER__REQUESTS_MAX_PER_60S"] = "189"
    world.watch.disturb(20.0)
    world.kill(name, whole=True)
    try:
        if not await world.back(name):
            return
        begun_ns = time.time_ns()
        await asyncio.sleep(8.0)
        world.mixed.append((begun_ns + 5_000_000_000, time.time_ns()))
        world.record.inject("F-28")
    finally:
        one.extra.pop("JULIE_BROKER__REQUESTS_MAX_PER_60S", None)
        world.kill(name, whole=True)
    world.tell("settings agree again", process=name)
    await world.back(name)


@action("F-26", "rogue")
async def runaway(world: World, chance: random.Random) -> None:
    """A strategy that wants an order at every quote."""
    await _rogue(world, "run", chance.uniform(3.0, 6.0))
    world.record.inject("F-26")


@action("F-13", "rogue")
async def slow_strategy(world: World, chance: random.Random) -> None:
    """A strategy that takes half a second for each quote falls behind; nobody else does."""
    await _rogue(world, "slow", chance.uniform(4.0, 8.0))
    world.record.inject("F-13")


@action("F-15", "rogue")
async def spinning_strategy(world: World, chance: random.Random) -> None:
    """One that never returns is killed at its deadline."""
    await _rogue(world, "spin", 3.0)
    world.record.inject("F-15")


async def _rogue(world: World, word: str, seconds: float) -> None:
    world.tell("rogue", word=word, seconds=seconds)
    world.installation.rogue.write_text(word)
    try:
        await asyncio.sleep(seconds)
    finally:
        world.installation.rogue.write_text("")
