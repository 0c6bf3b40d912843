"""A simulator on a free port with a database of its own, for the length of a block."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from services.simulator.config import SimulatorConfig
from services.simulator.hub import Hub
from services.simulator.shell import Simulator, serving
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.logs import Log

USER = "demo"
API_KEY = "demo-key"
ACCOUNT_ID = 1001


@asynccontextmanager
async def running_simulator(
    *, database: Path | None = None, clock: Clock | None = None, **overrides: Any
) -> AsyncIterator[Simulator]:
    """Run a simulator with settings of your choice.

    Args:
        database: Where it keeps its state; give the same path twice for a restart.
            None for a file that is thrown away.
        overrides: Fields of `SimulatorConfig`; the port is a free one by default.
    """
    folder = Path(tempfile.mkdtemp(prefix="sim-"))
    config = SimulatorConfig.model_validate({"port": 0, **overrides})
    log = Log(logging.getLogger("tests.simulator"))
    try:
        async with serving(
            config, database=database or folder / "simulator.sqlite", clock=clock or SystemClock(), log=log
        ) as simulator:
            yield simulator
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def refusing(hub: Hub, method: str) -> Iterator[None]:
    """Have a hub refuse a method for the length of a block, while everything else goes on."""
    known = hub._methods.pop(method)
    try:
        yield
    finally:
        hub._methods[method] = known
