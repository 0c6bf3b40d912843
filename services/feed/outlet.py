"""One symbol's way to its stream, and what happens when the bus does not take it.

The writer holds what Redis has not acknowledged, up to its limit. Beyond it the newest messages are shed (the
older ones are on their way and in order), the core hears of it, and when there is room again the hole is
marked in the stream.
"""

from __future__ import annotations

from services.feed.events import Drained, Shed
from shared.bus.port import StreamWriter, WriterFull
from shared.domain.market import MarketMessage
from shared.runtime.clock import NS_PER_S, Clock

ALIVE_NS = NS_PER_S
"""Acknowledgments not older than this: the bus answers, it is only slow."""


class Outlet:
    """Attributes: trimmed: entries that the stream's hard cap has deleted."""

    def __init__(self, symbol: str, writer: StreamWriter, pending_max: int) -> None:
        self.symbol = symbol
        self.writer = writer
        self._crowd = pending_max // 2
        self._append = writer.append
        self._acked_seq = writer.acked_seq
        self._moved = False
        self._shedding = False
        self.trimmed = 0

    def put(self, messages: list[MarketMessage], clock: Clock) -> Shed | None:
        """Append the messages; return what the core must know when not all of them fit.

        Raises:
            Fenced, RolledBack: If this feed may not write any more.
        """
        append = self._append
        taken = 0
        try:
            for message in messages:
                append(message)
                taken += 1
        except WriterFull:
            self._shedding = True
            return Shed(
                symbol=self.symbol,
                messages=messages[taken:],
                now_ns=clock.now_ns(),
                mono_ns=clock.monotonic_ns(),
            )
        return None

    def drained(self, now_ns: int, mono_ns: int) -> Drained | None:
        """Say once that there is room again after shedding."""
        if not self._shedding or self.waiting > self._crowd:
            return None
        self._shedding = False
        return Drained(symbol=self.symbol, now_ns=now_ns, mono_ns=mono_ns)

    @property
    def waiting(self) -> int:
        """Messages that Redis has not acknowledged."""
        return self.writer.last_seq - self.writer.acked_seq

    @property
    def is_crowded(self) -> bool:
        """More than half full while the bus answers."""
        return self._moved and self.waiting > self._crowd

    def newly_acknowledged(self) -> int:
        """Return how many were acknowledged since the last call."""
        count = self.writer.acked_seq - self._acked_seq
        self._acked_seq = self.writer.acked_seq
        self._moved = count > 0
        return count

    def newly_trimmed(self) -> int:
        total = int(getattr(self.writer, "trimmed", 0))
        count, self.trimmed = total - self.trimmed, total
        return count
