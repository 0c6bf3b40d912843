"""A worker's place in a stream that ends before it.

Redis lost entries that had been read, and the wall clock was set back: what is written now has ids below our
place, and we would never see it. In `orders:{acct}` the number of an entry is execution's step, whatever its
id: lost steps are written again with the same number. A market stream is not written again.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.strategy.consumption import seq_of
from services.strategy.patience import Patience
from shared.bus.blocking import BlockingBus
from shared.bus.places import ends_before
from shared.bus.port import RolledBack

LOOKED_MAX = 10_000
"""Entries, from the newest back, among which ours is looked for."""
BY_HAND_MAX = 100
"""Entries that somebody added among them, which have no number of ours."""


class Places:
    """Looks for them on the bus.

    Attributes:
        ends: Stream -> id of its last entry, as it was asked for last.
    """

    def __init__(self, bus: BlockingBus, patience: Patience, *, orders: str) -> None:
        self._bus, self._reach, self._orders = bus, patience.reach, orders
        self.ends: dict[str, bytes] = {}

    def newest(self, stream: str) -> bytes:
        newest = self.ends[stream] = self._reach(lambda: self._bus.last_id(stream)).encode()
        return newest

    def check(self, cursors: Mapping[str, bytes]) -> None:
        """Return when every place exists.

        Raises:
            RolledBack: A stream ends before its place. A new start finds it again.
        """
        for stream, cursor in cursors.items():
            newest = self.newest(stream)
            if _ends_before(newest, cursor):
                raise RolledBack(
                    f"{stream} ends at {newest.decode()}, before our place {cursor.decode()} in it"
                )

    def found(self, cursors: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return where to go on in the streams that end before our place: where the same entry is now.

        What is stored may be ahead of the streams: the last step of an incarnation that had read more,
        repeated after Redis came back with less. An order stream whose steps are not written again yet is
        left out, and found at a later start; a market stream goes on where it ends, with a gap.
        """
        places: dict[str, bytes] = {}
        for stream, cursor in cursors.items():
            newest = self.newest(stream)
            if not _ends_before(newest, cursor):
                continue
            place = self._again(stream, newest, cursor) if stream == self._orders else newest
            if place is not None:
                places[stream] = place
        return places

    def _again(self, stream: str, newest: bytes, cursor: bytes) -> bytes | None:
        newer = seq_of(newest) - seq_of(cursor)
        if not 0 <= newer < LOOKED_MAX:
            return None
        rows = self._reach(
            lambda: self._bus.call("XREVRANGE", stream, "+", "-", "COUNT", newer + 1 + BY_HAND_MAX)
        )
        ids: list[bytes] = [row[0] for row in rows]
        return next((one for one in ids if seq_of(one) == seq_of(cursor)), None)


def _ends_before(newest: bytes, cursor: bytes) -> bool:
    # One without entries was trimmed, or will have them again.
    return ends_before(newest, cursor, empty=False)
