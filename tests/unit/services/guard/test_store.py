"""The record's file: whole or not at all, and never guessed at."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from services.guard.record import Breach, Record, Rule
from services.guard.store import RecordFile, RecordUnreadable

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
    assert [one.name for one in file.path.parent.iterdir()] == ["guard-1001.json"]


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
