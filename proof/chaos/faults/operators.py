"""People and programs that mean well or not: kill switch, forged commands, second instances, rogues."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Callable

import msgspec

from proof.chaos.faults import ALONE, action
from proof.chaos.installation import ACCOUNT_ID, ROOT
from proof.chaos.operator import ISSUER
from proof.chaos.processes import until
from proof.chaos.sampler import FLAT_S, FLAT_SLACK_S
from proof.chaos.world import World
from services.guard.record import Breach, Rule
from services.guard.record import Record as GuardRecord
from shared.domain.control import HaltKind, Resume, TradingState
from shared.domain.execution import FlattenFinished, TradingStateChanged
from shared.runtime.config import halt_flag
from shared.wire import topics
from shared.wire.codec import encode, kind_of

FLAT_WITHIN_S = 60.0
"""Whatever is broken meanwhile; of what execution, or guard, can use of it `FLAT_S` is the bound."""
CALLS_A_PERSON = "not seen flat"
WAITS_FOR_LEDGER = b"another execution process writes this ledger"
PLACE = "/api/Order/place"
STANDS_DOWN_S = 5.0
"""The bus is asked four times a second; the rest is for a machine that is busy."""
BEHIND_ENTRIES = 50
"""More than a batch and what comes between two beats."""
FRESH_S = 55.0
"""A resume that is older is refused for its age, whether it was obeyed before or not."""


async def a_position(world: World) -> dict[str, int]:
    """Wait a while for a position, so that there is something to get out of; return what is held."""
    await until(lambda: bool(world.books.held()), within_s=15.0)
    return world.books.held()


@action("F-27", "operator", "redis", "execution", "standstill")
async def flatten_in_trouble(world: World, chance: random.Random) -> None:
    """Flatten while something else is broken; the account is flat in time all the same."""
    trouble = chance.choice(("redis killed", "execution killed", "broker slow", "user hub cut", "none"))
    world.watch.disturb(40.0)
    links = world.link("execution", "rest"), world.link("broker_sync", "user")
    held = await a_position(world)
    try:
        if trouble == "broker slow":
            links[0].toxics.latency_s = 1.0
        elif trouble == "user hub cut":
            links[1].toxics.refuse = True
            links[1].reset()
        if not await world.operator.flatten(f"chaos: {trouble}"):
            return
        begun_s, begun_ns = time.monotonic(), time.time_ns()
        if trouble == "redis killed":
            world.kill("redis")
        elif trouble == "execution killed":
            world.kill("execution")
        flat = await until(lambda: not world.books.held(), within_s=FLAT_WITHIN_S)
    finally:
        for link in links:
            link.heal()
    took_s = time.monotonic() - begun_s
    usable_s = world.sampler.usable_s(begun_s, begun_s + took_s, lambda one: one.acts)
    world.tell("flatten", trouble=trouble, held=held, flat=flat, took_s=round(took_s, 2))
    gave_up = [one for one in world.orders_said(FlattenFinished) if not one.flat and one.ts_ns > begun_ns]
    ok = flat_in_time(flat, usable_s) or bool(gave_up)
    words = f"not flat {took_s:.0f} s after a flatten during: {trouble}; {usable_s:.0f} s could be used"
    world.record.check("I-26", ok, words)
    if held:
        world.record.inject("F-27")
        if flat:
            world.flat_s.append(took_s)
            world.record.reach(f"flat from a position during: {trouble}")
    await until(lambda: world.trading is TradingState.HALTED, within_s=10.0)
    await asyncio.sleep(2.0)
    await world.operator.resume("chaos: flatten is over")


def flat_in_time(flat: bool, usable_s: float) -> bool:
    """Say whether it became flat within what the promise allows of the time that could be used."""
    return flat and usable_s <= FLAT_S + FLAT_SLACK_S


@action("F-27", ALONE, "operator", "redis", "execution", "standstill")
async def panic_with_all_frozen(world: World, chance: random.Random) -> None:
    """`julie panic` while every service and Redis stand still: only the credentials are needed."""
    await world.in_order()
    frozen = [one for name, one in world.processes.all.items() if name != "simulator"]
    held = await a_position(world)
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
        output, _ = await getting_out.communicate()
        took_s = time.monotonic() - begun
        said, left = " ".join(output.decode(errors="replace").split()), world.books.left()
        code = getting_out.returncode
        world.tell("panic ended", code=code, took_s=round(took_s, 2), left=left)
        flat = code == 0 and not left
        record = world.record
        words = f"panic ended with {code} after {took_s:.0f} s, left {left}: {said[-500:]}"
        record.check("I-26", panic_kept_its_word(code, left, said, took_s), words)
        if held:
            record.inject("F-27")
            if flat:
                world.flat_s.append(took_s)
                record.reach("panic: flat from a position, all else frozen")
    finally:
        for one in frozen:
            one.signal(signal.SIGCONT)
    await world.in_order()
    halt_flag(world.installation.data).unlink(missing_ok=True)
    await asyncio.sleep(2.0)
    await world.operator.resume("chaos: panic is over")


def panic_kept_its_word(code: int | None, left: list[str], said: str, took_s: float) -> bool:
    """Flat, or a person was called, and rightly so: both in time. Any other end is a failure of its own."""
    called = bool(code) and CALLS_A_PERSON in said and bool(left)
    return took_s <= FLAT_S + FLAT_SLACK_S and (called or (code == 0 and not left))


@action("F-27", "operator", "redis", "execution", "standstill")
async def breach(world: World, chance: random.Random) -> None:
    """The day's loss passes the prop firm's limit: guard sees it, and the account is flat soon after.

    In half of the cases execution is frozen meanwhile, so that guard has to close by itself. What happened
    and when, guard's own record tells: its restart alone halts trading, too.
    """
    guard, execution = world.processes["guard"], world.processes["execution"]
    await world.in_order()
    await a_position(world)
    world.watch.disturb(90.0)
    rules = [{"id": ACCOUNT_ID, "profile": "none", "daily_loss": "1"}]
    guard.extra["JULIE_GUARD__ACCOUNTS"] = json.dumps(rules)
    begun_ns = time.time_ns()
    world.kill("guard", whole=True)
    try:
        if not await until(lambda: breach_since(world, begun_ns) is not None, within_s=45.0, poll_s=0.05):
            world.tell("no breach", halts={str(kind): why for kind, why in world.halts.items()})
            return
        begun_s = time.monotonic()
        held = world.books.held()
        frozen = bool(held) and chance.random() < 0.5
        if frozen:
            execution.signal(signal.SIGSTOP)
        world.tell("breach", held=held, execution_frozen=frozen)

        def told_flat() -> bool:
            found = breach_since(world, begun_ns)
            return found is not None and found.ts_flat_ns > 0

        await until(told_flat, within_s=FLAT_WITHIN_S, poll_s=0.05)
        usable_s = world.sampler.usable_s(begun_s, time.monotonic(), lambda one: one.guards)
        # What is traded by hand, or lands late, is closed in its turn.
        await until(lambda: bool(world.trading_by_hand) or not world.books.held(), within_s=5.0)
        left = {} if world.trading_by_hand else world.books.held()
        execution.signal(signal.SIGCONT)
        found = breach_since(world, begun_ns)
        assert found is not None
        took_s = (found.ts_flat_ns - found.ts_breach_ns) / 1e9
        world.tell("after breach", record=msgspec.to_builtins(found), left=left)
        ok = flat_in_time(found.ts_flat_ns > 0 and not left, usable_s) and found.rule is Rule.DAILY_LOSS
        words = f"a breach of {rules}, held {held}, left {left}, {usable_s:.0f} s could be used: {found}"
        world.record.check("I-26", ok, words)
        if held:
            world.record.inject("F-27")
        if held and found.ts_flat_ns:
            world.breach_s.append(took_s)
            by_itself = ", execution frozen" if frozen and found.closed_by == "guard" else ""
            world.record.reach("flat after a breach" + by_itself)
        await asyncio.sleep(3.0)
    finally:
        execution.signal(signal.SIGCONT)
        guard.extra.clear()
        world.kill("guard", whole=True)
    await world.back("guard")
    await world.operator.resume("chaos: the breach is over")


def breach_since(world: World, since_ns: int) -> Breach | None:
    """Return what guard has written down as broken since then."""
    try:
        value = (world.installation.data / f"guard-{ACCOUNT_ID}.json").read_bytes()
        last = msgspec.json.decode(value, type=GuardRecord).last
    except (OSError, msgspec.MsgspecError):
        return None
    return last if last is not None and last.ts_breach_ns >= since_ns else None


@action("F-30", "operator")
async def forged_commands(world: World, chance: random.Random) -> None:
    """Resumes that are old, repeated, from the wrong writer or broken, while an operator's halt stands."""
    if not await _halted(world, "chaos: until it is looked at"):
        return
    obeyed = Resume(kind=HaltKind.OPERATOR, reason="chaos: looked at", issuer=ISSUER, ts_ns=time.time_ns())
    await world.operator.say(obeyed)
    if not await until(lambda: HaltKind.OPERATOR not in world.halts, within_s=20.0):
        return
    if not await _halted(world, "chaos: nobody may lift this"):
        return
    old = msgspec.structs.replace(obeyed, reason="old", ts_ns=obeyed.ts_ns - 3_600_000_000_000)
    foreign = msgspec.structs.replace(obeyed, reason="not yours", issuer="heartbeat", ts_ns=time.time_ns())
    forged = [
        (topics.CONTROL_OPERATOR, old),
        (topics.CONTROL_OPERATOR, obeyed),
        (topics.CONTROL_HEARTBEAT, foreign),
    ]
    told = 0
    for stream, message in forged:
        told += await world.operator.forge(stream, kind_of(message), encode(message))
    told += await world.operator.forge(topics.CONTROL_OPERATOR, b"resume", b'{"kind":"operator"')
    if told == len(forged) + 1:
        world.record.inject("F-30", told)
        repeated_s = (time.time_ns() - obeyed.ts_ns) / 1e9
        world.record.reach("resume repeated while it was fresh", times=int(repeated_s < FRESH_S))
    await asyncio.sleep(3.0)
    stands = HaltKind.OPERATOR in world.halts
    world.record.check("I-29", stands, f"a forged resume lifted an operator's halt: {world.halts}")
    await world.operator.resume("chaos: forged commands are over")


async def _halted(world: World, reason: str) -> bool:
    await world.operator.halt(reason)
    return await until(lambda: HaltKind.OPERATOR in world.halts, within_s=20.0)


@action("F-12", "execution", "standstill")
async def two_executions(world: World, chance: random.Random) -> None:
    """One is frozen between claim and POST, a second one starts on the same ledger: it must wait for it."""
    one = world.processes["execution"]
    if not await _frozen_after_claim(world):
        return
    epoch = await _epoch(world)
    other = world.processes.add("execution2", [sys.executable, "-m", "services.execution"])
    world.processes.start(other.name)
    try:
        await asyncio.sleep(chance.uniform(4.0, 9.0))
        world.tell("first execution wakes", second=other.pid)
        one.signal(signal.SIGCONT)
        await asyncio.sleep(3.0)
        said = (world.installation.logs / f"{other.name}.log").read_bytes()
        if WAITS_FOR_LEDGER in said and epoch is not None and await _epoch(world) == epoch:
            world.record.inject("F-12")
            world.record.reach("second execution waited for the ledger")
    finally:
        one.signal(signal.SIGCONT)
        await world.processes.stop(other.name)
        del world.processes.all[other.name]
    await world.back("execution")


@action("F-12", "execution", "redis", "standstill")
async def overtaken_execution(world: World, chance: random.Random) -> None:
    """While one is frozen between claim and POST another takes its stream over, as one elsewhere would.

    It wakes with an order in hand, and must stand down without sending anything.
    """
    one = world.processes["execution"]
    if not await _frozen_after_claim(world):
        return
    pid, epoch = one.service_pid, await _epoch(world)
    try:
        await world.operator.take_over(topics.orders(ACCOUNT_ID))
        # What the bus confirmed before it froze must be too old to be sent on when it wakes.
        await asyncio.sleep(chance.uniform(1.5, 3.0))
        risen = epoch is not None and (await _epoch(world) or 0) > epoch
    finally:
        woken_s = time.monotonic()
        one.signal(signal.SIGCONT)
    down = await until(lambda: one.service_pid != pid, within_s=STANDS_DOWN_S, poll_s=0.02)
    until_s = time.monotonic()
    sent = [
        asked.path
        for asked in world.requests.all
        if asked.path == PLACE and woken_s <= asked.mono_s <= until_s
    ]
    world.tell("overtaken", pid=pid, epoch_risen=risen, stood_down=down, sent=sent)
    if risen:
        world.record.inject("F-12")
        world.record.check("I-17", down, f"an execution that was overtaken (pid {pid}) goes on")
        world.record.check("I-17", not sent, f"an execution that was overtaken sent {sent}")
        if down and not sent:
            world.record.reach("overtaken execution stood down")
    await world.back("execution")


async def _frozen_after_claim(world: World) -> bool:
    """Have execution freeze with an order claimed and not sent; return whether it came to that."""
    await until(lambda: world.trading is TradingState.ACTIVE, within_s=20.0)
    mark = world.installation.mark
    mark.write_text("after_claim:stop")
    frozen = await until(lambda: not mark.exists(), within_s=25.0, poll_s=0.02)
    mark.unlink(missing_ok=True)
    if frozen:
        world.watch.disturb(30.0)
        world.tell("frozen at mark", pid=world.processes["execution"].service_pid)
    return frozen


async def _epoch(world: World) -> int | None:
    """Return how often the stream of execution has been opened for writing."""
    found = await world.operator.run("HGET", topics.head(topics.orders(ACCOUNT_ID)), "epoch")
    return None if found is None else int(found)


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
    """A strategy that wants an order at every quote, until it is latched off."""
    if not await until(lambda: world.trading is TradingState.ACTIVE, within_s=20.0):
        return
    begun_ns = time.time_ns()

    def latched() -> bool:
        said = world.orders_said(TradingStateChanged)
        return any("rogue" in one.latched for one in said if one.ts_ns > begun_ns)

    if await _rogue(world, "run", 15.0, latched):
        world.record.inject("F-26")
        world.record.reach("runaway latched off")


@action("F-13", "rogue")
async def slow_strategy(world: World, chance: random.Random) -> None:
    """A strategy that takes half a second for each quote falls behind; nobody else does."""

    def behind() -> bool:
        beat = world.watch.beats.get("strategy:rogue")
        return beat is not None and sum(beat.lag.values()) >= BEHIND_ENTRIES

    if await _rogue(world, "slow", chance.uniform(6.0, 10.0), behind):
        world.record.inject("F-13")


@action("F-15", "rogue")
async def spinning_strategy(world: World, chance: random.Random) -> None:
    """One that never returns is killed at its deadline."""
    pid = worker_pid(world)
    if await _rogue(world, "spin", 10.0, lambda: worker_pid(world) not in (pid, None)):
        world.record.inject("F-15")
        world.record.reach("spinning strategy ended")


def worker_pid(world: World) -> int | None:
    beat = world.watch.beats.get("strategy:rogue")
    return beat.pid if beat is not None and beat.pid else None


async def _rogue(world: World, word: str, seconds: float, effect: Callable[[], bool]) -> bool:
    """Let the rogue behave badly until it shows; return whether it did."""
    world.installation.rogue.write_text(word)
    try:
        seen = await until(effect, within_s=seconds)
    finally:
        world.installation.rogue.write_text("")
    world.tell("rogue", word=word, seen=seen)
    return seen
