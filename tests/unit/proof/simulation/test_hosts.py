"""What the checkers of strategy hosts must not let pass, and how workers live and die with their host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from proof.simulation import hosts, swarm
from proof.simulation.bus.replies import ErrorReply
from proof.simulation.checkers.hosts import DECIDES_S, MARGIN_S, SETTLED_S
from proof.simulation.hosts import NAMES, SimSpawn, SimWorker
from proof.simulation.loop import run
from proof.simulation.machine import Incarnation
from proof.simulation.plan import HostsPlan, Plan
from proof.simulation.scaled import EVENT_DEADLINE_S, FAILURE_WINDOW_S, FAILURES_MAX, PLACEMENT_S, strategy
from proof.simulation.venue import ACCOUNT_ID
from proof.simulation.world import World
from services.strategy.spec import EXIT_STRATEGY_FAILED, WorkerSpec
from services.strategy.supervision import KILLED, Phase
from shared.wire import topics

LEASE = topics.lease(ACCOUNT_ID, "s1")
REFUSED = ErrorReply("FENCED epoch 1, the lease is at 2")


@pytest.fixture
def world() -> Iterator[World]:
    """A world with a host, that stands still: what happens in it is what a test does."""
    one = World(Plan(seed=1, hosts=HostsPlan(on=True)))
    one.machine.add("s1", hosts.unstarted, restarts=False)
    yield one
    one.loop.close()


@pytest.fixture
def host(world: World) -> Incarnation:
    return life_of(world, NAMES[0])


def life_of(world: World, name: str) -> Incarnation:
    process = world.machine.processes.get(name) or world.machine.add(name, hosts.host)
    process.incarnations.append(Incarnation(process, len(process.incarnations) + 1))
    return process.incarnations[-1]


def leased(world: World, host: Incarnation, epoch: int) -> None:
    """Redis has granted a lease, and the host knows it."""
    world.redis.server.store.keys[LEASE.encode()] = {b"holder": host.name.encode(), b"epoch": b"%d" % epoch}
    world.judge.hosts.wrote(host, b"julie_lease", [epoch, 1, host.name.encode()])


def started(world: World, host: Incarnation, epoch: int, *, code: int = KILLED) -> SimWorker:
    """A worker that is ready, without a body."""
    worker = SimpleNamespace(
        host=host, spec=SimpleNamespace(strategy_id="s1", lease=(LEASE, host.name, epoch)),
        life=life_of(world, "s1"), code=code, killed=False, stop_asked=False,
        look=lambda: SimpleNamespace(ready=True),
    )  # fmt: skip
    world.judge.hosts.started(cast(SimWorker, worker))
    return cast(SimWorker, worker)


def pass_time(world: World, seconds: float) -> None:
    for _ in range(round(seconds / 0.25)):
        world.loop.now_s += 0.25
        world.judge.hosts.tick(0.25)


def violated(world: World) -> set[str]:
    return set(world.judge.record.violations)


def test_a_step_of_an_older_worker_is_refused(world: World, host: Incarnation) -> None:
    leased(world, host, 1)
    worker = started(world, host, 1)
    world.judge.hosts.wrote(worker.life, b"julie_step", b"OK")
    other = life_of(world, NAMES[1])
    leased(world, other, 2)
    world.judge.hosts.wrote(worker.life, b"julie_step", REFUSED)
    assert not violated(world)
    world.judge.hosts.wrote(worker.life, b"julie_step", b"OK")
    assert violated(world) == {"I-17"}


def test_nor_is_one_taken_whose_epoch_another_host_has_as_well(world: World, host: Incarnation) -> None:
    leased(world, host, 1)
    worker = started(world, host, 1)
    leased(world, life_of(world, NAMES[1]), 1)
    world.judge.hosts.wrote(worker.life, b"julie_step", b"OK")
    assert violated(world) == {"I-17"}


def test_a_host_starts_nothing_without_a_lease(world: World, host: Incarnation) -> None:
    leased(world, life_of(world, NAMES[1]), 1)
    started(world, host, 1)
    assert violated(world) == {"I-17"}


def test_a_worker_whose_lease_is_lost_is_ended(world: World, host: Incarnation) -> None:
    leased(world, host, 1)
    started(world, host, 1)
    leased(world, life_of(world, NAMES[1]), 2)
    host.stop()
    pass_time(world, 4)
    assert not violated(world), "who is frozen cannot know"
    host.go_on()
    pass_time(world, PLACEMENT_S)
    assert not violated(world)
    pass_time(world, 1)
    assert violated(world) == {"I-17"}


def test_a_strategy_that_hangs_is_killed(world: World, host: Incarnation) -> None:
    leased(world, host, 1)
    worker = started(world, host, 1)
    with world.judge.hosts.in_callback(worker.life):
        pass_time(world, EVENT_DEADLINE_S)
        assert not violated(world)
        pass_time(world, 1)
    assert violated(world) == {"I-20"}


def test_and_one_that_does_not_hang_is_not(world: World, host: Incarnation) -> None:
    leased(world, host, 1)
    started(world, host, 1)
    world.judge.hosts.heard(host, "strategy_killed", {"instance": "s1", "why": "a callback took longer"})
    assert violated(world) == {"I-20"}


def test_a_worker_does_not_outlive_its_host(world: World, host: Incarnation) -> None:
    leased(world, host, 1)
    started(world, host, 1)
    host.die("at once")
    pass_time(world, MARGIN_S)
    assert not violated(world)
    pass_time(world, 0.5)
    assert violated(world) == {"I-18"}


def fail(world: World, host: Incarnation, times: int, *, code: int, now: Phase) -> None:
    for _ in range(times):
        worker = started(world, host, 1, code=code)
        worker.life.dead = True
        world.judge.hosts.heard(host, "worker_ended", {"instance": "s1", "now": Phase.WAITING})
    world.judge.hosts.heard(host, "worker_ended", {"instance": "s1", "now": now})


@pytest.mark.parametrize(("failures", "broken"), [(FAILURES_MAX, set()), (FAILURES_MAX - 1, {"I-18"})])
def test_a_strategy_is_switched_off_for_so_many_failures(
    world: World, host: Incarnation, failures: int, broken: set[str]
) -> None:
    leased(world, host, 1)
    fail(world, host, failures - 1, code=EXIT_STRATEGY_FAILED, now=Phase.OFF)
    assert violated(world) == broken
    assert world.judge.hosts.unsettled()


def test_failures_of_long_ago_and_kills_from_outside_do_not_count(world: World, host: Incarnation) -> None:
    leased(world, host, 1)
    fail(world, host, 1, code=EXIT_STRATEGY_FAILED, now=Phase.WAITING)
    world.loop.now_s += FAILURE_WINDOW_S
    killed = started(world, host, 1, code=KILLED)
    world.loop.now_s += SETTLED_S
    killed.life.dead = True
    for _ in range(FAILURES_MAX):
        world.judge.hosts.heard(host, "worker_ended", {"instance": "s1", "now": Phase.OFF})
    assert violated(world) == {"I-18"}


def test_every_instance_decides_again_after_the_faults(world: World, host: Incarnation) -> None:
    world.loop.now_s = world.plan.faults_s
    bound_s = world.judge.hosts._back_within_s
    pass_time(world, DECIDES_S + 0.5)
    assert world.judge.hosts.unsettled() == "s1 decides nothing"
    pass_time(world, bound_s - DECIDES_S - 0.5)
    assert not violated(world)
    pass_time(world, 0.5)
    assert violated(world) == {"I-18"}


@pytest.mark.parametrize(("frozen", "lives"), [(True, True), (False, False)])
def test_a_worker_dies_with_its_host_and_not_beside_a_frozen_one(
    world: World, host: Incarnation, frozen: bool, lives: bool
) -> None:
    leased(world, host, 1)
    config = strategy(1)
    spec = WorkerSpec(
        strategy_id="s1", strategy_class=config.instances[0].strategy_class, symbols=("MES",), settings={},
        env="sim", account_id=ACCOUNT_ID, lease=(LEASE, host.name, 1), redis={}, build="sim",
    )  # fmt: skip

    async def scenario() -> bool:
        worker = SimSpawn(host).start(spec)
        await asyncio.sleep(1)
        host.stop() if frozen else host.die("at once")
        await asyncio.sleep(1)
        return worker.exit_code() is None

    assert run(world.loop, scenario) is lives


def test_an_eighth_of_all_seeds_have_real_hosts() -> None:
    plans = [swarm.draw(seed) for seed in range(400)]
    assert 40 <= sum(plan.hosts.on for plan in plans) <= 80
    assert all(plan.hosts.on == ("hosts" in plan.kinds) for plan in plans)
