"""The record's file: whole or not at all, and never guessed at."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.guard.record import Breach, Record, Rule
from services.guard.store import RecordFile, RecordTaken, RecordUnreadable
from tests.support.guard_desk import GuardDesk

RECORD = Record(
    account_id=1001,
    since="",
    day="2026-03-04",
    start_balance=Decimal(50_000),
    eod_balance=Decimal("50123.45"),
    high_balance=Decimal("50900.10"),
    latch=Breach(rule=Rule.DAILY_LOSS, reason="daily loss: -1000.00", ts_breach_ns=7),
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "deep" / "guard-1001.json")
    assert file.load(account_id=1001, since="") is None
    file.write(RECORD)
    assert file.load(account_id=1001, since="") == RECORD
    assert sorted(one.name for one in file.path.parent.iterdir()) == ["guard-1001.json", "guard-1001.lock"]


def test_a_record_of_before_a_reset_is_forgotten(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "guard.json")
    file.write(RECORD)
    assert file.load(account_id=1001, since="2026-03-01") is None


def test_another_accounts_record_is_not_ours(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "guard.json")
    file.write(RECORD)
    with pytest.raises(RecordUnreadable, match="it is of account 1001"):
        file.load(account_id=1002, since="")
    assert file.path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"account_id": 1001}', b"[]", b"\xff\xfe"])
def test_a_damaged_record_is_put_aside_and_told(tmp_path: Path, content: bytes) -> None:
    file = RecordFile(tmp_path / "guard.json")
    file.path.write_bytes(content)
    with pytest.raises(RecordUnreadable, match="then re-arm"):
        file.load(account_id=1001, since="")
    assert file.path.with_suffix(".unreadable").read_bytes() == content


def test_a_damaged_record_is_found_at_every_start_until_another_takes_its_place(tmp_path: Path) -> None:
    """A kill before the latch is written must not make it a first start."""
    file = RecordFile(tmp_path / "guard.json")
    file.path.write_bytes(b"{")
    for _ in range(2):
        with pytest.raises(RecordUnreadable):
            file.load(account_id=1001, since="")
    file.write(RECORD)
    assert file.load(account_id=1001, since="") == RECORD
    assert file.path.with_suffix(".unreadable").read_bytes() == b"{"


def test_a_half_written_new_one_changes_nothing(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "guard.json")
    file.write(RECORD)
    file.path.with_suffix(".new").write_bytes(b'{"account_id": 10')
    assert file.load(account_id=1001, since="") == RECORD


def test_a_guard_that_was_replaced_while_it_was_stopped_writes_nothing_over_the_newer_record(
    tmp_path: Path,
) -> None:
    """Its own record is of before the breach: with it the latch would be forgotten."""
    calm = msgspec.structs.replace(RECORD, latch=None)
    older = RecordFile(tmp_path / "guard.json")
    assert older.load(account_id=1001, since="") is None
    older.write(calm)
    newer = RecordFile(older.path)
    newer.load(account_id=1001, since="")
    newer.write(RECORD)
    with pytest.raises(RecordTaken, match="another guard"):
        older.write(msgspec.structs.replace(calm, day="2026-03-05"))
    assert newer.load(account_id=1001, since="") == RECORD
    newer.write(calm)


def test_the_first_of_two_that_found_no_record_keeps_it(tmp_path: Path) -> None:
    one, other = RecordFile(tmp_path / "guard.json"), RecordFile(tmp_path / "guard.json")
    for file in (one, other):
        assert file.load(account_id=1001, since="") is None
    one.write(RECORD)
    with pytest.raises(RecordTaken):
        other.write(RECORD)


def test_each_life_has_a_record_of_its_own_from_the_start(tmp_path: Path) -> None:
    """Written first thing: else an older one that wakes could still re-arm what the newer one enforces."""
    older = RecordFile(tmp_path / "guard.json")
    older.write(RECORD)
    state = GuardDesk().state
    state.recall(RecordFile(older.path).load(account_id=1001, since=""))
    assert state.record is not None
    assert (state.record.lives, state.record.latch) == (1, RECORD.latch)
    newer = RecordFile(older.path)
    newer.load(account_id=1001, since="")
    newer.write(state.record)
    with pytest.raises(RecordTaken):
        older.write(msgspec.structs.replace(RECORD, latch=None))


def test_nobody_writes_between_anothers_look_and_its_writing(tmp_path: Path) -> None:
    """A guard that was frozen in between would erase what a newer one has latched meanwhile."""
    calm, meanwhile = msgspec.structs.replace(RECORD, latch=None), []

    class Frozen(RecordFile):
        def _replace(self, value: bytes) -> None:
            newer = RecordFile(self.path)
            newer.load(account_id=1001, since="")
            with pytest.raises(OSError, match=r"another guard holds .*guard\.lock") as caught:
                newer.write(RECORD)
            meanwhile.append(caught.value)
            super()._replace(value)

    older = Frozen(tmp_path / "guard.json")
    older.load(account_id=1001, since="")
    older.write(calm)
    assert len(meanwhile) == 1
    newer = RecordFile(older.path)
    newer.load(account_id=1001, since="")
    newer.write(RECORD)


def test_the_newest_guard_may_write_over_what_it_has_looked_at_again(tmp_path: Path) -> None:
    older, newer = RecordFile(tmp_path / "guard.json"), RecordFile(tmp_path / "guard.json")
    for file in (older, newer):
        file.load(account_id=1001, since="")
    older.write(msgspec.structs.replace(RECORD, latch=None))
    with pytest.raises(RecordTaken):
        newer.write(RECORD)
    newer.look_again()
    newer.write(RECORD)
    with pytest.raises(RecordTaken):
        older.write(msgspec.structs.replace(RECORD, latch=None))
