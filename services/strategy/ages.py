"""How old what a worker reads may be, where the wall clock was set back before it began. Pure.

The guards compare receive times with our clock. Of the entries written before it was set back, some lie just
before what it shows now and look new. Ids never go back with the clock: a stream whose newest entry lies in
our future at our start tells that all it holds by then is of an unknown age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.bus.places import parsed_id
from shared.strategy.desk import INPUT_AHEAD_MAX_NS

NS_PER_MS = 1_000_000
AGE_UNKNOWN_NS = 0
"""The time by which such entries are judged: all lie in its future, so no intents come of them."""


class Ages:
    """One worker's.

    Args:
        newest: Stream -> id of its last entry, as the worker begins.
    """

    def __init__(self, newest: Mapping[str, bytes], now_ns: int) -> None:
        ahead_ms = (now_ns + INPUT_AHEAD_MAX_NS) // NS_PER_MS
        ids = {stream: parsed_id(entry_id) for stream, entry_id in newest.items()}
        self._unknown_to = {stream: entry_id for stream, entry_id in ids.items() if entry_id[0] > ahead_ms}

    def asof_ns(self, reply: Sequence[tuple[str, Sequence[Sequence[Any]]]], now_ns: int) -> int:
        """Return the clock by which the guards shall judge this reply, all of it: `now_ns`, or none."""
        unknown = False
        for stream, rows in reply if self._unknown_to else ():
            last = self._unknown_to.get(stream)
            if last is None:
                continue
            unknown = unknown or parsed_id(rows[0][0]) <= last
            if parsed_id(rows[-1][0]) >= last:
                del self._unknown_to[stream]
        return AGE_UNKNOWN_NS if unknown else now_ns
