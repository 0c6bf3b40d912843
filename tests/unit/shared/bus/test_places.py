"""Whether a stream ends before the place of its reader."""

from __future__ import annotations

import pytest

from shared.bus.places import ends_before


@pytest.mark.parametrize(
    ("newest_id", "cursor", "before"),
    [
        (b"1699996400000-3", "1700000000000-7", True),  # emptied, then the clock fell by an hour
        (b"1700000000000-6", "1700000000000-7", True),  # restored from just before
        (b"1700000000000-7", "1700000000000-7", False),  # all was read
        (b"1700000000000-10", "1700000000000-9", False),  # numbers, not text
        (b"1700000000001-1", "1700000000000-7", False),
        (b"1700000000000-1", "0-0", False),
        ("1700000000000-6", b"1700000000000-7", True),
    ],
)
def test_ids_are_compared_as_redis_orders_them(
    newest_id: bytes | str, cursor: bytes | str, before: bool
) -> None:
    """Ids rise with the wall clock: nothing would come after our place for an hour."""
    assert ends_before(newest_id, cursor, empty=not before) is before


@pytest.mark.parametrize("none", [None, b"0-0", "0-0"])
@pytest.mark.parametrize("empty", [True, False])
def test_of_a_stream_without_entries_the_caller_knows_more(none: bytes | str | None, empty: bool) -> None:
    assert ends_before(none, "1700000000000-7", empty=empty) is empty
