"""Commands that need more than the keys: transactions, subscriptions, functions, blocking reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from proof.simulation.bus.reading import reading
from proof.simulation.bus.replies import OK, ErrorReply, Reply, Status, integer
from proof.simulation.bus.scripting import library
from proof.simulation.bus.store import ADMIN, GROWS, WRITE

if TYPE_CHECKING:
    from proof.simulation.bus.server import SimServer
    from proof.simulation.bus.session import Session

NO_REPLY = object()
"""What `SUBSCRIBE` returns: its answers are pushed."""

Run = Callable[["SimServer", "Session", list[bytes]], Reply]


class ServerCommand(NamedTuple):
    """One command of this kind."""

    run: Run
    words_min: int
    words_max: int | None
    flags: int
    name: str


SERVER_COMMANDS: dict[bytes, ServerCommand] = {}
OF_TRANSACTIONS = (b"MULTI", b"EXEC", b"DISCARD")
OF_SUBSCRIBERS = (b"PING", b"SUBSCRIBE", b"UNSUBSCRIBE")


def command(name: str, words: int, flags: int = 0) -> Callable[[Run], Run]:
    """Enter a command into the table; `words` as in `store.command`."""

    def enter(run: Run) -> Run:
        words_max = words if words > 0 else None
        SERVER_COMMANDS[name.encode()] = ServerCommand(run, abs(words), words_max, flags, name.lower())
        return run

    return enter


@command("CLIENT", -2, ADMIN)
def client(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    """`CLIENT SETINFO` and `SETNAME`: what a client says about itself."""
    return OK


@command("INFO", -1, ADMIN)
def info(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    lines = [
        "# Server",
        "redis_version:7.4.0",
        "redis_mode:standalone",
        "# Clients",
        f"connected_clients:{server.connected}",
        "# Memory",
        "used_memory:1000000",
        "maxmemory:0",
        "# Persistence",
        f"loading:{int(server.loading)}",
        "aof_enabled:1",
        "aof_last_write_status:ok",
        "# Stats",
        f"total_connections_received:{server.connections}",
        "# Replication",
        "role:master",
        "",
    ]
    return "\r\n".join(lines).encode()


# Reads that wait


@command("XREAD", -4)
def xread(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    asked = reading(server.store, args)
    found = asked.answer(server.store)
    if found is None and asked.block_ms is not None and not server.in_transaction:
        return server.park(session, asked)
    return found


# Transactions


@command("MULTI", 1, ADMIN)
def multi(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    if session.queued is not None:
        raise ErrorReply("ERR MULTI calls can not be nested")
    session.queued = []
    session.aborted = False
    return OK


@command("DISCARD", 1, ADMIN)
def discard(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    if session.queued is None:
        raise ErrorReply("ERR DISCARD without MULTI")
    session.queued = None
    return OK


@command("EXEC", 1, ADMIN)
def exec_(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    queued, session.queued = session.queued, None
    if queued is None:
        raise ErrorReply("ERR EXEC without MULTI")
    if session.aborted:
        raise ErrorReply("EXECABORT Transaction discarded because of previous errors.")

    def each() -> list[Reply]:
        return [server.carried_out(session, words) for words in queued]

    return server.together(each)


# Publishing


@command("PUBLISH", 3)
def publish(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    listening = list(server.subscribers.get(args[1], ()))
    for listener in listening:
        listener.push([b"message", args[1], args[2]], len(args[1]) + len(args[2]))
        if listener.owed_bytes > server.pushed_bytes_max:
            listener.close()
    return len(listening)


@command("SUBSCRIBE", -2)
def subscribe(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    for channel in args[1:]:
        session.channels[channel] = None
        server.subscribers.setdefault(channel, {})[session] = None
        session.push([b"subscribe", channel, len(session.channels)], 0)
    return NO_REPLY


@command("UNSUBSCRIBE", -1)
def unsubscribe(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    channels: list[bytes | None] = [*(args[1:] or session.channels)]
    for channel in channels or [None]:
        if channel is not None and channel in session.channels:
            del session.channels[channel], server.subscribers[channel][session]
        session.push([b"unsubscribe", channel, len(session.channels)], 0)
    return NO_REPLY


# Functions


@command("FCALL", -3)
def fcall(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    function = server.functions.get(args[1])
    if function is None:
        raise ErrorReply("ERR Function not found")
    try:
        keys_count = integer(args[2])
    except ErrorReply:
        raise ErrorReply("ERR Bad number of keys provided") from None
    if keys_count > len(args) - 3:
        raise ErrorReply("ERR Number of keys can't be greater than number of args")
    if keys_count < 0:
        raise ErrorReply("ERR Number of keys can't be negative")
    server.refuse_function(function.writes)
    run, callback, call = function.library.run, function.callback, server.called
    return server.together(lambda: run(callback, keys_count, args[3:], call))


@command("FUNCTION", -2, WRITE | GROWS)
def function_(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    """`FUNCTION LOAD [REPLACE] code` and `FUNCTION FLUSH`."""
    what = args[1].upper()
    if what == b"FLUSH":
        server.functions = {}
        server.log_one(args)
        return OK
    if what != b"LOAD" or len(args) < 3:
        raise ErrorReply(f"ERR unknown subcommand '{args[1].decode()}'. Try FUNCTION HELP.")
    replace = args[2].upper() == b"REPLACE" and len(args) > 3
    loaded = library(args[-1])
    others = {name: one for name, one in server.functions.items() if one.library.name != loaded.name}
    if len(others) < len(server.functions) and not replace:
        raise ErrorReply(f"ERR Library '{loaded.name.decode()}' already exists")
    server.functions = {**others, **loaded.functions}
    server.log_one(args)
    return loaded.name


# Settings that tests of the bus change


@command("CONFIG", -2, ADMIN)
def config(server: SimServer, session: Session, args: list[bytes]) -> Reply:
    """`CONFIG SET maxmemory N`: 0 for no limit, anything else is already used up."""
    if len(args) != 4 or args[1].upper() != b"SET" or args[2].lower() != b"maxmemory":
        raise ErrorReply("ERR the model has no such setting")
    server.out_of_memory = args[3] != b"0"
    return Status(b"OK")
