"""The broker's door in the simulation, and what the checkers of session and judge must not let pass."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest

from proof.simulation.checkers.liveness import HALTED_WITHIN_S, UNSEEN_S
from proof.simulation.checkers.session import TOKEN
from proof.simulation.door import LOGIN, VALIDATE, Door
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.plan import Plan, SessionPlan
from proof.simulation.scaled import RETRY_FIRST_S
from proof.simulation.swarm import draw
from proof.simulation.world import World


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def answered(door: Door, path: str, token: str | None = None) -> dict[str, object]:
    said = door.says(path, token)
    assert said is not None
    assert said[0] == 200
    envelope: dict[str, object] = msgspec.json.decode(said[1])
    return envelope


def login(door: Door) -> str:
    token = answered(door, LOGIN)["token"]
    assert isinstance(token, str)
    return token


def make_door(clock: Clock, **kinds: float) -> Door:
    plan = SessionPlan(on=True, life_s=8.0, renews=kinds.pop("renews", 0.0), **kinds)  # type: ignore[arg-type]
    return Door(plan, random.Random(1), clock)


def test_a_token_is_let_in_for_as_long_as_it_lives() -> None:
    clock = Clock()
    door = make_door(clock)
    token = login(door)
    assert door.says("/api/Order/search", token) is None
    assert answered(door, VALIDATE, token)["newToken"] is None
    clock.now_ns = 8 * NS_PER_S
    assert door.says("/api/Order/search", token) == (401, b"")
    assert door.says("/api/Order/search", None) == (401, b"")


def test_revoked_and_stillborn_tokens_are_not_let_in_and_none_is_born_so_when_all_is_healed() -> None:
    clock = Clock()
    door = make_door(clock)
    token = login(door)
    door.revoke()
    assert not door.accepts(token)
    stillborn = make_door(clock, dead_on_arrival=1.0)
    assert not stillborn.accepts(login(stillborn))
    stillborn.heal()
    assert stillborn.accepts(login(stillborn))


# -- checkers -----------------------------------------------------------------------


@pytest.fixture
def world() -> Iterator[World]:
    """A world with a heartbeat, that stands still: what happens in it is what a test does."""
    one = World(Plan(seed=1, session=SessionPlan(on=True)))
    for name in ("heartbeat", "broker_sync", "execution"):
        process = one.machine.add(name, nothing)
        process.incarnations.append(Incarnation(process, 1))
    yield one
    one.loop.close()


async def nothing(_: Incarnation) -> None: ...


def heartbeat(world: World) -> Incarnation:
    return world.machine.processes["heartbeat"].incarnations[0]


def violated(world: World) -> set[str]:
    return set(world.judge.record.violations)


def pass_time(world: World, seconds: float) -> None:
    for _ in range(round(seconds / 0.25)):
        world.judge.liveness.tick(0.25)


@pytest.mark.parametrize(("seconds", "broken"), [(HALTED_WITHIN_S, set()), (HALTED_WITHIN_S + 2, {"I-20"})])
def test_no_new_exposure_leaves_without_a_process_that_it_needs(
    world: World, seconds: float, broken: set[str]
) -> None:
    pass_time(world, seconds)  # nobody is ready; heartbeat has a second to begin
    world.judge.liveness.exposed("an order")
    assert violated(world) == broken


def test_nor_while_heartbeat_does_not_run(world: World) -> None:
    heartbeat(world).stop()
    pass_time(world, HALTED_WITHIN_S + 1)
    world.judge.liveness.exposed("an order")
    assert violated(world) == {"I-20"}


def test_a_lost_process_without_a_halt_is_noticed(world: World) -> None:
    world.judge.liveness.halted = False
    pass_time(world, HALTED_WITHIN_S + 3)
    assert violated(world) == {"I-20"}


def test_no_halt_is_lifted_while_somebody_is_away(world: World) -> None:
    pass_time(world, UNSEEN_S + 1)
    world.judge.liveness.resumed()
    assert violated(world) == {"I-20"}


def ask(world: World, path: str) -> None:
    watch, asker = world.judge.session, heartbeat(world)
    watch.tried(path, asker)
    watch.asked(path, asker)


def hear(world: World, path: str, status: int, **said: object) -> None:
    watch, asker = world.judge.session, heartbeat(world)
    watch.over(path, asker)
    watch.heard(path, asker, None, status, msgspec.json.encode({"errorCode": 0, **said}))


def test_one_question_at_a_time(world: World) -> None:
    ask(world, LOGIN)
    ask(world, VALIDATE)
    assert violated(world) == {"I-25"}


@pytest.mark.parametrize(("pause_s", "broken"), [(RETRY_FIRST_S, set()), (RETRY_FIRST_S / 2, {"I-25"})])
def test_logins_that_bring_nothing_are_not_repeated_at_once(
    world: World, pause_s: float, broken: set[str]
) -> None:
    ask(world, LOGIN)
    hear(world, LOGIN, 503)
    world.loop.now_s += pause_s
    ask(world, LOGIN)
    assert violated(world) == broken


def test_a_token_in_a_log_or_under_another_key_than_its_own_is_found(world: World) -> None:
    door = world.venue.door
    assert door is not None
    token = login(door)
    keys = world.redis.server.store.keys
    keys[TOKEN] = token.encode()
    world.judge.session.leaks()
    world.judge.session.said("a log", {"why": "refused"})
    assert not violated(world)
    keys[b"session:state"] = {b"state": token.encode()}
    world.judge.session.leaks()
    world.judge.session.said("a log", {"why": f"refused: {token}"})
    assert world.judge.record.violations == {"I-27": 2}


def test_a_fifth_of_all_seeds_have_the_real_heartbeat_some_of_them_with_the_real_guard() -> None:
    plans = [plan for plan in map(draw, range(400)) if plan.session.on]
    assert 60 <= len(plans) <= 110
    assert 15 <= sum(plan.guard.on for plan in plans) <= 45
