"""Our places in the streams: what an entry says, what is missing before it, and streams that begin anew."""

from __future__ import annotations

import pytest

from services.execution.events import ControlRead, Event, Moment, StreamGap
from services.execution.inbox import Inbox, lost_before
from shared.bus.port import Entry
from shared.domain.control import HaltKind, Resume
from shared.wire import topics
from shared.wire.codec import encode


def test_a_stream_that_lost_what_we_had_read_is_told_from_a_trimmed_one() -> None:
    """Found by simulation: reports were rolled back, and our own steps above what the ledger knew of."""
    begun = {"reports:{1}": "1700000000000-7", "control:operator": "1700000000000-2"}
    assert lost_before({"reports:{1}": 7, "control:operator": 2}, begun) is None  # trimmed after archiving
    assert lost_before({"reports:{1}": 6, "control:operator": 2}, begun) == (
        "reports:{1} stands at 6 and was read up to 7: Redis has lost entries"
    )
    assert lost_before({}, {}) is None


AT = Moment(now_ns=5, mono_ns=5)
RESUME = encode(Resume(issuer="heartbeat", kind=HaltKind.LIVENESS, reason="all are well", ts_ns=4))


class Reader:
    """An inbox, and what it tells of."""

    def __init__(self) -> None:
        self.refused: list[bytes] = []
        self.misplaced: list[str] = []
        self.inbox = Inbox(
            1, refuse=lambda origin, why, raw: self.refused.append(raw), misplaced=self.misplaced.append
        )

    def read(self, *rows: tuple[bytes, bytes, bytes], stream: str = topics.CONTROL_HEARTBEAT) -> list[Event]:
        return [event for row in rows for event in self.inbox.events(Entry(stream, *row), AT)]


def test_entries_in_order_tell_what_they_say_and_move_the_place() -> None:
    reader = Reader()
    events = reader.read((b"7-1", b"resume", RESUME), (b"7-2", b"resume", RESUME))
    assert [type(event) for event in events] == [ControlRead, ControlRead]
    assert reader.inbox.unsaved == reader.inbox.cursors == {topics.CONTROL_HEARTBEAT: "7-2"}


@pytest.mark.parametrize(("comes", "set_back"), [(b"8-4", False), (b"8-2", True), (b"8-1", True)])
def test_a_number_that_does_not_follow_is_a_gap_before_it(comes: bytes, set_back: bool) -> None:
    reader = Reader()
    gap, read = reader.read((b"7-2", b"resume", RESUME), (comes, b"resume", RESUME))[1:]
    assert isinstance(gap, StreamGap) and isinstance(read, ControlRead)
    assert gap.set_back is set_back


def test_entries_of_nobody_do_not_count() -> None:
    """Written by hand, each gets a number of the server's choice; ours go on after them, nothing was lost."""
    reader = Reader()
    events = reader.read(
        (b"7-2", b"resume", RESUME),
        (b"8-0", b"resume", b"{"),
        (b"9-0", b"foo", b"bar"),
        (b"9-18446744073709551615", b"halt", b"null"),
        (b"10-3", b"resume", RESUME),
    )
    gaps = [event for event in events if isinstance(event, StreamGap)]
    assert reader.refused == [b"{", b"bar", b"null"]
    assert [gap.missing.split(":")[0].split()[0] for gap in gaps] == ["entry"] * 3, "none is told as missing"
    assert not any(gap.set_back for gap in gaps)
    assert reader.inbox.place(topics.CONTROL_HEARTBEAT) == "10-3"


def test_an_entry_of_ours_that_cannot_be_read_counts() -> None:
    """From a newer build, say: it is told as such, and those after it follow."""
    events = Reader().read(
        (b"7-2", b"resume", RESUME), (b"8-3", b"later", b"{}"), (b"9-4", b"resume", RESUME)
    )
    assert [type(event) for event in events] == [ControlRead, StreamGap, ControlRead]


def test_what_does_not_belong_there_is_told_and_does_nothing() -> None:
    reader = Reader()
    assert reader.read((b"7-1", b"resume", RESUME), stream=topics.reports(1)) == []
    assert "resume does not belong there" in reader.misplaced[0]
