"""The ledger on disk: all or nothing, one writer, and everything back after a restart."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from services.execution.ledger import Commit, LedgerBusy, LedgerFailed, SqliteLedger, Step
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
