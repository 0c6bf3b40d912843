"""Noticing lost entries: sequence numbers of one stream rise by exactly one."""

from __future__ import annotations

from typing import NamedTuple

from shared.bus.port import Entry


class SequenceGap(NamedTuple):
    """Entries `expected` .. `got - 1` of a stream are missing (trimmed before we read them, or lost)."""

    stream: str
    expected: int
    got: int


class SequenceCheck:
    """Remembers where each stream stood."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def see(self, entry: Entry) -> SequenceGap | None:
        """Return the gap before `entry`, if there is one. The first entry of a stream sets the start."""
        seq = entry.seq
        last = self._last.get(entry.stream)
        self._last[entry.stream] = seq
        if last is None or seq == last + 1:
            return None
        return SequenceGap(entry.stream, last + 1, seq)
