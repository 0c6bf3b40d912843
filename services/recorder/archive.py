"""The archive on the disk: one folder a stream and day, one Parquet file a range of entries.

`<data_dir>/archive/<stream>/<YYYY-MM-DD>/<first id>_<last id>.parquet`, for example
`archive/md/MES/2026-11-22/1795344000000-1_1795344010000-40000.parquet`. A file gets its name only after its
bytes are on the disk, so whatever has a name is complete; an interrupted one leaves a hidden temporary
file that the next start removes. Payloads stay the bytes they were on the bus: what cannot be decoded today
is not lost.

`holes.jsonl` beside the days says in words what never reached the archive. It is for people: the rows
themselves show it, and nothing reads it back.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl

from services.recorder.core import Hole
from services.recorder.files import ArchiveFile, EntryId, file_named, merged, shown, sort_out
from shared.wire import topics

FOLDER = "archive"
HOLES_FILE = "holes.jsonl"
LOCK_FILE = ".lock"

SCHEMA = pl.Schema(
    {"ts_ms": pl.Int64, "seq": pl.Int64, "id": pl.String, "kind": pl.String, "payload": pl.Binary}
)

INT_MAX = 2**63 - 1


class ArchiveLocked(RuntimeError):
    """Another recorder writes into this archive."""


class ArchiveDamaged(OSError):
    """A file of the archive cannot be read; it is left as it is."""


class Rows(NamedTuple):
    """Entries of one stream as columns; `ids[i]`, `kinds[i]` and `payloads[i]` are one entry."""

    ids: list[EntryId]
    kinds: list[bytes]
    payloads: list[bytes]


class Archive(Protocol):
    """Where archived entries lie. `OSError` from any call: nothing of it counts as written."""

    async def lock(self) -> None: ...
    async def unlock(self) -> None: ...
    async def files(self, stream: str) -> list[ArchiveFile]: ...
    async def write(self, stream: str, rows: Rows) -> ArchiveFile: ...
    async def merge(self, stream: str, parts: Sequence[ArchiveFile]) -> ArchiveFile: ...
    async def remove(self, stream: str, files: Sequence[ArchiveFile]) -> None: ...
    async def note(self, stream: str, holes: Sequence[Hole], more: int) -> None: ...


class DiskArchive:
    """See `Archive`. File work runs in a thread: a slow disk must not keep the beats from going out."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / FOLDER
        self._lock: int | None = None

    async def lock(self) -> None:
        """Become the only recorder of this archive; the lock goes with the process, however it ends.

        Raises:
            ArchiveLocked: If another process has it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ArchiveLocked(f"another recorder writes into {self.root}; stop it first") from None
        self._lock = lock

    async def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def files(self, stream: str) -> list[ArchiveFile]:
        return await asyncio.to_thread(_files, self._folder(stream), clean=True)

    async def write(self, stream: str, rows: Rows) -> ArchiveFile:
        return await asyncio.to_thread(self._write, stream, rows)

    async def merge(self, stream: str, parts: Sequence[ArchiveFile]) -> ArchiveFile:
        return await asyncio.to_thread(self._merge, stream, parts)

    async def remove(self, stream: str, files: Sequence[ArchiveFile]) -> None:
        await asyncio.to_thread(_remove, self._folder(stream), files)

    async def note(self, stream: str, holes: Sequence[Hole], more: int) -> None:
        await asyncio.to_thread(self._note, stream, holes, more)

    def _folder(self, stream: str) -> Path:
        return self.root.joinpath(*topics.folder_of(stream))

    def _write(self, stream: str, rows: Rows) -> ArchiveFile:
        file = ArchiveFile(first=rows.ids[0], last=rows.ids[-1])
        return self._store(stream, file, frame_of(rows))

    def _merge(self, stream: str, parts: Sequence[ArchiveFile]) -> ArchiveFile:
        folder = self._folder(stream)
        frame = pl.concat(_read(folder / part.day / part.name) for part in parts)
        file = self._store(stream, merged(parts), frame)
        _remove(folder, parts)
        return file

    def _store(self, stream: str, file: ArchiveFile, frame: pl.DataFrame) -> ArchiveFile:
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", compression_level=3)
        folder = self._folder(stream) / file.day
        _make_folders(folder)
        _write_durably(folder, file.name, buffer.getbuffer())
        return ArchiveFile(first=file.first, last=file.last, bytes_=buffer.tell())

    def _note(self, stream: str, holes: Sequence[Hole], more: int) -> None:
        folder = self._folder(stream)
        _make_folders(folder)
        lines = [
            {"before": shown(hole.before), "missing": hole.missing, "what": hole.told()} for hole in holes
        ]
        if more:
            lines.append({"what": f"and {more} more like these"})
        with (folder / HOLES_FILE).open("a", encoding="utf-8") as notes:
            notes.write("".join(json.dumps(line) + "\n" for line in lines))
            notes.flush()
            os.fsync(notes.fileno())


def frame_of(rows: Rows) -> pl.DataFrame:
    """Return entries as the frame that is written."""
    # Ids that somebody gave by hand may exceed the columns; the column `id` has them as they are.
    kinds = {kind: kind.decode("utf-8", "backslashreplace") for kind in set(rows.kinds)}
    return pl.DataFrame(
        {
            "ts_ms": [min(entry_id[0], INT_MAX) for entry_id in rows.ids],
            "seq": [min(entry_id[1], INT_MAX) for entry_id in rows.ids],
            "id": [shown(entry_id) for entry_id in rows.ids],
            "kind": [kinds[kind] for kind in rows.kinds],
            "payload": rows.payloads,
        },
        schema=SCHEMA,
    )


def read_archive(data_dir: Path, stream: str, *, first_ms: int = 0, last_ms: int = 2**53) -> pl.DataFrame:
    """Return archived entries of a stream in its order.

    Safe beside a running recorder: files appear whole and disappear only after one that holds the same.

    Args:
        first_ms: Receive time, UTC milliseconds, of the first entry wanted.
        last_ms: Of the last one, included.

    Returns:
        Columns `ts_ms`, `seq`, `id`, `kind`, `payload` (the JSON, as bytes); empty when there is nothing.
    """
    folder = (data_dir / FOLDER).joinpath(*topics.folder_of(stream))
    for attempt in range(3):
        kept, _ = sort_out(_files(folder, clean=False))
        wanted = [file for file in kept if file.last[0] >= first_ms and file.first[0] <= last_ms]
        try:
            frames = [_read(folder / file.day / file.name) for file in wanted]
        except FileNotFoundError:  # merged between the look and the read
            if attempt == 2:
                raise
            continue
        break
    frame = pl.concat([pl.DataFrame(schema=SCHEMA), *frames])
    return frame.filter(pl.col("ts_ms").is_between(first_ms, last_ms))


def missing_before(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `read_archive` that do not follow the row before them, with what is missing."""
    missing = (pl.col("seq").diff() - 1).alias("missing")
    return frame.with_columns(missing).filter(pl.col("missing") != 0).select("id", "missing")


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path.read_bytes(), hive_partitioning=False)
    except pl.exceptions.PolarsError as error:
        raise ArchiveDamaged(
            f"{path} is not readable Parquet ({error}); restore it or move it away"
        ) from error


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


def _make_folders(folder: Path) -> None:
    """Make a folder that is still there after a power cut: each new name is synced in its parent."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _write_durably(folder: Path, name: str, data: memoryview) -> None:
    temporary = folder / f".{name}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / name)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
