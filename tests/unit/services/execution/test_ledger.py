"""The ledger on disk: all or nothing, one writer, and everything back after a restart."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from services.execution.audit import TABLES, Audit, audit
from services.execution.chain import Text
from services.execution.ledger import Commit, LedgerBusy, LedgerFailed, Run, SqliteLedger, Step
from services.execution.records import Standing
from services.execution.state import State
from tests.support.execution import Desk, durable, make_submit

NOTHING = Commit(steps=[], orders={}, fills={}, standing=None, cursors={})


def copy_of(desk: Desk, ledger: SqliteLedger) -> None:
    """Write everything the desk's ledger holds in one commit."""
    kept = desk.ledger.load()
    ledger.commit(
        Commit(
            steps=desk.ledger.kept_steps,
            orders={order.client_order_id: order for order in kept.orders},
            fills={(fill.fill_id, fill.part): fill for fill in kept.fills},
            standing=kept.standing,
            cursors={"reports:{1001}": "17-4"},
        )
    )


def filled_desk() -> Desk:
    desk = Desk()
    desk.ready()
    desk.opened("o1", qty=2)
    desk.intent(make_submit("o2", qty=99))
    return desk


def test_state_comes_back_from_the_file(tmp_path: Path) -> None:
    desk = filled_desk()
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001)
    copy_of(desk, ledger)
    ledger.close()
    again = SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001)
    contents = again.load()
    state = State(desk.rules)
    state.load(contents.standing, contents.orders, contents.fills)
    assert durable(state) == durable(desk.state)
    assert contents.last_seq == len(desk.ledger.kept_steps)
    assert contents.cursors == {"reports:{1001}": "17-4"}
    assert again.steps(3, 2) == desk.ledger.kept_steps[2:4]
    again.close()


def test_a_commit_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path, account_id=1001)
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    copy_of(filled_desk(), ledger)
    with sqlite3.connect(path) as reader:  # readers are welcome while it is being written
        assert reader.execute("SELECT count(*) FROM orders").fetchone()[0] >= 2
    reader.close()
    ledger.close()


def test_half_a_commit_leaves_nothing(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001)
    step = Step(1, 1, b"order_claimed", b"{}", "")
    ledger.commit(NOTHING._replace(steps=[step]))
    with pytest.raises(LedgerFailed):  # the second step's number is taken
        ledger.commit(NOTHING._replace(steps=[step._replace(seq=2), step], cursors={"s": "1-1"}))
    contents = ledger.load()
    assert (contents.last_seq, contents.cursors) == (1, {})
    ledger.close()


def test_one_writer(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001)
    with pytest.raises(LedgerBusy, match="another execution process"):
        SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001)
    ledger.close()
    SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001).close()


def test_another_account_is_refused(tmp_path: Path) -> None:
    SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001).close()
    with pytest.raises(LedgerFailed, match=r"account_id is 1001, not 7; point julie\.data_dir"):
        SqliteLedger(tmp_path / "ledger.sqlite", account_id=7)
    SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001).close()


def test_a_file_that_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(LedgerFailed, match=r"ledger\.sqlite"):
        SqliteLedger(path, account_id=1001)


def test_housekeeping_changes_nothing(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", account_id=1001)
    for n in range(60):
        ledger.commit(NOTHING._replace(cursors={"s": f"1-{n}"}))
    assert ledger.untidy
    ledger.tidy()
    assert not ledger.untidy
    assert ledger.load().cursors == {"s": "1-59"}
    ledger.close()


def traded_file(folder: Path) -> Path:
    """Write what a desk decided, commit by commit as it was decided, and return the closed file."""
    path = folder / "ledger.sqlite"
    ledger = SqliteLedger(path, account_id=1001, run=Run(1, "build", "settings"))
    copy_of(filled_desk(), ledger)
    ledger.commit(NOTHING._replace(cursors={"reports:{1001}": "18-5"}, sent=["Cancel 7"], ts_ns=5))
    ledger.close()
    again = SqliteLedger(path, account_id=1001, run=Run(2, "other", "settings"))
    again.commit(
        NOTHING._replace(steps=[Step(again.load().last_seq + 1, 9, b"trading_state", b"{}", "c@1-1")])
    )
    again.close()
    return path


def altered(path: Path, *statements: str) -> Audit:
    """Audit the file after some SQL by somebody else."""
    copy = path.with_name("altered.sqlite")
    shutil.copy(path, copy)
    with sqlite3.connect(copy) as db:
        for statement in statements:
            assert db.execute(statement).rowcount > 0, statement
    db.close()
    return audit(copy)


def test_a_sound_ledger_is_found_sound_also_while_it_is_written(tmp_path: Path) -> None:
    path = traded_file(tmp_path)
    done = audit(path)
    assert done.bad is None
    assert done.rows["runs"] == 2
    assert done.rows["steps"] > 10
    assert min(done.rows.values()) > 0, "every table was looked at"
    ledger = SqliteLedger(path, account_id=1001)
    during = audit(path)
    assert (during.bad, during.rows["runs"], during.last_step) == (None, 3, done.last_step)
    assert during.head != done.head
    ledger.close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE steps SET message = replace(message, 'buy', 'bux') WHERE seq = 3", "step 3 does not follow"),
        ("UPDATE steps SET cause = cause || 'x' WHERE seq = 3", "step 3 does not follow"),
        ("UPDATE steps SET ts_ns = ts_ns + 1 WHERE seq = 4 AND kind != ''", "step 4 does not follow"),
        ("UPDATE steps SET run = 2 WHERE seq = 2", "step 2 does not follow"),
        ("UPDATE steps SET hash = 'a' || substr(hash, 2) WHERE seq = 2", "step 2 does not follow"),
        ("UPDATE steps SET wrote = replace(wrote, 'Cancel 7', 'Cancel 8')", "does not follow"),
        ("DELETE FROM steps WHERE seq = 2", "step 3 does not follow from step 1"),
        ("DELETE FROM steps WHERE place = 1", "does not follow"),
        ("UPDATE orders SET status = 'canceled' WHERE client_order_id = 'o1'", "orders/o1 is not what step"),
        ("DELETE FROM orders WHERE client_order_id = 'o1'", "orders/o1 is missing; step"),
        ("UPDATE fills SET record = replace(record, '5000', '5001')", "fills/1/0 is not what step"),
        ("DELETE FROM fills", "fills/1/0 is missing"),
        (
            "INSERT INTO fills SELECT 99, part, client_order_id, record FROM fills",
            "fills/99/0 is there, and no",
        ),
        ("UPDATE facts SET value = '7' WHERE name = 'account_id'", "facts/account_id is not"),
        (
            "UPDATE facts SET value = replace(value, '1', '2') WHERE name = 'standing'",
            "facts/standing is not",
        ),
        ("UPDATE cursors SET id = '18-6'", "cursors/reports:{1001} is not what step"),
        ("DELETE FROM cursors", "cursors/reports:{1001} is missing"),
        ("UPDATE runs SET build = 'mine' WHERE run = 1", "runs/1 is not what step"),
        ("UPDATE runs SET settings = CAST(settings AS BLOB)", "runs/1 is not what step"),
        ("DELETE FROM runs WHERE run = 2", "runs/2 is missing"),
    ],
)
def test_one_change_is_found_and_named(tmp_path: Path, statement: str, named: str) -> None:
    bad = altered(traded_file(tmp_path), statement).bad
    assert bad is not None
    assert named in bad


def test_two_steps_that_change_places_are_found(tmp_path: Path) -> None:
    bad = altered(
        traded_file(tmp_path),
        "UPDATE steps SET place = -1 WHERE place = 2000000",
        "UPDATE steps SET place = 2000000 WHERE place = 3000000",
        "UPDATE steps SET place = 3000000 WHERE place = -1",
    ).bad
    assert bad is not None
    assert "step 2 does not follow" in bad


def test_an_end_that_was_cut_off_is_found_as_far_as_the_file_knows(tmp_path: Path) -> None:
    path = traded_file(tmp_path)
    ledger = SqliteLedger(path, account_id=1001)
    ledger.commit(NOTHING._replace(standing=Standing(acked_seq=ledger.load().last_seq + 1)))
    ledger.close()
    bad = audit(path).bad
    assert bad is not None
    assert "the end was cut off" in bad


def logical(path: Path) -> object:
    """Return everything that the file says, or that it says nothing."""
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            db.text_factory = Text
            rows = [db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]
        db.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)
    return [[[(type(value), value) for value in row] for row in table] for table in rows]


def test_any_flipped_byte_that_changes_what_the_ledger_says_is_found(tmp_path: Path) -> None:
    path = tmp_path / "dense.sqlite"
    with sqlite3.connect(traded_file(tmp_path)) as db:
        db.execute("VACUUM INTO ?", (str(path),))  # without the free pages, where nothing is said
    db.close()
    sound, before = path.read_bytes(), logical(path)
    assert audit(path).bad is None
    chance, flipped = random.Random(20_261_122), 0
    for at in sorted(chance.sample(range(len(sound)), 4_000)):
        if sound[at] == 0 and chance.random() < 0.9:
            continue  # unused room between rows, mostly
        raw = bytearray(sound)
        raw[at] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)
        if logical(path) != before:
            flipped += 1
            assert audit(path).bad is not None, f"byte {at}"
    assert flipped > 500


OLD_SCHEMA = """
CREATE TABLE steps (
    seq INTEGER PRIMARY KEY, ts_ns INTEGER NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
    cause TEXT NOT NULL
);
CREATE TABLE orders (
    client_order_id TEXT PRIMARY KEY, status TEXT NOT NULL, record TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE fills (
    fill_id INTEGER NOT NULL, part INTEGER NOT NULL, client_order_id TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (fill_id, part)
) WITHOUT ROWID;
CREATE TABLE cursors (stream TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def test_a_file_without_a_chain_is_taken_in_as_it_is(tmp_path: Path) -> None:
    path, new = tmp_path / "old.sqlite", traded_file(tmp_path)
    with sqlite3.connect(path) as db:
        db.executescript(OLD_SCHEMA)
        db.execute("ATTACH ? AS new", (str(new),))
        db.execute(
            "INSERT INTO steps SELECT seq, ts_ns, kind, message, cause FROM new.steps WHERE kind != ''"
        )
        for table in ("orders", "fills", "cursors"):
            db.execute(f"INSERT INTO {table} SELECT * FROM new.{table}")
        db.execute("INSERT INTO facts SELECT name, iif(name = 'schema', '1', value) FROM new.facts")
    db.close()
    unchained = audit(path).bad
    assert unchained is not None
    assert "has no chain yet; the next start of execution adds it" in unchained
    with_chain = SqliteLedger(new, account_id=1001)
    wanted, steps = with_chain.load(), with_chain.steps(1, 100)
    with_chain.close()
    ledger = SqliteLedger(path, account_id=1001, run=Run(3, "b", "s"))
    assert ledger.load() == wanted
    assert ledger.steps(1, 100) == steps
    ledger.commit(NOTHING._replace(steps=[Step(wanted.last_seq + 1, 1, b"trading_state", b"{}", "")]))
    ledger.close()
    done = audit(path)
    assert (done.bad, done.chained_from_step, done.last_step) == (None, wanted.last_seq, wanted.last_seq + 1)
    assert "facts/schema is not" in str(
        altered(path, "UPDATE facts SET value = '3' WHERE name = 'schema'").bad
    )


def test_a_file_of_a_newer_build_is_left_alone(tmp_path: Path) -> None:
    path = traded_file(tmp_path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE facts SET value = '3' WHERE name = 'schema'")
    db.close()
    with pytest.raises(LedgerFailed, match="schema is 3, this build knows 2"):
        SqliteLedger(path, account_id=1001)
