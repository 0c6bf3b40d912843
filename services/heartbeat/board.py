"""What heartbeat has to say, kept until Redis has it, and written again when Redis has lost it.

Two tasks that never wait for each other, the session's and the judge's, share one hash and one stream. Both
only hand in here; one task writes. So neither waits for Redis, an older picture never overwrites a newer
one, and after Redis was emptied everything goes out again from memory.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from shared.bus.port import Bus, BusAway, BusRefused, Fenced, RolledBack, StreamWriter
from shared.domain.control import Control, ProcessJudged, SessionState
from shared.runtime.clock import NS_PER_S, Clock
from shared.runtime.logs import Log
from shared.runtime.schedule import turns
from shared.runtime.secret import Secret
from shared.runtime.session import STATE_FIELD
from shared.wire import topics
from shared.wire.codec import encode

PROCESS_FIELD = "process:"
CHECK_S = 0.5
"""How soon is noticed that Redis was emptied, or that somebody has written over what is ours."""
AT_ITS_END_S = 1.0
"""Redis may drop a token a moment before our clock calls it over."""
SETTLE_WITHIN_S = 2.0
RETRY_S = 0.2
SESSION_ENTRIES_MAX = 20_000
"""Hard cap; the recorder trims earlier."""


@dataclass(slots=True, kw_only=True)
class HeldToken:
    """Attributes: ends_mono_ns: on the monotonic clock, whatever becomes of the wall clock."""

    value: Secret
    ends_mono_ns: int


class Board:
    """The only writer of `session`, `session:state`, `session:token` and `control:heartbeat`."""

    def __init__(self, *, bus: Bus, clock: Clock, log: Log) -> None:
        self._bus = bus
        self._clock = clock
        self._log = log
        self._fields: dict[str, bytes] = {}
        self._token: HeldToken | None = None
        self._token_stale = False
        self._written: dict[str, bytes] = {}
        self._dirty = asyncio.Event()
        self._last_control: Control | None = None
        self._last_session: SessionState | None = None
        self._session_stream: StreamWriter | None = None
        self._control_stream: StreamWriter | None = None

    async def open(self) -> None:
        """Become the writer of both streams; an earlier heartbeat is fenced from now on."""
        self._session_stream = await self._bus.open(topics.SESSION, entries_max=SESSION_ENTRIES_MAX)
        self._control_stream = await self._bus.open(topics.CONTROL_HEARTBEAT)

    # -- handing in, never waiting ------------------------------------------------

    def say_session(self, state: SessionState, *, changed: bool) -> None:
        self._put(STATE_FIELD, encode(state))
        self._last_session = state
        if changed:
            self._append(self._session_stream, state)

    def say_token(self, token: HeldToken | None) -> None:
        """Hold the token to be read by others; before the state that names its version."""
        self._token, self._token_stale = token, True
        self._dirty.set()

    def say_judged(self, judged: ProcessJudged) -> None:
        self._put(PROCESS_FIELD + judged.process, encode(judged))
        self._append(self._session_stream, judged)

    def keep_processes(self, names: set[str]) -> None:
        """Drop the verdicts on processes that are not judged any more."""
        for name in [f for f in self._fields if f.startswith(PROCESS_FIELD)]:
            if name.removeprefix(PROCESS_FIELD) not in names:
                del self._fields[name]
                self._dirty.set()

    def say_control(self, control: Control) -> None:
        self._last_control = control
        self._append(self._control_stream, control)

    def _put(self, field: str, value: bytes) -> None:
        self._fields[field] = value
        self._dirty.set()

    def _append(self, stream: StreamWriter | None, message: SessionState | ProcessJudged | Control) -> None:
        assert stream is not None, "the board is opened first"
        stream.append(message)

    # -- writing ------------------------------------------------------------------

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_changes(), name="board-write")
            tasks.create_task(self._check(), name="board-check")

    async def settle(self) -> None:
        """Write what is still pending, once; for the end of the process."""
        if self._dirty.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_WITHIN_S):
                    await self._write()

    async def _write_changes(self) -> None:
        while True:
            await self._dirty.wait()
            try:
                await self._write()
            except (Fenced, RolledBack):
                raise
            except (BusAway, BusRefused):
                await self._clock.sleep(RETRY_S)

    async def _write(self) -> None:
        # The token first: whoever sees the new version in the hash must find the new token.
        token, stale = self._token, self._token_stale
        fields = dict(self._fields)
        if self._session_stream is not None:
            # What changed was appended: the bus takes that only of the newest heartbeat, and refuses another
            # one here, before it writes over the hash and the token of its successor.
            await self._session_stream.flush()
        if stale:
            await self._write_token(token)
            if token is self._token:
                self._token_stale = False
        if fields:
            await self._bus.hash_set(topics.SESSION_STATE, fields)
            self._written = fields
        if fields == self._fields and not self._token_stale:
            self._dirty.clear()

    async def _write_token(self, token: HeldToken | None) -> None:
        left_s = self._left_s(token)
        if token is None or left_s <= 0:
            await self._bus.delete(topics.SESSION_TOKEN)
            return
        value = token.value.reveal().encode()
        await self._bus.set(topics.SESSION_TOKEN, value, expire_s=left_s)

    def _left_s(self, token: HeldToken | None) -> float:
        return 0.0 if token is None else (token.ends_mono_ns - self._clock.monotonic_ns()) / NS_PER_S

    async def _check(self) -> None:
        """Notice that Redis was emptied or set back, or that what we wrote last is not what lies there.

        Raises:
            Fenced, RolledBack: Another heartbeat writes, or entries are lost: a new start says all again.
        """
        async for _ in turns(self._clock, CHECK_S):
            session, control = self._session_stream, self._control_stream
            if session is None or control is None or not session.acked_seq:
                continue
            try:
                # The hash would not tell: an ordinary write may have filled it again.
                if not await self._bus.length(topics.SESSION):
                    await self._write_everything_again()
                    continue
                # Of an older copy, readers miss our newest entries, and the next one may be hours away.
                await session.check()
                await control.check()
                if not self._dirty.is_set() and (what := await self._differs()):
                    self._write_again(what)
            except (Fenced, RolledBack):
                raise
            except (BusAway, BusRefused):
                continue

    async def _differs(self) -> str:
        """Return which key another has changed; empty when all is as we wrote it.

        A heartbeat that was frozen may write once more when it wakes, before it learns that another is there;
        and the token's key goes with a wall clock that is set ahead.
        """
        token, written = self._token, self._written
        found = await self._bus.get(topics.SESSION_TOKEN)
        state = await self._bus.hash_get(topics.SESSION_STATE)
        if token is not self._token or written is not self._written or self._dirty.is_set():
            return ""  # written meanwhile
        if written and state != written:
            return topics.SESSION_STATE
        ours = token.value.reveal().encode() if token is not None else None
        if self._left_s(token) > AT_ITS_END_S and found != ours:
            return topics.SESSION_TOKEN
        return ""

    def _write_again(self, what: str) -> None:
        self._log.warning("state_written_again", key=what, remedy="look whether two heartbeats run")
        self._token_stale = True
        self._dirty.set()

    async def _write_everything_again(self) -> None:
        self._log.warning("redis_emptied", remedy="everything is written again; look why Redis lost it")
        # New heads: an append with the old numbers would be refused as rolled back.
        await self.open()
        if self._last_control is not None:
            self.say_control(self._last_control)
        if self._last_session is not None:
            self._append(self._session_stream, self._last_session)
        self._token_stale = True
        self._dirty.set()
