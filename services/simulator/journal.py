"""What was asked of the venue, durable: the half of its books that an oracle compares with a client's.

A request that changes something is written when its body has arrived, before anything else happens to it, and
once more with its outcome before the reply leaves. A row without outcome is one that a kill cut off.
Every request is counted under the second in which it came.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY, ts_ns INTEGER NOT NULL, path TEXT NOT NULL, account_id INTEGER, tag TEXT,
    body TEXT NOT NULL, status INTEGER, code INTEGER, order_id INTEGER, processed_ns INTEGER,
    faults TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS requests (
    path TEXT, second INTEGER, count INTEGER NOT NULL, last_ns INTEGER NOT NULL,
    PRIMARY KEY (path, second)) WITHOUT ROWID;
"""
_ATTEMPT = "id, ts_ns, path, account_id, tag, body, status, code, order_id, processed_ns, faults"
CUT = 0
"""Status of a request whose connection was closed instead of a reply."""


class _Named(msgspec.Struct, frozen=True, rename="camel"):
    account_id: int | None = None
    custom_tag: str | None = None


class Journal:
    """Keep requests in the venue's database."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.executescript(_SCHEMA)

    def count(self, path: str, now_ns: int) -> None:
        """Count a request of any kind at `now_ns` of the host's clock."""
        self._db.execute(
            "INSERT INTO requests VALUES (?, ?, 1, ?) "
            "ON CONFLICT DO UPDATE SET count = count + 1, last_ns = excluded.last_ns",
            (path, now_ns // 1_000_000_000, now_ns),
        )

    def attempt(self, path: str, body: bytes, now_ns: int) -> int:
        """Write down a request that changes something; return its number."""
        try:
            named = msgspec.json.decode(body, type=_Named)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            named = _Named()
        written = self._db.execute(
            "INSERT INTO attempts (ts_ns, path, account_id, tag, body) VALUES (?, ?, ?, ?, ?)",
            (now_ns, path, named.account_id, named.custom_tag, body.decode("utf-8", "replace")),
        )
        assert written.lastrowid is not None
        return written.lastrowid

    def processed(self, attempt: int, code: int, order_id: int | None, now_ns: int) -> None:
        """Write down what the venue decided, whatever the client is told."""
        self._db.execute(
            "UPDATE attempts SET code = ?, order_id = ?, processed_ns = ? WHERE id = ?",
            (code, order_id, now_ns, attempt),
        )

    def replied(self, attempt: int, status: int, faults: list[str]) -> None:
        """Write down the HTTP status about to be sent, and the faults that hit on the way."""
        self._db.execute(
            "UPDATE attempts SET status = ?, faults = ? WHERE id = ?", (status, ",".join(faults), attempt)
        )

    def attempts(self) -> list[dict[str, Any]]:
        """Return every attempt, oldest first."""
        found = self._db.execute(f"SELECT {_ATTEMPT} FROM attempts ORDER BY id")
        names = _ATTEMPT.split(", ")
        rows = [dict(zip(names, row, strict=True)) for row in found]
        for row in rows:
            row["faults"] = row["faults"].split(",") if row["faults"] else []
        return rows

    def requests(self) -> dict[str, dict[str, int]]:
        """Return how many requests came, by path and second of the host's clock."""
        counts: dict[str, dict[str, int]] = {}
        for path, second, count in self._db.execute("SELECT path, second, count FROM requests"):
            counts.setdefault(path, {})[str(second)] = count
        return counts

    def last_request_ns(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT path, MAX(last_ns) FROM requests GROUP BY path").fetchall())
