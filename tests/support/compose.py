"""The system in containers, as a user of an empty clone starts it, under a project name of its own."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.eventually import TIME_FACTOR

ROOT = Path(__file__).resolve().parents[2]
ENGINE_TOOL = ROOT.parent / "shared" / "tools" / "docker-engine"
"""Brings up an engine on machines prepared for it; elsewhere there is one, or these tests are skipped."""

ENGINE_START_TIMEOUT_S = 420.0
UP_TIMEOUT_S = 420.0
CALL_TIMEOUT_S = 60.0
POLL_S = 0.25


def run(command: Sequence[str], *, timeout_s: float = CALL_TIMEOUT_S, **more: Any) -> str:
    """Run a command and return what it printed.

    Raises:
        AssertionError: If it fails; with everything it said.
    """
    done: subprocess.CompletedProcess[str] = subprocess.run(
        list(command), capture_output=True, text=True, timeout=timeout_s * TIME_FACTOR, check=False, **more
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(condition: Callable[[], Any], *, within_s: float, what: str) -> Any:
    """Return the first true value of `condition`.

    Raises:
        AssertionError: If there is none in time.
    """
    deadline = time.monotonic() + within_s * TIME_FACTOR
    while not (value := condition()):
        assert time.monotonic() < deadline, (
            f"not within {within_s * TIME_FACTOR:g} s: {what}; last: {value!r}"
        )
        time.sleep(POLL_S)
    return value


@functools.cache
def why_no_engine() -> str:
    """Return why containers cannot be run here, empty when they can; starts an engine where it may."""
    if not _engine_answers() and ENGINE_TOOL.exists():
        started = subprocess.run(
            [str(ENGINE_TOOL), "start"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=ENGINE_START_TIMEOUT_S * TIME_FACTOR, check=False,
        )  # fmt: skip
        if started.returncode:
            return f"the container engine did not start: {started.stdout[-300:]}{started.stderr[-300:]}"
    if not _engine_answers():
        return "needs a container engine with Compose (`docker compose version`), and there is none"
    return ""


def _engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = (["docker", "version"], ["docker", "compose", "version"])
    return all(subprocess.run(call, capture_output=True, check=False).returncode == 0 for call in asked)


def empty_clone(folder: Path) -> Path:
    """Copy what git would deliver from the working tree, unreadable for others as after a strict umask."""
    listed = run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT)
    for name in listed.split("\0"):
        source, target = ROOT / name, folder / name
        if name and source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
            target.chmod(0o700 if os.access(source, os.X_OK) else 0o600)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
    return folder


class Compose:
    """One project. Containers are named by their id, everything else by the names in the compose file."""

    def __init__(self, folder: Path, project: str, **variables: str) -> None:
        self.folder, self.project = folder, project
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JULIE_", "COMPOSE_"))}
        self.environment = kept | {
            "COMPOSE_PROJECT_NAME": project,
            "JULIE_IMAGE": f"{project}:test",
            "JULIE_REDIS_IMAGE": f"{project}-redis:test",
            **variables,
        }

    def __call__(self, *arguments: str, timeout_s: float = CALL_TIMEOUT_S) -> str:
        """Run `docker compose ARGUMENTS` in the clone."""
        return run(
            ["docker", "compose", *arguments], timeout_s=timeout_s, cwd=self.folder, env=self.environment
        )

    def configuration(self, *arguments: str) -> dict[str, Any]:
        found = json.loads(self(*arguments, "config", "--format", "json"))
        assert isinstance(found, dict)
        return found

    def containers(self, service: str = "", *, running: bool = True) -> list[str]:
        """Return ids, the longest as the engine writes them."""
        wanted = [f"--filter=label=com.docker.compose.project={self.project}"]
        if service:
            wanted.append(f"--filter=label=com.docker.compose.service={service}")
        every = [] if running else ["--all"]
        return run(["docker", "ps", "-q", "--no-trunc", *every, *wanted]).split()

    def only(self, service: str) -> str:
        (found,) = self.containers(service)
        return found

    def inspect(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(run(["docker", "inspect", container]))
        assert isinstance(found, dict)
        return found

    def health(self, container: str) -> str:
        """Return what the engine made of the healthchecks: starting, healthy, unhealthy."""
        return str(self.inspect(container)["State"]["Health"]["Status"])

    def inside(self, container: str, *command: str) -> str:
        """Run a command in a container, as its user."""
        return run(["docker", "exec", container, *command])

    def redis(self, *command: str) -> str:
        """What `docker compose exec redis redis-cli ...` prints, each value on a line."""
        return self.inside(self.only("redis"), "redis-cli", "--raw", *command)

    def ask(self, *commands: str) -> list[str]:
        """Return the replies, of a line each, to many commands at the price of one."""
        given = "".join(command + "\n" for command in commands)
        said = run(["docker", "exec", "-i", self.only("redis"), "redis-cli", "--raw"], input=given)
        return said.removesuffix("\n").split("\n")

    def entries(self, stream: str) -> int:
        """Return a stream's length; -1 when Redis does not say (it is away, or still loading)."""
        try:
            said = self.redis("XLEN", stream).strip()
        except (AssertionError, ValueError):
            return -1
        return int(said) if said.isdigit() else -1

    def beat(self, process: str) -> dict[str, Any]:
        """Return a process's latest beat; {} when there is none."""
        return _read(self.redis("GET", f"beat:{process}"))

    def beats(self, processes: Sequence[str]) -> dict[str, dict[str, Any]]:
        said = self.ask(*(f"GET beat:{name}" for name in processes))
        return {name: _read(line) for name, line in zip(processes, said, strict=True)}

    def leases(self, instances: Sequence[str]) -> dict[str, str]:
        """Return instance -> short id of the container that holds its lease now."""
        said = self.ask(*(f"HMGET lease:{{1001}}:{name} holder until_ms" for name in instances))
        rows = zip(instances, said[::2], said[1::2], strict=True)
        now_ms = time.time() * 1000
        return {
            name: holder.removeprefix("strategy@")
            for name, holder, until_ms in rows
            if until_ms and int(until_ms) > now_ms
        }

    def epochs(self, instances: Sequence[str]) -> dict[str, int]:
        """Return instance -> how often its lease was given to somebody new."""
        said = self.ask(*(f"HGET lease:{{1001}}:{name} epoch" for name in instances))
        return {name: int(epoch) for name, epoch in zip(instances, said, strict=True)}


def _read(value: str) -> dict[str, Any]:
    found = json.loads(value.strip() or "{}")
    assert isinstance(found, dict)
    return found


def _gone(compose: Compose) -> bool:
    """Remove everything; an engine may count a container's end of a network a moment longer than that."""
    try:
        compose("down", "--volumes", "--remove-orphans", "--rmi", "all", timeout_s=UP_TIMEOUT_S)
    except AssertionError as error:
        if "has active endpoints" not in str(error):
            raise
        return False
    return True


@contextmanager
def composed(folder: Path, project: str, **variables: str) -> Iterator[Compose]:
    """`docker compose up --build` in an empty clone; afterwards containers, volumes and images are gone."""
    compose = Compose(empty_clone(folder), project, **variables)
    try:
        compose("up", "--build", "--detach", timeout_s=UP_TIMEOUT_S)
        yield compose
    finally:
        until(lambda: _gone(compose), within_s=30.0, what="the stack is gone")
