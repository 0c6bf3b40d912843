"""Every command of the runbook does what it says, as it stands there, against a live system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import redis_cli
from tests.support.eventually import TIME_FACTOR
from tests.support.stack import ROOT, Stack, running_stack

RUNBOOK = ROOT / "docs" / "runbook.md"
COMMAND_WITHIN_S = 60.0 * TIME_FACTOR
TRADED_WITHIN_S = 90.0
RUN = ("julie ", "redis-cli ", "supervisorctl ")
MAY_BE_EMPTY = "may-be-empty"
SHOWN = "shown"
"""Settings, and what this page does not vouch for: shown and not run."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400 * TIME_FACTOR)]


class Block(NamedTuple):
    line: int
    mark: str
    commands: list[str]


def blocks() -> list[Block]:
    """Return the fenced shell blocks of the runbook, in order."""
    found: list[Block] = []
    current: Block | None = None
    for number, line in enumerate(RUNBOOK.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.fullmatch(r"```(.*)", line)
        if fence is None:
            if current is not None and line.strip():
                current.commands.append(line)
        elif current is not None:
            found.append(current)
            current = None
        else:
            language, _, mark = fence[1].partition(" ")
            assert language in ("sh", "toml", "text"), (
                f"runbook line {number}: what is a block of {language}?"
            )
            current = Block(number, mark if language == "sh" else SHOWN, [])
    assert current is None
    for block in found:
        hidden = [line for line in block.commands if block.mark == SHOWN and line.startswith(RUN)]
        assert not hidden, f"runbook line {block.line}: {hidden} would not be run"
    return [block for block in found if block.mark != SHOWN]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack() as running:
        running.environment["PATH"] = f"{_tools(tmp_path_factory)}{os.pathsep}{os.environ['PATH']}"
        seen = running.julie("tail", "orders:{1001}", "--kind", "order_filled", "--count", "1",
                             timeout_s=TRADED_WITHIN_S * TIME_FACTOR)  # fmt: skip
        assert seen.returncode == 0
        yield running


def _tools(factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the commands need and this machine may lack."""
    folder = factory.mktemp("bin")
    module = Path(redis_cli.__file__)
    tools = {} if shutil.which("redis-cli") else {"redis-cli": f'exec {sys.executable} {module} "$@"'}
    own = Path(sys.executable).parent
    for name in ("julie", "supervisorctl", "python3"):
        if (own / name).exists():
            tools[name] = f'exec {own / name} "$@"'
    for name, line in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def run(stack: Stack, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euc", script],
        env=stack.environment, cwd=ROOT, capture_output=True, text=True,
        timeout=COMMAND_WITHIN_S, check=False,
    )  # fmt: skip


def exported(stack: Stack, lines: list[str]) -> None:
    """Do what these lines do to a shell, for all commands that follow."""
    names = [line.removeprefix("export ").partition("=")[0] for line in lines]
    show = [f"printf '%s\\0' \"${name}\"" for name in names]
    done = run(stack, "\n".join([*lines, *show]))
    assert done.returncode == 0, done.stderr
    stack.environment |= dict(zip(names, done.stdout.split("\0"), strict=False))


def test_every_command_works_as_it_stands(stack: Stack) -> None:
    count = 0
    for block in blocks():
        if lines := [line for line in block.commands if line.startswith("export ")]:
            exported(stack, lines)
        for command in block.commands:
            if command.startswith("export "):
                continue
            assert command.startswith(RUN), f"runbook line {block.line}: {command!r} is not tried by anybody"
            done = run(stack, command)
            told = f"runbook block at line {block.line}: {command}\n{done.stdout}{done.stderr}"
            assert done.returncode == 0, told + stack.logs(10)
            assert done.stdout.strip() or block.mark == MAY_BE_EMPTY, told
            count += 1
    assert count > 40
