"""Looking a ledger over: is every row what its commit wrote, and does every commit follow the one before?

Reads only, in one read transaction, beside a running execution or without one. What it cannot see: a file
whose end was cut off cleanly, or that is an older copy, is a sound ledger of an earlier time (only the bus
and the broker know more); and whoever rewrites the whole file can rewrite the whole chain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from services.execution import chain, upgrade
from services.execution.chain import Text

TABLES = ("runs", "steps", "orders", "fills", "cursors", "facts")


class Audit(NamedTuple):
    """What was found.

    Attributes:
        rows: Table -> rows looked at.
        bad: The first row that is wrong, and how; None when all is well.
        head: Hash of the last step: two copies with the same one hold the same history.
        last_step: Its number on `orders:{acct}`.
        chained_from_step: Steps up to here were taken in as an upgrade found them.
    """

    rows: dict[str, int]
    bad: str | None
    head: str = chain.NO_HASH
    last_step: int = 0
    chained_from_step: int = 0


class _Acked(msgspec.Struct):
    acked_seq: int = 0


class _Bad(Exception):
    """The first thing that is wrong."""


def audit(path: Path) -> Audit:
    """Look over the whole file. What cannot be read is bad as well."""
    look = _Look()
    try:
        with _opened(path) as db:
            look.all(db)
    except _Bad as bad:
        return look.result(str(bad))
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        return look.result(f"{path} cannot be read to its end: {error}")
    return look.result(None)


class _opened:  # noqa: N801  used as a word
    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(f"there is no {path}")
        self._db = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None
        )
        self._db.text_factory = Text

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN")
        return self._db

    def __exit__(self, *error: object) -> None:
        self._db.close()


class _Look:
    def __init__(self) -> None:
        self._rows = dict.fromkeys(TABLES, 0)
        self._latest: dict[str, tuple[str | None, str]] = {}
        self._cursors: dict[str, tuple[str, str]] = {}
        self._head = chain.NO_HASH
        self._last_step = 0
        self._chained_from = 0
        self._acked_seq = 0

    def result(self, bad: str | None) -> Audit:
        return Audit(self._rows, bad, self._head, self._last_step, self._chained_from)

    def all(self, db: sqlite3.Connection) -> None:
        (said,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if said != b"ok":
            raise _Bad(f"SQLite finds the file damaged: {said.decode(errors='replace')}")
        self._schema(db)
        self._chain(db)
        for table in ("runs", "orders", "fills", "facts"):
            self._table(db, table)
        self._read_positions(db)
        for name, (wanted, step) in self._latest.items():
            if wanted is not None:
                raise _Bad(f"{name} is missing; {step} wrote it")
        if self._acked_seq > self._last_step:
            raise _Bad(
                f"step {self._last_step} is the last one, and the bus had acknowledged {self._acked_seq}: "
                "the end was cut off"
            )

    def _schema(self, db: sqlite3.Connection) -> None:
        present = {
            bytes(name) for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if b"steps" in present and b"runs" not in present:
            raise _Bad(
                f"a ledger of schema {upgrade.FROM} has no chain yet; the next start of execution adds it"
            )
        with sqlite3.connect(":memory:") as fresh:
            fresh.text_factory = Text
            fresh.executescript(chain.SCHEMA)
            wanted = _schema_of(fresh)
        fresh.close()
        found = _schema_of(db)
        for name in sorted(set(wanted) | set(found)):
            if wanted.get(name) != found.get(name):
                words = name.decode(errors="replace")
                raise _Bad(f"the schema of {words} is not the one that this build writes")

    def _chain(self, db: sqlite3.Connection) -> None:
        before = 0
        for row in db.execute(f"SELECT {chain.STEP}, hash FROM steps ORDER BY place"):
            *columns, said = row
            place, wrote = columns[0], columns[6]
            step = _name(place)
            after = chain.digest(Text(self._head.encode()), *columns)
            if type(said) is not Text or said != after.encode():
                raise _Bad(
                    f"{step} does not follow from {_name(before)}: it was changed, or what lay between was "
                    "removed or put elsewhere"
                )
            before, self._head = place, after
            self._rows["steps"] += 1
            self._last_step = place // chain.SILENT_MAX
            if wrote:
                self._note(step, msgspec.json.decode(wrote, type=chain.Wrote))

    def _note(self, step: str, wrote: chain.Wrote) -> None:
        for name, wanted in wrote.rows.items():
            self._latest[name] = (wanted, step)
        for stream, cursor in wrote.cursors.items():
            self._cursors[stream] = (cursor, step)

    def _table(self, db: sqlite3.Connection, table: str) -> None:
        for row in db.execute(f"SELECT * FROM {table}"):
            name = chain.key(table, *row[: chain.KEYS[table]])
            wanted, step = self._latest.pop(name, (None, ""))
            if wanted is None:
                why = f"{step} deleted it" if step else "no step tells of it"
                raise _Bad(f"{name} is there, and {why}")
            if chain.digest(*row) != wanted:
                raise _Bad(f"{name} is not what {step} wrote")
            self._rows[table] += 1
            if name == "facts/standing":
                self._acked_seq = msgspec.json.decode(row[1], type=_Acked).acked_seq
            elif name == f"facts/{chain.UPGRADED}":
                self._chained_from = int(row[1])

    def _read_positions(self, db: sqlite3.Connection) -> None:
        for stream, cursor in db.execute("SELECT stream, id FROM cursors"):
            name = bytes(stream).decode(errors="replace")
            wanted, step = self._cursors.pop(name, (None, ""))
            if wanted is None:
                raise _Bad(f"cursors/{name} is there, and no step tells of it")
            if type(stream) is not Text or type(cursor) is not Text or cursor != wanted.encode():
                raise _Bad(f"cursors/{name} is not what {step} wrote")
            self._rows["cursors"] += 1
        for name, (_, step) in self._cursors.items():
            raise _Bad(f"cursors/{name} is missing; {step} wrote it")


def _schema_of(db: sqlite3.Connection) -> dict[bytes, bytes]:
    return dict(_texts(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")))


def _texts(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    return ((bytes(name), bytes(sql)) for name, sql in rows)


def _name(place: int) -> str:
    """Return how a step is called: by its number on the bus, and which silent one after it."""
    seq, silent = divmod(place, chain.SILENT_MAX)
    return f"step {seq}" if not silent else f"step {seq}, silent {silent}"
