"""The server's end of one client connection, and answers that are still to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from proof.simulation.bus.reading import Reading
from proof.simulation.bus.replies import Reply

if TYPE_CHECKING:
    from proof.simulation.bus.server import SimServer


class Parked:
    """An answer that comes later: of a blocking read, or of a server that is frozen."""

    __slots__ = ("answered", "carried_out", "overdue", "reading", "session")

    def __init__(self, session: Session, reading: Reading | None = None) -> None:
        self.session = session
        self.reading = reading
        self.overdue = False
        self.answered: Callable[[Reply], None] | None = None
        """Set by the client's end; called once."""
        self.carried_out: Callable[[Reply], object] | None = None
        """Told what the answer is, whoever still waits for it."""

    def answer(self, reply: Reply) -> None:
        if self.carried_out is not None:
            self.carried_out(reply)
        answered, self.answered = self.answered, None
        if answered is not None and self.session.open:
            answered(reply)

    def timeout(self) -> None:
        """Its BLOCK is over (the client's end keeps the time)."""
        self.session.server.timeout(self)


class Session:
    """One connection as the server knows it.

    Attributes:
        open: Whether commands still arrive and answers still leave.
        pushed: What was sent unasked: published messages.
        on_event: Called when something was pushed or the server has closed the connection.
    """

    __slots__ = (
        "aborted",
        "channels",
        "on_event",
        "open",
        "owed_bytes",
        "parked",
        "pushed",
        "queued",
        "server",
    )

    def __init__(self, server: SimServer) -> None:
        self.server = server
        self.open = True
        self.queued: list[list[bytes]] | None = None
        self.aborted = False
        self.channels: dict[bytes, None] = {}
        self.parked: Parked | None = None
        self.pushed: list[Reply] = []
        self.owed_bytes = 0
        self.on_event: Callable[[], None] | None = None

    def push(self, message: list[Reply], size: int) -> None:
        self.pushed.append(message)
        self.owed_bytes += size
        if self.on_event is not None:
            self.on_event()

    def take(self) -> list[Reply]:
        """Return what was pushed since the last call."""
        taken, self.pushed = self.pushed, []
        self.owed_bytes = 0
        return taken

    def close(self) -> None:
        """Closed by either side. What was not sent is lost."""
        if self.open:
            self.open = False
            self.server.forget(self)
            self.pushed = []
            if self.on_event is not None:
                self.on_event()
