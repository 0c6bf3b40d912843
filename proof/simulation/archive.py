"""The recorder's archive without Parquet: files that survive kills, on a disk that may be slow and fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from proof.simulation.machine import AFTER, BEFORE, Incarnation
from services.recorder.archive import ArchiveLocked
from services.recorder.events import Hole
from services.recorder.files import ArchiveFile, EntryId, Rows, merged

T = TypeVar("T")
Content = tuple[bytes, bytes]
"""Kind and payload of one entry."""


class ArchiveDisk:
    """What lies in the archive.

    Attributes:
        files: Stream -> its files, whose names say which entries they hold.
        aside: The same of what found no place in the order of a stream.
        holes: What was noted as missing, stream and words.
        slow_s: Longest time that a file takes.
        stored: Called before a file is there with its stream and rows, and whether it goes aside.
        removed: Called after files are gone with their stream and rows.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[ArchiveFile, Rows]] = {}
        self.aside: dict[str, dict[ArchiveFile, Rows]] = {}
        self.holes: list[tuple[str, str]] = []
        self.failing = False
        self.slow_s = 0.0
        self.rng = random.Random("disk of the recorder")
        self.locked_by: Incarnation | None = None
        self.stored: Callable[[str, Rows, bool], None] = lambda stream, rows, aside: None
        self.removed: Callable[[str, Rows], None] = lambda stream, rows: None

    def entries(self, stream: str) -> Iterator[tuple[EntryId, Content]]:
        """Yield what the files in their order hold, entry by entry; a merged file and its parts both."""
        for rows in self.files.get(stream, {}).values():
            yield from _entries(rows)

    def set_aside(self, stream: str) -> Iterator[tuple[EntryId, Content]]:
        for rows in self.aside.get(stream, {}).values():
            yield from _entries(rows)


class SimArchive:
    """See `services.recorder.archive.Archive`."""

    def __init__(self, disk: ArchiveDisk, incarnation: Incarnation) -> None:
        self._disk = disk
        self._incarnation = incarnation

    async def lock(self) -> None:
        self._incarnation.alive()
        disk = self._disk
        if disk.locked_by not in (None, self._incarnation) and not disk.locked_by.dead:
            raise ArchiveLocked("another recorder writes here")
        if disk.failing:
            raise OSError("disk I/O error")
        disk.locked_by = self._incarnation

    async def unlock(self) -> None:
        if self._disk.locked_by is self._incarnation:
            self._disk.locked_by = None

    async def files(self, stream: str) -> list[ArchiveFile]:
        return await self._do("list", lambda: list(self._disk.files.get(stream, {})))

    async def payload(self, stream: str, last: EntryId) -> bytes | None:
        files = self._disk.files.get(stream, {})
        return await self._do(
            "read",
            lambda: next((rows.payloads[-1] for file, rows in files.items() if file.last == last), None),
        )

    async def write(self, stream: str, rows: Rows, *, aside: bool = False) -> ArchiveFile:
        return await self._do("write", lambda: self._store(stream, rows, aside))

    async def merge(self, stream: str, parts: Sequence[ArchiveFile]) -> ArchiveFile:
        def merge() -> ArchiveFile:
            files, rows = self._disk.files[stream], Rows([], [], [])
            for part in parts:
                if part not in files:
                    raise FileNotFoundError(part.name)
                rows.ids.extend(files[part].ids)
                rows.kinds.extend(files[part].kinds)
                rows.payloads.extend(files[part].payloads)
            into = msgspec.structs.replace(merged(parts), bytes_=_size(rows))
            files[into] = rows
            return into

        into = await self._do("merge", merge)
        await self.remove(stream, parts)
        return into

    async def remove(self, stream: str, files: Sequence[ArchiveFile]) -> None:
        def remove() -> None:
            for file in files:
                rows = self._disk.files[stream].pop(file, None)
                if rows is not None:
                    self._disk.removed(stream, rows)

        await self._do("remove", remove)

    async def note(self, stream: str, holes: Sequence[Hole], more: int) -> None:
        words = [*(hole.told() for hole in holes), *([f"and {more} more like these"] if more else [])]
        await self._do("note", lambda: self._disk.holes.extend((stream, one) for one in words))

    def _store(self, stream: str, rows: Rows, aside: bool) -> ArchiveFile:
        disk = self._disk
        disk.stored(stream, rows, aside)
        file = ArchiveFile(first=rows.ids[0], last=rows.ids[-1], bytes_=_size(rows))
        (disk.aside if aside else disk.files).setdefault(stream, {})[file] = rows
        return file

    async def _do(self, name: str, effect: Callable[[], T]) -> T:
        """Do what a thread does in its own time.

        Raises:
            Crash: If the process dies before or after it.
            OSError: If the disk fails.
        """
        disk, point = self._disk, f"archive {name}"
        self._incarnation.point(point, BEFORE)
        await asyncio.sleep(disk.rng.random() * disk.slow_s)
        if disk.failing:
            raise OSError("disk full")
        self._incarnation.process.machine.trace(self._incarnation.name, point)
        done = effect()
        self._incarnation.point(point, AFTER)
        return done


def _size(rows: Rows) -> int:
    return sum(map(len, rows.payloads))


def _entries(rows: Rows) -> Iterator[tuple[EntryId, Content]]:
    yield from zip(rows.ids, zip(rows.kinds, rows.payloads, strict=True), strict=True)
