"""Starting worker processes: a port, because a simulated run has no processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Protocol

import msgspec

from services.strategy.progress import ProgressPage
from services.strategy.spec import Seen, WorkerSpec


class WorkerHandle(Protocol):
    """One running worker as its host sees it. Nothing here waits."""

    pid: int

    def look(self) -> Seen: ...
    def exit_code(self) -> int | None:
        """Return None while it runs; negative is the signal that ended it."""
        ...

    def rss_mb(self) -> int:
        """Return resident memory, 0 where the platform does not tell."""
        ...

    def ask_stop(self) -> None:
        """Ask it to commit and leave."""
        ...

    def kill(self) -> None: ...
    def close(self) -> None:
        """Forget an ended worker's resources."""
        ...


class Spawn(Protocol):
    def start(self, spec: WorkerSpec) -> WorkerHandle: ...
    def prepare(self) -> None:
        """Use a quiet moment to make the next start a fast one."""
        ...

    def close(self) -> None:
        """Let go of what was prepared."""
        ...


class WorkerProcess:
    """See `WorkerHandle`. It imports what every worker needs, and waits for its spec."""

    def __init__(self, nice: int) -> None:
        self._page = ProgressPage.create()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "services.strategy.launch",
                str(self._page.fd),
                str(nice),
                str(os.getpid()),
            ],
            stdin=subprocess.PIPE,
            pass_fds=(self._page.fd,),
        )
        self.pid = self._process.pid

    def give(self, spec: WorkerSpec) -> None:
        """Let it begin as the worker of an instance."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            # It stays open: its end tells the worker that we are gone.
            self._process.stdin.write(msgspec.json.encode(spec) + b"\n")
            self._process.stdin.flush()

    def look(self) -> Seen:
        return self._page.look()

    def exit_code(self) -> int | None:
        return self._process.poll()

    def rss_mb(self) -> int:
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:
                pages = int(statm.read().split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20

    def ask_stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._page.close()


class ProcessSpawn:
    """See `Spawn`. Starting Python and importing is most of a worker's start: one spare has it behind it.

    The spare knows nothing of any instance, and no line of a strategy has run in it.
    """

    def __init__(self, nice: int = 10) -> None:
        """Args: nice: priority of the workers, below everything else."""
        self._nice = nice
        self._spare: WorkerProcess | None = None

    def start(self, spec: WorkerSpec) -> WorkerProcess:
        worker = self._living() or WorkerProcess(self._nice)
        self._spare = None
        worker.give(spec)
        return worker

    def prepare(self) -> None:
        self._spare = self._living() or WorkerProcess(self._nice)

    def _living(self) -> WorkerProcess | None:
        if self._spare is not None and self._spare.exit_code() is not None:
            self.close()
        return self._spare

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
