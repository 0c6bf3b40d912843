"""The whole system through real processes, as a user starts it, in a folder and on a port of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from julie.installation import Installation
from julie.status import collect
from shared.bus.port import BusAway, BusRefused
from tests.support.eventually import TIME_FACTOR

ROOT = Path(__file__).resolve().parents[2]
UP_TIMEOUT_S = 90.0 * TIME_FACTOR
DOWN_TIMEOUT_S = 60.0 * TIME_FACTOR


def free_port() -> int:
    """Return a TCP port of the loopback address that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Stack:
    """One installation. `julie(...)` runs the command line against it."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        port = free_port()
        self.folder = folder
        self.rest_url = f"http://127.0.0.1:{port}"
        self.variables = {
            "JULIE_CONFIG": str(ROOT / "julie.toml"),
            "JULIE_JULIE__DATA_DIR": str(folder),
            "JULIE_SIMULATOR__PORT": str(port),
            "JULIE_BROKER__REST_URL": self.rest_url,
            "JULIE_BROKER__HUB_URL": f"{self.rest_url}/hubs",
            **variables,
        }
        self.environment = os.environ | self.variables
        self.first_up: subprocess.CompletedProcess[str]

    def julie(
        self, *arguments: str, timeout_s: float = 60.0 * TIME_FACTOR, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one command and return what it printed, whatever its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "julie", *arguments],
            env=self.environment | variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def up(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Start everything and return when it is ready."""
        done = self.julie("up", "--detach", *arguments, timeout_s=UP_TIMEOUT_S)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done

    def down(self) -> subprocess.CompletedProcess[str]:
        return self.julie("down", timeout_s=DOWN_TIMEOUT_S)

    def installation(self, **variables: str) -> Installation:
        """Return the installation as the command line sees it, for looks without a process each."""
        return Installation.find(self.variables | variables)

    async def look(self) -> dict[str, Any]:
        """Return what `julie status --json` shows; {} while the bus does not answer."""
        try:
            return await collect(self.installation())
        except (BusAway, BusRefused):
            return {}

    def processes(self) -> dict[int, str]:
        """Return every process of this installation that exists, however it came to be: pid -> command."""
        mark = f"JULIE_JULIE__DATA_DIR={self.folder}\0".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                ours = mark in (folder / "environ").read_bytes() + b"\0"
                # The server writes its title over its environment.
                if command and (ours or str(self.folder) in command):  # empty: has ended, not yet reaped
                    found[int(folder.name)] = command
            except (OSError, ValueError):
                continue
        return found

    def status(self) -> dict[str, Any]:
        found = json.loads(self.julie("status", "--json").stdout)
        assert isinstance(found, dict)
        return found

    def logs(self, lines: int = 40) -> str:
        """Return the end of every log, for a failure's message."""
        parts = []
        for path in sorted(self.folder.rglob("logs/*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append(f"--- {path.name}\n" + "\n".join(tail))
        return "\n".join(parts)


@contextmanager
def running_stack(*arguments: str, survives_kills: bool = False, **variables: str) -> Iterator[Stack]:
    """Start the system with `julie up ARGUMENTS` and stop it afterwards, whatever happens.

    Args:
        survives_kills: As in `tests.support.valkey`: a slow disk must not make the bus lose what it has
            acknowledged when a test kills it.
    """
    folder = Path(tempfile.mkdtemp(prefix="julie-"))
    memory = Path("/dev/shm") / folder.name
    if survives_kills and memory.parent.is_dir():
        memory.mkdir()
        (folder / "redis").symlink_to(memory)
    stack = Stack(folder, variables)
    try:
        stack.first_up = stack.up(*arguments)
        yield stack
    finally:
        stack.down()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)
