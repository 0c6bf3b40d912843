"""What is read from the streams: where we are in each, what an entry says, and what is missing before it.

A place is committed together with the effects of what was read up to it, so after any crash the entries
behind it are simply read again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.execution.events import ControlRead, Event, IntentRead, Moment, ReportRead, StreamGap
from services.execution.outbox import Position
from shared.bus.port import Entry
from shared.domain.control import Flatten, Halt, Resume
from shared.domain.order import CancelOrder, ClosePosition, ModifyOrder, SubmitOrder
from shared.domain.report import (
    AccountReport,
    FillReport,
    OrderReport,
    PositionReport,
    SnapshotBegun,
    SnapshotTaken,
    SyncState,
)
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

_CONTROL, _REPORTS, _INTENTS = 0, 1, 2
_WHAT = ("control", "reports", "intents")


class Inbox:
    """The places of one account's execution in its streams.

    Attributes:
        cursors: Stream -> id of the last entry that counts; where reading begins after a start.
        unsaved: Those of them that no commit holds yet.

    Args:
        account_id: Whose reports are read.
        refuse: Is told of what cannot be read: where it stands, why, and its bytes.
        misplaced: Is told of what can be read and does not belong where it stands.
    """

    def __init__(
        self,
        account_id: int,
        *,
        refuse: Callable[[str, str, bytes], None],
        misplaced: Callable[[str], None],
    ) -> None:
        self._reports = topics.reports(account_id)
        self._refuse = refuse
        self._misplaced = misplaced
        self.cursors: dict[str, str] = {}
        self.unsaved: dict[str, str] = {}

    def place(self, stream: str) -> str:
        return self.cursors.get(stream, "0-0")

    def rank(self, entry: Entry) -> int:
        """Return the order in which what was read together is handled: control first, intents last."""
        if entry.stream.startswith("control"):
            return _CONTROL
        return _REPORTS if entry.stream == self._reports else _INTENTS

    def events(self, entry: Entry, at: Moment) -> list[Event]:
        """Return what one entry says, after the news that entries before it are missing."""
        what = _WHAT[self.rank(entry)]
        before = Position.of(self.place(entry.stream))
        follows = not before.known or entry.seq == before.seq + 1
        try:
            message = decode(entry.kind, entry.value)
        except MessageRefused as refused:
            self._refuse(entry.cause, refused.why, entry.value)
            if follows:
                self._move(entry)
            # Else it is not our writer's: its number says nothing about those that are.
            missing = f"entry {entry.id.decode()} cannot be read: {refused}"
            return [StreamGap(stream=entry.stream, what=what, missing=missing, at=at)]
        self._move(entry)
        events: list[Event] = []
        if not follows:
            missing = f"after entry {before.seq} comes {entry.seq}"
            back = entry.seq <= before.seq
            events.append(StreamGap(stream=entry.stream, what=what, missing=missing, set_back=back, at=at))
        cause = entry.cause
        match message:
            case SubmitOrder() | CancelOrder() | ModifyOrder() | ClosePosition() if what == "intents":
                strategy_id = entry.stream.rpartition(":")[2]
                events.append(IntentRead(intent=message, strategy_id=strategy_id, cause=cause, at=at))
            case (
                AccountReport() | PositionReport() | OrderReport() | FillReport()
                | SnapshotBegun() | SnapshotTaken() | SyncState()
            ) if what == "reports":  # fmt: skip
                events.append(ReportRead(report=message, cause=cause, at=at))
            case Halt() | Resume() | Flatten() if what == "control":
                operator = entry.stream == topics.CONTROL_OPERATOR
                guard = entry.stream == topics.CONTROL_GUARD
                read = ControlRead(control=message, by_operator=operator, by_guard=guard, cause=cause, at=at)
                events.append(read)
            case _:
                self._misplaced(f"{entry.cause}: a {entry.kind.decode()} does not belong there")
        return events

    def _move(self, entry: Entry) -> None:
        self.cursors[entry.stream] = self.unsaved[entry.stream] = entry.id.decode()


def lost_before(heads: Mapping[str, int], begun: Mapping[str, str]) -> str | None:
    """Return in words which stream has lost what we had read; None where its head says that it was trimmed.

    Redis goes back as a whole: so may our own steps have, above what the ledger knew as acknowledged.
    """
    for stream, cursor in sorted(begun.items()):
        read = Position.of(cursor).seq
        if heads[stream] < read:
            return f"{stream} stands at {heads[stream]} and was read up to {read}: Redis has lost entries"
    return None
