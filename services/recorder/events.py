"""What the recorder hears of, and what it then has done."""

from __future__ import annotations

import msgspec

from services.recorder.files import ArchiveFile, EntryId, shown


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How long a stream's archived entries stay in Redis.

    Attributes:
        keep_entries: When set, so many of the newest stay and `keep_s` does not count.
    """

    keep_s: float
    keep_entries: int | None = None


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """The stream does not go on at `after` but at `before`.

    Attributes:
        after: Last entry before it; None when the archive begins here.
        missing: How many entries never reached the archive; 0 when the sequence began again, which
            happens when Redis was emptied or restored from an older file.
    """

    after: EntryId | None
    before: EntryId
    missing: int

    def told(self) -> str:
        """Return one line for people."""
        where = f"between {shown(self.after)}" if self.after else "between the stream's beginning"
        if self.missing:
            return f"{self.missing} entries {where} and {shown(self.before)} are missing: trimmed unarchived"
        return f"the sequence begins again {where} and {shown(self.before)}: Redis was emptied or restored"


# Events


class Scanned(msgspec.Struct, frozen=True, kw_only=True):
    """What there is on the bus.

    Attributes:
        newest: stream -> its newest entry; None when it is empty.
        refused: Key under a stream's name that cannot be read as a stream -> why.
    """

    newest: dict[str, EntryId | None]
    now_ns: int
    monotonic_ns: int
    refused: dict[str, str] = {}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """The archive files of a stream that was seen for the first time."""

    stream: str
    policy: Policy
    files: list[ArchiveFile]


class EntriesRead(msgspec.Struct, frozen=True, kw_only=True):
    """What `ReadOn` brought.

    Attributes:
        more: The limit was reached, there is more to read.
        joined: False: the entry to read on after does not stand in the stream any more; nothing was read.
        aside: As in `ReadOn`.
    """

    stream: str
    ids: list[EntryId]
    more: bool
    monotonic_ns: int
    joined: bool = True
    aside: bool = False


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """The file is on the disk: its bytes, its name and its folder are synced. `aside` as in `Write`."""

    stream: str
    file: ArchiveFile
    aside: bool = False


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    parts: list[ArchiveFile]
    into: ArchiveFile


class Trimmed(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    before: EntryId


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """Something could not be done for one stream; the others go on.

    Attributes:
        merging: Only files could not be merged: reading and writing go on.
    """

    stream: str
    why: str
    monotonic_ns: int
    merging: bool = False


Event = Scanned | Listed | EntriesRead | Written | Merged | Trimmed | Failed

# Commands


class ListFiles(msgspec.Struct, frozen=True, kw_only=True):
    stream: str


class RemoveFiles(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    files: list[ArchiveFile]


class ReadOn(msgspec.Struct, frozen=True, kw_only=True):
    """Read the next entries of a stream.

    Attributes:
        after: Read what comes after this entry; None: from the beginning.
        until: Read nothing behind this entry; None: to the end.
        joins: Only if `after` itself still stands in the stream.
    """

    stream: str
    after: EntryId | None
    count_max: int
    until: EntryId | None = None
    joins: bool = True

    @property
    def aside(self) -> bool:
        """Return whether it reads what stands before the archive's end and lies in no file."""
        return self.until is not None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Entries `start` .. `stop - 1` of what was read become one file."""

    file: ArchiveFile
    start: int
    stop: int


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """Note the holes, then write the parts in order; after the first failure nothing more of it.

    Attributes:
        aside: Beside the archive's own files, whose order has no place for these entries.
    """

    stream: str
    holes: list[Hole]
    holes_more: int
    parts: list[Part]
    aside: bool = False


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    parts: list[ArchiveFile]
    into: ArchiveFile


class Trim(msgspec.Struct, frozen=True, kw_only=True):
    """Delete from Redis what is older than `before`; everything of it is archived.

    Attributes:
        standing: Only while this entry stands there: then what is before it is what we have read. Another
            stream may have begun in its place, by a clock that was set back.
    """

    stream: str
    before: EntryId
    standing: EntryId


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: lifted: it is over."""

    stream: str
    why: str
    lifted: bool = False


Command = ListFiles | RemoveFiles | ReadOn | Write | Merge | Trim | Alarm
