from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.bus.port import Entry
from shared.bus.sequence import SequenceCheck, SequenceGap


def make_entry(seq: int, *, stream: str = "md:{MES}") -> Entry:
    return Entry(stream, b"1795379419022-%d" % seq, b"quote", b"{}")


def test_parts_of_an_entry_id() -> None:
    entry = make_entry(17)
    assert (entry.seq, entry.ts_ms) == (17, 1_795_379_419_022)
    assert entry.cause == "md:{MES}@1795379419022-17"


def test_first_entry_sets_the_start() -> None:
    assert SequenceCheck().see(make_entry(500)) is None


def test_gap_is_seen_once() -> None:
    check = SequenceCheck()
    check.see(make_entry(1))
    assert check.see(make_entry(5)) == SequenceGap("md:{MES}", 2, 5)
    assert check.see(make_entry(6)) is None


def test_repeated_and_restarted_numbers_are_gaps_too() -> None:
    check = SequenceCheck()
    check.see(make_entry(5))
    assert check.see(make_entry(5)) == SequenceGap("md:{MES}", 6, 5)
    assert check.see(make_entry(1)) == SequenceGap("md:{MES}", 6, 1)


def test_streams_are_apart() -> None:
    check = SequenceCheck()
    check.see(make_entry(1))
    assert check.see(make_entry(9, stream="md:{MNQ}")) is None
    assert check.see(make_entry(2)) is None


@given(st.sets(st.integers(1, 60), min_size=1))
def test_gaps_are_exactly_what_is_missing(seqs: set[int]) -> None:
    check = SequenceCheck()
    missing: set[int] = set()
    for seq in sorted(seqs):
        gap = check.see(make_entry(seq))
        if gap is not None:
            missing |= set(range(gap.expected, gap.got))
    assert missing == set(range(min(seqs), max(seqs) + 1)) - seqs
