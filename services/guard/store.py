"""The record's file: replaced whole, written through to the disk, never guessed at when it is unreadable."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec

from services.guard.record import Record


class RecordUnreadable(Exception):
    """There is a record, and it cannot be used. A copy was put aside for a person to look at."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return (
            f"guard's record {self.path} could not be read ({self.why}): whether a rule was broken before is "
            "not known; look at the account, then re-arm"
        )


class RecordTaken(Exception):
    """Another guard has written the record since: what it latched must not be lost to an older one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"another guard writes {self.path}"


class RecordFile:
    """One account's record on disk. One that was stopped, and replaced, may wake: it writes nothing then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = False
        self._content: bytes | None = None  # as we have read or written it last; None: there was no file

    @property
    def was_read(self) -> bool:
        """Say whether we know what the file holds, so that another's writing shows."""
        return self._seen

    def load(self, *, account_id: int, since: str) -> Record | None:
        """Return the record; None when there is none, or it is of before a reset that the settings name.

        Raises:
            RecordUnreadable: If it is damaged or of another account.
        """
        try:
            value = self._content = self._stored()
        except OSError as error:
            raise RecordUnreadable(self.path, str(error)) from None
        self._seen = True
        if value is None:
            return None
        try:
            record = msgspec.json.decode(value, type=Record)
        except msgspec.MsgspecError as error:
            # A copy: until the latch is written in its place, the next start has to find it too.
            aside = self.path.with_suffix(".unreadable")
            try:
                aside.write_bytes(value)
            except OSError:
                aside = self.path
            raise RecordUnreadable(aside, str(error)) from None
        if record.account_id != account_id:
            raise RecordUnreadable(self.path, f"it is of account {record.account_id}")
        return record if record.since == since else None

    def write(self, record: Record) -> None:
        """Replace the file.

        Raises:
            OSError: If the disk does not take it, or another guard is writing it at this moment.
            RecordTaken: If it is no longer the one that we know.
        """
        value = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
        with self._alone():
            if self._seen and self._stored() != self._content:
                raise RecordTaken(self.path)
            self._replace(value)
        self._seen, self._content = True, value

    def look_again(self) -> None:
        """Take what lies there now for what may be replaced: who wrote it turned out to be an older guard.

        Raises:
            OSError: If the disk does not give it.
        """
        self._content = self._stored()
        self._seen = True

    def _alone(self) -> AbstractContextManager[None]:
        """Keep other guards from writing: who is frozen after comparing must not replace what came since."""
        return _locked(self.path.with_suffix(".lock"))

    def _stored(self) -> bytes | None:
        try:
            return self._read()
        except FileNotFoundError:
            return None

    def _read(self) -> bytes:
        return self.path.read_bytes()

    def _replace(self, value: bytes) -> None:
        """Put `value` in its place so that a crash at any point leaves the old content or the new one."""
        beside = self.path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock of the operating system, which ends with its holder.

    Raises:
        OSError: If it is held, at once: what holds it may be frozen.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another guard holds {path}: it is writing the record, or was stopped") from None
        yield
