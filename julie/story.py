"""What the ledger knows of one order: its record, its family, its steps, what was sent for it. Reads only."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from services.execution.chain import Wrote
from services.execution.records import FillRecord, OrderRecord

COLUMNS = "seq, steps.ts_ns, kind, message, cause, build, settings"


class Told(NamedTuple):
    """One step, and the run of execution that made it."""

    seq: int
    ts_ns: int
    kind: str
    message: dict[str, Any]
    cause: str
    build: str
    settings: str


class Sent(NamedTuple):
    """What left for the broker after the commit of a step."""

    seq: int
    ts_ns: int
    words: str


class Story(NamedTuple):
    """Attributes:
    order: As it stands; None for an order of others, and for an id that was refused before it was one.
    family: The order and the stop and target that came with it.
    cause: The entry that it came from, `stream@id`: an intent; empty when nothing tells.
    """

    name: str
    order: OrderRecord | None
    family: list[OrderRecord]
    fills: list[FillRecord]
    steps: list[Told]
    sent: list[Sent]
    cause: str


def story(path: Path, wanted: str) -> Story | None:
    """Return what is known of an order.

    Args:
        wanted: Our id of it, or the broker's number.

    Raises:
        sqlite3.Error: The file cannot be read.
    """
    db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
    try:
        db.execute("BEGIN")
        return _story(db, wanted)
    finally:
        db.close()


def _story(db: sqlite3.Connection, wanted: str) -> Story | None:
    order = _order(db, wanted)
    name = order.client_order_id if order is not None else wanted
    head = order.parent or name if order is not None else name
    family = [
        msgspec.json.decode(record, type=OrderRecord)
        for (record,) in db.execute(
            "SELECT record FROM orders WHERE client_order_id = ? OR record ->> 'parent' = ? "
            "ORDER BY client_order_id",
            (head, head),
        )
    ]
    names = {one.client_order_id for one in family} | {name}
    numbers = {one.broker_order_id for one in family if one.broker_order_id is not None}
    if order is None and wanted.isdecimal():
        numbers.add(int(wanted))
    steps = _steps(db, names, numbers if order is None else set())
    if order is None and not steps:
        return None
    marks = ", ".join("?" * len(names))
    fills = db.execute(
        f"SELECT record FROM fills WHERE client_order_id IN ({marks}) ORDER BY fill_id, part", sorted(names)
    )
    return Story(
        name=name,
        order=order,
        family=family,
        fills=[msgspec.json.decode(record, type=FillRecord) for (record,) in fills],
        steps=steps,
        sent=_sent(db, names, numbers),
        cause=next((step.cause for step in steps if step.cause), order.cause if order is not None else ""),
    )


def _order(db: sqlite3.Connection, wanted: str) -> OrderRecord | None:
    found = db.execute("SELECT record FROM orders WHERE client_order_id = ?", (wanted,)).fetchone()
    if found is None and wanted.isdecimal():
        question = "SELECT record FROM orders WHERE record ->> 'broker_order_id' = ?"
        found = db.execute(question, (int(wanted),)).fetchone()
    return msgspec.json.decode(found[0], type=OrderRecord) if found is not None else None


def _steps(db: sqlite3.Connection, names: set[str], numbers: set[int]) -> list[Told]:
    question = (
        f"SELECT {COLUMNS} FROM steps JOIN runs USING (run) WHERE kind != '' "
        "AND (message ->> 'client_order_id' IN (SELECT value FROM json_each(?)) "
        "OR message ->> 'broker_order_id' IN (SELECT value FROM json_each(?))) ORDER BY place"
    )
    rows = db.execute(question, (_list(names), _list(numbers)))
    return [Told(seq, ts, kind, msgspec.json.decode(text), *rest) for seq, ts, kind, text, *rest in rows]


def _sent(db: sqlite3.Connection, names: set[str], numbers: set[int]) -> list[Sent]:
    found = []
    for seq, ts_ns, text in db.execute("SELECT seq, ts_ns, wrote FROM steps WHERE wrote LIKE '%\"sent\"%'"):
        for words in msgspec.json.decode(text, type=Wrote).sent:
            kind, _, rest = words.partition(" ")
            about = {"client_order_id": rest} if not rest.startswith("{") else msgspec.json.decode(rest)
            if about.get("client_order_id") in names or about.get("broker_order_id") in numbers:
                found.append(Sent(seq, ts_ns, f"{kind} {rest}"))
    return found


def _list(values: Sequence[Any] | set[Any]) -> str:
    return msgspec.json.encode(sorted(values)).decode()
