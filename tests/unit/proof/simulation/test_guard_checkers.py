"""What the checkers of guard must not let pass."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from proof.simulation.checkers.guard import CLOSE, FLAT_WITHIN_S, NOTICED_S, READY_S
from proof.simulation.checkers.guard_books import CONTRACTS, DAILY_LOSS
from proof.simulation.machine import Incarnation
from proof.simulation.plan import GuardPlan, Plan
from proof.simulation.venue import ACCOUNT_ID
from proof.simulation.wire import PLACE, Post
from proof.simulation.world import World
from services.guard.record import Breach, Record, Rule
from services.simulator.placing import PlaceOrder
from shared.bus.bus import RedisBus
from shared.domain.control import HaltKind, Resume

D = Decimal
BREACH = Breach(rule=Rule.CONTRACTS, reason="contracts: 0.2 held, 0.1 allowed", ts_breach_ns=1)
CALM = Record(
    account_id=ACCOUNT_ID, since="", day="2026-03-02", start_balance=D(50_000), eod_balance=D(50_000),
    high_balance=D(50_000),
)  # fmt: skip
LATCHED = msgspec.structs.replace(CALM, latch=BREACH, last=BREACH)


@pytest.fixture
def world() -> Iterator[World]:
    """A world that stands still: what happens in it is what a test does."""
    one = World(Plan(seed=1, guard=GuardPlan(on=True, daily_loss=20, contracts=(("0", "0.1"),))))
    one.venue.touch(one.surroundings.bid, 9)
    one.judge.guard.books.note()
    yield one
    one.loop.close()


@pytest.fixture
def guard(world: World) -> Incarnation:
    """A guard that has long been running."""
    process = world.machine.add("guard", nothing)
    one = Incarnation(process, 1)
    process.incarnations.append(one)
    one.bus = cast(RedisBus, SimpleNamespace(writers=["control:guard"]))
    pass_time(world, READY_S)
    return one


async def nothing(_: Incarnation) -> None: ...


def pass_time(world: World, seconds: float) -> None:
    world.loop.now_s += seconds


def buy(world: World, qty: int) -> None:
    world.venue.submit(
        PlaceOrder(
            now_ns=world.venue.now_ns(), account_id=ACCOUNT_ID, contract_id=world.venue.contract.id,
            type=2, side=0 if qty > 0 else 1, size=abs(qty),
        )
    )  # fmt: skip


def violated(world: World) -> dict[str, int]:
    return world.judge.record.violations


def write(world: World, guard: Incarnation, record: Record) -> None:
    value = msgspec.json.encode(record)
    world.judge.guard.recorded(world.guard_disk.value, value, guard)
    world.guard_disk.value = value


def resume(world: World) -> str:
    order = Resume(kind=HaltKind.OPERATOR, reason="", issuer="sim", ts_ns=world.clock.now_ns())
    world.judge.guard.resumed(order)
    return f"{order.issuer}@{order.ts_ns} {order.kind}"


def test_a_breach_has_to_be_one_by_the_books(world: World, guard: Incarnation) -> None:
    buy(world, 2)
    world.judge.guard.heard(guard, "breach", "contracts: 0.2 held, 0.1 allowed")
    assert not violated(world)
    world.judge.guard.heard(guard, "breach", "daily loss: -20.00")
    assert violated(world) == {"I-26": 1}


def test_what_was_held_for_no_time_was_held(world: World, guard: Incarnation) -> None:
    buy(world, 2)
    buy(world, -2)
    assert world.judge.guard.books.now.net == 0
    assert world.judge.guard.books.may_be_broken(CONTRACTS, world.clock.true_ns())
    assert not world.judge.guard.books.may_be_broken(DAILY_LOSS, world.clock.true_ns())


def test_a_broken_rule_that_nobody_notices(world: World, guard: Incarnation) -> None:
    buy(world, 2)
    for _ in range(round(NOTICED_S)):
        world.judge.guard.tick(1.0)
    assert not violated(world)
    world.judge.guard.tick(1.0)
    assert violated(world) == {"I-26": 1}


def test_an_account_that_is_not_made_flat(world: World, guard: Incarnation) -> None:
    buy(world, 2)
    write(world, guard, LATCHED)
    for _ in range(round(FLAT_WITHIN_S)):
        world.judge.guard.tick(1.0)
    assert not violated(world)
    world.network.cut = True
    world.judge.guard.tick(1.0)
    assert not violated(world), "it cannot act"
    world.network.cut = False
    world.judge.guard.tick(1.0)
    assert violated(world) == {"I-26": 1}


def test_what_is_opened_past_guard_has_its_own_time(world: World, guard: Incarnation) -> None:
    buy(world, 2)
    write(world, guard, LATCHED)
    for _ in range(round(FLAT_WITHIN_S)):
        world.judge.guard.tick(1.0)
    buy(world, 1)
    for _ in range(round(FLAT_WITHIN_S) + 1):
        world.judge.guard.tick(1.0)
    assert not violated(world)
    world.judge.guard.tick(1.0)
    assert violated(world) == {"I-26": 1}


def test_guard_closes_only_with_a_reason_and_never_places(world: World, guard: Incarnation) -> None:
    post = Post(CLOSE, b"{}", world.clock.true_ns(), guard, arrives=True)
    world.judge.guard.posted(post)
    assert violated(world) == {"I-26": 1}
    write(world, guard, LATCHED)
    world.judge.guard.posted(post)
    assert violated(world) == {"I-26": 1}
    world.judge.guard.posted(Post(PLACE, b"{}", world.clock.true_ns(), guard, arrives=True))
    assert violated(world) == {"I-26": 2}


def test_a_latch_is_lifted_by_a_person_once_it_was_seen_flat(world: World, guard: Incarnation) -> None:
    write(world, guard, LATCHED)
    flat = msgspec.structs.replace(BREACH, ts_flat_ns=2)
    name = resume(world)
    write(world, guard, msgspec.structs.replace(CALM, last=flat, resumes=(name,)))
    assert not violated(world)
    write(world, guard, msgspec.structs.replace(LATCHED, resumes=(name,)))
    write(world, guard, msgspec.structs.replace(CALM, last=flat, resumes=(name,)))
    assert violated(world) == {"I-29": 1}, "that resume was heard before"


def test_a_latch_is_not_lifted_while_not_flat(world: World, guard: Incarnation) -> None:
    buy(world, 1)
    pass_time(world, 6)
    write(world, guard, LATCHED)
    write(world, guard, msgspec.structs.replace(CALM, last=BREACH, resumes=(resume(world),)))
    assert violated(world) == {"I-29": 2}


def test_the_highest_balance_and_the_day_go_forward_only(world: World, guard: Incarnation) -> None:
    write(world, guard, msgspec.structs.replace(CALM, high_balance=D(50_010)))
    write(world, guard, CALM)
    assert violated(world) == {"I-26": 1}


def test_a_breach_that_dies_before_it_is_written_is_judged_anew(world: World, guard: Incarnation) -> None:
    buy(world, 2)
    world.judge.guard.heard(guard, "breach", "contracts: 0.2 held, 0.1 allowed")
    assert world.judge.guard.demands()
    buy(world, -2)
    guard.dead = True
    world.judge.guard.tick(1.0)
    assert not world.judge.guard.demands()
    assert not violated(world)
