"""What a host does not wait for."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import MagicMock

from services.strategy.config import StrategySection
from services.strategy.shell import Shell
from services.strategy.spec import Seen
from services.strategy.supervision import Phase
from shared.bus.client import Address
from shared.runtime.clock import SystemClock
from shared.runtime.config import JulieSection
from shared.runtime.service import Context

READY = Seen(False, 1, 0, 0, 0, True, "0-0", 0, False, 1, 0, "")


class FrozenBus:
    """Takes what it is given and never answers."""

    async def set_and_publish(self, *_: Any, **__: Any) -> None:
        await asyncio.Event().wait()


def test_looking_at_workers_does_not_wait_for_the_first_beat_of_one() -> None:
    instance = {"id": "s1", "class": "a.b:C", "symbols": ("MES",)}
    ctx = MagicMock(
        spec=Context, process="strategy@a", clock=SystemClock(), bus=FrozenBus(),
        config=StrategySection.model_validate({"instances": (instance,)}),
        julie=JulieSection.model_validate({"symbols": ("MES",), "account_id": 1}),
    )  # fmt: skip
    ctx.beat.settings = ""
    worker = MagicMock(pid=1)
    worker.exit_code.return_value, worker.look.return_value, worker.rss_mb.return_value = None, READY, 1
    spawn = MagicMock()
    spawn.start.return_value = worker

    async def scenario() -> None:
        shell = Shell(cast(Any, ctx), spawn, redis=Address())
        seat = shell._state.seats["s1"]
        seat.phase = Phase.STARTING
        shell._start("s1", 1)
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            shell._tasks = tasks
            await shell._look_at_workers()
            (telling,) = tasks._tasks  # type: ignore[attr-defined]
            telling.cancel()
        assert seat.phase is Phase.RUNNING

    asyncio.run(scenario())
