"""The simulated gateway's own ledger, read past everybody: the truth that all else is compared with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from services.simulator.orders import WORKING


class Books:
    """What the broker holds.

    Raises:
        sqlite3.Error: By each question, when the file is not there yet or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def positions(self) -> dict[str, int]:
        """Return contract -> signed contracts."""
        with self._open() as db:
            rows = db.execute("SELECT contract_id, body FROM positions").fetchall()
        return {contract: msgspec.json.decode(body)["net_qty"] for contract, body in rows}

    def held(self) -> dict[str, int]:
        """Return those that are not flat."""
        return {contract: net_qty for contract, net_qty in self.positions().items() if net_qty}

    def fills(self) -> int:
        """Return how many it has booked."""
        with self._open() as db:
            (count,) = db.execute("SELECT count(*) FROM fills").fetchone()
        return int(count)

    def left(self) -> list[str]:
        """Return what is open, in words: positions, and orders that work."""
        with self._open() as db:
            rows = db.execute("SELECT id, body FROM orders").fetchall()
        working = [number for number, body in rows if msgspec.json.decode(body)["status"] in WORKING]
        held = [f"{net_qty:+d} {contract}" for contract, net_qty in self.held().items()]
        return held + [f"order {number}" for number in working]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            yield db
        finally:
            db.close()
