"""Processes that die: incarnations, the points at which they are killed, and who starts them again.

A kill is what SIGKILL is: between two instructions, at a port call before or after its effect. Nothing of the
process runs afterwards (the loop drops its handles), its memory is gone, its files and what it sent are not.
A stop (SIGSTOP) puts its handles aside while time goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from proof.simulation.loop import OWNER, SimLoop

if TYPE_CHECKING:
    from proof.simulation.world import World
    from shared.bus.bus import RedisBus
    from shared.runtime.beat import BeatBoard

T = TypeVar("T")
Body = Callable[["Incarnation"], Coroutine[Any, Any, None]]

BEFORE, AFTER = "before", "after"
WRITES = frozenset({b"julie_open", b"julie_lease", b"julie_append", b"julie_step"})


class Crash(BaseException):
    """The process is dead; raised out of a port call so that the present step ends there."""


@dataclass(slots=True)
class Bomb:
    """A kill that waits for the process to come by.

    Attributes:
        point: Beginning of the names it waits for, such as `http /api/Order/place`; empty for any.
        when: Before or after the effect.
        skip: How many matching calls pass unharmed.
    """

    point: str
    when: str
    skip: int = 0


class Incarnation:
    """One life of one process; owner of its handles."""

    def __init__(self, process: Process, number: int) -> None:
        self.process = process
        self.number = number
        self.name = process.name
        self.held = False
        self.in_sync = False  # said by a broker_sync
        self.dead = False
        self.killed = False
        self.stopped = False
        self.began_s = process.machine.loop.now_s
        self.bomb: Bomb | None = None
        self.bus: RedisBus | None = None
        self.task: asyncio.Task[None] | None = None
        self.beat: BeatBoard | None = None
        self.on_death: list[Callable[[], None]] = []
        self._parked: list[asyncio.Handle] = []

    def park(self, handle: asyncio.Handle) -> None:
        if not self.dead:
            self._parked.append(handle)

    # -- what ports ask ---------------------------------------------------------

    def alive(self) -> None:
        """Raise in what is still unwinding of a dead process: nothing of it has an effect any more."""
        if self.dead:
            raise Crash(self.name)

    def point(self, name: str, when: str) -> None:
        """Pass one side of a port call, where a kill may be waiting.

        Raises:
            Crash: If the process is dead, or dies here.
        """
        if self.dead:
            raise Crash(self.name)
        bomb = self.bomb
        if bomb is None or bomb.when != when or not name.startswith(bomb.point):
            return
        if bomb.skip:
            bomb.skip -= 1
            return
        self.process.machine.reach(f"kill of {self.name} {when} {name}")
        self.die(f"{when} {name}")
        raise Crash(self.name)

    async def call(self, port: str, name: str, effect: Callable[[], T], lost: Callable[[], Exception]) -> T:
        """Carry one call to Redis out; see `calls.Calls`.

        Raises:
            Crash: If the process dies before or after it.
        """
        world = self.process.machine.world
        redis, rng = world.redis, world.chance(self.name)
        point = f"{port} {name}"
        self.point(point, BEFORE)
        if redis.latency_s:
            await asyncio.sleep(rng.random() * redis.latency_s)
        if redis.lost and rng.random() < redis.lost:
            await asyncio.sleep(rng.random())
            self.alive()
            world.judge.reach("request to Redis lost")
            raise lost()
        world.trace(self.name, point)
        answer = effect()
        self.point(point, AFTER)
        if redis.lost and rng.random() < redis.lost:
            await asyncio.sleep(rng.random())
            self.alive()
            world.judge.reach("reply of Redis lost")
            raise lost()
        return answer

    def carried_out(self, words: list[bytes], reply: object) -> None:
        judge = self.process.machine.world.judge
        if words[0] == b"FCALL" and words[1] in WRITES:
            judge.streams.wrote(self, words, reply)
        elif words[0] == b"PUBLISH":
            judge.feed.published(self, words, reply)

    # -- what happens to it -----------------------------------------------------

    def die(self, why: str) -> None:
        if self.dead:
            return
        self.dead = self.killed = self.held = True
        self._parked.clear()
        for forget in self.on_death:
            forget()
        self.process.machine.died(self, why)

    def stop(self) -> None:
        """SIGSTOP."""
        if not self.dead:
            self.stopped = self.held = True

    def ask_to_stop(self) -> None:
        """SIGTERM, as a service hears it: its shell is cancelled."""
        if not self.dead and self.task is not None:
            self.task.cancel()

    def go_on(self) -> None:
        """SIGCONT: what became due meanwhile runs now, in its order."""
        if self.dead or not self.stopped:
            return
        self.stopped = self.held = False
        parked, self._parked = self._parked, []
        self.process.machine.loop.again(parked)


@dataclass(slots=True, eq=False)
class Process:
    """One supervised program.

    Attributes:
        restarts: Its supervisor starts it again; a strategy's worker is started by a strategy host.
    """

    name: str
    body: Body
    machine: Machine
    restarts: bool = True
    incarnations: list[Incarnation] = field(default_factory=list)

    @property
    def now(self) -> Incarnation | None:
        """The newest life, None when it is over."""
        newest = self.incarnations[-1] if self.incarnations else None
        return newest if newest is not None and not newest.dead else None

    def start(self, body: Body | None = None) -> Incarnation:
        """Begin a life of it, of `body` if whoever starts it has one of its own."""
        incarnation = Incarnation(self, len(self.incarnations) + 1)
        self.incarnations.append(incarnation)
        self.machine.trace("start", self.name, incarnation.number)
        task = self.machine.spawn((body or self.body)(incarnation), incarnation)
        incarnation.task = task
        task.add_done_callback(
            lambda done: self.machine.ended(incarnation, done), context=self.machine.context
        )
        return incarnation


class Machine:
    """The processes of one world and their supervisor."""

    def __init__(
        self,
        loop: SimLoop,
        *,
        world: World,
        restart_delay_s: Callable[[str], float],
        trace: Callable[..., None],
        reach: Callable[[str], None],
        failed: Callable[[Incarnation, BaseException], None],
    ) -> None:
        self.loop = loop
        self.world = world
        self.context = contextvars.copy_context()
        self.trace = trace
        self.reach = reach
        self.processes: dict[str, Process] = {}
        self.kills = 0
        self._restart_delay_s = restart_delay_s
        self._failed = failed
        self.closed = False

    def add(self, name: str, body: Body, *, restarts: bool = True) -> Process:
        process = self.processes[name] = Process(name, body, self, restarts)
        return process

    def spawn(self, work: Coroutine[Any, Any, None], owner: Incarnation | None) -> asyncio.Task[None]:
        """Begin a task that belongs to `owner`, or to the world."""
        context = self.context.copy()
        context.run(OWNER.set, owner)
        task = self.loop.create_task(work, context=context)
        if owner is None:
            task.add_done_callback(self._of_the_world, context=self.context)
        return task

    def _of_the_world(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    def later(self, delay_s: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        """Have the world do something, whoever is dead by then."""
        return self.loop.call_later(delay_s, call, context=self.context)

    def died(self, incarnation: Incarnation, why: str) -> None:
        self.kills += 1
        self.trace("died", incarnation.name, incarnation.number, why)
        self._again(incarnation)

    def ended(self, incarnation: Incarnation, task: asyncio.Task[None]) -> None:
        """The program returned or failed by itself: the rest of its tasks ends with it."""
        error = None if task.cancelled() else task.exception()
        if incarnation.dead:
            return
        incarnation.dead = incarnation.held = True
        for forget in incarnation.on_death:
            forget()
        self.trace("ended", incarnation.name, incarnation.number, type(error).__name__)
        if error is not None:
            self._failed(incarnation, error)
        self._again(incarnation)

    def close(self) -> None:
        """End the world: nothing that is left of a process has an effect any more."""
        self.closed = True
        for process in self.processes.values():
            for incarnation in process.incarnations:
                incarnation.dead = incarnation.held = True

    def _again(self, incarnation: Incarnation) -> None:
        process = incarnation.process
        if self.closed or not process.restarts or process.incarnations[-1] is not incarnation:
            return
        self.later(self._restart_delay_s(process.name), lambda: self._restart(process))

    def _restart(self, process: Process) -> None:
        if process.now is None and not self.closed:
            process.start()
