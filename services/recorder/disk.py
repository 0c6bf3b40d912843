"""Files that a power cut does not take: their bytes, their names and their folders are synced."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from services.recorder.files import ArchiveFile


def store(folder: Path, file: ArchiveFile, written: bytes) -> ArchiveFile:
    """Put a file into its stream's folder; return it with its size. It has its name only when it is whole."""
    of_day = folder / file.day
    make_folders(of_day)
    _write_durably(of_day, file.name, written)
    return ArchiveFile(first=file.first, last=file.last, bytes_=len(written))


def make_folders(folder: Path) -> None:
    """Make a folder that is still there after a power cut: each new name is synced in its parent."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _write_durably(folder: Path, name: str, data: bytes) -> None:
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
