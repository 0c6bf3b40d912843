"""What others see of a recorder whose disk does not answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

from services.heartbeat.config import HeartbeatSection
from services.recorder.config import RecorderConfig
from services.recorder.shell import STANDS_STILL_S, Shell
from shared.bus.port import BusAway
from shared.domain.control import Duty
from shared.runtime.beat import BeatBoard
from shared.runtime.clock import SystemClock

STREAM = "md:{MES}"


class Desk:
    """A recorder of one stream, and what its beats say."""

    def __init__(self, **settings: Any) -> None:
        self.bus = MagicMock()
        self.bus.keys = AsyncMock(return_value=[STREAM])
        self.bus.last = AsyncMock(return_value=[MagicMock(id=b"1-1")])
        self.archive = MagicMock()
        self.archive.files = AsyncMock(return_value=[])
        self.board = BeatBoard(
            process="recorder", clock=SystemClock(), bus=self.bus, interval_s=1, pid=1, host="", build=""
        )
        self.shell = Shell(
            config=RecorderConfig.model_validate(settings), bus=self.bus, clock=SystemClock(),
            beat=self.board, log=cast(Any, MagicMock()), archive=self.archive,
        )  # fmt: skip

    def duty(self, name: str) -> Duty:
        return self.board.beat().duties[name]


def test_a_disk_that_hangs_shows() -> None:
    """No failure was reported, so nothing waited, and the recorder was called alive for ever."""

    async def scenario() -> None:
        desk = Desk()
        asked = asyncio.Event()

        async def hangs(_: str) -> None:
            asked.set()
            await asyncio.Event().wait()

        desk.archive.files = hangs
        turn = asyncio.create_task(desk.shell.turn())
        await asked.wait()
        before = desk.duty("work")
        await asyncio.sleep(0.05)
        assert not turn.done()
        assert desk.duty("work") == before and before.interval_s == STANDS_STILL_S
        assert desk.duty("archive").waiting_since_ns == 0, "a merge may take longer than work may wait"
        turn.cancel()

    asyncio.run(scenario())


def test_a_piece_of_work_that_ends_shows_and_so_does_a_turn_without_any() -> None:
    async def scenario() -> None:
        desk = Desk()
        await desk.shell.turn()
        assert desk.duty("work").done == 2, "a turn, and the list of files"
        desk.bus.keys.side_effect = BusAway("frozen")
        await desk.shell.turn()
        assert desk.duty("work").done == 3

    asyncio.run(scenario())


def test_a_recorder_that_rarely_looks_is_not_overdue() -> None:
    rarely = Desk(scan_interval_s=60)
    assert rarely.duty("work").interval_s * HeartbeatSection.model_validate({}).overdue_factor > 2 * 60
