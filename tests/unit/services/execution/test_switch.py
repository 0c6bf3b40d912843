"""The kill switch: a file or a signal, read without a bus."""

from __future__ import annotations

from pathlib import Path

from services.execution.switch import KillSwitch


def test_nothing_is_pulled(tmp_path: Path) -> None:
    assert KillSwitch(tmp_path / "halt").pulled() is None


def test_the_file_halts_as_long_as_it_is_there(tmp_path: Path) -> None:
    flag = tmp_path / "halt"
    switch = KillSwitch(flag)
    flag.touch()
    assert switch.pulled() == switch.pulled() == f"the file {flag}"
    flag.write_text("enough (julie:me)\n")
    assert switch.pulled() == f"the file {flag}: enough (julie:me)"
    flag.write_bytes(b"\xff" * 100_000)
    told = switch.pulled()
    assert told is not None and len(told) < 400
    flag.unlink()
    assert switch.pulled() is None


def test_a_file_that_cannot_be_read_halts(tmp_path: Path) -> None:
    (tmp_path / "halt").mkdir()
    told = KillSwitch(tmp_path / "halt").pulled()
    assert told is not None and "cannot be read" in told


def test_the_signal_halts_once(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "halt")
    switch.pull()
    assert switch.pulled() == "SIGUSR1"
    assert switch.pulled() is None  # the ledger keeps the halt
