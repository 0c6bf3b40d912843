from __future__ import annotations

import asyncio

from shared.bus.port import BusAway
from shared.domain.control import Beat
from shared.runtime.beat import BeatBoard
from shared.runtime.clock import SystemClock
from shared.wire.codec import decode


class Channel:
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        self.beats: list[Beat] = []
        self.news = asyncio.Event()

    async def set_and_publish(self, key: str, channel: str, value: bytes, *, expire_s: float) -> None:
        beat = decode(b"beat", value)
        assert isinstance(beat, Beat)
        self.beats.append(beat)
        self.news.set()

    async def push_capped(self, *arguments: object) -> None:
        raise BusAway("not here")


def test_that_it_does_its_job_is_told_at_once() -> None:
    """Trading waits for it: not until the next turn of the schedule."""

    async def scenario() -> list[Beat]:
        channel = Channel()
        board = BeatBoard(
            process="feed",
            clock=SystemClock(),
            bus=channel,
            interval_s=60.0,
            pid=1,
            host="h",
            build="b",  # type: ignore[arg-type]
        )
        running = asyncio.create_task(board.run())
        await channel.news.wait()
        channel.news.clear()
        board.ready = True
        async with asyncio.timeout(5.0):
            await channel.news.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return channel.beats

    assert [beat.ready for beat in asyncio.run(scenario())] == [False, True]
