"""The switch that `julie` leaves on disk when the bus is away."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from julie.control import drop_flag, pull_flag, resume
from services.execution.switch import KillSwitch
from shared.runtime.config import halt_flag


def installation(folder: Path) -> Any:
    return SimpleNamespace(julie=SimpleNamespace(data_dir=folder))


def test_the_flag_that_julie_writes_is_the_one_execution_reads(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    switch = KillSwitch(halt_flag(tmp_path))
    assert pull_flag(installation(tmp_path), "halt: enough", console)
    told = switch.pulled()
    assert told is not None and "halt: enough (julie:" in told
    drop_flag(installation(tmp_path), console)
    assert switch.pulled() is None
    drop_flag(installation(tmp_path), console)  # nothing to remove is no error


def test_a_flag_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    written = io.StringIO()
    assert not pull_flag(installation(tmp_path / "absent"), "halt", Console(file=written, width=300))
    assert "No such file" in written.getvalue()


def test_arming_a_strategy_names_it() -> None:
    assert resume("looked").strategy_id is None
    assert resume("looked", "breakout-mes").strategy_id == "breakout-mes"
