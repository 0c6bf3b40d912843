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

ROOT = Path(__file__).resolve().parents[2]
UP_TIMEOUT_S = 90.0
DOWN_TIMEOUT_S = 60.0


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
        self.environment = os.environ | {
            "JULIE_CONFIG": str(ROOT / "julie.toml"),
            "JULIE_JULIE__DATA_DIR": str(folder),
            "JULIE_SIMULATOR__PORT": str(port),
            "JULIE_BROKER__REST_URL": f"http://127.0.0.1:{port}",
            "JULIE_BROKER__HUB_URL": f"http://127.0.0.1:{port}/hubs",
            **variables,
        }

    def julie(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one command and return what it printed, whatever its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "julie", *arguments],
            env=self.environment,
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
def running_stack(*arguments: str, **variables: str) -> Iterator[Stack]:
    """Start the system with `julie up ARGUMENTS` and stop it afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="julie-"))
    stack = Stack(folder, variables)
    try:
        stack.up(*arguments)
        yield stack
    finally:
        stack.down()
        shutil.rmtree(folder, ignore_errors=True)
