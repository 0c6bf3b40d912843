"""A service under its warm parent: back at once after a kill, gone for good when it wants to, never alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.support.hostile_server import closed_port

ROOT = Path(__file__).resolve().parents[2]


class Kept:
    """Attributes: parent: the process that a supervisor would start."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-m", "shared.runtime.warm", "tests.support.warm_service"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    @property
    def _out(self) -> IO[str]:
        assert self.parent.stdout is not None
        return self.parent.stdout

    def child(self) -> int:
        """Return the pid that the next incarnation of the service says."""
        return int(self._out.readline())

    def said(self) -> str:
        return self._out.readline().strip()

    def tell(self, text: str) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.write(text + "\n")
        self.parent.stdin.flush()

    def silent(self) -> bool:
        """Return True when nobody holds the pipe any more: parent and child have both ended."""
        return self._out.read() == ""


@contextmanager
def kept() -> Iterator[Kept]:
    service = Kept()
    try:
        yield service
    finally:
        service.parent.kill()
        service.parent.communicate()


@pytest.mark.proves("I-18")
def test_a_killed_service_is_back_under_the_same_parent() -> None:
    with kept() as service:
        first = service.child()
        os.kill(first, signal.SIGKILL)
        second = service.child()
        assert second not in (first, service.parent.pid)
        assert service.parent.poll() is None


def test_a_service_that_fails_is_started_again() -> None:
    with kept() as service:
        first = service.child()
        service.tell("1")
        assert service.child() != first


@pytest.mark.parametrize("code", [0, 78])
def test_a_service_that_ends_by_its_own_will_ends_the_parent_with_its_code(code: int) -> None:
    with kept() as service:
        service.child()
        service.tell(str(code))
        assert service.parent.wait() == code


def test_a_stop_reaches_the_service_and_ends_both() -> None:
    with kept() as service:
        service.child()
        service.parent.send_signal(signal.SIGTERM)
        assert service.parent.wait() == 0
        assert service.silent()


def test_a_halt_waits_until_the_service_listens() -> None:
    """A person signals when Redis is away, and then a service that has just begun waits for Redis."""
    with kept() as service:
        os.kill(service.child(), signal.SIGUSR1)
        service.tell("listen")
        assert service.said() == "halt"


def test_a_halt_between_two_lives_reaches_the_next() -> None:
    with kept() as service:
        os.kill(service.child(), signal.SIGKILL)
        service.parent.send_signal(signal.SIGUSR1)
        service.child()
        service.tell("listen")
        assert service.said() == "halt"


def test_a_halt_that_a_service_did_not_live_to_hear_reaches_the_next() -> None:
    with kept() as service:
        first = service.child()
        service.parent.send_signal(signal.SIGUSR1)
        os.kill(first, signal.SIGKILL)
        service.child()
        service.tell("listen")
        assert service.said() == "halt"


def test_execution_that_waits_for_redis_keeps_a_halt(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    settings = {"JULIE_REDIS__URL": url, "JULIE_JULIE__DATA_DIR": str(tmp_path)}
    execution = subprocess.Popen(
        [sys.executable, "-m", "services.execution"],
        env=os.environ | settings, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert execution.stdout is not None
        assert any("redis_away" in line for line in execution.stdout)
        execution.send_signal(signal.SIGUSR1)
        execution.send_signal(signal.SIGTERM)
        assert execution.wait() == 0
    finally:
        execution.kill()
        execution.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word for this is Linux's")
def test_a_service_does_not_outlive_its_parent() -> None:
    with kept() as service:
        service.child()
        service.parent.kill()
        assert service.silent()
