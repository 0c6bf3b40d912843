from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.broker.projectx.records import EXCERPT_BYTES_MAX, RecordSplitter, RecordTooLarge

pieces = st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\x1e", b"")), max_size=20)


@given(records=pieces, cuts=st.lists(st.integers(min_value=0, max_value=400), max_size=10))
def test_records_do_not_depend_on_where_frames_are_cut(records: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(record + b"\x1e" for record in records)
    splitter = RecordSplitter(record_bytes_max=100)
    found: list[bytes] = []
    start = 0
    for cut in [*sorted(cuts), len(stream)]:
        found += splitter.split(stream[start:cut])
        start = max(start, cut)
    assert found == records


@pytest.mark.parametrize(
    ("frames", "fits"),
    [
        ([b"a" * 10 + b"\x1e"], True),
        ([b"a" * 11 + b"\x1e"], False),
        ([b"a" * 11], False),  # never ends
        ([b"a" * 6, b"a" * 5], False),
        ([b"a" * 6, b"a" * 4 + b"\x1e" + b"b" * 10], True),
        ([b"a" * 6, b"a" * 5 + b"\x1e"], False),
        ([b"a\x1e" * 20], True),  # the limit is for one record, not for one frame
    ],
)
def test_record_limit(frames: list[bytes], fits: bool) -> None:
    splitter = RecordSplitter(record_bytes_max=10)
    if fits:
        for frame in frames:
            splitter.split(frame)
        return
    with pytest.raises(RecordTooLarge, match="the limit is 10"):
        for frame in frames:
            splitter.split(frame)


def test_the_stream_goes_on_behind_a_large_record_that_ends() -> None:
    splitter = RecordSplitter(record_bytes_max=10)
    with pytest.raises(RecordTooLarge) as caught:
        splitter.split(b"one\x1e" + b"x" * 11 + b"\x1etwo\x1ethr")
    assert caught.value.others == [b"one", b"two"]
    assert splitter.split(b"ee\x1e") == [b"three"]


def test_nobody_knows_where_a_record_without_end_ends() -> None:
    with pytest.raises(RecordTooLarge) as caught:
        RecordSplitter(record_bytes_max=10).split(b"x" * 11)
    assert caught.value.others is None


def test_excerpt_of_a_huge_record_is_bounded() -> None:
    with pytest.raises(RecordTooLarge) as caught:
        RecordSplitter(record_bytes_max=10_000).split(b"x" * 20_000)
    assert len(caught.value.excerpt) == EXCERPT_BYTES_MAX
