"""What lies in Redis, and who wrote it there (I-12 to I-15, I-17)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proof.simulation.bus.replies import ErrorReply
from proof.simulation.bus.session import Parked
from proof.simulation.bus.streams import Stream
from proof.simulation.checkers.checker import Checker, Wish
from proof.simulation.machine import Incarnation
from proof.simulation.venue import ACCOUNT_ID
from shared.domain.order import ClosePosition, Intent, ModifyOrder, SubmitOrder
from shared.wire import topics

if TYPE_CHECKING:
    from proof.simulation.judge import Judge


class Streams(Checker):
    """See the module.

    Attributes:
        writers: Head or lease -> the life of a process that took the right to write last.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.writers: dict[bytes, Incarnation] = {}

    def wrote(self, incarnation: Incarnation, words: list[bytes], answer: object) -> None:
        """Look at what one process has just written to Redis."""
        name, keys = words[1], words[3 : 3 + int(words[2])]
        if isinstance(answer, Parked):  # the server is frozen, and carries it out later
            answer.carried_out = lambda reply: self.wrote(incarnation, words, reply)
            return
        self.judge.hosts.wrote(incarnation, name, answer)
        if name == b"julie_open" or name == b"julie_lease":
            by_host = (
                name == b"julie_lease" and self.judge.hosts.on
            )  # for its workers, which `hosts` looks at
            if type(answer) is list and (name == b"julie_open" or answer[1]) and not by_host:
                self.writers[keys[0]] = incarnation
        else:
            # A stream is written by the right to its head, a step by the right to its lease.
            writer = self.writers.get(keys[1] if name == b"julie_append" else keys[0])
            if writer is not incarnation and writer is not None:
                refused = isinstance(answer, ErrorReply)
                self.check(
                    "I-17", refused, lambda: f"the older {incarnation.name} may still {name!r}: {answer}"
                )
                self.reach("fenced write")
            if incarnation.name == "guard":
                self.judge.guard.wrote()
            if incarnation.name == "heartbeat":
                self.judge.liveness.wrote()
            if incarnation.name == "feed":
                self.judge.feed.wrote(incarnation)
            if name == b"julie_step":
                self.world.scan_intents()

    def lost(self) -> None:
        """Take note that Redis may have forgotten who opened its streams: who does so next is the one."""
        self.writers.clear()

    def wished(self, intent: Intent, entry_id: bytes) -> None:
        """Take note of an intent that the bus has."""
        if isinstance(intent, ModifyOrder):
            self.judge.changes.wished(intent)
        elif isinstance(intent, SubmitOrder | ClosePosition):
            known = self.judge.wishes.get(intent.client_order_id)
            again = known is not None and known.entry_id != entry_id and not self.judge.data_lost
            self.check("I-13", not again, lambda: f"{intent.client_order_id} is in its stream twice")
            self.judge.wishes.setdefault(intent.client_order_id, Wish(intent, entry_id))

    def streams(self) -> None:
        """Look at every stream as it lies there: numbers without gap, and what stands in which."""
        world = self.world
        for key, stream in list(world.redis.server.store.keys.items()):
            if not isinstance(stream, Stream) or not stream.ids:
                continue
            name = key.decode()
            seqs = [entry_id[1] for entry_id in stream.ids]
            whole = seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            self.check("I-14", whole, lambda n=name, q=seqs: f"{n} has the numbers {q}")  # type: ignore[misc]
            begins = seqs[0] == 1 or self.judge.data_lost
            begins = begins or self.judge.archive.goes_up_to(name, seqs[0])
            self.check("I-12", begins, lambda n=name, q=seqs: f"{n} begins with {q[0]}")  # type: ignore[misc]
            read = int(world.disk.cursors.get(name, "0-0").partition("-")[2])
            trimmed = stream.deleted_max[1]
            unread = name.startswith("intents") and trimmed > read
            self.check(
                "I-15",
                not unread,
                lambda n=name, t=trimmed, r=read: f"{n}: trimmed to {t}, read to {r}",  # type: ignore[misc]
            )
        self._acknowledged()
        self._outbox()

    def _acknowledged(self) -> None:
        """What was acknowledged to whoever wrote it lies there, to the last entry, unless Redis lost data."""
        if self.judge.data_lost:
            return
        for name, seq in self.world.acknowledged():
            stream = self.world.stream(name.encode())
            last = stream.last[1] if stream is not None else 0
            self.check(
                "I-12",
                last >= seq,
                lambda n=name, q=seq, e=last: f"{n} ends with {e}, acknowledged was {q}",  # type: ignore[misc]
            )

    def _outbox(self) -> None:
        """Entry n of the orders stream is step n of the ledger."""
        world = self.world
        stream = world.stream(topics.orders(ACCOUNT_ID).encode())
        if stream is None or self.judge.data_lost:
            return
        steps = {step.seq: step for step in world.disk.steps}
        for (_, seq), row in zip(stream.ids, stream.rows, strict=True):
            step = steps.get(seq)
            same = step is not None and [step.kind, step.value] == list(row[1])
            self.check("I-13", same, lambda q=seq, t=step, r=row: f"entry {q} is {r}, the step {t}")  # type: ignore[misc]
