"""The ledger's steps on their way to `orders:{acct}`: step number and stream number are the same.

An append is idempotent by its number, so after any crash everything behind the stream's head is simply handed
in again. What the stream holds beyond the ledger, or has lost, is noticed here, at the start.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from services.execution.ledger import Ledger, LedgerFailed
from shared.bus.port import StreamWriter
from shared.wire.codec import decode

REPUBLISH_STEPS = 1_000
"""Steps between two acknowledgments while a stream is written again."""


class Outbox:
    """Hands committed steps to the bus."""

    def __init__(self, writer: StreamWriter, ledger: Ledger) -> None:
        self._writer = writer
        self._ledger = ledger
        self.next_seq = writer.last_seq + 1

    @property
    def acked_seq(self) -> int:
        return self._writer.acked_seq

    def difference(self, *, last_seq: int, acked_seq: int) -> str | None:
        """Return in words how the stream differs from the ledger other than by a crash in between.

        Args:
            last_seq: Of the ledger's newest step.
            acked_seq: Up to where the ledger knows that the bus had everything.
        """
        head, stream = self._writer.last_seq, self._writer.stream
        if head > last_seq:
            return (
                f"{stream} stands at {head}, the ledger at {last_seq}: the ledger was lost or is an old copy"
            )
        if head < acked_seq:
            return f"{stream} stands at {head} and had acknowledged {acked_seq}: Redis has lost entries"
        return None

    async def republish(self) -> int:
        """Append everything the stream lacks; return how many steps that were."""
        count = 0
        while steps := self._ledger.steps(self._writer.last_seq + 1, REPUBLISH_STEPS):
            for step in steps:
                self.publish(decode(step.kind, step.value), step.seq)
            await self._writer.flush()
            count += len(steps)
        self.next_seq = self._writer.last_seq + 1
        return count

    def publish(self, message: msgspec.Struct, step_seq: int) -> None:
        """Hand in one step that is in the ledger; steps come in order."""
        seq = self._writer.append(message)
        if seq != step_seq:
            raise LedgerFailed(
                f"{self._writer.stream}: step {step_seq} would get number {seq}; the ledger does not "
                "begin where the stream ends. Delete the stream and its head, then start again"
            )

    async def check(self) -> None:
        """Return when the bus has said that this is still the one writer and that nothing is lost.

        Raises:
            Fenced, RolledBack: If another execution writes, or the stream has lost entries: stop.
        """
        await self._writer.check()


class Position(NamedTuple):
    """Where a stream is read; `known` is False before its first entry."""

    seq: int
    known: bool

    @classmethod
    def of(cls, cursor: str) -> Position:
        return cls(int(cursor.partition("-")[2] or 0), cursor != "0-0")
