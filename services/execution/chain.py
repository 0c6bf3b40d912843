"""How the ledger's rows hang together: what a change of one byte anywhere would break.

A step carries the hash of itself and of the step before it. The last step of a commit also names every other
row that the commit wrote, with that row's SHA-256, how far the inputs had been read, and what left for the
broker. So the newest step vouches for all steps, and for the latest state of every order, fill, cursor and
fact. A commit that publishes nothing leaves a silent step behind the last one that has a number.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

SCHEMA_VERSION = "2"

SILENT_MAX = 1_000_000
"""A step's place is its number on `orders:{acct}` times this; silent ones follow at +1, +2 ..."""

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs (
    run INTEGER PRIMARY KEY, ts_ns INTEGER NOT NULL, build TEXT NOT NULL, settings TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    place INTEGER PRIMARY KEY, ts_ns INTEGER NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
    cause TEXT NOT NULL, run INTEGER NOT NULL, wrote TEXT NOT NULL, hash TEXT NOT NULL,
    seq INTEGER GENERATED ALWAYS AS (place / {SILENT_MAX}) VIRTUAL
);
CREATE TABLE IF NOT EXISTS orders (
    client_order_id TEXT PRIMARY KEY, status TEXT NOT NULL, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fills (
    fill_id INTEGER NOT NULL, part INTEGER NOT NULL, client_order_id TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (fill_id, part)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (stream TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
"""`runs.settings` is a hash of the settings. `steps.wrote` is a `Wrote`, or empty inside a commit."""

STEP = "place, ts_ns, kind, message, cause, run, wrote"
"""The columns that a step's hash is over, after the hash before it."""

KEYS = {"runs": 1, "orders": 1, "fills": 2, "facts": 1}
"""Table -> how many of its first columns name a row. Steps and cursors are checked in their own ways."""

UPGRADED = "chained_from_step"
"""The fact that says up to which step a file of schema 1 was taken into the chain as it was found."""

NO_HASH = ""


class Wrote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one commit wrote besides its steps.

    Attributes:
        rows: Such as `orders/NAME` -> SHA-256 of the row; None when it was deleted.
        cursors: Stream -> id of the last entry that had been read.
        sent: In words, what left for the broker after the commit.
    """

    rows: Mapping[str, str | None] = {}
    cursors: Mapping[str, str] = {}
    sent: Sequence[str] = ()


class Text(bytes):
    """A text as it lies in the file, valid UTF-8 or not; a blob of the same bytes is another value."""


def digest(*fields: object) -> str:
    """Return the SHA-256 of a row: each field with its type and length, so that no two rows look alike."""
    parts: list[bytes] = []
    for value in fields:
        if isinstance(value, int):
            parts.append(b"i%d;" % value)
        elif isinstance(value, str | Text):
            raw = value.encode() if isinstance(value, str) else value
            parts += (b"s%d:" % len(raw), raw)
        else:  # what SQLite may return of a damaged row, and is never written
            parts.append(f"?{value!r};".encode())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def key(table: str, *names: object) -> str:
    """Return how a commit names a row: `orders/sim.breakout.x`, `fills/17/0`."""
    words = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names]
    return "/".join([table, *words])


def write_fact(db: sqlite3.Connection, name: str, value: str) -> tuple[str, str]:
    """Return the fact's row as a commit names it, with its hash."""
    db.execute("REPLACE INTO facts VALUES (?, ?)", (name, value))
    return key("facts", name), digest(name, value)
