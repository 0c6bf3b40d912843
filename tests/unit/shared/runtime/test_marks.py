from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.marks import VARIABLE, parse

ROOT = Path(__file__).resolve().parents[4]
WALK = """
from shared.runtime import marks
for _ in range(3):
    for name in ("before_claim", "after_claim"):
        print(name, flush=True)
        marks.reached(name)
"""


def walk(spec: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WALK],
        env={} if spec is None else {VARIABLE: spec},
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("after_claim:kill", ("after_claim", signal.SIGKILL, 1)),
        ("before_publish:stop:3", ("before_publish", signal.SIGSTOP, 3)),
    ],
)
def test_spec(text: str, wanted: tuple[str, signal.Signals, int]) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    "text", ["after_claim", "after_clam:kill", "after_claim:term", "after_claim:kill:0", ""]
)
def test_what_is_no_spec_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="marks are before_claim"):
        parse(text)


def test_unarmed_does_nothing() -> None:
    done = walk(None)
    assert (done.returncode, len(done.stdout.split())) == (0, 6)


def test_kills_at_the_time_that_was_asked_for() -> None:
    done = walk("after_claim:kill:2")
    assert (done.returncode, len(done.stdout.split())) == (-signal.SIGKILL, 4), done.stderr


def test_a_file_arms_once(tmp_path: Path) -> None:
    file = tmp_path / "mark"
    assert walk(f"@{file}").returncode == 0
    file.write_text("before_claim:kill")
    assert walk(f"@{file}").returncode == -signal.SIGKILL
    assert not file.exists()
    assert walk(f"@{file}").returncode == 0
