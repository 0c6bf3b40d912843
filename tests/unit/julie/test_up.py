"""What `julie up` works out before it starts anything."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from julie.installation import Installation, SettingsRefused, check_settings, section_models
from julie.processes import PROCESSES
from julie.up import needs_simulator, promise_of, ready_line, replay_variables, running_pid
from shared.runtime.config import Settings


@pytest.fixture(autouse=True)
def example_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JULIE_CONFIG", str(Path(__file__).parents[3] / "julie.toml"))
    monkeypatch.setenv("JULIE_JULIE__DATA_DIR", str(tmp_path))


def installation(**variables: str) -> Installation:
    return Installation.find(variables)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_promises_name_the_settings_in_force(process: object) -> None:
    from julie.processes import Process

    assert isinstance(process, Process)
    said = promise_of(process, installation(JULIE_JULIE__SYMBOLS='["ES","NQ"]').all_sections())
    assert "{" not in said
    expected = {"heartbeat": "every 60 s", "broker_sync": "every 30 s", "feed": "of ES, NQ;"}
    assert expected.get(process.name, "") in said


def test_a_promise_follows_its_setting() -> None:
    found = installation(JULIE_BROKER_SYNC__RECONCILE_INTERVAL_S="12.5")
    (sync,) = [process for process in PROCESSES if process.name == "broker_sync"]
    assert "every 12.5 s" in promise_of(sync, found.all_sections())


def test_a_ready_line_wraps_below_its_promise() -> None:
    console = Console(file=io.StringIO(), width=60)
    console.print(ready_line("feed", 3.25, "a promise that is longer than what the terminal has room for"))
    first, *rest = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first.startswith("ready  3.2 s  feed         a promise")
    assert rest
    assert all(line.startswith(" " * 27) for line in rest)


def test_a_replay_is_an_installation_of_its_own(tmp_path: Path) -> None:
    recording = tmp_path / "nq-friday.csv.gz"
    variables = replay_variables(installation(), recording, 30.0, "NQ")
    replayed = installation(**variables)
    assert replayed.julie.data_dir.parent == tmp_path
    assert replayed.julie.data_dir.name.startswith("replay-nq-friday-")
    assert replayed.julie.symbols == ("NQ",)
    assert (replayed.julie.market_clock, replayed.julie.market_speed) == ("venue", 30.0)
    sections = replayed.all_sections()
    assert sections["simulator"].model_dump()["source"] == "replay"
    assert sections["simulator"].model_dump()["replay_file"] == recording.resolve()
    assert sections["simulator"].model_dump()["replay_symbol"] == "NQ"
    (instance,) = json.loads(variables["JULIE_STRATEGY__INSTANCES"])
    assert instance == {
        "id": "breakout-nq",
        "class": "strategies.breakout:Breakout",
        "symbols": ["NQ"],
    }, "nobody trades NQ, so the example does"


def test_a_replay_takes_the_instances_that_trade_its_symbol(tmp_path: Path) -> None:
    variables = replay_variables(installation(), tmp_path / "mes.csv", 1.0, "MES")
    assert [one["id"] for one in json.loads(variables["JULIE_STRATEGY__INSTANCES"])] == ["breakout-mes"]
    installation(**variables).all_sections()


def test_the_simulator_runs_when_the_broker_is_here() -> None:
    assert needs_simulator(installation())
    assert needs_simulator(installation(JULIE_BROKER__REST_URL="http://localhost:1"))
    assert not needs_simulator(installation(JULIE_BROKER__REST_URL="https://api.topstepx.com"))


def test_a_pid_file_alone_is_not_a_running_system(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    (tmp_path / "supervisord.pid").write_text("no number")
    assert running_pid(tmp_path) is None
    (tmp_path / "supervisord.pid").write_text("1")  # somebody else's by now
    assert running_pid(tmp_path) is None


def test_all_sections_are_looked_at_together() -> None:
    wrong = {
        "JULIE_FEED__STALE_AFTR_S": "5",
        "JULIE_EXECUTION__TICK_MS": "-1",
        "JULIE_JULIE__SYMBOLS": '["mes"]',
        "JULIE_HARTBEAT__X": "1",
    }
    with pytest.raises(SettingsRefused) as refused:
        check_settings(wrong)
    told = str(refused.value)
    assert len(refused.value.problems) == 4
    for word in ("'stale_after_s'?", "execution.tick_ms", "'mes'", "'heartbeat'?"):
        assert word in told


def test_every_section_has_a_model() -> None:
    models = section_models()
    assert {"heartbeat", "feed", "broker_sync", "strategy", "execution", "recorder", "simulator"} <= set(
        models
    )
    assert Settings.read().sections(**models)
