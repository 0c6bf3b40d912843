"""Planted bugs of what goes over Redis: written once, read once, by the newest; see `planting`."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import proof.simulation.faults as simulated_faults
import services.execution.__main__ as execution_main
import shared.bus.blocking as blocking
import shared.bus.functions as functions
from proof.simulation.planting import Patches, bug
from services.execution import shell
from services.execution.events import Moment, StreamGap
from services.execution.inbox import Inbox
from services.execution.outbox import Outbox
from shared.bus.blocking import BlockingBus, Output
from shared.bus.reader import RedisStreamReader


def lua(*changes: tuple[str, str]) -> Patches:
    """Change the functions that the server runs."""
    changed = functions.LIBRARY
    for old, new in changes:
        assert old in changed, old
        changed = changed.replace(old, new)
    return [patch.object(where, "LIBRARY", changed) for where in (functions, blocking, simulated_faults)]


@bug(caught_in=330)
def worker_step_in_two_calls() -> Patches:
    """Intents go out first, the snapshot that knows of them after."""
    step = BlockingBus.step

    def split(self: BlockingBus, lease: Any, key: str, snapshot: bytes, outputs: list[Output]) -> None:
        wishes = [one for one in outputs if one.stream.startswith("intents")]
        if wishes:
            before = self.call("GET", key) or snapshot
            step(self, lease, key, before, wishes)
        step(self, lease, key, snapshot, [one for one in outputs if one not in wishes])

    def split_and_read(
        self: BlockingBus, lease: Any, key: str, snapshot: bytes, outputs: Any, *read: Any
    ) -> Any:
        split(self, lease, key, snapshot, outputs)
        return self.read(*read)

    return [
        patch.object(BlockingBus, "step", split),
        patch.object(BlockingBus, "step_and_read", split_and_read),
    ]


@bug(caught_in=320)
def loss_of_redis_forgotten() -> Patches:
    """Who is told that Redis has lost entries ends, and nobody else sees anything in it."""
    events = Inbox.events

    def without_gaps(self: Inbox, entry: Any, at: Moment) -> list[Any]:
        return [one for one in events(self, entry, at) if not isinstance(one, StreamGap)]

    return [
        patch.object(Inbox, "events", without_gaps),
        patch.object(execution_main, "latch", lambda ledger, why, *, now_ns: None),
        patch.object(Outbox, "difference", lambda self, *, last_seq, acked_seq: None),
        patch.object(shell, "lost_before", lambda heads, begun: None),
    ]


@bug(caught_in=196)
def places_not_looked_at() -> Patches:
    """A stream that ends before the place of its reader is read on for ever."""

    async def everything_is_there(bus: Any, cursors: Any) -> None:
        return None

    return [patch.object(shell, "gone_back", everything_is_there)]


@bug(caught_in=5)
def append_repeated_after_a_lost_reply() -> Patches:
    """What redis-py does by itself: the entry is there twice."""
    return lua(
        (
            "local last, skip = first_seq + n - 1, math.max(0, head_seq + 1 - first_seq)",
            "if first_seq <= head_seq then first_seq = head_seq + 1 end "
            "local last, skip = first_seq + n - 1, 0",
        )
    )


@bug(caught_in=11)
def epoch_not_checked() -> Patches:
    """The lease alone is trusted, which follows the wall clock, and whoever opened a stream once."""
    return lua(
        ("if epoch < head_epoch then", "if false then"), ("if epoch ~= lease_epoch then", "if false then")
    )


@bug(caught_in=93)
def epochs_begin_again() -> Patches:
    """An emptied Redis gives the newer writer the older one's number."""
    return lua(
        ("if us > epoch then return us end", ""), ("return epoch + 1 + us % 1000000", "return epoch + 1")
    )


@bug(caught_in=16)
def entries_skipped_after_a_lost_reply() -> Patches:
    """A reader that lost its connection goes on with what is new, not with what it has not seen."""
    lost = RedisStreamReader._lost

    async def newest(self: RedisStreamReader) -> None:
        await lost(self)
        for stream in self._cursors:
            self.follow(stream, "$")

    return [patch.object(RedisStreamReader, "_lost", newest)]


@bug(caught_in=0)
def unread_entries_trimmed() -> Patches:
    return lua(
        (
            "if p[7] > 0 then add_new(p[1], p[2], epoch, p[3], p[4], p[5], args, p[6], p[7]) end",
            "if p[7] > 0 then add_new(p[1], p[2], epoch, p[3], p[4], p[5], args, p[6], p[7]) "
            "redis.call('XTRIM', p[1], 'MAXLEN', '1') end",
        )
    )
