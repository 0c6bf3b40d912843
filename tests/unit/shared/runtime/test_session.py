"""What a process knows of the session, whatever lies in Redis, and what ends with its watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from shared.bus.port import Bus
from shared.domain.control import SessionHealth, SessionState
from shared.runtime.clock import SystemClock
from shared.runtime.session import STATE_FIELD, SessionWatch
from shared.wire import topics
from shared.wire.codec import encode


class Board:
    """Session state and token as they lie in Redis."""

    def __init__(self) -> None:
        self.token = b"t1"
        self.version = 1
        self.asked: Callable[[], None] = lambda: None

    async def hash_get(self, key: str) -> dict[str, bytes]:
        assert key == topics.SESSION_STATE
        self.asked()
        state = SessionState(
            health=SessionHealth.ACTIVE, token_version=self.version, token_expires_at_ns=0,
            ts_validated_ns=0, reason="", ts_ns=0,
        )  # fmt: skip
        return {STATE_FIELD: encode(state)}

    async def get(self, key: str) -> bytes:
        assert key == topics.SESSION_TOKEN
        return self.token


def watched() -> tuple[Board, SessionWatch]:
    board = Board()
    return board, SessionWatch(cast(Bus, board), SystemClock())


def test_a_token_that_is_no_text_replaces_none() -> None:
    board, watch = watched()
    asyncio.run(watch.refresh())
    board.token, board.version = b"\xff\xfe", 2
    asyncio.run(watch.refresh())
    assert watch.token() == "t1"
    assert watch.state is not None
    assert watch.state.token_version == 1


def test_a_process_ends_with_the_watch_that_it_lives_by() -> None:
    board, watch = watched()

    def fail() -> None:
        raise ZeroDivisionError("broken")

    board.asked = fail

    async def work() -> None:
        async with asyncio.timeout(5), watch.followed():
            await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError, match="broken"):
        asyncio.run(work())


def test_the_watch_ends_with_its_process() -> None:
    _, watch = watched()

    async def work() -> set[str]:
        async with watch.followed():
            await asyncio.sleep(0)
        return {task.get_name() for task in asyncio.all_tasks()}

    assert "session" not in asyncio.run(work())
