"""Our place in a stream that may have begun anew."""

from __future__ import annotations

import pytest

from services.execution.shell import begins_anew


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
