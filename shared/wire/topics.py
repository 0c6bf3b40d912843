"""The table of every key: kind, writer, readers, retention. Nothing else spells a key.

Keys carry a hash tag (`{MES}`, `{1001}`), so that everything one atomic step touches lies in one slot of
a Redis Cluster.

Entry ids are `<our receive time in ms>-<sequence number of the writer>`. The second half rises by exactly
one from entry to entry of a stream, so a reader notices a gap in one read, a writer can repeat an append
whose reply was lost without doubling anything, and `redis-cli` still shows when it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    STREAM = "stream"
    HASH = "hash"
    STRING = "string"
    CHANNEL = "pub/sub"
    ZSET = "zset"
    SET = "set"
    LIST = "list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One row of the table.

    Attributes:
        key: With its placeholders: SYM, ACCT, ID, NAME.
        retention: Who deletes, and when.
    """

    key: str
    kind: Kind
    writer: str
    readers: str
    retention: str


TOPICS = (
    Topic(
        key="md:{SYM}",
        kind=Kind.STREAM,
        writer="feed",
        readers="strategy, recorder",
        retention="trimmed by recorder after archiving; hard cap feed.md_entries_max, which alarms",
    ),
    Topic(
        key="quote:{SYM}",
        kind=Kind.STRING,
        writer="feed",
        readers="execution, broker_sync, guard, julie",
        retention="latest MarketState",
    ),
    Topic(
        key="quotes:{SYM}",
        kind=Kind.CHANNEL,
        writer="feed",
        readers="execution, broker_sync, guard",
        retention="the next replaces it",
    ),
    Topic(
        key="bars:wanted",
        kind=Kind.HASH,
        writer="strategy worker, its field only",
        readers="feed",
        retention="a field goes when its instance is configured no more; harmless if left",
    ),
    Topic(
        key="intents:{ACCT}:ID",
        kind=Kind.STREAM,
        writer="strategy worker ID",
        readers="execution, recorder",
        retention="trimmed by recorder after archiving, a day old: execution has passed it long before",
    ),
    Topic(
        key="journal:{ACCT}:ID",
        kind=Kind.STREAM,
        writer="strategy worker ID",
        readers="recorder, replay",
        retention="trimmed by recorder after archiving",
    ),
    Topic(
        key="state:{ACCT}:ID",
        kind=Kind.STRING,
        writer="strategy worker ID",
        readers="strategy worker ID",
        retention="latest snapshot",
    ),
    Topic(
        key="orders:{ACCT}",
        kind=Kind.STREAM,
        writer="execution",
        readers="strategy, guard, recorder, julie",
        retention="never trimmed inside a session",
    ),
    Topic(
        key="reports:{ACCT}",
        kind=Kind.STREAM,
        writer="broker_sync",
        readers="execution, guard, recorder, julie",
        retention="never trimmed inside a session",
    ),
    Topic(
        key="account:{ACCT}",
        kind=Kind.HASH,
        writer="broker_sync",
        readers="julie, dashboard",
        retention="latest",
    ),
    Topic(
        key="session",
        kind=Kind.STREAM,
        writer="heartbeat",
        readers="everyone",
        retention="last 10,000 entries, after archiving",
    ),
    Topic(key="session:state", kind=Kind.HASH, writer="heartbeat", readers="everyone", retention="latest"),
    Topic(
        key="session:token",
        kind=Kind.STRING,
        writer="heartbeat",
        readers="feed, broker_sync, execution, guard",
        retention="expires with the token",
    ),
    Topic(
        key="control:heartbeat",
        kind=Kind.STREAM,
        writer="heartbeat",
        readers="execution, recorder",
        retention="never trimmed inside a session",
    ),
    Topic(
        key="control:operator",
        kind=Kind.STREAM,
        writer="julie",
        readers="execution, guard, recorder",
        retention="never trimmed inside a session",
    ),
    Topic(
        key="control:guard",
        kind=Kind.STREAM,
        writer="guard",
        readers="execution, recorder",
        retention="never trimmed inside a session",
    ),
    Topic(key="guard:{ACCT}", kind=Kind.HASH, writer="guard", readers="julie, dashboard", retention="latest"),
    Topic(
        key="beats",
        kind=Kind.CHANNEL,
        writer="every process",
        readers="heartbeat, execution, guard",
        retention="none",
    ),
    Topic(
        key="beat:NAME",
        kind=Kind.STRING,
        writer="process NAME",
        readers="heartbeat, julie",
        retention="expires a day after the last beat",
    ),
    Topic(
        key="refused:NAME",
        kind=Kind.LIST,
        writer="process NAME",
        readers="people",
        retention="the newest 100",
    ),
    Topic(
        key="lease:{ACCT}:ID",
        kind=Kind.HASH,
        writer="its holder",
        readers="strategy hosts",
        retention="liveness only; the epoch is checked in every write",
    ),
    Topic(
        key="KEY:head",
        kind=Kind.HASH,
        writer="the writer of stream KEY",
        readers="the append function",
        retention="epoch and last sequence number of stream KEY",
    ),
    Topic(
        key="budget:{NAME}",
        kind=Kind.ZSET,
        writer="the budget function",
        readers="every process that calls the broker",
        retention="one window",
    ),
    Topic(
        key="pause:{NAME}",
        kind=Kind.STRING,
        writer="who is told by the broker to wait; from when to when, milliseconds",
        readers="the budget function",
        retention="the pause",
    ),
    Topic(
        key="session:doubts",
        kind=Kind.CHANNEL,
        writer="who is refused by the broker, with the version of the token",
        readers="heartbeat",
        retention="none",
    ),
    Topic(
        key="pauses:{NAME}",
        kind=Kind.CHANNEL,
        writer="who is told by the broker to wait, milliseconds",
        readers="who has taken places of budget NAME in advance",
        retention="none",
    ),
)


def md(symbol: str) -> str:
    return f"md:{{{symbol}}}"


def quote(symbol: str) -> str:
    return f"quote:{{{symbol}}}"


def quotes(symbol: str) -> str:
    return f"quotes:{{{symbol}}}"


def intents(account_id: int, strategy_id: str) -> str:
    return f"intents:{{{account_id}}}:{strategy_id}"


def journal(account_id: int, strategy_id: str) -> str:
    return f"journal:{{{account_id}}}:{strategy_id}"


def state(account_id: int, strategy_id: str) -> str:
    return f"state:{{{account_id}}}:{strategy_id}"


def lease(account_id: int, strategy_id: str) -> str:
    return f"lease:{{{account_id}}}:{strategy_id}"


def orders(account_id: int) -> str:
    return f"orders:{{{account_id}}}"


def reports(account_id: int) -> str:
    return f"reports:{{{account_id}}}"


def bars_wanted_by(account_id: int, strategy_id: str) -> str:
    """Return an instance's field in `bars:wanted`."""
    return f"{account_id}:{strategy_id}"


def account(account_id: int) -> str:
    return f"account:{{{account_id}}}"


def guard(account_id: int) -> str:
    return f"guard:{{{account_id}}}"


def head(stream: str) -> str:
    """Return the key of a stream's head, in the same cluster slot as the stream."""
    return f"{stream}:head" if "{" in stream else f"{{{stream}}}:head"


def beat(process: str) -> str:
    return f"beat:{process}"


def refused(process: str) -> str:
    """Return the key of what a process has refused."""
    return f"refused:{process}"


def budget(name: str) -> str:
    return f"budget:{{{name}}}"


def pause(name: str) -> str:
    return f"pause:{{{name}}}"


def pauses(name: str) -> str:
    return f"pauses:{{{name}}}"


BARS_WANTED = "bars:wanted"
SESSION = "session"
SESSION_STATE = "session:state"
SESSION_TOKEN = "session:token"
SESSION_DOUBTS = "session:doubts"
CONTROL_HEARTBEAT = "control:heartbeat"
CONTROL_OPERATOR = "control:operator"
CONTROL_GUARD = "control:guard"
BEATS = "beats"


def symbol_of(md_key: str) -> str:
    """Return the symbol in `md:{SYM}`."""
    return md_key[md_key.index("{") + 1 : md_key.index("}")]


_PLACEHOLDERS = {"SYM": r"[A-Z0-9]+", "ACCT": r"\d+", "ID": r"[a-z0-9][a-z0-9_-]{0,31}", "NAME": r"[^{}]+"}


def _pattern_of(row: Topic) -> re.Pattern[str]:
    if row.key == "KEY:head":
        return re.compile(r".+:head")
    parts = re.split(r"\b(SYM|ACCT|ID|NAME)\b", row.key)
    return re.compile("".join(_PLACEHOLDERS.get(part, re.escape(part)) for part in parts))


_PATTERNS = tuple((_pattern_of(row), row) for row in TOPICS)


def topic_of(key: str) -> Topic | None:
    """Return the row of the table that `key` belongs to; None for a key that is not ours."""
    return next((row for pattern, row in _PATTERNS if pattern.fullmatch(key)), None)


def folder_of(stream: str) -> tuple[str, ...]:
    """Return a stream's place in an archive, one readable name a level: `md:{MES}` -> `md`, `MES`.

    Only for keys of the table: nothing in them can lead out of a folder.
    """
    assert topic_of(stream) is not None, stream
    return tuple(part.strip("{}") for part in stream.split(":"))
