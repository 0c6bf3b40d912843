"""SignalR's framing: one JSON object, then the byte 0x1E, over and over."""

from __future__ import annotations

from typing import Final

RECORD_SEPARATOR: Final = b"\x1e"
EXCERPT_BYTES_MAX: Final = 2_048  # of a record that was refused


class RecordTooLarge(Exception):
    """The other end sends a record larger than `record_bytes_max`, or never ends one.

    Attributes:
        others: The other records of this frame, when the large one has an end: the stream goes on behind
            it. None when nobody can say where the next one starts.
    """

    def __init__(
        self, *, record_bytes: int, record_bytes_max: int, excerpt: bytes, others: list[bytes] | None = None
    ) -> None:
        super().__init__(record_bytes, record_bytes_max)
        self.others = others
        self.record_bytes = record_bytes
        self.record_bytes_max = record_bytes_max
        self.excerpt = excerpt

    def __str__(self) -> str:
        return f"a record of at least {self.record_bytes} bytes; the limit is {self.record_bytes_max}"


class RecordSplitter:
    """Cut a byte stream into records, keeping what is not complete yet."""

    __slots__ = ("_parts", "_parts_bytes", "record_bytes_max")

    def __init__(self, *, record_bytes_max: int) -> None:
        assert record_bytes_max > 0
        self.record_bytes_max = record_bytes_max
        self._parts: list[bytes] = []  # joined once, when the end comes: linear in many small pieces
        self._parts_bytes = 0

    def split(self, data: bytes) -> list[bytes]:
        """Return the records completed by `data`, without their separators.

        Raises:
            RecordTooLarge: If one is beyond the limit; see there whether the stream goes on.
        """
        records = data.split(RECORD_SEPARATOR)
        tail = records.pop()
        if self._parts and records:
            self._parts.append(records[0])
            records[0] = b"".join(self._parts)
            self._parts.clear()
            self._parts_bytes = 0
        if tail:
            self._parts.append(tail)
            self._parts_bytes += len(tail)
        if self._parts_bytes > self.record_bytes_max:
            self._refuse(self._parts[0], self._parts_bytes)
        if records and len(data) + len(records[0]) > self.record_bytes_max:
            for record in records:
                if len(record) > self.record_bytes_max:
                    others = [other for other in records if len(other) <= self.record_bytes_max]
                    self._refuse(record, len(record), others)
        return records

    def _refuse(self, record: bytes, record_bytes: int, others: list[bytes] | None = None) -> None:
        raise RecordTooLarge(
            record_bytes=record_bytes,
            record_bytes_max=self.record_bytes_max,
            excerpt=record[:EXCERPT_BYTES_MAX],
            others=others,
        )
