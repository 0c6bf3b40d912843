"""The venue's memory across restarts: one SQLite file.

Written once per turn in one transaction, before anybody is told: WAL mode survives
`kill -9` of the process (an operating-system crash may lose the last turns, which a
simulator may). Structs are stored as JSON beside the keys needed to load them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TypeVar

import msgspec

from services.simulator.journal import Journal
from services.simulator.orders import WORKING, Account, Fill, Order, Position
from services.simulator.state import (
    AccountUpdated,
    Command,
    FillBooked,
    OrderUpdated,
    PositionUpdated,
    Rules,
    State,
)

T = TypeVar("T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tags (account_id INTEGER, tag TEXT, PRIMARY KEY (account_id, tag)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fills (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS positions
    (account_id INTEGER, contract_id TEXT, body BLOB NOT NULL, PRIMARY KEY (account_id, contract_id));
CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bars
    (contract_id TEXT, open_ns INTEGER, body BLOB NOT NULL, PRIMARY KEY (contract_id, open_ns)) WITHOUT ROWID;
"""


class _Counters(msgspec.Struct, frozen=True):
    next_order_id: int = 1
    next_fill_id: int = 1
    next_position_id: int = 1


class Store:
    """Open the venue's database, creating it when absent.

    Attributes:
        journal: What was asked, in the same file.
    """

    def __init__(self, path: Path, *, time_name: str = "venue_ns") -> None:
        """Args:
        time_name: Under which venue time is kept: a replay's must not become the synthetic market's.
        """
        self._time_name = time_name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

        self.journal = Journal(self._db)

    def close(self) -> None:
        self._db.close()

    def load(self, rules: Rules) -> State:
        """Return the venue as it was last written."""
        state = State(rules=rules)
        counters = self.fact("counters", _Counters) or _Counters()
        state.next_order_id = counters.next_order_id
        state.next_fill_id = counters.next_fill_id
        state.next_position_id = counters.next_position_id
        for account in self._rows("SELECT body FROM accounts", Account):
            state.accounts[account.id] = account
        recent = "SELECT body FROM (SELECT id, body FROM {} ORDER BY id DESC LIMIT {}) ORDER BY id"
        for order in self._rows(recent.format("orders", rules.history_max), Order):
            state.orders[order.id] = order
            if order.status in WORKING:
                state.start_working(order)
        state.fills.extend(self._rows(recent.format("fills", rules.history_max), Fill))
        for position in self._rows("SELECT body FROM positions", Position):
            state.positions[(position.account_id, position.contract_id)] = position
        for account_id, tag in self._db.execute("SELECT account_id, tag FROM tags"):
            state.tags.setdefault(account_id, {})[tag] = 0
        for order in state.orders.values():
            if order.custom_tag and order.parent_id is None:
                state.tags[order.account_id][order.custom_tag] = order.created_ns
        return state

    def orders(self) -> list[Order]:
        """Return every order ever written, by id."""
        return self._rows("SELECT body FROM orders ORDER BY id", Order)

    def fills(self) -> list[Fill]:
        """Return every fill ever written, by id."""
        return self._rows("SELECT body FROM fills ORDER BY id", Fill)

    def _rows(self, query: str, kind: type[T]) -> list[T]:
        decoder = msgspec.json.Decoder(kind)
        return [decoder.decode(body) for (body,) in self._db.execute(query)]

    def fact(self, name: str, kind: type[T]) -> T | None:
        """Return one named fact, or None when it was never written."""
        row = self._db.execute("SELECT body FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=kind)

    def put_fact(self, name: str, body: object) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, msgspec.json.encode(body)))

    def venue_ns(self) -> int | None:
        """Return the venue time last written, or None before the first start."""
        return self.fact(self._time_name, int)

    def put_venue_ns(self, venue_ns: int) -> None:
        self.put_fact(self._time_name, venue_ns)

    def write(self, state: State, commands: list[Command], venue_ns: int) -> None:
        """Write what one turn changed, all or nothing."""
        self._db.execute("BEGIN")
        for command in commands:
            self._write_one(command)
        counters = _Counters(state.next_order_id, state.next_fill_id, state.next_position_id)
        self.put_fact("counters", counters)
        self.put_venue_ns(venue_ns)
        self._db.execute("COMMIT")

    def _write_one(self, command: Command) -> None:
        encode = msgspec.json.encode
        run = self._db.execute
        match command:
            case OrderUpdated(order=order):
                run("INSERT OR REPLACE INTO orders VALUES (?, ?)", (order.id, encode(order)))
                if order.custom_tag and order.parent_id is None:
                    run("INSERT OR IGNORE INTO tags VALUES (?, ?)", (order.account_id, order.custom_tag))
            case FillBooked(fill=fill):
                run("INSERT OR REPLACE INTO fills VALUES (?, ?)", (fill.id, encode(fill)))
            case PositionUpdated(position=one) if one.net_qty == 0:
                run(
                    "DELETE FROM positions WHERE account_id = ? AND contract_id = ?",
                    (one.account_id, one.contract_id),
                )
            case PositionUpdated(position=one):
                run(
                    "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
                    (one.account_id, one.contract_id, encode(one)),
                )
            case AccountUpdated(account=account):
                run("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (account.id, encode(account)))

    def write_bars(self, contract_id: str, bars: list[tuple[int, bytes]]) -> None:
        """Write closed bars as (open time, JSON)."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR REPLACE INTO bars VALUES (?, ?, ?)", [(contract_id, *bar) for bar in bars]
        )
        self._db.execute("COMMIT")

    def bars(self, contract_id: str) -> list[bytes]:
        """Return all stored bars of a contract, oldest first."""
        query = "SELECT body FROM bars WHERE contract_id = ? ORDER BY open_ns"
        return [body for (body,) in self._db.execute(query, (contract_id,))]
