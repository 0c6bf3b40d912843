"""A whole installation behind a door that misbehaves on demand, and what is asked of it from outside."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.wire import topics
from tests.support.eventually import eventually
from tests.support.fault_gateway import FaultGateway, fault_gateway
from tests.support.stack import Stack

LOOK_EVERY_S = 0.2


class FaultyStack:
    """Attributes: gateway: stands between the services and the simulator."""

    def __init__(self, stack: Stack, gateway: FaultGateway) -> None:
        self.stack = stack
        self.gateway = gateway

    def wait(self, condition: Callable[[], Any], *, within_s: float = 20.0, what: str = "") -> Any:
        """Return the first true value; a failure shows every log's end."""
        try:
            # In a thread: what is looked at asks the bus, with a loop of its own.
            look = functools.partial(asyncio.to_thread, condition)
            return asyncio.run(eventually(look, within_s=within_s, what=what, poll_s=LOOK_EVERY_S))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stack.logs(lines=8)}") from None

    def redis(self, *command: Any) -> Any:
        """Run one command as `redis-cli` would."""

        async def ask() -> Any:
            bus = self.stack.installation().bus()
            try:
                return await bus._once.execute_command(*command)
            finally:
                await bus.close()

        return asyncio.run(ask())

    def processes(self) -> dict[str, dict[str, Any]]:
        """Return process (without its host) -> its row in the status."""
        rows = asyncio.run(self.stack.look()).get("processes", [])
        return {row["process"].partition("@")[0]: row for row in rows}

    def look(self) -> dict[str, Any]:
        return asyncio.run(self.stack.look())

    def detail(self, process: str, name: str) -> str:
        return str(self.processes().get(process, {}).get("detail", {}).get(name, ""))

    def refused_count(self, process: str) -> int:
        return int(self.detail(process, "refused").partition(";")[0] or 0)

    def refused(self, process: str) -> list[dict[str, Any]]:
        """Return what a process keeps of what it refused, newest first."""
        return [json.loads(one) for one in self.redis("LRANGE", topics.refused(process), 0, -1)]

    def pids(self) -> dict[str, int]:
        return {name: row["pid"] for name, row in self.processes().items() if row["pid"]}

    def trading(self) -> bool:
        """Say whether everything is alive and new exposure is allowed."""
        found = self.look()
        return (
            bool(found) and found["session"]["health"] == "active" and found["trading"]["state"] == "active"
        )

    def entries(self, key: str, kind: str | None = None) -> list[tuple[str, str, Any]]:
        """Return (id, kind, message) of every entry of a stream; a value that is no JSON stays text."""
        rows = self.redis("XRANGE", key, "-", "+")
        found = []
        for entry_id, fields in rows:
            name = fields[0].decode("utf-8", "replace")
            if kind is None or name == kind:
                found.append((entry_id.decode(), name, _json(fields[1])))
        return found

    def log(self, process: str) -> str:
        return (self.stack.folder / "logs" / f"{process}.log").read_text(errors="replace")


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value.decode("utf-8", "replace")


@contextmanager
def faulty_stack(*, up: bool = True, **variables: str) -> Iterator[FaultyStack]:
    """Make an installation, start it unless told otherwise, and stop it afterwards whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="julie-"))
    stack = Stack(folder, variables)
    try:
        with fault_gateway(stack.rest_url) as gateway:
            stack.variables.update(gateway.variables)
            stack.environment.update(gateway.variables)
            try:
                if up:
                    stack.up()
                yield FaultyStack(stack, gateway)
            finally:
                stack.down()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
