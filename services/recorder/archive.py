"""The archive on the disk: one folder a stream and day, one Parquet file a range of entries.

`<data_dir>/archive/<stream>/<YYYY-MM-DD>/<first id>_<last id>.parquet`, for example
`archive/md/MES/2026-11-22/1795344000000-1_1795344010000-40000.parquet`. A file gets its name only after its
bytes are on the disk, so whatever has a name is complete; an interrupted one leaves a hidden temporary
file that the next start removes. Payloads stay the bytes they were on the bus: what cannot be decoded today
is not lost.

`columns`, and with it Polars, is imported where it is used: it takes half a second and begins threads. The
process that is forked into a recorder must not have them, and one that has just been killed must not wait.

The folder `aside` beside the days has days of its own. In them lies what stood in Redis with ids that the
archive had already passed, because Redis was emptied and the clock set back. It may repeat what the days
have, and nothing reads it back.

`holes.jsonl` beside the days says in words what never reached the archive. It is for people: the rows
themselves show it, and nothing reads it back.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from services.recorder import merging
from services.recorder.disk import make_folders, store
from services.recorder.events import Hole
from services.recorder.files import ArchiveFile, EntryId, Rows, file_named, shown, sort_out
from shared.wire import topics

if TYPE_CHECKING:
    import polars as pl

FOLDER = "archive"
HOLES_FILE = "holes.jsonl"
ASIDE_FOLDER = "aside"
LOCK_FILE = ".lock"


class ArchiveLocked(RuntimeError):
    """Another recorder writes into this archive."""


class Archive(Protocol):
    """Where archived entries lie. `OSError` from any call: nothing of it counts as written."""

    async def lock(self) -> None: ...
    async def unlock(self) -> None: ...
    async def files(self, stream: str) -> list[ArchiveFile]: ...
    async def payload(self, stream: str, last: EntryId) -> bytes | None: ...
    async def write(self, stream: str, rows: Rows, *, aside: bool = False) -> ArchiveFile: ...
    async def merge(self, stream: str, parts: Sequence[ArchiveFile]) -> ArchiveFile: ...
    async def remove(self, stream: str, files: Sequence[ArchiveFile]) -> None: ...
    async def note(self, stream: str, holes: Sequence[Hole], more: int) -> None: ...


class DiskArchive:
    """See `Archive`. File work runs in a thread: a slow disk must not keep the beats from going out.

    Merging runs in a process of its own (see `merging`).
    """

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / FOLDER
        self._lock: int | None = None

    async def lock(self) -> None:
        """Become the only recorder of this archive; the lock goes with the process, however it ends.

        A merge that is under way when the recorder is killed keeps it until it is through.

        Raises:
            ArchiveLocked: If another process has it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ArchiveLocked(
                f"another recorder writes into {self.root}: stop it first; "
                "a merge that a killed one left ends by itself"
            ) from None
        self._lock = lock

    async def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def files(self, stream: str) -> list[ArchiveFile]:
        return await asyncio.to_thread(_files, self._folder(stream), clean=True)

    async def payload(self, stream: str, last: EntryId) -> bytes | None:
        """Return the payload of the entry that ends a file; None: none ends with it."""
        return await asyncio.to_thread(self._payload, self._folder(stream), last)

    async def write(self, stream: str, rows: Rows, *, aside: bool = False) -> ArchiveFile:
        return await asyncio.to_thread(self._write, stream, rows, aside)

    async def merge(self, stream: str, parts: Sequence[ArchiveFile]) -> ArchiveFile:
        job = merging.Job(folder=str(self._folder(stream).absolute()), parts=list(parts))
        into = await merging.merge(job, lock=self._lock)
        await self.remove(stream, parts)
        return into

    async def remove(self, stream: str, files: Sequence[ArchiveFile]) -> None:
        await asyncio.to_thread(_remove, self._folder(stream), files)

    async def note(self, stream: str, holes: Sequence[Hole], more: int) -> None:
        await asyncio.to_thread(self._note, stream, holes, more)

    def _folder(self, stream: str) -> Path:
        return self.root.joinpath(*topics.folder_of(stream))

    def _payload(self, folder: Path, last: EntryId) -> bytes | None:
        from services.recorder import columns

        file = next((file for file in _files(folder, clean=False) if file.last == last), None)
        return None if file is None else columns.last_payload(folder / file.day / file.name)

    def _write(self, stream: str, rows: Rows, aside: bool) -> ArchiveFile:
        from services.recorder import columns

        file = ArchiveFile(first=rows.ids[0], last=rows.ids[-1])
        folder = self._folder(stream) / ASIDE_FOLDER if aside else self._folder(stream)
        return store(folder, file, columns.parquet_of(columns.frame_of(rows)))

    def _note(self, stream: str, holes: Sequence[Hole], more: int) -> None:
        folder = self._folder(stream)
        make_folders(folder)
        lines = [
            {"before": shown(hole.before), "missing": hole.missing, "what": hole.told()} for hole in holes
        ]
        if more:
            lines.append({"what": f"and {more} more like these"})
        with (folder / HOLES_FILE).open("a", encoding="utf-8") as notes:
            notes.write("".join(json.dumps(line) + "\n" for line in lines))
            notes.flush()
            os.fsync(notes.fileno())


def read_archive(data_dir: Path, stream: str, *, first_ms: int = 0, last_ms: int = 2**53) -> pl.DataFrame:
    """Return archived entries of a stream in its order.

    Safe beside a running recorder: files appear whole and disappear only after one that holds the same.

    Args:
        first_ms: Receive time, UTC milliseconds, of the first entry wanted.
        last_ms: Of the last one, included.

    Returns:
        Columns `ts_ms`, `seq`, `id`, `kind`, `payload` (the JSON, as bytes); empty when there is nothing.
    """
    from services.recorder import columns

    folder = (data_dir / FOLDER).joinpath(*topics.folder_of(stream))
    for attempt in range(3):
        kept, _ = sort_out(_files(folder, clean=False))
        wanted = [file for file in kept if file.last[0] >= first_ms and file.first[0] <= last_ms]
        try:
            frame = columns.read(folder / file.day / file.name for file in wanted)
        except FileNotFoundError:  # merged between the look and the read
            if attempt == 2:
                raise
            continue
        break
    return columns.between(frame, first_ms, last_ms)


def _files(folder: Path, *, clean: bool) -> list[ArchiveFile]:
    """Return a stream's files; names that are not ours are left alone.

    Args:
        clean: Remove temporary files of a writer that was killed; only for the one who has the lock.
    """
    files: list[ArchiveFile] = []
    if not folder.is_dir():
        return files
    for day in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(day.iterdir()):
            if path.name.startswith(".") and path.name.endswith(".tmp"):
                if clean:
                    path.unlink(missing_ok=True)
                continue
            try:
                file = file_named(path.name, bytes_=path.stat().st_size)
            except FileNotFoundError:
                continue
            if file is not None and file.day == day.name:
                files.append(file)
    return files


def _remove(folder: Path, files: Iterable[ArchiveFile]) -> None:
    for file in files:
        (folder / file.day / file.name).unlink(missing_ok=True)
