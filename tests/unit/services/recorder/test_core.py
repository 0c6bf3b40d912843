from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.recorder.core import Limits, State, StreamState, decide, may_trim_before
from services.recorder.events import (
    Alarm,
    EntriesRead,
    Failed,
    Hole,
    Listed,
    ListFiles,
    Merge,
    Merged,
    Policy,
    ReadOn,
    RemoveFiles,
    Scanned,
    Trim,
    Trimmed,
    Write,
    Written,
)
from services.recorder.files import ArchiveFile, EntryId, sort_out

MD = "md:{MES}"
MS = 1_000_000
S = 1_000_000_000
DAY_MS = 86_400_000
NOON_MS = 1_795_392_000_000 + DAY_MS // 2
HOUR = Policy(keep_s=3_600)


def make_state(*, rows_max: int = 100, **stream: object) -> State:
    limits = Limits(
        flush_interval_s=10, rows_max=rows_max, retry_s=5, compact_bytes_max=10_000, compact_files_max=400
    )
    state = State(limits=limits)
    if stream:
        state.streams[MD] = StreamState(policy=HOUR)
        for name, value in stream.items():
            setattr(state.streams[MD], name, value)
    return state


def make_file(first: EntryId, last: EntryId, bytes_: int = 100) -> ArchiveFile:
    return ArchiveFile(first=first, last=last, bytes_=bytes_)


def scanned(newest: EntryId | None, *, at_s: float = 0, now_ms: int = NOON_MS) -> Scanned:
    return Scanned(newest={MD: newest}, now_ns=now_ms * MS, monotonic_ns=round(at_s * S))


def test_new_stream_is_listed_first() -> None:
    assert decide(scanned((NOON_MS, 5)), make_state()) == [ListFiles(stream=MD)]


def test_first_read_of_a_life_waits_as_any_other() -> None:
    """Who was killed is seldom the only one to start: the others need the processor more."""
    state = make_state()
    decide(scanned((NOON_MS, 5), at_s=100), state)
    decide(Listed(stream=MD, policy=HOUR, files=[]), state)
    assert decide(scanned((NOON_MS, 5), at_s=109), state) == []
    assert decide(scanned((NOON_MS, 5), at_s=110), state) == [ReadOn(stream=MD, after=None, count_max=100)]


def test_start_is_recovery() -> None:
    """The cursor comes from the files, leftovers of interrupted merging go."""
    state = make_state(policy=None)
    parts = [make_file((1, 1), (2, 2)), make_file((3, 3), (4, 4))]
    whole = make_file((1, 1), (4, 4))
    commands = decide(Listed(stream=MD, policy=HOUR, files=[*parts, whole]), state)
    assert commands == [RemoveFiles(stream=MD, files=parts)]
    assert state.streams[MD].cursor == (4, 4)
    assert decide(scanned((9, 9), now_ms=10), state) == [ReadOn(stream=MD, after=(4, 4), count_max=100)]


@pytest.mark.parametrize(
    ("cursor", "newest", "at_s", "read"),
    [
        (None, (NOON_MS, 5), 0, False),  # not due yet
        (None, (NOON_MS, 5), 10, True),
        (None, (NOON_MS, 100), 0, True),  # a full file waits
        ((NOON_MS, 5), (NOON_MS, 5), 10, False),  # nothing new
        ((NOON_MS, 5), None, 10, False),  # the stream is empty
        ((NOON_MS, 5), (NOON_MS + 1, 6), 10, True),
        ((NOON_MS, 50), (NOON_MS + 1, 3), 10, True),  # the sequence began again
    ],
)
def test_when_a_stream_is_read(
    cursor: EntryId | None, newest: EntryId | None, at_s: float, read: bool
) -> None:
    state = make_state(cursor=cursor, read_at_ns=10 * S)
    expected = [ReadOn(stream=MD, after=cursor, count_max=100)] if read else []
    assert decide(scanned(newest, at_s=at_s), state) == expected


def test_read_becomes_one_file_a_day() -> None:
    midnight = NOON_MS + DAY_MS // 2
    ids = [(midnight - 2, 1), (midnight - 1, 2), (midnight, 3), (midnight, 4)]
    state = make_state(policy=HOUR)
    (write,) = decide(EntriesRead(stream=MD, ids=ids, more=False, monotonic_ns=0), state)
    assert isinstance(write, Write)
    assert [(part.start, part.stop) for part in write.parts] == [(0, 2), (2, 4)]
    assert [part.file.first for part in write.parts] == [ids[0], ids[2]]
    assert write.holes == []


@pytest.mark.parametrize(
    ("cursor", "seqs", "holes"),
    [
        (None, [1, 2], []),
        (None, [4, 5], [(None, 4, 3)]),  # trimmed before the recorder ever ran
        (7, [8, 9], []),
        (7, [10, 11], [(7, 10, 2)]),
        (7, [8, 12], [(8, 12, 3)]),  # trimmed while it was read
        (7, [1, 2], [(7, 1, 0)]),  # emptied: the sequence began again
    ],
)
def test_holes(cursor: int | None, seqs: list[int], holes: list[tuple[int | None, int, int]]) -> None:
    def id_of(seq: int, *, at: int = NOON_MS) -> EntryId:
        return (at + (0 if seq == cursor else 1), seq)

    state = make_state(cursor=None if cursor is None else id_of(cursor))
    ids = sorted((NOON_MS + 1 + n, seq) for n, seq in enumerate(seqs))
    (write,) = decide(EntriesRead(stream=MD, ids=ids, more=False, monotonic_ns=0), state)
    assert isinstance(write, Write)
    shown = [(hole.after and hole.after[1], hole.before[1], hole.missing) for hole in write.holes]
    assert shown == holes


def test_hole_is_an_alarm_once_its_file_is_written() -> None:
    state = make_state(cursor=(NOON_MS, 7))
    ids = [(NOON_MS + 1, 10)]
    decide(EntriesRead(stream=MD, ids=ids, more=False, monotonic_ns=0), state)
    assert state.entries_missing == 0
    (alarm,) = decide(Written(stream=MD, file=make_file(ids[0], ids[0])), state)
    hole = Hole(after=(NOON_MS, 7), before=(NOON_MS + 1, 10), missing=2)
    assert alarm == Alarm(stream=MD, why=hole.told())
    assert state.entries_missing == 2


def test_holes_of_a_hostile_stream_are_bounded() -> None:
    """Somebody else adds entries without sequence numbers: one file all the same, few words."""
    state = make_state(rows_max=10_000, policy=HOUR)
    ids = [(NOON_MS + n, 0) for n in range(1_000)]
    (write,) = decide(EntriesRead(stream=MD, ids=ids, more=False, monotonic_ns=0), state)
    assert isinstance(write, Write)
    assert (len(write.parts), len(write.holes), write.holes_more) == (1, 20, 980)


def test_failure_is_told_once_waits_and_is_lifted() -> None:
    state = make_state(cursor=(NOON_MS, 1))
    failed = Failed(stream=MD, why="disk full", monotonic_ns=0)
    assert decide(failed, state) == [Alarm(stream=MD, why="disk full")]
    assert decide(failed, state) == []
    assert decide(scanned((NOON_MS + 1, 2), at_s=4), state) == []
    (read,) = decide(scanned((NOON_MS + 1, 2), at_s=5), state)
    assert isinstance(read, ReadOn)
    written = Written(stream=MD, file=make_file((NOON_MS + 1, 2), (NOON_MS + 1, 2)))
    assert decide(written, state) == [Alarm(stream=MD, why="disk full", lifted=True)]


def test_nothing_is_trimmed_while_the_archive_cannot_be_written() -> None:
    file = make_file((NOON_MS, 1), (NOON_MS + 5, 6))
    state = make_state(cursor=file.last, files=[file], failure="disk full")
    assert may_trim_before(state.streams[MD], (NOON_MS + DAY_MS) * MS) is None


def test_other_streams_go_on() -> None:
    state = make_state(cursor=(NOON_MS, 1))
    state.streams["session"] = StreamState(policy=HOUR)
    decide(Failed(stream="session", why="disk full", monotonic_ns=0), state)
    event = Scanned(
        newest={MD: (NOON_MS + 1, 2), "session": (NOON_MS, 1)}, now_ns=NOON_MS * MS, monotonic_ns=S
    )
    assert [command.stream for command in decide(event, state)] == [MD]


def test_key_of_another_type_is_told_and_forgotten_when_gone() -> None:
    state = make_state()
    event = Scanned(newest={}, refused={MD: "WRONGTYPE"}, now_ns=0, monotonic_ns=0)
    assert decide(event, state) == [Alarm(stream=MD, why="WRONGTYPE")]
    assert decide(event, state) == []
    gone = Scanned(newest={}, now_ns=0, monotonic_ns=0)
    assert decide(gone, state) == [Alarm(stream=MD, why="WRONGTYPE", lifted=True)]


@pytest.mark.parametrize(
    ("age_s", "cursor_age_s", "expected_age_s"),
    [
        (3_600, 0, 3_600),  # old enough decides
        (3_600, 7_200, 7_200),  # the archive's end decides
    ],
)
def test_trim_by_age(age_s: int, cursor_age_s: int, expected_age_s: int) -> None:
    cursor = (NOON_MS - cursor_age_s * 1000, 50)
    s = StreamState(policy=Policy(keep_s=age_s), cursor=cursor)
    before = may_trim_before(s, NOON_MS * MS)
    assert before is not None
    assert before[0] == NOON_MS - expected_age_s * 1000
    assert before <= cursor


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (5, (NOON_MS + 20, 20)),  # 21 .. 30 stay: ten, at least five
        (10, (NOON_MS + 20, 20)),
        (11, (NOON_MS + 10, 10)),
        (20, (NOON_MS + 10, 10)),
        (21, None),
    ],
)
def test_trim_by_count(keep: int, expected: EntryId | None) -> None:
    files = [make_file((NOON_MS + n - 9, n - 9), (NOON_MS + n, n)) for n in (10, 20, 30)]
    policy = Policy(keep_s=0, keep_entries=keep)
    s = StreamState(policy=policy, cursor=files[-1].last, files=files)
    assert may_trim_before(s, NOON_MS * MS) == expected


def test_stream_behind_its_archive_is_left_alone() -> None:
    """Redis was restored from an older file; what stands there may be something else than we have."""
    file = make_file((NOON_MS - 10 * DAY_MS, 1), (NOON_MS - DAY_MS, 100))
    state = make_state(cursor=file.last, files=[file])
    alarm, read = decide(scanned((NOON_MS - 2 * DAY_MS, 50)), state)
    assert isinstance(alarm, Alarm)
    assert not alarm.lifted
    assert read == ReadOn(stream=MD, after=None, until=file.last, count_max=100)
    assert may_trim_before(state.streams[MD], NOON_MS * MS) is None
    lifted, read, *_ = decide(scanned((NOON_MS, 51)), state)
    assert isinstance(lifted, Alarm)
    assert lifted.lifted
    assert isinstance(read, ReadOn)


def test_setting_aside_goes_at_the_pace_of_all_writing() -> None:
    """It wrote one small file after the other for as long as the clock was behind."""
    end = (NOON_MS, 1_000)
    state = make_state(files=[make_file((NOON_MS - 10, 990), end)], cursor=end)
    first = (NOON_MS - 3_600_000, 1_500)
    decide(scanned(first, at_s=20), state)
    read = EntriesRead(stream=MD, ids=[first], more=False, monotonic_ns=20 * S, aside=True)
    (write,) = decide(read, state)
    assert isinstance(write, Write)
    decide(Written(stream=MD, file=write.parts[0].file, aside=True), state)
    later = (first[0] + 50, first[1] + 1)
    assert not [one for one in decide(scanned(later, at_s=22), state) if isinstance(one, ReadOn)]
    assert [one for one in decide(scanned(later, at_s=31), state) if isinstance(one, ReadOn)]


def test_what_stands_before_the_archives_end_is_set_aside_before_anything_behind_it_is_read() -> None:
    """Redis was emptied and the clock set back by an hour."""
    end = (NOON_MS, 5_000)
    early = [(NOON_MS - 1_000, 1), (NOON_MS - 500, 2)]
    later = [(NOON_MS + 100, 3)]
    state = make_state(cursor=end, files=[make_file((NOON_MS - DAY_MS, 1), end)])
    s = state.streams[MD]

    def read(ids: list[EntryId], **how: bool) -> list[object]:
        return [*decide(EntriesRead(stream=MD, ids=ids, more=False, monotonic_ns=0, **how), state)]

    aside = ReadOn(stream=MD, after=None, until=end, count_max=100)
    assert decide(scanned(later[-1], at_s=20), state)[0] == ReadOn(stream=MD, after=end, count_max=100)
    assert read([], joined=False) == [aside]
    (write,) = read(early, aside=True)
    assert isinstance(write, Write)
    assert (write.aside, write.holes) == (True, [])
    (alarm,) = decide(Written(stream=MD, file=write.parts[0].file, aside=True), state)
    assert isinstance(alarm, Alarm)
    assert (s.cursor, len(s.files)) == (end, 1)
    assert decide(scanned(later[-1], at_s=20), state)[0] == ReadOn(stream=MD, after=end, count_max=100)
    assert read([], joined=False) == [ReadOn(stream=MD, after=early[-1], until=end, count_max=100)]
    # Emptied once more: what stands there now is not what was set aside.
    assert read([], joined=False, aside=True) == [aside]
    assert read([], aside=True) == [ReadOn(stream=MD, after=end, count_max=100, joins=False)]
    (write,) = read(later)
    assert isinstance(write, Write)
    assert not write.aside


@pytest.mark.parametrize(("number", "missing"), [(12, 0), (14, 2)])
def test_what_was_set_aside_is_not_told_to_be_missing(number: int, missing: int) -> None:
    end = (NOON_MS, 2)
    aside = make_file((NOON_MS - 5_000, 3), (NOON_MS - 100, 11))
    state = make_state(cursor=end, files=[make_file((NOON_MS - 10, 1), end)])
    decide(Written(stream=MD, file=aside, aside=True), state)
    next_id = (NOON_MS + 100, number)
    (write,) = decide(EntriesRead(stream=MD, ids=[next_id], more=False, monotonic_ns=0), state)
    assert isinstance(write, Write)
    assert write.holes == [Hole(after=end, before=next_id, missing=missing)]


def test_trim_is_repeated_until_done() -> None:
    file = make_file((NOON_MS - DAY_MS, 1), (NOON_MS - DAY_MS + 5, 6))
    state = make_state(cursor=file.last, files=[file])
    trim = Trim(stream=MD, before=file.last, standing=file.last)
    assert decide(scanned(file.last), state) == [trim]
    assert decide(scanned(file.last), state) == [trim]
    decide(Trimmed(stream=MD, before=trim.before), state)
    assert decide(scanned(file.last), state) == []


def test_merging_that_failed_waits_and_stops_nothing() -> None:
    day = NOON_MS - DAY_MS
    parts = [make_file((day, 1), (day, 2)), make_file((day, 3), (day, 4))]
    tail = make_file((NOON_MS, 5), (NOON_MS, 6))
    state = make_state(cursor=tail.last, files=[*parts, tail], trimmed_to=(NOON_MS, 0))
    (merge,) = decide(scanned(tail.last), state)
    assert merge == Merge(stream=MD, parts=parts, into=make_file((day, 1), (day, 4), 0))
    decide(Failed(stream=MD, why="damaged", monotonic_ns=0, merging=True), state)
    assert state.failures() == {}
    assert decide(scanned(tail.last, at_s=599), state) == []
    assert decide(scanned(tail.last, at_s=600), state) == [merge]
    decide(Merged(stream=MD, parts=parts, into=merge.into), state)
    assert [file.last for file in state.streams[MD].files] == [(day, 4), tail.last]


class Killed(Exception):
    pass


class World:
    """A stream, an archive and a recorder that may be killed between any two commands."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seq = 0
        self.ms = NOON_MS
        self.at_ns = 0
        self.stream: list[EntryId] = []
        self.capped: set[EntryId] = set()
        self.aside: set[EntryId] = set()
        self.lost: set[EntryId] = set()
        self.written: set[EntryId] = set()
        self.files: dict[str, tuple[ArchiveFile, list[EntryId]]] = {}
        self.rows: list[EntryId] = []
        self.state = make_state(rows_max=20)

    def archived(self) -> list[EntryId]:
        kept, _ = sort_out([file for file, _ in self.files.values()])
        return [entry_id for file in kept for entry_id in self.files[file.name][1]]

    def store(self, ids: list[EntryId]) -> ArchiveFile:
        file = ArchiveFile(first=ids[0], last=ids[-1], bytes_=10 * len(ids))
        self.files[file.name] = (file, ids)
        return file

    def append(self) -> None:
        for _ in range(self.rng.randrange(30)):
            self.ms += self.rng.choice((0, 1, 50_000, 5_000_000))
            self.seq += 1
            self.stream.append((self.ms, self.seq))
            self.written.add(self.stream[-1])

    def cap(self) -> None:
        """The hard cap of the writer knows nothing of archives."""
        gone = self.rng.randrange(len(self.stream) + 1) // 3
        self.capped |= set(self.stream[:gone]) - set(self.archived())
        del self.stream[:gone]

    def empty(self) -> None:
        """Redis begins anew, by a clock that was set back; what was not read yet is lost with it."""
        if self.rng.random() < 0.9:
            return
        self.lost |= set(self.stream) - set(self.archived()) - self.aside
        self.stream, self.seq = [], 0
        self.ms -= self.rng.choice((0, 60_000, 3_600_000, 2 * DAY_MS)) + self.rng.randrange(1_000)

    def turn(self) -> None:
        """One look of the recorder; it may fail anywhere, or be killed."""
        self.at_ns += self.rng.randrange(20) * S
        newest = self.stream[-1] if self.stream else None
        now_ms = self.ms + self.rng.randrange(3 * 3_600_000)
        queue = decide(Scanned(newest={MD: newest}, now_ns=now_ms * MS, monotonic_ns=self.at_ns), self.state)
        while queue:
            try:
                if self.rng.random() < 0.03:
                    raise Killed
                outcomes = self.perform(queue.pop(0))
            except Killed:
                self.state = make_state(rows_max=20)
                return
            for event in outcomes:
                queue += decide(event, self.state)  # type: ignore[arg-type]

    def perform(self, command: object) -> list[object]:
        match command:
            case ListFiles():
                return [Listed(stream=MD, policy=HOUR, files=[file for file, _ in self.files.values()])]
            case RemoveFiles(files=files):
                for file in files:
                    del self.files[file.name]
            case ReadOn(after=after, until=until, count_max=count_max):
                joined = not command.joins or after is None or after in self.stream
                ids = [
                    i for i in self.stream if (after is None or i > after) and (until is None or i <= until)
                ]
                self.rows = ids[:count_max] if joined else []
                more = len(ids) > count_max
                return [
                    EntriesRead(
                        stream=MD, ids=self.rows, more=more, monotonic_ns=self.at_ns,
                        joined=joined, aside=command.aside,
                    )
                ]  # fmt: skip
            case Write(parts=parts, aside=aside):
                return self.write(parts, aside)
            case Merge(parts=parts):
                ids = [i for part in parts for i in self.files[part.name][1]]
                file = self.store(ids)
                if self.rng.random() < 0.1:  # killed before the parts were removed
                    raise Killed
                for part in parts:
                    del self.files[part.name]
                return [Merged(stream=MD, parts=parts, into=file)]
            case Trim(before=before, standing=standing):
                if standing not in self.stream:
                    return []
                gone = {i for i in self.stream if i < before}
                assert gone <= set(self.archived()) | self.aside, "deleted from Redis and not archived"
                self.stream = [i for i in self.stream if i >= before]
                return [Trimmed(stream=MD, before=before)]
        return []

    def write(self, parts: list, aside: bool) -> list[object]:  # type: ignore[type-arg]
        outcomes: list[object] = []
        for part in parts:
            if self.rng.random() < 0.1:
                return [*outcomes, Failed(stream=MD, why="disk full", monotonic_ns=self.at_ns)]
            ids = self.rows[part.start : part.stop]
            if aside:
                self.aside |= set(ids)
            file = part.file if aside else self.store(ids)
            outcomes.append(Written(stream=MD, file=file, aside=aside))
        return outcomes


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
@example(312)  # emptied once more while entries were set aside
@example(9161)  # emptied after the disk was full, when nothing was left to set aside
def test_every_entry_is_archived_once_or_still_there_or_told_missing(seed: int) -> None:
    """Kills, full disks, interrupted merging, the writer's hard cap and an emptied Redis, in any order."""
    world = World(seed)
    for _ in range(60):
        world.rng.choice(
            (world.append, world.append, world.turn, world.turn, world.turn, world.cap, world.empty)
        )()
        archived = world.archived()
        assert len(archived) == len(set(archived)), "archived twice"
        assert archived == sorted(archived)
        assert set(archived) | set(world.stream) | world.capped | world.aside | world.lost == world.written
