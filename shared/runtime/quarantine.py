"""Input that was refused: counted, its raw bytes kept for a look, and nothing stops for it.

Every process has one, beside its beats; shells use `ctx.refuse(...)`. What is kept shows twice: the count and
the newest in `julie status`, the last hundred with their bytes under `refused:<process>`, newest first:
`redis-cli LRANGE refused:feed 0 9`. Everything is bounded, for whoever sends rubbish may send much of it.
"""

from __future__ import annotations

import base64
from collections import deque
from typing import Final

import msgspec

from shared.bus.port import Bus, BusAway, BusRefused
from shared.runtime.secret import redact
from shared.wire import topics

RAW_BYTES_MAX: Final = 2_048
"""Kept of one input; `size_bytes` says how long it was, as far as that is known."""

ENTRIES_MAX: Final = 100
"""Kept in Redis for each process; as many wait here while it is away."""

WHY_CHARS_MAX: Final = 500
NEWEST_CHARS_MAX: Final = 240


class RefusedInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One refused input as it lies in Redis.

    Attributes:
        origin: What it claimed to be: a hub target, an endpoint, an entry of a stream.
        raw: Its beginning, when that is text; else `raw_base64` has it.
    """

    ts_ns: int
    origin: str
    why: str
    size_bytes: int
    raw: str = ""
    raw_base64: str = ""


def refused_input(*, ts_ns: int, origin: str, why: str, raw: bytes) -> RefusedInput:
    """Return what is kept of `raw`, without secrets."""
    begin = raw[:RAW_BYTES_MAX]
    text, binary = "", ""
    try:
        text = redact(begin.decode())
    except UnicodeDecodeError:
        binary = base64.b64encode(begin).decode()
    return RefusedInput(
        ts_ns=ts_ns, origin=origin, why=redact(why)[:WHY_CHARS_MAX], size_bytes=len(raw), raw=text,
        raw_base64=binary,
    )  # fmt: skip


class Quarantine:
    """What one process has refused since it started.

    Attributes:
        count: All of it, kept or not.
        newest: The last one, for the status.
    """

    def __init__(self, process: str) -> None:
        self.count = 0
        self.newest: RefusedInput | None = None
        self._key = topics.refused(process)
        self._unstored: deque[bytes] = deque(maxlen=ENTRIES_MAX)

    def keep(self, *, ts_ns: int, origin: str, why: str, raw: bytes) -> None:
        """Count one refused input and keep its beginning."""
        self.count += 1
        self.newest = refused_input(ts_ns=ts_ns, origin=origin, why=why, raw=raw)
        self._unstored.append(msgspec.json.encode(self.newest))

    def words(self) -> str:
        """Return the count and the newest in a line; empty when nothing was refused."""
        newest = self.newest
        if newest is None:
            return ""
        shown = newest.raw or newest.raw_base64
        return f"{self.count}; newest {newest.origin}: {newest.why} in {shown!r}"[:NEWEST_CHARS_MAX]

    async def store(self, bus: Bus) -> None:
        """Put what is new where people look; while Redis is away it waits here."""
        if not self._unstored:
            return
        values = tuple(self._unstored)
        self._unstored.clear()
        try:
            await bus.keep_newest(self._key, values, entries_max=ENTRIES_MAX)
        except (BusAway, BusRefused):
            self._unstored = deque((*values, *self._unstored), maxlen=ENTRIES_MAX)
