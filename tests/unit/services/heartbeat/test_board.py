"""What heartbeat writes: again when it is gone or another's, and not over the words of a newer heartbeat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import cast

import msgspec
import pytest

from services.heartbeat.board import Board, HeldToken
from shared.bus.port import Bus, Fenced, RolledBack
from shared.domain.control import SessionHealth, SessionState
from shared.runtime.clock import SystemClock
from shared.runtime.logs import Log
from shared.runtime.secret import Secret
from shared.wire import topics

HOUR_NS = 3_600 * 1_000_000_000


class FakeStream:
    """Takes entries until a newer writer is there, or Redis has come back without them."""

    def __init__(self) -> None:
        self.acked_seq = 0
        self.fenced = self.lost = False

    def append(self, message: msgspec.Struct) -> int:
        self.acked_seq += 1
        return self.acked_seq

    async def flush(self) -> None:
        await self.check()

    async def check(self) -> None:
        if self.fenced:
            raise Fenced("epoch 1 is older than 2")
        if self.lost:
            raise RolledBack("stream stands at 0, the writer at 1")


class FakeBus:
    """What a board needs of a bus, in memory."""

    def __init__(self) -> None:
        self.stream = FakeStream()
        self.values: dict[str, bytes] = {}
        self.hashes: dict[str, dict[str, bytes]] = {}

    async def open(self, stream: str, *, entries_max: int = 0) -> FakeStream:
        return self.stream

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, *, expire_s: float) -> None:
        assert expire_s > 0
        self.values[key] = value

    async def delete(self, key: str) -> None:
        self.values.pop(key, None)

    async def hash_get(self, key: str) -> dict[str, bytes]:
        return self.hashes.get(key, {})

    async def hash_set(self, key: str, values: Mapping[str, bytes]) -> None:
        self.hashes[key] = dict(values)

    async def length(self, stream: str) -> int:
        return self.stream.acked_seq


class JumpingClock(SystemClock):
    ahead_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


def says(health: SessionHealth) -> SessionState:
    return SessionState(
        health=health, token_version=1, token_expires_at_ns=0, ts_validated_ns=0, reason="", ts_ns=0
    )


async def opened(bus: FakeBus, clock: SystemClock) -> Board:
    board = Board(bus=cast(Bus, bus), clock=clock, log=Log(logging.getLogger("test.board")))
    await board.open()
    board.say_token(HeldToken(value=Secret("the-token"), ends_mono_ns=clock.monotonic_ns() + HOUR_NS))
    board.say_session(says(SessionHealth.ACTIVE), changed=True)
    return board


def drop_token(bus: FakeBus) -> None:
    del bus.values[topics.SESSION_TOKEN]


def write_old_state(bus: FakeBus) -> None:
    bus.hashes[topics.SESSION_STATE] = {"state": b"of a heartbeat that woke"}


@pytest.mark.proves("I-17")
@pytest.mark.parametrize("harm", [drop_token, write_old_state])
@pytest.mark.parametrize("ahead_s", [0, 7_200])
def test_what_another_has_changed_is_written_again(harm: Callable[[FakeBus], None], ahead_s: int) -> None:
    async def main() -> None:
        bus, clock = FakeBus(), JumpingClock()
        board = await opened(bus, clock)
        running = asyncio.create_task(board.run())
        await asyncio.sleep(0.1)
        written = dict(bus.values), dict(bus.hashes[topics.SESSION_STATE])
        assert written[0] == {topics.SESSION_TOKEN: b"the-token"}
        clock.ahead_ns = ahead_s * 1_000_000_000  # the token's end is not the wall clock's to say
        harm(bus)
        await asyncio.sleep(0.7)
        running.cancel()
        assert (bus.values, bus.hashes[topics.SESSION_STATE]) == written

    asyncio.run(main())


@pytest.mark.proves("I-17")
def test_an_older_heartbeat_writes_nothing_over_what_its_successor_said() -> None:
    async def main() -> None:
        bus = FakeBus()
        board = await opened(bus, SystemClock())
        await board.settle()
        theirs = {"state": b"of the newer one"}
        bus.hashes[topics.SESSION_STATE], bus.values[topics.SESSION_TOKEN] = theirs, b"newer"
        bus.stream.fenced = True
        board.say_token(None)
        board.say_session(says(SessionHealth.EXPIRED), changed=True)
        with pytest.raises(Fenced):
            await board.settle()
        assert bus.hashes[topics.SESSION_STATE] == theirs
        assert bus.values[topics.SESSION_TOKEN] == b"newer"

    asyncio.run(main())


@pytest.mark.proves("I-12")
def test_a_heartbeat_whose_newest_words_redis_has_lost_ends_though_it_has_nothing_to_say() -> None:
    async def main() -> None:
        bus = FakeBus()
        board = await opened(bus, SystemClock())
        running = asyncio.create_task(board.run())
        await asyncio.sleep(0.1)
        bus.stream.lost = True
        await asyncio.wait({running}, timeout=1.5)
        with pytest.raises(ExceptionGroup) as ended:
            await running
        assert ended.group_contains(RolledBack)

    asyncio.run(main())
