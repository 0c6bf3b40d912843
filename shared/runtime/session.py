"""The broker session as every process but heartbeat sees it: read from the bus, never made here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from shared.bus.port import Bus, BusAway, BusRefused
from shared.domain.control import SessionHealth, SessionState
from shared.runtime.clock import Clock
from shared.runtime.secret import Secret
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

POLL_S = 0.5
"""How fast a new token is noticed; one small read of a local Redis."""

STATE_FIELD = "state"


class SessionWatch:
    """Keeps the newest token and the session's health at hand."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._token: Secret | None = None
        self.state: SessionState | None = None
        self._refused_version: int | None = None

    @property
    def health(self) -> SessionHealth:
        return self.state.health if self.state is not None else SessionHealth.UNKNOWN

    def token(self) -> str | None:
        """Return the newest token, None before there is one. For transports, at each use."""
        return self._token.reveal() if self._token is not None else None

    def refused(self) -> None:
        """Note that the broker did not take the token; heartbeat is told at the next turn of `run`."""
        self._refused_version = self.state.token_version if self.state is not None else None

    async def refresh(self) -> None:
        """Read once. While Redis is away the last known token stays: it is still valid at the broker."""
        try:
            fields = await self._bus.hash_get(topics.SESSION_STATE)
            value = fields.get(STATE_FIELD)
            state = decode(b"session_state", value) if value else None
            if not isinstance(state, SessionState):
                return
            if self._token is None or self.state is None or state.token_version != self.state.token_version:
                token = await self._bus.get(topics.SESSION_TOKEN)
                self._token = Secret(token.decode()) if token else None
            self.state = state
        except (BusAway, BusRefused, MessageRefused, UnicodeDecodeError):
            return

    async def wait_token(self) -> None:
        """Return when there is a token, whatever is said of the session.

        While it is renewed, or nobody knows of it, the token mostly works; the broker tells when it does not.
        """
        while self._token is None:
            await self.refresh()
            await self._clock.sleep(POLL_S / 5)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Follow the session as long as the body runs; a failure of that ends the body, and is raised."""
        owner = asyncio.current_task()
        assert owner is not None
        task = asyncio.create_task(self.run(), name="session")

        def end(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and done.exception() is not None:
                owner.cancel()

        task.add_done_callback(end)
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Follow the session until cancelled."""
        while True:
            await self.refresh()
            await self._tell_refused()
            await self._clock.sleep(POLL_S)

    async def _tell_refused(self) -> None:
        version, self._refused_version = self._refused_version, None
        if version is None or self.state is None or version != self.state.token_version:
            return  # there is a new one already
        with suppress(BusAway, BusRefused):
            await self._bus.publish(topics.SESSION_DOUBTS, b"%d" % version)
