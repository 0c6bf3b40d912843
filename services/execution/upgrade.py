"""A ledger of schema 1, which had no chain, is taken into it as it is found.

Steps keep their numbers and bytes. What was changed in such a file before cannot be seen afterwards; the fact
`chained_from_step` says up to which step that holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from services.execution import chain

FROM = "1"


def put_aside(db: sqlite3.Connection) -> None:
    """Make room for the tables of today."""
    db.execute("ALTER TABLE steps RENAME TO old_steps")


def old_steps(db: sqlite3.Connection) -> Iterator[tuple[int, int, str, str, str]]:
    """Yield every step that was there: seq, ts_ns, kind, message, cause."""
    yield from db.execute("SELECT seq, ts_ns, kind, message, cause FROM old_steps ORDER BY seq")


def finish(db: sqlite3.Connection, last_seq: int) -> chain.Wrote:
    """Return everything else that is there, for the chain to vouch for."""
    db.execute("DROP TABLE old_steps")
    chain.write_fact(db, "schema", chain.SCHEMA_VERSION)
    chain.write_fact(db, chain.UPGRADED, str(last_seq))
    rows: dict[str, str | None] = {}
    for table, columns in chain.KEYS.items():
        for row in db.execute(f"SELECT * FROM {table}"):
            rows[chain.key(table, *row[:columns])] = chain.digest(*row)
    return chain.Wrote(rows=rows, cursors=dict(db.execute("SELECT stream, id FROM cursors")))
