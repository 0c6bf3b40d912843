"""Decide what is written, where, and what may be deleted from Redis. No I/O.

The recorder remembers nothing of its own: where a stream's archive stands follows from the names of its
files (`files.py`). An entry is deleted from Redis only when a file that holds it is on the disk for good, and
it has become old enough for its kind of stream. The newest archived entry always stays: it shows where
the stream stood.

When it is not there, Redis was emptied or restored, or its cap has trimmed what we had not read. If the clock
was set back as well, new entries have ids before the archive's end, and no place in the order of its files.
They are set aside, in files of their own, before anything behind the archive's end is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import msgspec

from services.recorder.events import (
    Alarm,
    Command,
    EntriesRead,
    Event,
    Failed,
    Hole,
    Listed,
    ListFiles,
    Merge,
    Merged,
    Part,
    Policy,
    ReadOn,
    RemoveFiles,
    Scanned,
    Trim,
    Trimmed,
    Write,
    Written,
)
from services.recorder.files import ArchiveFile, EntryId, day_of, merged, shown, sort_out, to_merge

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

DAY_MARGIN_S = 3_600
"""A day is over this long after midnight: a writer that waited for Redis sends with the time it began at."""

MERGE_RETRY_S = 600
"""Merging is tidying up: after a failure it can wait."""

NOTES_MAX = 20
"""Holes described one by one in one read; a stream that others write to may have one at every entry."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that the decisions need, in their units."""

    flush_interval_s: float
    rows_max: int
    retry_s: float
    compact_bytes_max: int
    compact_files_max: int


class StreamState(msgspec.Struct, kw_only=True):
    """What is known of one stream.

    Attributes:
        cursor: Newest archived entry; None when nothing is.
        read_at_ns: Monotonic time of the next read at the latest.
        trimmed_to: Everything before it was deleted from Redis.
        behind: Redis stands before our cursor: it was emptied or restored.
        aside_to: What stands before our cursor and not in our files is set aside up to here.
        holes: Found in what was read last, not yet followed by a written file.
        failure: Why the last attempt failed; None after a success.
    """

    policy: Policy | None = None
    files: list[ArchiveFile] = []
    cursor: EntryId | None = None
    newest: EntryId | None = None
    read_at_ns: int = 0
    retry_at_ns: int = 0
    merge_at_ns: int = 0
    trimmed_to: EntryId = (0, 0)
    behind: bool = False
    aside_to: EntryId | None = None
    backlog: bool = False
    holes: list[Hole] = []
    failure: str | None = None


class State(msgspec.Struct, kw_only=True):
    """All that the recorder knows. Only `decide` changes it."""

    limits: Limits
    streams: dict[str, StreamState] = {}
    entries_missing: int = 0
    files_written: int = 0

    def failures(self) -> dict[str, str]:
        return {name: s.failure for name, s in self.streams.items() if s.failure is not None}

    def has_backlog(self) -> bool:
        """Return whether a stream has more to read at once."""
        return any(s.backlog and s.failure is None for s in self.streams.values())

    def lag(self) -> dict[str, int]:
        """Return how many entries of each stream are not yet archived, as far as numbers tell."""
        return {
            name: max(0, s.newest[1] - (s.cursor[1] if s.cursor else 0))
            for name, s in self.streams.items()
            if s.newest is not None
        }


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event to `state` and return what must now happen."""
    match event:
        case Scanned():
            return _scanned(event, state)
        case Listed():
            return _listed(event, state)
        case EntriesRead():
            return _read(event, state)
        case Written():
            return _written(event, state)
        case Merged():
            s = state.streams[event.stream]
            s.files, _ = sort_out([*s.files, event.into])
            return []
        case Trimmed():
            state.streams[event.stream].trimmed_to = event.before
            return []
        case Failed():
            return _failed(event, state)
        case _:
            assert_never(event)


def may_trim_before(s: StreamState, now_ns: int) -> EntryId | None:
    """Return the id before which everything is archived and old enough; None: leave the stream alone."""
    if s.cursor is None or s.policy is None or s.behind or s.failure is not None:
        return None
    keep = s.policy.keep_entries
    if keep is None:
        old = (now_ns // NS_PER_MS - round(s.policy.keep_s * 1000), 0)
        # Never the cursor itself: a stream of which nothing is left does not show where it stood.
        return min(old, s.cursor) if old > (0, 0) else None
    for file in reversed(s.files):
        # File boundaries are the only ids known; a little more than asked for stays.
        if file.last[1] <= s.cursor[1] - keep and file.last <= s.cursor:
            return file.last
    return None


def _scanned(event: Scanned, state: State) -> list[Command]:
    commands: list[Command] = []
    for stream in sorted(state.streams.keys() - event.newest.keys() - event.refused.keys()):
        s = state.streams[stream]
        s.newest = None
        if s.policy is None:  # a key that could not be read, and is gone now
            commands += _succeeded(stream, s)
    for stream, why in sorted(event.refused.items()):
        state.streams.setdefault(stream, StreamState())
        commands += _failed(Failed(stream=stream, why=why, monotonic_ns=event.monotonic_ns), state)
    for stream in sorted(event.newest):
        commands += _looked_at(stream, event, state)
    return commands


def _looked_at(stream: str, event: Scanned, state: State) -> list[Command]:
    s = state.streams.get(stream)
    if s is None:
        # Not at once: the first write brings Polars in, and who was killed is seldom the only one to start.
        state.streams[stream] = StreamState(read_at_ns=_next_read_ns(event.monotonic_ns, state))
        return [ListFiles(stream=stream)]
    s.newest = event.newest[stream]
    if event.monotonic_ns < s.retry_at_ns:
        return []
    if s.policy is None:
        return [ListFiles(stream=stream)]
    return [
        *_behind(stream, s),
        *_due(stream, s, event.monotonic_ns, state),
        *_trimming(stream, s, event.now_ns),
        *_merging(stream, s, event, state),
    ]


def _behind(stream: str, s: StreamState) -> list[Command]:
    """Notice a stream that ends before its archive: nothing in it may be deleted then."""
    if s.aside_to is not None and s.newest is not None and s.newest < s.aside_to:
        s.aside_to = None  # emptied once more
    behind = s.cursor is not None and s.newest is not None and s.newest < s.cursor
    if behind == s.behind:
        return []
    s.behind = behind
    assert s.cursor is not None
    why = f"Redis stands before the archive's end {shown(s.cursor)}: was it emptied or restored?"
    return [Alarm(stream=stream, why=why, lifted=not behind)]


def _due(stream: str, s: StreamState, monotonic_ns: int, state: State) -> list[Command]:
    known = s.aside_to if s.behind else s.cursor
    if s.newest is None or s.newest == s.cursor or (known is not None and s.newest <= known):
        s.backlog = False
        return []
    waiting = s.newest[1] - (known[1] if known else 0)
    if not s.backlog and waiting < state.limits.rows_max and monotonic_ns < s.read_at_ns:
        return []
    return [_reading_aside(stream, s, state) if s.behind else _reading_on(stream, s, state)]


def _reading_on(stream: str, s: StreamState, state: State, *, joins: bool = True) -> ReadOn:
    return ReadOn(stream=stream, after=s.cursor, count_max=state.limits.rows_max, joins=joins)


def _reading_aside(stream: str, s: StreamState, state: State) -> ReadOn:
    return ReadOn(stream=stream, after=s.aside_to, until=s.cursor, count_max=state.limits.rows_max)


def _trimming(stream: str, s: StreamState, now_ns: int) -> list[Command]:
    before = may_trim_before(s, now_ns)
    if before is None or before <= s.trimmed_to:
        return []
    # Between two archived entries there is nothing to delete: wait until the first one falls.
    if not any(s.trimmed_to < file.last and file.first < before for file in s.files):
        return []
    assert s.cursor is not None
    return [Trim(stream=stream, before=before, standing=s.cursor)]


def _merging(stream: str, s: StreamState, event: Scanned, state: State) -> list[Command]:
    if len(s.files) < 2 or s.failure is not None or event.monotonic_ns < s.merge_at_ns:
        return []
    today = day_of((max(0, event.now_ns // NS_PER_MS - DAY_MARGIN_S * 1000), 0))
    parts = to_merge(
        s.files,
        finished_before=max(today, day_of(s.files[-1].first)),
        bytes_max=state.limits.compact_bytes_max,
        files_max=state.limits.compact_files_max,
    )
    return [Merge(stream=stream, parts=parts, into=merged(parts))] if parts else []


def _listed(event: Listed, state: State) -> list[Command]:
    s = state.streams[event.stream]
    s.policy = event.policy
    s.files, leftovers = sort_out(event.files)
    s.cursor = max((file.last for file in s.files), default=None)
    commands = _succeeded(event.stream, s)
    if leftovers:
        commands.append(RemoveFiles(stream=event.stream, files=leftovers))
    return commands


def _read(event: EntriesRead, state: State) -> list[Command]:
    s = state.streams[event.stream]
    s.read_at_ns = _next_read_ns(event.monotonic_ns, state)
    if not event.joined:
        if event.aside:
            s.aside_to = None  # emptied once more: what stands there now is not what was set aside
        return [_reading_aside(event.stream, s, state)]
    if event.aside:
        return _read_aside(event, s, state)
    s.backlog = event.more
    if not event.ids:
        return _succeeded(event.stream, s)
    assert s.cursor is None or event.ids[0] > s.cursor, "an entry would be archived twice"
    holes = _holes(s, event.ids)
    s.holes = holes
    return [
        Write(
            stream=event.stream,
            holes=holes[:NOTES_MAX],
            holes_more=max(0, len(holes) - NOTES_MAX),
            parts=_parts(event.ids),
        )
    ]


def _read_aside(event: EntriesRead, s: StreamState, state: State) -> list[Command]:
    s.backlog = event.more
    if event.ids:
        parts = _parts(event.ids)
        return [Write(stream=event.stream, holes=[], holes_more=0, parts=parts, aside=True)]
    if s.behind:
        return _succeeded(event.stream, s)
    # The stream has passed our cursor: nothing can be added before it any more. Only the read that follows at
    # once may count on it; by the next one Redis may have been emptied again.
    return [_reading_on(event.stream, s, state, joins=False)]


def _next_read_ns(monotonic_ns: int, state: State) -> int:
    return monotonic_ns + round(state.limits.flush_interval_s * NS_PER_S)


def _parts(ids: Sequence[EntryId]) -> list[Part]:
    """Cut what was read at midnight (UTC): a file belongs to one day."""
    parts: list[Part] = []
    start = 0
    while start < len(ids):
        day = day_of(ids[start])
        stop = len(ids)
        if day_of(ids[-1]) != day:
            stop = next(at for at in range(start, len(ids)) if day_of(ids[at]) != day)
        parts.append(Part(file=ArchiveFile(first=ids[start], last=ids[stop - 1]), start=start, stop=stop))
        start = stop
    return parts


def _holes(s: StreamState, ids: Sequence[EntryId]) -> list[Hole]:
    """Return where the numbers do not go on. What was set aside in between is not missing."""
    holes: list[Hole] = []
    before, known = s.cursor, s.aside_to or s.cursor
    expected = 1 if s.cursor is None else s.cursor[1] + 1
    for entry_id in ids:
        seq = entry_id[1]
        if seq != expected:
            missing = max(0, seq - 1 - (known[1] if known else 0))
            holes.append(Hole(after=before, before=entry_id, missing=missing))
        before = known = entry_id
        expected = seq + 1
    return holes


def _written(event: Written, state: State) -> list[Command]:
    s = state.streams[event.stream]
    state.files_written += 1
    if event.aside:
        why = "entries before the archive's end are set aside; they are in the folder `aside`"
        news = s.aside_to is None
        s.aside_to = event.file.last
        return [*_succeeded(event.stream, s), *([Alarm(stream=event.stream, why=why)] if news else [])]
    assert s.cursor is None or event.file.first > s.cursor, "an entry was archived twice"
    s.files.append(event.file)
    s.cursor, s.aside_to = event.file.last, None
    found = [hole for hole in s.holes if hole.before <= event.file.last]
    s.holes = s.holes[len(found) :]
    state.entries_missing += sum(hole.missing for hole in found)
    alarms: list[Command] = [Alarm(stream=event.stream, why=hole.told()) for hole in found[:NOTES_MAX]]
    return [*_succeeded(event.stream, s), *alarms]


def _succeeded(stream: str, s: StreamState) -> list[Command]:
    if s.failure is None:
        return []
    why, s.failure, s.retry_at_ns = s.failure, None, 0
    return [Alarm(stream=stream, why=why, lifted=True)]


def _failed(event: Failed, state: State) -> list[Command]:
    s = state.streams[event.stream]
    if event.merging:
        s.merge_at_ns = event.monotonic_ns + MERGE_RETRY_S * NS_PER_S
        return [Alarm(stream=event.stream, why=event.why)]
    news = s.failure != event.why
    s.failure = event.why
    s.retry_at_ns = event.monotonic_ns + round(state.limits.retry_s * NS_PER_S)
    # What was read is read again: the cursor has not moved beyond the files that were written.
    s.read_at_ns = 0
    return [Alarm(stream=event.stream, why=event.why)] if news else []
