"""Settings and the command line: every problem is named; nothing else comes out than a refusal or a value."""

from __future__ import annotations

import importlib
import io
import os
from pathlib import Path

from cyclopts.exceptions import CycloptsError
from rich.console import Console

from julie.__main__ import app
from proof.fuzz.engine import PromiseBroken, Target
from shared.runtime.config import (
    SECTIONS,
    BrokerSection,
    JulieSection,
    RedisSection,
    Settings,
    SettingsRefused,
)

COMMON = {"julie": JulieSection, "redis": RedisSection, "broker": BrokerSection}
MODELS = COMMON | {
    name: importlib.import_module(f"services.{name}.config").SECTION
    for name in SECTIONS
    if name not in COMMON
}
SAMPLE = Path(__file__).resolve().parents[2] / "julie.toml"
FOLDER = Path("build/fuzz/settings")
"""An engine may end without a word: what it leaves is no litter here."""
_quiet = Console(file=io.StringIO())


def _settings(data: bytes) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{os.getpid()}.toml"
    file.write_bytes(data)
    name, _, value = data[:80].partition(b"=")
    variable = name.decode("utf-8", "ignore").replace("\0", "").strip()
    environment = {
        "JULIE_CONFIG": str(file),
        f"JULIE_{variable.upper()}": value.decode("utf-8", "ignore").replace("\0", ""),
    }
    settings = Settings.read(environment)
    try:
        checked = settings.sections(**MODELS)
    except SettingsRefused as refused:
        if not refused.problems or not all(refused.problems) or "Traceback" in str(refused):
            raise PromiseBroken(f"refused without a reason: {refused!r}") from refused
        return
    assert len(settings.fingerprint()) == 12
    assert set(checked) == set(MODELS)


def _command_line(data: bytes) -> None:
    tokens = [part.decode("utf-8", "ignore") for part in data.split(b"\0")]
    try:
        app.parse_args(tokens, exit_on_error=False, print_error=False, error_console=_quiet, console=_quiet)
    except CycloptsError as error:
        if not str(error):
            raise PromiseBroken(f"{tokens} refused without a word") from error


def _samples() -> list[bytes]:
    text = SAMPLE.read_text(encoding="utf-8")
    sections = ["[" + part for part in text.split("\n[")[1:]]
    bare = ["\n".join(line for line in part.splitlines() if not line.startswith("#")) for part in sections]
    return [part.encode() for part in (*bare, text)]


_LINES = (
    "up", "up --replay x.csv --speed 60 --symbol ES", "up --detach", "down", "status --json",
    "tail md:{MES} --count 5 --last 3 --kind bar", "halt --reason x", "resume", "flatten --symbol MES",
    "doctor", "health feed", "--help", "tail --help", "--version",
)  # fmt: skip

TARGETS = (
    Target("settings", _samples(), _settings, 3),
    Target("command_line", [line.replace(" ", "\0").encode() for line in _LINES], _command_line, 2),
)
