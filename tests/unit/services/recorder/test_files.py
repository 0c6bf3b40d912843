from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.files import ArchiveFile, day_of, file_named, merged, sort_out, to_merge

MIDNIGHT_MS = 1_795_392_000_000  # 2026-11-23T00:00:00Z
BIG = 10_000


def make_file(first_seq: int, last_seq: int, *, ms: int = MIDNIGHT_MS, bytes_: int = 100) -> ArchiveFile:
    return ArchiveFile(first=(ms + first_seq, first_seq), last=(ms + last_seq, last_seq), bytes_=bytes_)


@pytest.mark.parametrize(
    ("ms", "day"),
    [
        (MIDNIGHT_MS - 1, "2026-11-22"),
        (MIDNIGHT_MS, "2026-11-23"),
        (0, "1970-01-01"),
        (2**64 - 1, "9999-12-31"),  # by hand: no clock ever told it
    ],
)
def test_day_is_the_utc_date_of_the_receive_time(ms: int, day: str) -> None:
    assert day_of((ms, 1)) == day


@given(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
)
def test_name_round_trip(a: tuple[int, int], b: tuple[int, int]) -> None:
    file = ArchiveFile(first=min(a, b), last=max(a, b), bytes_=7)
    assert file_named(file.name, bytes_=7) == file


@pytest.mark.parametrize(
    "name",
    [
        "",
        "notes.txt",
        "1-1_2-2.parquet.tmp",
        ".1-1_2-2.parquet",
        "5-1_4-1.parquet",
        "1_2.parquet",
        "1-1_2-2.csv",
    ],
)
def test_foreign_names_are_not_ours(name: str) -> None:
    assert file_named(name, bytes_=0) is None


def test_leftovers_of_interrupted_merging() -> None:
    parts = [make_file(1, 5), make_file(6, 9)]
    later = make_file(10, 12)
    kept, leftovers = sort_out([later, parts[1], merged(parts), parts[0]])
    assert [file.name for file in kept] == [merged(parts).name, later.name]
    assert leftovers == parts


def test_neighbors_are_no_leftovers() -> None:
    files = [make_file(1, 5), make_file(6, 9)]
    assert sort_out(files[::-1]) == (files, [])


@pytest.mark.parametrize(
    ("sizes", "finished", "files_max", "expected"),
    [
        ([100, 100, 100], True, 400, [0, 1, 2]),
        ([100, 100, 100], False, 400, []),  # the day still runs
        ([100, 100, 100], False, 2, [0, 1, 2]),  # too many files to wait for its end
        ([100], True, 400, []),  # alone
        ([BIG + 1, 100, 100], True, 400, [1, 2]),  # large ones stay as they are
        ([6_000, 6_000], True, 400, []),  # too large together
        ([6_000, 3_000, 6_000], True, 400, [0, 1]),
        ([100, BIG + 1, 100], True, 400, []),  # not neighbors
    ],
)
def test_what_is_merged(sizes: list[int], finished: bool, files_max: int, expected: list[int]) -> None:
    files = [make_file(10 * n, 10 * n + 9, bytes_=size) for n, size in enumerate(sizes)]
    before = "2026-11-24" if finished else "2026-11-23"
    group = to_merge(files, finished_before=before, bytes_max=BIG, files_max=files_max)
    assert group == [files[n] for n in expected]


def test_days_are_never_merged_together() -> None:
    files = [make_file(1, 2, ms=MIDNIGHT_MS - 1_000), make_file(3, 4)]
    assert to_merge(files, finished_before="2027-01-01", bytes_max=BIG, files_max=2) == []
