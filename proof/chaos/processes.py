"""The harness's supervisor: starts processes, starts them again when they end, and knows whose a pid is."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from proof.chaos.installation import ROOT, Installation

WARM = "shared.runtime.warm"
QUICK_S = 2.0
"""Who ends by himself sooner than this is started again later and later."""
BACKOFF_MAX_S = 5.0
STOP_WITHIN_S = 15.0


class Supervised:
    """One process that is kept running.

    Attributes:
        held: Not started again until released.
        extra: Variables of its environment beside everybody's.
        starts: How often it was started.
    """

    def __init__(self, name: str, command: list[str], installation: Installation) -> None:
        self.name, self.command = name, command
        self.held = False
        self.extra: dict[str, str] = {}
        self.starts = 0
        self.exits: list[tuple[float, int]] = []
        self._installation = installation
        self._process: asyncio.subprocess.Process | None = None
        self._released = asyncio.Event()
        self._released.set()
        self._killed = False  # by us, so that it is no crash of its own
        self._stopping = False

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def service_pid(self) -> int | None:
        """The service itself: what the warm parent forked, or the process when it has no such parent."""
        pid = self.pid
        if pid is None or not self.is_warm:
            return pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    @property
    def is_warm(self) -> bool:
        """Does a parent that has imported everything fork it anew?"""
        return WARM in self.command

    def signal(self, number: int, *, whole: bool = False) -> int | None:
        """Send a signal to the service; return its pid, None if it does not run.

        Args:
            whole: To its warm parent, with which it dies; the next start is cold, with a new environment.
        """
        pid, service = self.pid, self.service_pid
        target = pid if whole else service
        if target is None:
            return None
        if target == pid:
            self._killed = self._killed or number == signal.SIGKILL
        with suppress(ProcessLookupError):
            os.kill(target, number)
        return service or pid

    def hold(self) -> None:
        self.held = True
        self._released.clear()

    def release(self) -> None:
        self.held = False
        self._released.set()

    async def run(self) -> None:
        """Keep it running until cancelled."""
        quick = 0
        while True:
            await self._released.wait()
            self._killed = False
            started = time.monotonic()
            with (self._installation.logs / f"{self.name}.log").open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self.command, cwd=ROOT, env=self._installation.environment(self.extra),
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self.starts += 1
            code = await self._process.wait()
            self.exits.append((time.monotonic(), code))
            if self._stopping:
                return
            if self._killed or code == -signal.SIGKILL or time.monotonic() - started >= QUICK_S:
                quick = 0
                continue
            quick += 1
            await asyncio.sleep(min(BACKOFF_MAX_S, 0.1 * 2**quick))

    async def stop(self) -> None:
        """Ask it to stop, then insist."""
        self._stopping = True
        self.release()
        process = self._process
        if process is None or process.returncode is not None:
            return
        self.signal(signal.SIGCONT)
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Supervisor:
    """All processes of the installation.

    Args:
        services: Names of the modules under `services`.
    """

    def __init__(self, installation: Installation, services: tuple[str, ...]) -> None:
        self._installation = installation
        self.services = services
        self.all: dict[str, Supervised] = {
            "redis": Supervised("redis", installation.redis_command(), installation)
        }
        for name in services:
            self.add(name, [sys.executable, "-m", WARM, f"services.{name}"])
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __getitem__(self, name: str) -> Supervised:
        return self.all[name]

    def add(self, name: str, command: list[str]) -> Supervised:
        self.all[name] = Supervised(name, command, self._installation)
        return self.all[name]

    def start(self, name: str) -> None:
        self._tasks[name] = asyncio.create_task(self.all[name].run(), name=f"keep {name}")

    def check(self) -> None:
        """Raise what a keeper failed with."""
        for task in self._tasks.values():
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise RuntimeError(f"{task.get_name()} failed") from task.exception()

    async def stop(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        await self.all[name].stop()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop_all(self) -> None:
        last = ("simulator", "redis")
        await asyncio.gather(*(self.stop(name) for name in list(self._tasks) if name not in last))
        for name in last:
            if name in self._tasks:
                await self.stop(name)

    def who(self, pid: int) -> str | None:
        """Return the name of the process; a strategy worker's is `worker`."""
        line = [pid]
        while len(line) < 4 and (parent := _parent_of(line[-1])):
            line.append(parent)
        for name, one in self.all.items():
            own = one.pid
            if own is not None and own in line:
                deep = line.index(own) - one.is_warm
                return "worker" if deep > 0 and name.startswith("strategy") else name
        return None

    def zygotes(self) -> list[int]:
        """Return the pids of what forks the strategy workers."""
        hosts = {one.service_pid for name, one in self.all.items() if name.startswith("strategy")} - {None}
        return children_of(hosts)

    def workers(self) -> dict[int, str]:
        """Return the pids of strategy workers."""
        return dict.fromkeys(children_of(set(self.zygotes())), "worker")


def children_of(parents: set[int | None]) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _parent_of(int(folder.name)) in parents:
            found.append(int(folder.name))
    return found


def _parent_of(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return int(text.rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def is_stopped(pid: int) -> bool:
    """Does it stand still, by SIGSTOP?"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return text.rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def rss_mb(pid: int) -> float:
    """Return resident memory, 0 for one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


Wait = Callable[[], bool]


async def until(condition: Wait, *, within_s: float, poll_s: float = 0.1) -> bool:
    """Return whether it became true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(poll_s)
    return True


Environment = Mapping[str, str]
