"""The judge: compares promises with the broker's truth, the bus and the disk, after every event.

It never asks what the code believes. A check that does not hold names the seed, the virtual time and the
facts. The checks themselves are in `checkers`, by theme; here is what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proof.record import Record
from proof.simulation.checkers.archive import Archive
from proof.simulation.checkers.changes import Changes
from proof.simulation.checkers.checker import Sent, Wish
from proof.simulation.checkers.commits import Commits
from proof.simulation.checkers.exposure import Exposure
from proof.simulation.checkers.feed import Feed
from proof.simulation.checkers.guard import Guard
from proof.simulation.checkers.hosts import Hosts
from proof.simulation.checkers.liveness import Liveness
from proof.simulation.checkers.requests import Requests
from proof.simulation.checkers.rest import Rest
from proof.simulation.checkers.session import Session
from proof.simulation.checkers.streams import Streams
from proof.simulation.machine import Incarnation
from shared.domain.execution import OrderClaimed
from shared.wire import topics

if TYPE_CHECKING:
    from proof.simulation.world import World

TEXTS_MAX = 20
"""Violations of one world that are kept in words."""


class Judge:
    """See the module.

    Attributes:
        wishes: Intents that the bus acknowledged.
        claims: Order -> its claim, and when it was committed, true time.
        dependent: Orders that execution sends by itself.
        halted_ns: Since when a person's halt stands.
        stopped_ns: Since when one stands that also keeps orders from being changed.
        halted_seq: Number of the word that said so in the operator's stream; `stopped_seq` the same.
        lost_ns: Since when Redis lacks what execution knows to have been there, unnoticed.
        data_lost: Redis has lost entries in this world.
        blocked_until_ns: Execution may not hear an operator before then.
        alarms: When, which process, what, and its words.
        external_net: What was traded by hand, contracts.
        exits: Every market order that was claimed to end or reduce a position.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.record = Record(machine="simulation", command="", build="", started="")
        self.wishes: dict[str, Wish] = {}
        self.claims: dict[str, tuple[OrderClaimed, int]] = {}
        self.sent: dict[str, Sent] = {}
        self.dependent: set[str] = set()
        self.halted_ns: int | None = None
        self.stopped_ns: int | None = None
        self.halted_seq = self.stopped_seq = 0
        self.lost_ns: int | None = None
        self.data_lost = False
        self.blocked_until_ns = 0
        self.alarms: list[tuple[int, str, str, str]] = []
        self.external_net = 0
        self.exits: list[str] = []
        self.guard = Guard(self)
        self.commits = Commits(self)
        self.changes = Changes(self)
        self.requests = Requests(self)
        self.exposure = Exposure(self)
        self.streams = Streams(self)
        self.rest = Rest(self)
        self.liveness = Liveness(self)
        self.session = Session(self)
        self.hosts = Hosts(self)
        self.feed = Feed(self)
        self.archive = Archive(self)

    def check(self, invariant: str, holds: bool, say: Callable[[], str]) -> None:
        """Count one check; note what `say` says when it does not hold."""
        record = self.record
        record.checks[invariant] = record.checks.get(invariant, 0) + 1
        if not holds:
            world = self.world
            text = f"seed {world.plan.seed}, at {world.loop.now_s:.3f} s: {say()}"
            record.violations[invariant] = record.violations.get(invariant, 0) + 1
            if len(record.texts) < TEXTS_MAX:
                record.texts.append(f"{invariant}: {text}")
            world.trace("violation", invariant, text)

    def redis_back(self, head: int) -> None:
        """Take note of a Redis whose `orders:{acct}` ends with entry `head` now.

        What execution had not been told to be there it appends again, and nothing of it is missing. What
        it had been told, and lost with its memory before it could look, it knows from its ledger only.
        """
        self.guard.redis_back()
        if self.data_lost:
            self._operator_lost()
        execution = self.world.machine.processes["execution"].now
        self.liveness.redis_back()
        self.feed.redis_back()
        if head < self._known_seq(execution):
            self.lost_ns = self.world.clock.true_ns()
            self.reach("entries of execution lost")
            if execution is not None:
                execution.on_death.append(lambda: self._forgotten(execution, head))

    def _operator_lost(self) -> None:
        """What Redis has lost of an operator's words before execution had read it, nobody knows."""
        stream = self.world.stream(topics.CONTROL_OPERATOR.encode())
        left = stream.last[1] if stream is not None else 0
        read = int(self.world.disk.cursors.get(topics.CONTROL_OPERATOR, "0-0").partition("-")[2])
        if max(left, read) < self.halted_seq:
            self.halted_ns = None
            self.reach("halt of a person lost unread")
        if max(left, read) < self.stopped_seq:
            self.stopped_ns = None

    def _forgotten(self, execution: Incarnation, head: int) -> None:
        # One that ends by itself has written a halt before, or should have.
        if execution.killed and head >= self._known_seq(None):
            self.lost_ns = None
            self.reach("a loss forgotten with the process")

    def _known_seq(self, execution: Incarnation | None) -> int:
        """Return up to which step Redis has acknowledged, as a living execution or else its ledger knows."""
        known = self.world.disk.standing_now().acked_seq
        if execution is not None and execution.bus is not None:
            known = max([known, *(writer.acked_seq for writer in execution.bus.writers)])
        return known

    def reach(self, state: str) -> None:
        """Count a rare state."""
        reached = self.record.reached
        reached[state] = reached.get(state, 0) + 1
