"""Our place in a stream that may have begun anew."""

from __future__ import annotations

import pytest

from services.execution.shell import begins_anew, lost_before


@pytest.mark.parametrize(
    ("newest_id", "cursor", "anew"),
    [
        (None, "1700000000000-7", True),  # emptied
        (b"1699996400000-3", "1700000000000-7", True),  # emptied, then the clock fell by an hour
        (b"1700000000000-6", "1700000000000-7", True),  # restored from just before
        (b"1700000000000-7", "1700000000000-7", False),  # all was read
        (b"1700000000000-10", "1700000000000-9", False),  # numbers, not text
        (b"1700000000001-1", "1700000000000-7", False),
        (b"1700000000000-1", "0-0", False),
    ],
)
def test_a_stream_that_ends_before_our_place_begins_anew(
    newest_id: bytes | None, cursor: str, anew: bool
) -> None:
    """Ids rise with the wall clock: nothing would have come after our place for an hour."""
    assert begins_anew(newest_id, cursor) is anew


def test_a_stream_that_lost_what_we_had_read_is_told_from_a_trimmed_one() -> None:
    """Found by simulation: reports were rolled back, and our own steps above what the ledger knew of."""
    begun = {"reports:{1}": "1700000000000-7", "control:operator": "1700000000000-2"}
    assert lost_before({"reports:{1}": 7, "control:operator": 2}, begun) is None  # trimmed after archiving
    assert lost_before({"reports:{1}": 6, "control:operator": 2}, begun) == (
        "reports:{1} stands at 6 and was read up to 7: Redis has lost entries"
    )
    assert lost_before({}, {}) is None
