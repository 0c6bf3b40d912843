"""The write-ahead ledger: what execution has decided, on disk before anything leaves the process.

SQLite with a write-ahead log and `synchronous=FULL`: a commit is one fsync, and what it contains (steps to be
published, orders, fills, cursors) is there together or not at all. Redis may be emptied, rolled back or away:
the broker is the truth, this file comes next, the bus is a copy.

Every commit is chained to the one before it (`chain.py`), so that a byte changed afterwards is found by
`julie ledger verify`.

One process writes it. The lock is the operating system's (`flock` on a file beside it), so it ends with the
process and no clock can break it. Readers are welcome at any time.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import msgspec

from services.execution import chain, upgrade
from services.execution.records import FillRecord, OrderRecord, Standing

WAL_PAGES = 4_000
"""Length of the write-ahead log, 4 KiB each; beyond it a commit also does the work of `tidy`."""
TIDY_COMMITS = 50

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


def ledger_path(data_dir: Path, account_id: int) -> Path:
    """Return where an account's ledger lies."""
    return data_dir / f"execution-{account_id}.sqlite"


class Run(NamedTuple):
    """One start of the process: which code, by which settings."""

    ts_ns: int
    build: str
    settings: str


UNNAMED = Run(0, "", "")


class Commit(NamedTuple):
    """What goes into one transaction. A fill that is None is deleted.

    Attributes:
        sent: In words, what leaves for the broker as soon as this is on disk.
    """

    steps: list[Step]
    orders: Mapping[str, OrderRecord]
    fills: Mapping[tuple[int, int], FillRecord | None]
    standing: Standing | None
    cursors: Mapping[str, str]
    sent: Sequence[str] = ()
    ts_ns: int = 0


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


class _Head(NamedTuple):
    """The end of the chain."""

    place: int
    hash: str


class SqliteLedger:
    """See `Ledger`."""

    def __init__(self, path: Path, *, account_id: int, run: Run = UNNAMED) -> None:
        self.path = path
        self._commits = 0
        self._run = 0
        self._head = _Head(0, chain.NO_HASH)
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
            self._db.execute("BEGIN IMMEDIATE")
            self._begin(account_id, run)
            self._db.execute("COMMIT")
            self._stretch()
        except LedgerFailed:
            self.close()
            raise
        except sqlite3.Error as error:
            self.close()
            raise LedgerFailed(f"{path}: {error}") from error

    def _begin(self, account_id: int, run: Run) -> None:
        """Check whose file it is, and note this run: a disk that takes no writes is found here."""
        db = self._db
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        facts = dict(db.execute("SELECT name, value FROM facts")) if "facts" in tables else {}
        mine = {"account_id": str(account_id), "schema": chain.SCHEMA_VERSION}
        if facts.get("account_id", mine["account_id"]) != mine["account_id"]:
            raise LedgerFailed(
                f"{self.path}: account_id is {facts['account_id']}, not {account_id}; "
                "point julie.data_dir at this account's folder"
            )
        schema = facts.get("schema", chain.SCHEMA_VERSION)
        if schema not in (chain.SCHEMA_VERSION, upgrade.FROM):
            raise LedgerFailed(
                f"{self.path}: schema is {schema}, this build knows {chain.SCHEMA_VERSION}; start the build "
                "that wrote it, or move the file away"
            )
        if schema == upgrade.FROM:
            upgrade.put_aside(db)
        for statement in chain.SCHEMA.split(";"):
            db.execute(statement)
        self._head = _head(db)
        (newest,) = db.execute("SELECT coalesce(max(run), 0) FROM runs").fetchone()
        self._run = newest + 1
        db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (self._run, *run))
        if schema == upgrade.FROM:
            last_seq = 0
            for last_seq, ts_ns, kind, message, cause in upgrade.old_steps(db):
                self._chain(last_seq * chain.SILENT_MAX, ts_ns, kind, message, cause, "")
            self._chain_silent(run.ts_ns, upgrade.finish(db, last_seq))
            return
        rows = {chain.key("runs", self._run): chain.digest(self._run, *run)}
        if not facts:
            rows |= [chain.write_fact(db, name, value) for name, value in mine.items()]
        self._chain_silent(run.ts_ns, chain.Wrote(rows=rows))

    def _chain(self, place: int, ts_ns: int, kind: str, message: str, cause: str, wrote: str) -> None:
        """Write one step behind the last one."""
        row = (place, ts_ns, kind, message, cause, self._run, wrote)
        after = chain.digest(self._head.hash, *row)
        self._db.execute(
            f"INSERT INTO steps ({chain.STEP}, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, after)
        )
        self._head = _Head(place, after)

    def _chain_silent(self, ts_ns: int, wrote: chain.Wrote) -> None:
        place = self._head.place + 1
        if place % chain.SILENT_MAX == 0:
            raise LedgerFailed(f"{self.path}: a million commits without a step; start execution again")
        self._chain(place, ts_ns, "", "", "", _encode(wrote).decode())

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
            last_seq = _head(self._db).place // chain.SILENT_MAX
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
        db, head = self._db, self._head
        try:
            db.execute("BEGIN IMMEDIATE")
            wrote = chain.Wrote(rows=self._write_records(batch), cursors=batch.cursors, sent=batch.sent)
            for step in batch.steps[:-1]:
                self._chain_step(step, "")
            if batch.steps:
                self._chain_step(batch.steps[-1], _encode(wrote).decode())
            else:
                self._chain_silent(batch.ts_ns, wrote)
            db.execute("COMMIT")
            self._commits += 1
        except sqlite3.Error as error:
            self._head = head
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise LedgerFailed(f"{self.path}: {error}; free the disk or repair it") from error

    def _chain_step(self, step: Step, wrote: str) -> None:
        seq, ts_ns, kind, value, cause = step
        self._chain(seq * chain.SILENT_MAX, ts_ns, kind.decode(), value.decode(), cause, wrote)

    def _write_records(self, batch: Commit) -> dict[str, str | None]:
        """Return each row as the commit names it, with its hash."""
        db = self._db
        rows: dict[str, str | None] = {}
        for name, order in batch.orders.items():
            row = (name, str(order.status), _encode(order).decode())
            db.execute("REPLACE INTO orders VALUES (?, ?, ?)", row)
            rows[f"orders/{name}"] = chain.digest(*row)
        for (fill_id, part), fill in batch.fills.items():
            if fill is None:
                db.execute("DELETE FROM fills WHERE fill_id = ? AND part = ?", (fill_id, part))
                rows[f"fills/{fill_id}/{part}"] = None
            else:
                parts = (fill_id, part, fill.client_order_id, _encode(fill).decode())
                db.execute("REPLACE INTO fills VALUES (?, ?, ?, ?)", parts)
                rows[f"fills/{fill_id}/{part}"] = chain.digest(*parts)
        if batch.cursors:
            db.executemany("REPLACE INTO cursors VALUES (?, ?)", batch.cursors.items())
        if batch.standing is not None:
            rows |= [chain.write_fact(db, "standing", _encode(batch.standing).decode())]
        return rows

    def steps(self, first_seq: int, count: int) -> list[Step]:
        question = (
            "SELECT seq, ts_ns, kind, message, cause FROM steps WHERE place >= ? AND kind != '' "
            "ORDER BY place LIMIT ?"
        )
        rows = self._db.execute(question, (first_seq * chain.SILENT_MAX, count))
        return [
            Step(seq, ts_ns, kind.encode(), value.encode(), cause) for seq, ts_ns, kind, value, cause in rows
        ]

    def close(self) -> None:
        self._db.close()
        self._lock.close()


def _head(db: sqlite3.Connection) -> _Head:
    found = db.execute("SELECT place, hash FROM steps ORDER BY place DESC LIMIT 1").fetchone()
    return _Head(*found) if found is not None else _Head(0, chain.NO_HASH)


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
