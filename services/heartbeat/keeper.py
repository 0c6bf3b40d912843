"""The shell around `session.py`: asks the broker, holds the token's value, keeps the schedule."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from services.heartbeat import session
from services.heartbeat.board import Board, HeldToken
from services.heartbeat.config import HeartbeatSection
from services.heartbeat.session import Ask, GiveUp, Publish, Question
from shared.broker.errors import BrokerQueryFailed, LimiterUnavailable, RateLimited
from shared.broker.port import LoggedIn, LoginRefused, SessionGone, SessionPort, SessionToken, Validated
from shared.bus.port import Bus, BusAway, BusRefused
from shared.domain.control import SessionHealth, SessionState
from shared.runtime.beat import BeatBoard
from shared.runtime.clock import NS_PER_S, Clock
from shared.runtime.config import SettingsRefused
from shared.runtime.logs import Log
from shared.runtime.schedule import turns
from shared.runtime.secret import Secret
from shared.runtime.session import STATE_FIELD
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

OpenPort = Callable[[], AbstractAsyncContextManager[SessionPort]]

TICK_S = 0.25
"""How soon an expiry, a retry or a changed credentials file is noticed."""
LOGOUT_WITHIN_S = 2.0
VERSION_DIGITS_MAX = 19
"""Anybody on the bus may publish a doubt; a longer number is no version of ours, and is passed over."""


def credentials_stamp(path: Path | None) -> str:
    """Return what changes when the credentials file does; never its content."""
    if path is None:
        return "none"
    try:
        found = path.stat()
    except OSError as error:
        return f"unreadable: {type(error).__name__}"
    return f"{found.st_ino}.{found.st_mtime_ns}.{found.st_size}"


class Keeper:
    """Keeps the session; never touched by how the judging goes, and never touching it."""

    def __init__(
        self,
        *,
        config: HeartbeatSection,
        open_port: OpenPort,
        credentials: Callable[[], str],
        board: Board,
        bus: Bus,
        beat: BeatBoard,
        clock: Clock,
        rng: random.Random,
        log: Log,
    ) -> None:
        self._config = config
        self._open_port = open_port
        self._credentials = credentials
        self._board = board
        self._bus = bus
        self._beat = beat
        self._clock = clock
        self._rng = rng
        self._log = log
        self._progress = beat.duty("validate", interval_s=config.validate_interval_s)
        self._token: SessionToken | None = None
        self._adopted: session.Adopted | None = None
        self._question: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self.state = session.State(
            renew_at_life_share=config.renew_at_life_share,
            ask_within_ns=round(config.ask_within_s * NS_PER_S),
            retry_first_ns=round(config.retry_first_s * NS_PER_S),
            retry_max_ns=round(config.retry_max_s * NS_PER_S),
            refused_retry_ns=round(config.refused_retry_s * NS_PER_S),
            credentials=credentials(),
        )

    async def prepare(self) -> None:
        """Look for the token of an earlier life; before anyone writes the hash it is read from."""
        self._adopted = await self._find_token()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            if self._adopted is not None:
                self._decide(self._adopted)
            tasks.create_task(self._schedule(), name="session-schedule")
            tasks.create_task(self._tick(), name="session-tick")
            tasks.create_task(self._hear_doubts(), name="session-doubts")

    async def log_out(self) -> None:
        """End the session at the broker, when the setting asks for it."""
        if not self._config.logout_on_stop or self._token is None:
            return
        try:
            async with asyncio.timeout(LOGOUT_WITHIN_S), self._open_port() as port:
                await port.logout(self._token)
        except (BrokerQueryFailed, LimiterUnavailable, SettingsRefused, TimeoutError) as error:
            self._log.warning("logout_failed", why=str(error))

    async def _schedule(self) -> None:
        async for _ in turns(self._clock, self._config.validate_interval_s, self._progress):
            now_ns, ts_ns = self._now()
            self._progress.waits(ts_ns)
            self._decide(session.Due(now_ns=now_ns, ts_ns=ts_ns))

    async def _tick(self) -> None:
        async for _ in turns(self._clock, TICK_S):
            now_ns, ts_ns = self._now()
            self._decide(session.Tick(now_ns=now_ns, ts_ns=ts_ns, credentials=self._credentials()))

    async def _hear_doubts(self) -> None:
        """Validate at once when the token is refused to others: up to a minute of blindness is saved."""
        async for _channel, version in self._bus.subscribe([topics.SESSION_DOUBTS]):
            if version.isdigit() and len(version) <= VERSION_DIGITS_MAX:
                now_ns, ts_ns = self._now()
                self._decide(session.Doubted(version=int(version), now_ns=now_ns, ts_ns=ts_ns))

    async def _find_token(self) -> session.Adopted | None:
        """Return the token of an earlier life: a restart needs no new login."""
        try:
            value = (await self._bus.hash_get(topics.SESSION_STATE)).get(STATE_FIELD)
            token = await self._bus.get(topics.SESSION_TOKEN)
            known = decode(b"session_state", value) if value else None
        except (BusAway, BusRefused, MessageRefused) as error:
            self._log.warning("earlier_session_unreadable", why=str(error))
            return None
        if not isinstance(known, SessionState):
            return None
        now_ns, ts_ns = self._now()
        expires_at_ns = known.token_expires_at_ns if token else 0
        if token:
            self._hold(SessionToken(value=token.decode(), expires_at_ns=expires_at_ns))
        return session.Adopted(
            version=known.token_version, expires_at_ns=expires_at_ns, now_ns=now_ns, ts_ns=ts_ns
        )

    # -- deciding and doing -------------------------------------------------------

    def _decide(self, event: session.Event) -> None:
        for command in session.decide(event, self.state):
            match command:
                case Ask(question=question):
                    assert self._tasks is not None
                    self._question = self._tasks.create_task(self._ask(question), name=question)
                case GiveUp(question=question):
                    self._log.warning("question_given_up", question=question, why=self.state.failure)
                    if self._question is not None:
                        self._question.cancel()
                case Publish(state=state, changed=changed):
                    self._publish(state, changed=changed)

    def _publish(self, state: SessionState, *, changed: bool) -> None:
        if self.state.token is None and self._token is not None:
            self._token = None
            self._board.say_token(None)
        self._board.say_session(state, changed=changed)
        usable = state.health in (SessionHealth.ACTIVE, SessionHealth.RENEWING)
        self._beat.ready = self._beat.ready or usable
        self._beat.detail["session"] = f"{state.health}: {state.reason}"
        if changed:
            say = self._log.info if usable else self._log.warning
            say("session", health=state.health, version=state.token_version, why=state.reason)

    def _hold(self, token: SessionToken) -> None:
        self._token = token
        now_ns, ts_ns = self._now()
        ends_mono_ns = now_ns + token.expires_at_ns - ts_ns
        self._board.say_token(HeldToken(value=Secret(token.value), ends_mono_ns=ends_mono_ns))

    async def _ask(self, question: Question) -> None:
        self._decide(await self._answer(question))

    async def _answer(self, question: Question) -> session.Event:
        try:
            # Opened for each question, so that a changed credentials file is read.
            async with self._open_port() as port:
                if question is Question.LOGIN or self._token is None:
                    answer: LoggedIn | LoginRefused | Validated | SessionGone = await port.login()
                else:
                    answer = await port.validate(self._token)
        except BrokerQueryFailed as error:
            if error.came is not None:
                _, ts_ns = self._now()
                self._beat.refused.keep(ts_ns=ts_ns, origin=error.endpoint, why=error.reason, raw=error.came)
            pause_s = error.retry_after_s if isinstance(error, RateLimited) else 0.0
            return self._unanswered(str(error), pause_s=pause_s)
        except (LimiterUnavailable, SettingsRefused) as error:
            return self._unanswered(str(error))
        now_ns, ts_ns = self._now()
        self._progress.did(ts_ns)
        match answer:
            case LoggedIn(token=token) | Validated(new_token=SessionToken() as token):
                given = session.TokenGiven(
                    value_of=question, expires_at_ns=token.expires_at_ns, chance=self._rng.random(),
                    now_ns=now_ns, ts_ns=ts_ns,
                )  # fmt: skip
                if not given.is_over:
                    self._hold(token)
                return given
            case Validated():
                return session.Confirmed(now_ns=now_ns, ts_ns=ts_ns)
            case SessionGone(reason=reason):
                return session.Gone(reason=reason, now_ns=now_ns, ts_ns=ts_ns)
            case LoginRefused(sentence=sentence, remedy=remedy, fatal=fatal, code=code):
                return session.Refused(
                    reason=f"{sentence.rstrip('.')} (code {code})", remedy=remedy, fatal=fatal,
                    chance=self._rng.random(), now_ns=now_ns, ts_ns=ts_ns,
                )  # fmt: skip

    def _unanswered(self, reason: str, pause_s: float = 0.0) -> session.Unanswered:
        now_ns, ts_ns = self._now()
        return session.Unanswered(
            reason=reason, pause_s=pause_s, chance=self._rng.random(), now_ns=now_ns, ts_ns=ts_ns
        )

    def _now(self) -> tuple[int, int]:
        return self._clock.monotonic_ns(), self._clock.now_ns()
