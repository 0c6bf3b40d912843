"""Starting worker processes: a port, because a simulated run has no processes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import IO, Protocol

import msgspec

from services.strategy.progress import ProgressPage
from services.strategy.spec import Seen, WorkerSpec
from services.strategy.zygote import Zygote, ZygoteGone


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
    def close(self) -> None:
        """Start no more."""
        ...


class WorkerProcess:
    """See `WorkerHandle`."""

    def __init__(self, zygote: Zygote, spec: WorkerSpec, nice: int) -> None:
        self._zygote = zygote
        self.page = ProgressPage.create()
        told, tell = os.pipe()
        # It stays open: its end tells the worker that we are gone.
        self._tell: IO[bytes] = os.fdopen(tell, "wb")
        try:
            self.pid = zygote.start(nice=nice, page=self.page.fd, life=told)
        except ZygoteGone:
            self._tell.close()
            self.page.close()
            raise
        finally:
            os.close(told)
        with suppress(BrokenPipeError):
            self._tell.write(msgspec.json.encode(spec) + b"\n")
            self._tell.flush()

    def look(self) -> Seen:
        return self.page.look()

    def exit_code(self) -> int | None:
        return self._zygote.ended(self.pid)

    def rss_mb(self) -> int:
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:
                pages = int(statm.read().split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20

    def ask_stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.exit_code() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._tell.close()
        self.kill()
        self._zygote.forget(self.pid)
        self.page.close()


class ProcessSpawn:
    """See `Spawn`.

    Args:
        nice: Priority of the workers, below everything else.
    """

    def __init__(self, zygote: Zygote, nice: int = 10) -> None:
        self._zygote, self._nice = zygote, nice

    def start(self, spec: WorkerSpec) -> WorkerProcess:
        """Raises: ZygoteGone: If no more can be started; the host must begin anew."""
        return WorkerProcess(self._zygote, spec, self._nice)

    def close(self) -> None:
        self._zygote.close()
