"""What can be seen from outside while the run goes on: beats, verdicts, order messages, memory.

The watch reads Redis past the doors and notes what it saw, so that a later look can tell what got lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.exceptions import RedisError

from proof.chaos.installation import ACCOUNT_ID
from shared.bus.client import Address
from shared.domain.control import Beat, ProcessHealth, ProcessJudged
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

POLL_S = 0.1
RETRY_S = 0.2
COUNT = 1_000
AWAY = (RedisError, OSError, TimeoutError)


@dataclass(slots=True)
class Seen:
    """One entry of a stream as it lay there."""

    id: bytes
    kind: bytes
    value: bytes
    mono_s: float

    @property
    def message(self) -> Any:
        try:
            return decode(self.kind, self.value)
        except MessageRefused:
            return None


@dataclass(slots=True)
class Life:
    """Redis's data from one time that it came back other than it was to the next such time.

    Attributes:
        begun: Stream -> how many entries had been seen in all when it began.
        seen: Stream -> how many when `held` was about to be read.
        held: The streams at its end.
    """

    begun: dict[str, int]
    seen: dict[str, int]
    held: dict[str, list[Seen]]


@dataclass(slots=True)
class Killing:
    """A kill whose end is waited for.

    Attributes:
        clean: Nothing that the process needs was hit from shortly before its kill on.
        first_s: Of kills in a row without being ready in between, the first.
    """

    process: str
    pid: int
    mono_s: float
    first_s: float
    clean: bool
    cold: bool


@dataclass(slots=True)
class Recovery:
    """Attributes:
    took_s: From the last kill of the process until it does its job again.
    overall_s: From the first kill, when it was killed again before it was back; else the same.
    clean: Neither it nor what it needs was hit in between, nor was another fault on.
    cold: Its warm parent died too.
    """

    process: str
    took_s: float
    overall_s: float
    clean: bool
    cold: bool


NEEDS = {
    "heartbeat": ("redis", "simulator"),
    "feed": ("redis", "simulator", "heartbeat"),
    "broker_sync": ("redis", "simulator", "heartbeat"),
    "execution": ("redis", "simulator", "heartbeat", "broker_sync"),
    "guard": ("redis", "simulator", "heartbeat"),
    "recorder": ("redis",),
    "strategy@chaos": ("redis",),
    "simulator": ("redis",),
    "strategy": ("redis", "strategy@chaos"),
}
"""Process -> whose work its own start waits for; workers stand under `strategy`."""


def needs(process: str) -> tuple[str, ...]:
    return NEEDS[process.partition(":")[0]]


@dataclass
class Watch:
    """Attributes:
    streams: Everything that was seen: key -> entries in order, over all lives of Redis.
    rebuilt: For each time that Redis came back other than it was: how many entries had been seen by then.
    lives: What lay in Redis shortly before each such time, as far as it answered.
    recovered: Told of each recovery.
    """

    address: Address
    streams: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    beats: dict[str, Beat] = field(default_factory=dict)
    recoveries: list[Recovery] = field(default_factory=list)
    verdicts: list[tuple[float, ProcessJudged]] = field(default_factory=list)
    rebuilt: list[dict[str, int]] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    disturbed_s: float = 0.0
    beaten_s: dict[str, float] = field(default_factory=dict)
    tokens: set[bytes] = field(default_factory=set)
    recovered: Callable[[Recovery], None] = lambda recovery: None
    _killed: dict[str, Killing] = field(default_factory=dict)
    _finished: bool = False
    _cursors: dict[str, bytes] = field(default_factory=dict)

    def killed(self, process: str, pid: int, *, cold: bool = False) -> None:
        """From now on wait for this process to do its job again, with another pid."""
        now_s = time.monotonic()
        before = self._killed.pop(process, None)
        clean = now_s > self.disturbed_s and not any(need in self._killed for need in needs(process))
        first_s = before.first_s if before is not None else now_s
        self._killed[process] = Killing(process, pid, now_s, first_s, clean, cold)
        for other in self._killed.values():
            if process in needs(other.process):
                other.clean = False

    def not_killed(self, process: str) -> None:
        """It did not come to it."""
        self._killed.pop(process, None)

    def disturb(self, for_s: float = 0.0) -> None:
        """Another fault is on: what recovers meanwhile recovers under more than its kill."""
        self.disturbed_s = max(self.disturbed_s, time.monotonic() + for_s)
        for one in self._killed.values():
            one.clean = False

    async def close_life(self) -> None:
        """Keep what lies in Redis now, before it comes back with other data."""
        begun, seen = self._begun(), self._counts()
        client = self.address.once_client()
        last = Watch(self.address)
        try:
            await last.look(client)
        except AWAY:
            return  # nothing to compare with
        finally:
            with suppress(*AWAY):
                await client.aclose()
        self.lives.append(Life(begun, seen, dict(last.streams)))

    def last_life(self, held: dict[str, list[Seen]]) -> Life:
        """Return that which lasts until the end, where `held` was read."""
        return Life(self._begun(), self._counts(), held)

    def _begun(self) -> dict[str, int]:
        return self.rebuilt[-1] if self.rebuilt else {}

    def _counts(self) -> dict[str, int]:
        return {key: len(entries) for key, entries in self.streams.items()}

    def forget_all(self) -> None:
        """Redis is emptied or set back on purpose: what was seen before may be gone."""
        self.rebuilt.append(self._counts())
        self._cursors.clear()

    def ready_again(self, process: str) -> bool:
        """Say whether it was seen doing its job since its last kill."""
        return process not in self._killed

    @property
    def waiting(self) -> list[str]:
        return sorted(self._killed)

    def ready(self, process: str) -> bool:
        beat = self.beats.get(process)
        return beat is not None and beat.ready and time.monotonic() - self.beaten_s[process] < 3.0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear())
            tasks.create_task(self._follow())

    async def _hear(self) -> None:
        while True:
            client = self.address.once_client()
            try:
                channel = client.pubsub()
                await channel.subscribe(topics.BEATS)
                while True:
                    message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
                    if message is not None:
                        self.hear(message["data"])
            except AWAY:
                await asyncio.sleep(RETRY_S)
            finally:
                with suppress(*AWAY):
                    await client.aclose()

    def hear(self, value: bytes) -> None:
        """Note a beat, and the end of a recovery when it tells of one."""
        with suppress(MessageRefused):
            beat = decode(b"beat", value)
            if not isinstance(beat, Beat):
                return
            self.beats[beat.process] = beat
            now_s = self.beaten_s[beat.process] = time.monotonic()
            killing = self._killed.get(beat.process)
            if killing is not None and beat.pid not in (killing.pid, 0) and beat.ready:
                del self._killed[beat.process]
                took_s, overall_s = now_s - killing.mono_s, now_s - killing.first_s
                found = Recovery(beat.process, took_s, overall_s, killing.clean, killing.cold)
                self.recoveries.append(found)
                self.recovered(found)

    async def _follow(self) -> None:
        client = self.address.once_client()
        try:
            while not self._finished:
                try:
                    await self.look(client)
                except AWAY:
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(POLL_S)
        finally:
            with suppress(*AWAY):
                await client.aclose()

    async def finish(self, client: Any) -> None:
        """Look a last time."""
        self._finished = True
        await asyncio.sleep(2 * POLL_S)
        await self.look(client)

    async def look(self, client: Any) -> None:
        """Read what is new of all streams but the market's, which nobody's money hangs on."""
        keys = [topics.SESSION, topics.CONTROL_HEARTBEAT, topics.CONTROL_OPERATOR, topics.orders(ACCOUNT_ID)]
        keys.append(topics.reports(ACCOUNT_ID))
        for pattern in (topics.intents(ACCOUNT_ID, "*"), topics.journal(ACCOUNT_ID, "*")):
            found = await client.keys(pattern.replace("[", r"\["))
            keys += [key.decode() for key in found if not key.endswith(b":head")]
        for key in keys:
            while True:
                start = b"(" + self._cursors[key] if key in self._cursors else b"-"
                rows = await client.execute_command("XRANGE", key, start, "+", "COUNT", COUNT)
                self._note(key, rows)
                if len(rows) < COUNT:
                    break
        token = await client.get(topics.SESSION_TOKEN)
        if token:
            self.tokens.add(token)

    def _note(self, key: str, rows: list[Any]) -> None:
        now_s = time.monotonic()
        for entry_id, fields in rows:
            self._cursors[key] = entry_id
            seen = Seen(entry_id, fields[0], fields[1], now_s)
            self.streams[key].append(seen)
            if seen.kind == b"process_judged":
                judged = seen.message
                if isinstance(judged, ProcessJudged):
                    self.verdicts.append((now_s, judged))

    def noticed_s(self, process: str, since_s: float) -> float | None:
        """Return how long after `since_s` heartbeat's verdict on a process was first a bad one."""
        for mono_s, judged in self.verdicts:
            bad = judged.health in (ProcessHealth.LATE, ProcessHealth.DEAD, ProcessHealth.STARTING)
            if mono_s >= since_s and judged.process == process and bad:
                return mono_s - since_s
        return None

    def of_kind(self, key: str, kind: type[msgspec.Struct]) -> list[Any]:
        messages = (one.message for one in self.streams.get(key, []))
        return [one for one in messages if isinstance(one, kind)]
