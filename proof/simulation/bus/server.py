"""One Redis server: its commands, its faults, and what of its data survives them.

Plain Python without a loop: the wall clock is an argument, and who waits for an answer gets a `Parked`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from proof.simulation.bus import keys, zsets  # noqa: F401  (they fill the table of commands)
from proof.simulation.bus.commands import (
    OF_SUBSCRIBERS,
    OF_TRANSACTIONS,
    SERVER_COMMANDS,
    ServerCommand,
)
from proof.simulation.bus.reading import Reading
from proof.simulation.bus.replies import ErrorReply, Reply, Status
from proof.simulation.bus.scripting import Function
from proof.simulation.bus.session import Parked, Session
from proof.simulation.bus.store import ADMIN, COMMANDS, GROWS, WRITE, Command, Store

PUSHED_BYTES_MAX = 32 * 1024 * 1024
"""A subscriber that leaves more than this unread is cut off (`client-output-buffer-limit pubsub`)."""

OOM = "OOM command not allowed when used memory > 'maxmemory'."
MISCONF = "MISCONF Errors writing to the AOF file: No space left on device"
LOADING = "LOADING Redis is loading the dataset in memory"

Group = list[list[bytes]]
"""Commands that the append-only file holds together or not at all."""


class ServerDown(ConnectionError):
    """Nobody listens."""


class SimServer:
    """A server that listens as soon as it is made.

    Attributes:
        log: The append-only file, a group for each plain command, transaction or function call that wrote.
        durable: How many groups of `log` are safe on the disk. With `fsync_always` all that were
            acknowledged; otherwise what the last call of `fsync` found (Redis does it every second).
        out_of_memory: Refuses what may need memory.
        disk_full: Refuses every write.
        loading: Refuses nearly everything, as after a start with a large file.
        frozen: Answers nothing; what arrives is carried out by `thaw`.
    """

    def __init__(self, wall_us: Callable[[], int], *, fsync_always: bool = False) -> None:
        self.store = Store(wall_us)
        self.fsync_always = fsync_always
        self.functions: dict[bytes, Function] = {}
        self.log: list[Group] = []
        self.durable = 0
        self.up = True
        self.frozen = False
        self.pushed_bytes_max = PUSHED_BYTES_MAX
        self.connections = 0
        self._group: Group | None = None
        self._sessions: dict[Session, None] = {}
        self._waiting: dict[bytes, dict[Parked, None]] = {}
        self.subscribers: dict[bytes, dict[Session, None]] = {}
        self._backlog: deque[tuple[Session, list[bytes], Parked]] = deque()
        self.out_of_memory = self.disk_full = self.loading = False

    # Connections

    def attach(self) -> Session:
        """Accept a connection.

        Raises:
            ServerDown: If nobody listens.
        """
        if not self.up:
            raise ServerDown("connection refused")
        session = Session(self)
        self._sessions[session] = None
        self.connections += 1
        return session

    def forget(self, session: Session) -> None:
        self._sessions.pop(session, None)
        for channel in session.channels:
            self.subscribers[channel].pop(session, None)
        if session.parked is not None:
            self._unpark(session.parked)

    # Commands

    def execute(self, session: Session, args: list[bytes]) -> Reply | Parked | None:
        """Carry out one command and return its answer, an `ErrorReply`, or a `Parked` answer.

        `SUBSCRIBE` answers by what it pushes, and returns `NO_REPLY`.
        """
        if self.frozen:
            parked = Parked(session)
            self._backlog.append((session, args, parked))
            return parked
        try:
            reply = self._run(session, args)
        except ErrorReply as refusal:
            session.aborted = session.queued is not None
            reply = refusal
        if self.store.appended:
            self._wake()
        return reply

    def _run(self, session: Session, args: list[bytes]) -> Reply | Parked:
        name = args[0]
        command: Command | ServerCommand | None = COMMANDS.get(name) or SERVER_COMMANDS.get(name)
        if command is None:
            name = name.upper()
            command = COMMANDS.get(name) or SERVER_COMMANDS.get(name)
            if command is None:
                raise _unknown(args)
        if len(args) < command.words_min or (command.words_max is not None and len(args) > command.words_max):
            raise ErrorReply(f"ERR wrong number of arguments for '{command.name}' command")
        if self.out_of_memory or self.disk_full or self.loading:
            self._refuse(name, command.flags)
        if session.channels:
            if name not in OF_SUBSCRIBERS:
                raise ErrorReply(
                    f"ERR Can't execute '{command.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING /"
                    " QUIT / RESET are allowed in this context"
                )
            if name == b"PING":
                return [b"pong", args[1] if len(args) > 1 else b""]
        if session.queued is not None and name not in OF_TRANSACTIONS:
            session.queued.append(args)
            return Status(b"QUEUED")
        if isinstance(command, Command):
            return self.apply(command, args)
        return command.run(self, session, args)

    def apply(self, command: Command, args: list[bytes]) -> Reply:
        """Run a command on the keys and log it if it writes."""
        if not command.flags & WRITE:
            return command.run(self.store, args)
        store = self.store
        store.effect = None
        reply = command.run(store, args)
        effect = store.effect or args
        self.log_one(effect)
        return reply

    def log_one(self, effect: list[bytes]) -> None:
        """Write a command to the append-only file."""
        if self._group is not None:
            self._group.append(effect)
        else:
            self.log.append([effect])
            if self.fsync_always:
                self.durable = len(self.log)

    def carried_out(self, session: Session, args: list[bytes]) -> Reply:
        """Carry out one command of a transaction: its refusal is one of the answers."""
        try:
            return self._run(session, args)
        except ErrorReply as refusal:
            return refusal

    @property
    def connected(self) -> int:
        return len(self._sessions)

    @property
    def in_transaction(self) -> bool:
        return self._group is not None

    def together(self, work: Callable[[], Reply]) -> Reply:
        """Run `work`; what it writes is one group of the log, also when it ends with an error."""
        if self._group is not None:
            return work()
        group: Group = []
        self._group = group
        try:
            return work()
        finally:
            self._group = None
            if group:
                self.log.append(group)
                if self.fsync_always:
                    self.durable = len(self.log)

    def called(self, args: list[bytes]) -> Reply:
        """Carry out what a function asks for."""
        command = COMMANDS.get(args[0]) or COMMANDS.get(args[0].upper())
        if command is None:
            raise ErrorReply("ERR Unknown Redis command called from script")
        if len(args) < command.words_min or (command.words_max is not None and len(args) > command.words_max):
            raise ErrorReply("ERR Wrong number of args calling Redis command from script")
        return self.apply(command, args)

    def _refuse(self, name: bytes, flags: int) -> None:
        if self.out_of_memory and flags & GROWS:
            raise ErrorReply(OOM)
        if self.disk_full and (flags & WRITE or name == b"PING"):
            raise ErrorReply(MISCONF)
        if self.loading and not flags & ADMIN:
            raise ErrorReply(LOADING)

    def refuse_function(self, writes: bool) -> None:
        """Refuse a function as a whole, before it has done anything."""
        if writes and self.out_of_memory:
            raise ErrorReply(
                "OOM allow-oom flag is not set on the function, can not run it when used memory > 'maxmemory'"
            )
        if writes and self.disk_full:
            raise ErrorReply(MISCONF)

    # Waiting

    def park(self, session: Session, reading: Reading) -> Parked:
        parked = session.parked = Parked(session, reading)
        for key, _ in reading.places:
            self._waiting.setdefault(key, {})[parked] = None
        return parked

    def _unpark(self, parked: Parked) -> None:
        parked.session.parked = None
        if parked.reading is not None:
            for key, _ in parked.reading.places:
                self._waiting[key].pop(parked, None)

    def _wake(self) -> None:
        """Answer the readers whose streams got entries: first come, first served."""
        appended, self.store.appended = self.store.appended, []
        for key in dict.fromkeys(appended):
            for parked in list(self._waiting.get(key, ())):
                assert parked.reading is not None
                reply = parked.reading.answer(self.store)
                if reply is not None:
                    self._unpark(parked)
                    parked.answer(reply)

    def timeout(self, parked: Parked) -> None:
        if self.frozen:
            parked.overdue = True
        elif parked.session.parked is parked:
            self._unpark(parked)
            parked.answer(None)

    # Faults

    def freeze(self) -> None:
        """Stop answering, as a stopped process or a machine without processor time does."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on: what has arrived is carried out, also for clients that are gone."""
        self.frozen = False
        backlog, self._backlog = self._backlog, deque()
        for session, args, parked in backlog:
            if not session.open and args[0].upper() == b"XREAD":
                continue
            reply = self.execute(session, args)
            if isinstance(reply, Parked):
                # The client's end keeps the time of its own one.
                reply.answered = parked.answered
            else:
                parked.answer(reply)
        for session in list(self._sessions):
            if session.parked is not None and session.parked.overdue:
                self.timeout(session.parked)

    def crash(self) -> None:
        """End at once: every connection breaks; nobody listens until `start`."""
        self.up = self.frozen = False
        self._backlog.clear()
        for session in list(self._sessions):
            session.close()

    def start(self, *, keep: int | None = None, loading: bool = False) -> None:
        """Come back with what the append-only file holds.

        Args:
            keep: How many groups of the file there still are: None for all (a killed process loses nothing
                that it wrote), `durable` or more after a power cut, 0 for an emptied server, anything less
                for an old copy or a file cut short.
            loading: Refuse nearly everything until `loading` is set back.
        """
        assert not self.up, "it runs"
        trimmed = self.store.trimmed
        store = self.store = Store(self.store.wall_us)
        store.trimmed = trimmed
        self.functions = {}
        log = self.log if keep is None else self.log[:keep]
        self.log = []
        fresh = Session(self)
        store.loading = True
        troubles = self.out_of_memory, self.disk_full
        self.out_of_memory = self.disk_full = False  # what the file holds is loaded whatever it needs
        for group in log:
            for args in group:
                reply = self._run(fresh, args)
                assert not isinstance(reply, ErrorReply)
        store.loading = False
        self.out_of_memory, self.disk_full = troubles
        store.appended = []
        self.log, self.durable = log, len(log)
        self.up = True
        self.loading = loading

    def fsync(self) -> None:
        """Bring the file to the disk, as Redis does every second."""
        self.durable = len(self.log)

    def break_connections(self) -> None:
        """Close every connection; the server goes on."""
        for session in list(self._sessions):
            session.close()


def _unknown(args: list[bytes]) -> ErrorReply:
    words = " ".join(f"'{word.decode(errors='replace')}'" for word in args[1:])
    name = args[0].decode(errors="replace")
    return ErrorReply(f"ERR unknown command '{name}', with args beginning with: {words} ".rstrip() + " ")
