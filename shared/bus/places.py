"""A reader's place in a stream, and a stream that ends before it.

Ids rise with the wall clock. When Redis has lost entries that had been read, and the wall clock was set
back as well, what is written from then on has ids below our place: nothing would ever be read again, and
nobody told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.bus.port import Bus

NO_ENTRY: Final = (0, 0)
"""The id before all others: Redis begins none with it."""


def parsed_id(entry_id: bytes | str) -> tuple[int, int]:
    """Return a stream id as its milliseconds and its number, which is how Redis orders ids."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    ms, _, seq = text.partition("-")
    return int(ms), int(seq or 0)


def ends_before(newest_id: bytes | str | None, cursor: bytes | str, *, empty: bool) -> bool:
    """Does a stream end before our place in it?

    Args:
        newest_id: Of its last entry; None or `0-0` when it has none.
        empty: What to say then: it was trimmed or it has lost everything, and its id does not tell which.
    """
    if newest_id is None or parsed_id(newest_id) == NO_ENTRY:
        return empty
    return parsed_id(newest_id) < parsed_id(cursor)


async def gone_back(bus: Bus, cursors: Mapping[str, str]) -> str | None:
    """Return in words which stream ends before our place in it, None when none does.

    Args:
        cursors: Stream -> id of the last entry read; `$` for none yet.
    """
    read = {stream: cursor for stream, cursor in sorted(cursors.items()) if cursor not in ("$", "0-0")}
    heads = await bus.heads(list(read)) if read else {}
    for stream, cursor in read.items():
        newest = await bus.last(stream)
        # The number of its last entry ever: trimming leaves it alone.
        lost_all = heads[stream] < parsed_id(cursor)[1]
        if ends_before(newest[0].id if newest else None, cursor, empty=lost_all):
            return f"{stream} ends before our place {cursor} in it: Redis has lost entries"
    return None
