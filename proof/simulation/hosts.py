"""The real strategy hosts of a world, and the workers that they start as processes of its machine.

`Spawn` is the port: here a worker is a life of the process `s1`, with a page that its host looks at. It ends
as the kernel has it: a worker dies a moment after its host (`services.strategy.zygote`), and runs on beside
one that is only frozen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from proof.simulation import scaled
from proof.simulation.bridge import run_blocking, sleep
from proof.simulation.machine import Incarnation
from proof.simulation.plan import Trouble
from proof.simulation.processes import Page, SimLog, context, instance, running
from proof.simulation.workload import Scripted
from services.strategy.process import end_of
from services.strategy.shell import HOST_PREFIX, Shell
from services.strategy.spec import Seen, WorkerSpec
from services.strategy.supervision import KILLED
from shared.bus.client import Address
from shared.runtime.service import _with_beats
from shared.strategy import Quote

if TYPE_CHECKING:
    from proof.simulation.world import World

NAMES = (HOST_PREFIX + "a", HOST_PREFIX + "b")
STARTS_WITHIN_S = 0.2
"""A fork, and what the author's module imports."""
GONE_WITHIN_S = 0.1
"""The kernel ends a zygote with its host, and the workers with the zygote."""
REAPED_WITHIN_S = 0.15
"""Until a host can see that a worker has ended."""
STUCK_S = 600.0
PERSON_AFTER_S = 4.0
DAWDLES_S = 0.7 * scaled.EVENT_DEADLINE_S


def host(incarnation: Incarnation) -> Coroutine[Any, Any, None]:
    world = incarnation.process.machine.world
    ctx = context(world, incarnation, scaled.strategy(world.plan.workers), lively=True)
    return _with_beats(ctx, lambda given: Shell(given, SimSpawn(incarnation), redis=Address()).run())


def one_of(world: World) -> str:
    """Return the name of any host."""
    return NAMES[world.rng.randrange(world.plan.hosts.count)]


def schedule(world: World) -> None:
    """Let hosts be stopped in good order, and strategies meet their troubles, when it is planned."""
    for at_s in world.plan.hosts.asked_to_stop:
        world.machine.later(at_s, lambda: _ask_to_stop(world))
    for trouble in world.plan.hosts.troubles:
        world.machine.later(trouble.at_s, lambda t=trouble: _trouble(world, t))  # type: ignore[misc]


def _ask_to_stop(world: World) -> None:
    host = world.machine.processes[one_of(world)].now
    if host is not None:
        world.trace("asked to stop", host.name)
        world.judge.reach("host asked to stop")
        host.ask_to_stop()


def by_a_person(host: Incarnation) -> None:
    """Start a host anew after a while: it has switched a strategy off."""
    host.process.machine.later(PERSON_AFTER_S, host.ask_to_stop)


def _trouble(world: World, trouble: Trouble) -> None:
    waiting = world.troubles.setdefault(trouble.strategy_id, deque())
    waiting += [trouble.kind] * trouble.times


async def unstarted(life: Incarnation) -> None:
    """A worker begins by its host only."""
    raise AssertionError(f"{life.name} was started by nobody")


class SimSpawn:
    """See `services.strategy.spawn.Spawn`."""

    def __init__(self, host: Incarnation) -> None:
        self._host = host
        self._started: list[SimWorker] = []

    def start(self, spec: WorkerSpec) -> SimWorker:
        worker = SimWorker(self._host, spec)
        self._started.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._started:
            worker.life.die("with its zygote")


class SimWorker:
    """See `services.strategy.spawn.WorkerHandle`: one life of an instance.

    Attributes:
        stop_asked: Its host has asked it to commit and leave.
        killed: Its host has killed it.
    """

    def __init__(self, host: Incarnation, spec: WorkerSpec) -> None:
        self.host, self.spec = host, spec
        self.page = Page()
        self.stop_asked = self.killed = False
        self._machine = machine = host.process.machine
        self._code: int | None = None
        self._reaped_s = machine.world.rng.random() * REAPED_WITHIN_S
        self._ended_s = 0.0
        self.life = machine.processes[spec.strategy_id].start(self._run)
        self.life.on_death.append(self._ended)
        self.pid = 1000 * host.number + self.life.number
        host.on_death.append(self._host_gone)
        machine.world.judge.hosts.started(self)

    async def _run(self, life: Incarnation) -> None:
        world = self._machine.world
        await asyncio.sleep(world.rng.random() * STARTS_WITHIN_S)
        one = instance(life, self.spec, self.page, cls=Troubled, stop_asked=lambda: self.stop_asked)
        log: Any = SimLog(world, life.name)
        page: Any = self.page
        self._code = await run_blocking(lambda: end_of(one.run, page, log))

    def _ended(self) -> None:
        self._ended_s = self._machine.loop.now_s

    def _host_gone(self) -> None:
        if not self.life.dead:
            self._machine.reach("a worker died with its host")
            wait_s = self._machine.world.rng.random() * GONE_WITHIN_S
            self._machine.later(wait_s, lambda: self.life.die("with its host"))

    @property
    def code(self) -> int:
        """How it has ended, as the kernel tells it."""
        return KILLED if self._code is None else self._code

    # -- what its host sees and does ----------------------------------------------

    def look(self) -> Seen:
        return self.page.look()

    def exit_code(self) -> int | None:
        reaped = self.life.dead and self._machine.loop.now_s >= self._ended_s + self._reaped_s
        return self.code if reaped else None

    def rss_mb(self) -> int:
        return 0

    def ask_stop(self) -> None:
        self.stop_asked = True

    def kill(self) -> None:
        if not self.life.dead:
            self.killed = True
            self.life.die("killed by its host")

    def close(self) -> None:
        self.kill()


class Troubled(Scripted):
    """A strategy that also fails and hangs, when the plan has it so."""

    def on_start(self) -> None:
        super().on_start()
        _meet_trouble()

    def on_quote(self, quote: Quote) -> None:
        _meet_trouble()
        super().on_quote(quote)


def _meet_trouble() -> None:
    world, life = running()
    waiting = world.troubles.get(life.name)
    if not waiting:
        return
    kind = waiting.popleft()
    world.trace("trouble", life.name, kind)
    world.judge.reach(f"strategy {kind}")
    if kind == "raises":
        raise RuntimeError("as planned")
    with world.judge.hosts.in_callback(life):
        sleep(STUCK_S if kind == "sticks" else DAWDLES_S)
