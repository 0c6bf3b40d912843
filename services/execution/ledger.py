"""The write-ahead ledger: what execution has decided, on disk before anything leaves the process.

SQLite with a write-ahead log and `synchronous=FULL`: a commit is one fsync, and what it contains (steps to be
published, orders, fills, cursors) is there together or not at all. Redis may be emptied, rolled back or away:
the broker is the truth, this file comes next, the bus is a copy.

One process writes it. The lock is the operating system's (`flock` on a file beside it), so it ends with the
process and no clock can break it. Readers are welcome at any time.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import msgspec

from services.execution.records import FillRecord, OrderRecord, Standing

SCHEMA_VERSION = 1

WAL_PAGES = 4_000
"""Length of the write-ahead log, 4 KiB each; beyond it a commit also does the work of `tidy`."""
TIDY_COMMITS = 50

_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (
    seq INTEGER PRIMARY KEY, ts_ns INTEGER NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
    cause TEXT NOT NULL
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

_order_decoder = msgspec.json.Decoder(OrderRecord)
_fill_decoder = msgspec.json.Decoder(FillRecord)
_standing_decoder = msgspec.json.Decoder(Standing)
_encode = msgspec.json.Encoder().encode


class LedgerFailed(OSError):
    """The ledger could not be written or read. Nothing may be sent on what it does not hold."""


class LedgerBusy(LedgerFailed):
    """Another process writes this ledger."""


class Step(NamedTuple):
    """One entry of `orders:{acct}`; `seq` is its sequence number there."""

    seq: int
    ts_ns: int
    kind: bytes
    value: bytes
    cause: str


class Commit(NamedTuple):
    """What goes into one transaction. A fill that is None is deleted."""

    steps: list[Step]
    orders: Mapping[str, OrderRecord]
    fills: Mapping[tuple[int, int], FillRecord | None]
    standing: Standing | None
    cursors: Mapping[str, str]


class Contents(NamedTuple):
    """Everything a restart needs."""

    last_seq: int
    standing: Standing | None
    orders: list[OrderRecord]
    fills: list[FillRecord]
    cursors: dict[str, str]


class Ledger(Protocol):
    """Where decisions are kept; SQLite is one answer, a simulated disk another."""

    def load(self) -> Contents: ...

    def commit(self, batch: Commit) -> None:
        """Return when all of `batch` is on disk.

        Raises:
            LedgerFailed: If it is not known to be there. The caller's state is ahead of the ledger then.
        """
        ...

    def steps(self, first_seq: int, count: int) -> list[Step]: ...

    @property
    def untidy(self) -> bool:
        """Is there housekeeping that some commit will have to wait for, if it is not done before?"""
        ...

    def tidy(self) -> None:
        """Do the housekeeping now, while nothing is going on."""
        ...

    def close(self) -> None: ...


class SqliteLedger:
    """See `Ledger`."""

    def __init__(self, path: Path, *, account_id: int) -> None:
        self.path = path
        self._commits = 0
        self._lock = _lock(path)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            self._lock.close()
            raise LedgerFailed(f"{path}: {error}") from error
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
            self._db.executescript(_SCHEMA)
            self._check_owner(account_id)
            self._stretch()
        except LedgerFailed:
            self.close()
            raise
        except sqlite3.Error as error:
            self.close()
            raise LedgerFailed(f"{path}: {error}") from error

    def _check_owner(self, account_id: int) -> None:
        mine = {"account_id": str(account_id), "schema": str(SCHEMA_VERSION)}
        kept = dict(self._db.execute("SELECT name, value FROM facts WHERE name IN ('account_id', 'schema')"))
        for name, value in mine.items():
            if kept.get(name, value) != value:
                raise LedgerFailed(
                    f"{self.path}: {name} is {kept[name]}, not {value}; "
                    "point julie.data_dir at this account's folder"
                )
        # Written at every start: a disk that takes no writes is found before the first order.
        self._db.executemany("REPLACE INTO facts VALUES (?, ?)", sorted(mine.items()))

    def _stretch(self) -> None:
        """Give the write-ahead log its full length now.

        A commit that makes a file longer has the file system write its own journal too; one that overwrites
        does not, and takes half the time.
        """
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("CREATE TABLE stretch (page BLOB)")
        self._db.executemany("INSERT INTO stretch VALUES (zeroblob(4000))", [()] * (WAL_PAGES // 2))
        self._db.execute("DROP TABLE stretch")
        self._db.execute("COMMIT")
        self.tidy()

    def tidy(self) -> None:
        self._commits = 0
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise LedgerFailed(f"{self.path}: {error}") from error

    @property
    def untidy(self) -> bool:
        return self._commits >= TIDY_COMMITS

    def load(self) -> Contents:
        try:
            (last_seq,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM steps").fetchone()
            standing = self._db.execute("SELECT value FROM facts WHERE name = 'standing'").fetchone()
            orders = self._db.execute("SELECT record FROM orders ORDER BY client_order_id").fetchall()
            fills = self._db.execute("SELECT record FROM fills ORDER BY fill_id, part").fetchall()
            cursors = dict(self._db.execute("SELECT stream, id FROM cursors"))
            return Contents(
                last_seq=last_seq,
                standing=_standing_decoder.decode(standing[0]) if standing is not None else None,
                orders=[_order_decoder.decode(row[0]) for row in orders],
                fills=[_fill_decoder.decode(row[0]) for row in fills],
                cursors=cursors,
            )
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise LedgerFailed(f"{self.path}: {error}") from error

    def commit(self, batch: Commit) -> None:
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            if batch.steps:
                db.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?)", _step_rows(batch.steps))
            if batch.orders:
                db.executemany("REPLACE INTO orders VALUES (?, ?, ?)", _order_rows(batch.orders))
            for (fill_id, part), fill in batch.fills.items():
                if fill is None:
                    db.execute("DELETE FROM fills WHERE fill_id = ? AND part = ?", (fill_id, part))
                else:
                    row = (fill_id, part, fill.client_order_id, _encode(fill).decode())
                    db.execute("REPLACE INTO fills VALUES (?, ?, ?, ?)", row)
            if batch.cursors:
                db.executemany("REPLACE INTO cursors VALUES (?, ?)", batch.cursors.items())
            if batch.standing is not None:
                value = _encode(batch.standing).decode()
                db.execute("REPLACE INTO facts VALUES ('standing', ?)", (value,))
            db.execute("COMMIT")
            self._commits += 1
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise LedgerFailed(f"{self.path}: {error}; free the disk or repair it") from error

    def steps(self, first_seq: int, count: int) -> list[Step]:
        question = "SELECT seq, ts_ns, kind, message, cause FROM steps WHERE seq >= ? ORDER BY seq LIMIT ?"
        rows = self._db.execute(question, (first_seq, count))
        return [
            Step(seq, ts_ns, kind.encode(), value.encode(), cause) for seq, ts_ns, kind, value, cause in rows
        ]

    def close(self) -> None:
        self._db.close()
        self._lock.close()


def _lock(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = path.with_suffix(".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise LedgerFailed(f"{path}: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise LedgerBusy(f"{path}: another execution process writes this ledger; stop it first") from None
    return lock


def _step_rows(steps: Iterable[Step]) -> list[tuple[int, int, str, str, str]]:
    return [(seq, ts_ns, kind.decode(), value.decode(), cause) for seq, ts_ns, kind, value, cause in steps]


def _order_rows(orders: Mapping[str, OrderRecord]) -> list[tuple[str, str, str]]:
    return [(name, str(order.status), _encode(order).decode()) for name, order in orders.items()]
