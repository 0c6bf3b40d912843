"""What the services ask of the bus. Redis is one answer; a simulated bus is another.

Everything here is bounded: no call outlives its deadline, no buffer grows past its limit, and a bus that
is away is an exception (`BusAway`) or an empty read, never a hang.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec


class Entry(NamedTuple):
    """One stream entry as it lies on the bus; `wire.codec.decode(kind, value)` makes the message."""

    stream: str
    id: bytes
    kind: bytes
    value: bytes

    @property
    def seq(self) -> int:
        """The writer's sequence number: the second half of the id."""
        return int(self.id.partition(b"-")[2])

    @property
    def ts_ms(self) -> int:
        """The writer's receive time, the first half of the id."""
        return int(self.id.partition(b"-")[0])

    @property
    def cause(self) -> str:
        """How later messages name this entry as what led to them."""
        return f"{self.stream}@{self.id.decode()}"


class Lease(NamedTuple):
    """The right to run one thing, as long as it is renewed. Every write checks `epoch`."""

    key: str
    holder: str
    epoch: int


class BusAway(ConnectionError):
    """Redis did not answer within its deadline. Whether a write was done is unknown."""


class BusRefused(RuntimeError):
    """Redis answered with an error: out of memory, failing disk, wrong type, no permission."""


class Fenced(BusRefused):
    """Another process has taken over the right to write: stop at once, change nothing."""


class RolledBack(BusRefused):
    """The stream has lost entries that were acknowledged: Redis was emptied or restored from an old file."""


class WriterFull(BusRefused):
    """The buffer of unacknowledged entries has reached its limit; the bus is too slow or away."""


class StreamWriter(Protocol):
    """The one writer of one stream."""

    stream: str
    last_seq: int
    """Sequence number of the newest entry handed in; acknowledged ones are `acked_seq`."""
    acked_seq: int

    def append(self, message: msgspec.Struct) -> int:
        """Hand in one message; it is sent with everything else of this turn of the loop.

        Returns:
            Its sequence number.

        Raises:
            WriterFull: If the limit of unacknowledged entries is reached.
        """
        ...

    async def flush(self) -> None:
        """Return when everything handed in is acknowledged.

        Raises:
            Fenced, RolledBack: If this writer may not write any more.
        """
        ...

    async def check(self) -> None:
        """Ask whether this writer may still write; return when the server has said yes, later than now.

        While the bus is away there is no answer: bound the wait where that matters.

        Raises:
            Fenced, RolledBack: If it may not.
        """
        ...


class StreamReader(Protocol):
    """Reads several streams with cursors of its own."""

    def follow(self, stream: str, after_id: str) -> None:
        """Add a stream; `after_id` `0-0` reads from its beginning, `$` only what is new."""
        ...

    def unfollow(self, stream: str) -> None: ...

    def cursor(self, stream: str) -> str:
        """Return the id of the last entry that `read` gave out; what it was told to follow before."""
        ...

    async def read(self, *, block_ms: int, count: int) -> list[Entry]:
        """Return up to `count` entries a stream; none after `block_ms` or while Redis is away."""
        ...

    @property
    def away_since_ns(self) -> int | None:
        """Monotonic time since when Redis has not answered; None when it does."""
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    """One process's access to the bus."""

    async def ready(self) -> None:
        """Return when Redis answers and our functions are loaded.

        Raises:
            BusAway: If it does not within the deadline. Callers wait and try again.
        """
        ...

    async def open(self, stream: str, *, entries_max: int = 0, pending_max: int = 65_536) -> StreamWriter:
        """Become the one writer of `stream`; whoever wrote before is fenced from now on.

        Args:
            entries_max: Hard cap of the stream's length; 0 for none.
            pending_max: How many unacknowledged entries to hold before `WriterFull`.
        """
        ...

    def reader(self) -> StreamReader: ...

    async def get(self, key: str) -> bytes | None: ...
    async def set(self, key: str, value: bytes, *, expire_s: float | None = None) -> None: ...
    async def delete(self, key: str) -> None: ...
    async def hash_set(self, key: str, values: Mapping[str, bytes]) -> None:
        """Replace the whole hash, atomically."""
        ...

    async def hash_get(self, key: str) -> dict[str, bytes]: ...
    async def hash_drop(self, key: str, fields: Sequence[str]) -> None: ...
    async def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """Return the sequence number of each stream's newest entry, 0 for none, in one round trip."""
        ...

    async def last(self, stream: str, count: int = 1) -> list[Entry]:
        """Return the newest entries, oldest first."""
        ...

    async def between(self, stream: str, first_id: str, last_id: str, count: int) -> list[Entry]:
        """Return entries of an id range, oldest first (`-` and `+` for the ends; `(` excludes)."""
        ...

    async def length(self, stream: str) -> int: ...
    async def trim_before(self, stream: str, min_id: str) -> int:
        """Delete entries older than `min_id`; return how many."""
        ...

    async def keep_newest(self, key: str, values: Sequence[bytes], *, entries_max: int) -> None:
        """Put values at the head of a list, the last of them first, and cut its end off."""
        ...

    async def keys(self, pattern: str) -> list[str]: ...
    async def info(self) -> dict[str, str]: ...
    async def publish(self, channel: str, value: bytes) -> None: ...
    async def set_and_publish(
        self, key: str, channel: str, value: bytes, *, expire_s: float | None = None
    ) -> None:
        """Store what a late joiner reads and tell the ones who listen, in one round trip."""
        ...

    def subscribe(self, channels: Sequence[str]) -> AsyncIterator[tuple[str, bytes]]:
        """Yield (channel, value) for ever; silent while Redis is away. Values may be lost: poll state too."""
        ...

    async def lease(self, key: str, holder: str, ttl_s: float) -> Lease | str:
        """Return the lease, or the name of who holds it."""
        ...

    async def renew(self, lease: Lease, ttl_s: float) -> bool: ...
    async def release(self, lease: Lease) -> bool: ...
    async def budget(
        self, name: str, *, requests_max: int, window_s: float, reserve: int, urgent: bool, member: str,
        last: str = "",
    ) -> float | None:  # fmt: skip
        """Take one request from the credential's shared budget.

        Args:
            member: Names this request in the window.
            last: The newest one that was granted to the caller, if it is still in the window.

        Returns:
            0.0 when granted, else seconds to wait; None when Redis does not know `last` any more.
        """
        ...

    async def budget_recall(self, name: str, window_s: float, granted: Mapping[str, float]) -> None:
        """Count again what was granted before: member -> seconds since. What is known stays as it is."""
        ...

    async def budget_pause(self, name: str, seconds: float) -> None: ...
    async def close(self) -> None: ...
