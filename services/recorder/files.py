"""Which archive files there are: names, days, leftovers and what to merge. No I/O.

A file's name is the range of stream ids it holds: `<first id>_<last id>.parquet`. The names of a folder are
therefore the recorder's whole memory: the last id of the newest file is the cursor, and no second record
exists that could disagree with the files. Sequence numbers alone would not do as names: they begin
again when Redis was emptied, ids still rise.

The day of an entry is the UTC date of its *receive* time, which is the first half of its id. It never falls
within a stream, so a day that is over stays over; and it needs no look into the payload, so what
cannot be decoded has its place too. The venue's time does neither (a replay plays another year).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

EntryId = tuple[int, int]
"""(receive time in ms, sequence number): compares as Redis compares ids."""

MS_MAX = 253_402_300_799_999
"""The end of the year 9999. An entry that somebody added by hand may claim to be of later."""

_NAME = re.compile(r"(\d{1,20})-(\d{1,20})_(\d{1,20})-(\d{1,20})\.parquet")


class ArchiveDamaged(OSError):
    """A file of the archive cannot be read; it is left as it is."""


class Rows(NamedTuple):
    """Entries of one stream as columns; `ids[i]`, `kinds[i]` and `payloads[i]` are one entry."""

    ids: list[EntryId]
    kinds: list[bytes]
    payloads: list[bytes]


class ArchiveFile(msgspec.Struct, frozen=True, kw_only=True, order=False):
    """One file with the entries `first` .. `last` of a stream.

    Attributes:
        bytes_: Its size on the disk.
    """

    first: EntryId
    last: EntryId
    bytes_: int = 0

    @property
    def day(self) -> str:
        return day_of(self.first)

    @property
    def name(self) -> str:
        return f"{shown(self.first)}_{shown(self.last)}.parquet"

    def covers(self, other: ArchiveFile) -> bool:
        """Return whether everything in `other` lies in this file."""
        return self is not other and self.first <= other.first and other.last <= self.last


def shown(entry_id: EntryId) -> str:
    """Return an id as Redis writes it."""
    return f"{entry_id[0]}-{entry_id[1]}"


def day_of(entry_id: EntryId) -> str:
    """Return the UTC date of an entry's receive time; the last there is for one that no clock ever told."""
    ms = min(entry_id[0], MS_MAX)
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).date().isoformat()


def file_named(name: str, *, bytes_: int) -> ArchiveFile | None:
    """Return the file a name stands for; None for a name that is not ours."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    a, b, c, d = map(int, found.groups())
    return ArchiveFile(first=(a, b), last=(c, d), bytes_=bytes_) if (a, b) <= (c, d) else None


def sort_out(files: Sequence[ArchiveFile]) -> tuple[list[ArchiveFile], list[ArchiveFile]]:
    """Return the files that count, in the order of the stream, and the leftovers.

    A leftover lies wholly inside another file: merging was interrupted after the merged file had
    its name and before its parts were removed.
    """
    ordered = sorted(files, key=lambda file: (file.first, (-file.last[0], -file.last[1])))
    kept: list[ArchiveFile] = []
    leftovers: list[ArchiveFile] = []
    for file in ordered:
        if kept and kept[-1].covers(file):
            leftovers.append(file)
        else:
            kept.append(file)
    return kept, leftovers


def to_merge(
    files: Sequence[ArchiveFile], *, finished_before: str, bytes_max: int, files_max: int
) -> list[ArchiveFile]:
    """Return neighbors of one day that should become one file; empty when there are none.

    Args:
        files: All files of a stream in order.
        finished_before: Days before this date are over.
        bytes_max: Size of a merged file; also what bounds the memory of merging.
        files_max: How many files the running day may have before they are merged all the same.
    """
    by_day: dict[str, list[ArchiveFile]] = {}
    for file in files:
        by_day.setdefault(file.day, []).append(file)
    for day, of_day in by_day.items():
        if day < finished_before or len(of_day) > files_max:
            group = _first_group(of_day, bytes_max)
            if group:
                return group
    return []


def _first_group(files: Sequence[ArchiveFile], bytes_max: int) -> list[ArchiveFile]:
    group: list[ArchiveFile] = []
    total = 0
    for file in files:
        if total + file.bytes_ > bytes_max:
            if len(group) > 1:
                return group
            group, total = [], 0
        if file.bytes_ <= bytes_max:
            group.append(file)
            total += file.bytes_
    return group if len(group) > 1 else []


def merged(files: Sequence[ArchiveFile]) -> ArchiveFile:
    """Return the file that replaces `files`."""
    return ArchiveFile(first=files[0].first, last=files[-1].last)
