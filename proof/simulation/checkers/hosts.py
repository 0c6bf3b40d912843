"""Strategy hosts: who may run an instance, what becomes of one that hangs or fails, and that each runs again.

I-17 (an older worker changes nothing), I-18 (after any kill all are back), I-20 (a stuck process is noticed).
What a host believes is not asked: leases are looked at in Redis, workers as processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proof.simulation.bus.replies import ErrorReply
from proof.simulation.checkers.checker import Checker
from proof.simulation.checkers.exposure import LOOK_S
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.scaled import (
    EVENT_DEADLINE_S,
    FAILURE_WINDOW_S,
    FAILURES_MAX,
    HOST_DEAD_AFTER_S,
    LEASE_TTL_S,
    PLACEMENT_S,
    START_DEADLINE_S,
    WATCH_S,
)
from proof.simulation.venue import ACCOUNT_ID
from services.strategy.spec import EXIT_FENCED, EXIT_ROLLED_BACK, EXIT_STOPPED
from services.strategy.supervision import KILLED, Phase, Rules
from shared.bus.client import COMMAND_TIMEOUT_S
from shared.wire import topics

if TYPE_CHECKING:
    from proof.simulation.hosts import SimWorker
    from proof.simulation.judge import Judge

MARGIN_S = 0.5
"""A look of the host, one of ours, and a moment in between."""
ANSWERS = 6
"""What a host asks of Redis from one renewal to the next, when it takes its time."""
BUS_S = COMMAND_TIMEOUT_S
"""So long a host may wait for an answer of Redis before it looks again."""
RESTARTS_S = 1.5 + 2 * PLACEMENT_S
"""A host is started again, and sees who else is there before it takes what is not its own."""
BACKOFF_S = 4.0
"""The longest pause after failures or losses of Redis in `FAILURE_WINDOW_S`."""
DECIDES_S = 3.0
"""A start, a quote and a commit."""
LEASES_BACK = 10
"""A lease may reach so many times as far as it is granted for, when the clock was set back."""
SETTLED_S = Rules().settled_ns / NS_PER_S
STOP_DEADLINE_S = Rules().stop_deadline_ns / NS_PER_S


@dataclass(slots=True)
class Watched:
    """One worker that runs.

    Attributes:
        callback_s: When the callback began in which it is; None for none that takes its time.
        stuck_s: For how long a callback has been running, of the time in which the host could see it.
        lost_s: For how long its lease has not been its own, of the time in which the host could know.
        orphan_s: For how long its host has been dead.
    """

    worker: SimWorker
    callback_s: float | None = None
    stuck_s: float = 0.0
    lost_s: float = 0.0
    orphan_s: float = 0.0


class Hosts(Checker):
    """See the module.

    Attributes:
        off: Instance -> the host that has switched it off.
        person: Is told of it, and acts.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.on = judge.world.plan.hosts.on
        self.names = [f"s{number}" for number in range(1, judge.world.plan.workers + 1)]
        self.off: dict[str, Incarnation] = {}
        self.person: Callable[[Incarnation], None] = lambda host: None
        self._watched: list[Watched] = []
        self._newest: dict[tuple[Incarnation, str], SimWorker] = {}
        self._worker_of: dict[Incarnation, SimWorker] = {}
        self._granted: dict[Incarnation, set[int]] = {}
        self._failed_s: dict[tuple[Incarnation, str, int], list[float]] = {}
        self._callback_s: dict[Incarnation, float] = {}
        self._idle_s = dict.fromkeys(self.names, 0.0)

    # -- truth --------------------------------------------------------------------------

    def _lease(self, name: str) -> tuple[str, int]:
        """Return who holds the lease of an instance, and its epoch."""
        fields = self.world.stream(topics.lease(ACCOUNT_ID, name).encode())
        if not isinstance(fields, dict):
            return "", 0
        return fields.get(b"holder", b"").decode(), int(fields.get(b"epoch", b"0"))

    @contextmanager
    def in_callback(self, life: Incarnation) -> Iterator[None]:
        """Take note that a strategy's callback takes its time."""
        self._callback_s[life] = self.world.loop.now_s
        try:
            yield
        finally:
            del self._callback_s[life]

    def unsettled(self) -> str:
        """Return which instance does not run yet, after the faults; empty when all do."""
        if not self.on:
            return ""
        idle = [name for name, idle_s in self._idle_s.items() if idle_s > DECIDES_S or name in self.off]
        return f"{', '.join(idle)} decides nothing" if idle else ""

    @property
    def _back_within_s(self) -> float:
        """So soon each instance decides again when the faults are over, whatever they were."""
        back = any(by_s < 0 for _, by_s in self.world.plan.jumps)
        lease_s = LEASE_TTL_S * (LEASES_BACK if back else 1)
        taken_s = RESTARTS_S + max(lease_s, HOST_DEAD_AFTER_S) + PLACEMENT_S
        return taken_s + 2 * BUS_S + START_DEADLINE_S + BACKOFF_S + DECIDES_S

    # -- what happens -------------------------------------------------------------------

    def wrote(self, incarnation: Incarnation, name: bytes, answer: object) -> None:
        """Look at a lease that was granted, and at a worker's step."""
        if name == b"julie_lease" and type(answer) is list and answer[1]:
            self._granted.setdefault(incarnation, set()).add(answer[0])
            self.reach("lease granted")
        elif name == b"julie_step" and (worker := self._worker_of.get(incarnation)) is not None:
            self._stepped(worker, refused=isinstance(answer, ErrorReply))

    def _stepped(self, worker: SimWorker, *, refused: bool) -> None:
        name, lease = worker.spec.strategy_id, self._lease(worker.spec.strategy_id)
        current = lease == worker.spec.lease[1:]
        self.check(
            "I-17",
            refused or current,
            lambda: f"a step of {name} by {worker.spec.lease} is taken, the lease is {lease}",
        )
        if not refused:
            self._idle_s[name] = 0.0
        elif not current:
            self.reach("step of an older worker refused")

    def started(self, worker: SimWorker) -> None:
        """A host starts an instance only with a lease that it was granted."""
        name, host = worker.spec.strategy_id, worker.host
        _, holder, epoch = worker.spec.lease
        granted = holder == host.name and epoch in self._granted.get(host, ())
        self.check("I-17", granted, lambda: f"{host.name} starts {name} by {worker.spec.lease}")
        beside = [
            one for one in self._watched if one.worker.spec.strategy_id == name and not one.worker.life.dead
        ]
        if beside:
            self.reach("two workers of one instance")
        self._watched.append(Watched(worker))
        self._newest[host, name] = self._worker_of[worker.life] = worker

    def heard(self, host: Incarnation, event: str, fields: dict[str, Any]) -> None:
        """Look at what a host says of a worker's end."""
        if event == "strategy_killed":
            self._killed(self._newest[host, fields["instance"]], fields["why"])
        elif event == "worker_ended":
            self._ended(self._newest[host, fields["instance"]], Phase(fields["now"]))

    def _killed(self, worker: SimWorker, why: str) -> None:
        worker.killed = True  # decided, though somebody else may have ended it a moment before
        if not why.startswith("a callback took"):
            return
        now_s = self.world.loop.now_s
        took_s = now_s - self._callback_s.get(worker.life, now_s)
        self.reach("stuck strategy killed")
        self.check(
            "I-20",
            took_s >= EVENT_DEADLINE_S,
            lambda: f"{worker.life.name} is killed after {took_s:.2f} s: {why}",
        )

    def _ended(self, worker: SimWorker, now: Phase) -> None:
        """An instance is switched off for so many failures within the window, and for no fewer."""
        name, host, now_s = worker.spec.strategy_id, worker.host, self.world.loop.now_s
        times = self._failed_s.setdefault((host, name, worker.spec.lease[2]), [])
        if now is not Phase.ELSEWHERE and worker.spec.lease[1:] != self._lease(name):
            self.reach("the end of a worker of a lost lease seen late")
        if self._failed(worker):
            times[:] = [at_s for at_s in times if now_s - at_s < FAILURE_WINDOW_S] + [now_s]
        if now is Phase.OFF:
            self.reach("strategy switched off")
            self.off[name] = host
            self.person(host)
            self.check(
                "I-18", len(times) >= FAILURES_MAX, lambda: f"{name} is off after {len(times)} failures"
            )

    def _failed(self, worker: SimWorker) -> bool:
        if worker.code == KILLED and not worker.killed:
            return self.world.loop.now_s - worker.life.began_s < SETTLED_S
        return worker.code not in (EXIT_STOPPED, EXIT_FENCED, EXIT_ROLLED_BACK)

    # -- time ---------------------------------------------------------------------------

    def tick(self, every_s: float) -> None:
        """Look at what must not last."""
        if not self.on:
            return
        self._watched = [one for one in self._watched if not one.worker.life.dead]
        for watched in self._watched:
            self._look(watched, every_s)
        self.off = {name: host for name, host in self.off.items() if not host.dead}
        for name in self.names:
            self._runs_again(name, every_s)

    def _look(self, watched: Watched, every_s: float) -> None:
        worker = watched.worker
        name, host = worker.spec.strategy_id, worker.host
        looks, takes = not host.held, self.judge.liveness.redis_takes()
        began_s = self._callback_s.get(worker.life)
        if began_s != watched.callback_s:
            watched.callback_s, watched.stuck_s = began_s, 0.0
        elif began_s is not None and looks:
            watched.stuck_s += every_s
        bound_s = self._ends_within_s(worker) + WATCH_S + MARGIN_S
        self.check("I-20", watched.stuck_s <= bound_s, lambda: f"{name} hangs for {watched.stuck_s:.2f} s")
        if self._lease(name) == worker.spec.lease[1:] or not takes:
            watched.lost_s = 0.0
        elif looks:
            watched.lost_s += every_s
        self.check(
            "I-17",
            watched.lost_s <= self._lost_within_s(worker),
            lambda: f"{host.name} runs {name} by {worker.spec.lease}, lost for {watched.lost_s:.2f} s",
        )
        watched.orphan_s = watched.orphan_s + every_s if host.dead else 0.0
        self.check("I-18", watched.orphan_s <= MARGIN_S, lambda: f"{name} runs on without its host")

    def _ends_within_s(self, worker: SimWorker) -> float:
        """Return how long a callback of this worker may take until its host kills it."""
        deadline_s = EVENT_DEADLINE_S if worker.look().ready else START_DEADLINE_S
        return deadline_s + (STOP_DEADLINE_S if worker.stop_asked else 0.0)

    def _lost_within_s(self, worker: SimWorker) -> float:
        """Return for how long this worker may run on when its lease is another's."""
        plan = self.world.plan
        bus_s = ANSWERS * plan.bus_latency_s + (BUS_S if plan.bus_lost else 0.0)
        return (STOP_DEADLINE_S if worker.stop_asked else PLACEMENT_S) + LOOK_S + bus_s

    def _runs_again(self, name: str, every_s: float) -> None:
        if self.world.loop.now_s < self.world.plan.faults_s or name in self.off:
            self._idle_s[name] = 0.0
            return
        self._idle_s[name] += every_s
        idle_s = self._idle_s[name]
        self.check(
            "I-18", idle_s <= self._back_within_s, lambda: f"{name} has decided nothing for {idle_s:.2f} s"
        )
