"""The real processes of the system, as many of them as a benchmark needs, in a folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from shared.bus.client import Address
from shared.domain.control import Beat
from shared.runtime.config import run_dir
from shared.wire import topics
from shared.wire.codec import decode
from tests.support.stack import ROOT, free_port

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
ALL = ("simulator", "heartbeat", "feed", "broker_sync", "execution", "guard", "strategy", "recorder")


class Running:
    """Processes by name, and what their beats say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        address = Address(unix_path=str(run_dir(folder) / "redis.sock"))
        self._connection = address.blocking_connection(timeout_s=10.0)

    def ask(self, *command: object) -> Any:
        self._connection.send_command(*command)
        return self._connection.read_response()

    def beat(self, process: str) -> Beat | None:
        value = self.ask("GET", topics.beat(process))
        message = decode(b"beat", value) if value else None
        return message if isinstance(message, Beat) else None

    def workers(self) -> list[Beat]:
        found = [self.beat(key.decode().partition(":")[2]) for key in self.ask("KEYS", "beat:strategy:*")]
        return [beat for beat in found if beat is not None]

    def host(self) -> Beat | None:
        keys = self.ask("KEYS", "beat:strategy@*")
        return self.beat(keys[0].decode().partition(":")[2]) if keys else None

    def wait(self, condition: Any, what: str, within_s: float = READY_TIMEOUT_S) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended: {self.log(name)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {within_s:g} s: {what}\n{self.log('strategy')}")
            time.sleep(0.1)

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-1_500:] if path.exists() else ""

    def close(self) -> None:
        self._connection.disconnect()


def instance(name: str, probe: str, symbols: Sequence[str], **settings: Any) -> dict[str, Any]:
    """Return one entry of `strategy.instances` with a class of `bench.probes`."""
    return {"id": name, "class": f"bench.probes:{probe}", "symbols": list(symbols), "settings": settings}


@contextmanager
def running_system(
    *,
    services: Sequence[str] = ALL,
    symbols: Sequence[str] = ("MES", "MNQ"),
    instances: Sequence[Mapping[str, Any]] = (),
    **variables: str,
) -> Iterator[Running]:
    """Start server and services, wait until all are ready, and stop them at the end.

    Args:
        variables: `FEED__STALE_AFTER_S="5"` and the like.
    """
    folder = Path(tempfile.mkdtemp(prefix="jb-"))
    port = free_port()
    environment = os.environ | {
        "JULIE_CONFIG": "/dev/null",
        "JULIE_JULIE__DATA_DIR": str(folder),
        "JULIE_JULIE__MARKET_CLOCK": "venue",
        "JULIE_JULIE__SYMBOLS": json.dumps(list(symbols)),
        "JULIE_JULIE__LOG_LEVEL": "WARNING",
        "JULIE_GUARD__PROFILE": "none",
        "JULIE_SIMULATOR__PORT": str(port),
        "JULIE_BROKER__REST_URL": f"http://127.0.0.1:{port}",
        "JULIE_BROKER__HUB_URL": f"http://127.0.0.1:{port}/hubs",
        "JULIE_STRATEGY__INSTANCES": msgspec.json.encode(list(instances)).decode(),
        **{f"JULIE_{name}": value for name, value in variables.items()},
    }
    running = Running(folder)
    commands = {
        "redis": ["-m", "julie.bus_server", str(folder / "redis"), str(run_dir(folder) / "redis.sock")]
    }
    commands |= {name: ["-m", f"services.{name}"] for name in services}
    try:
        for name, arguments in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                running.processes[name] = subprocess.Popen(
                    [sys.executable, *arguments],
                    env=environment,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )
            if name == "redis":
                running.wait((run_dir(folder) / "redis.sock").exists, "redis")
        running.wait(lambda: _ready(running, services), f"ready: {', '.join(services)}")
        running.wait(lambda: all(b.ready for b in running.workers()), "workers")
        running.wait(lambda: len(running.workers()) == len(instances), "all workers")
        yield running
    finally:
        running.close()
        for process in reversed(running.processes.values()):
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _ready(running: Running, services: Sequence[str]) -> bool:
    for name in services:
        beat = running.host() if name == "strategy" else running.beat(name)
        if beat is None or not beat.ready:
            return False
    return True


def cpu_us(pid: int) -> int:
    """Return user and system CPU of a process so far, in microseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Return resident memory in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
