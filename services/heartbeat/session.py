"""The life of the broker session: one token, one question at a time, one owner. Pure.

The idea: what is *known* of the session is a handful of facts (a token and its life, the last confirmation,
the last failure, a refusal), and its health is computed from them, never stored. So a question that got
no answer cannot turn into "expired": the token stays while its life lasts and health says `unknown`.

A refusal that a person has to lift (wrong key, agreements, subscription) is not repeated in a loop: the next
try comes when the credentials file has changed, or after a long pause. Everything else is repeated with
pauses that double. Logins keep pauses of their own until a validation has shown that one of them brought a
token that works: neither an old token that still works, nor new ones that nobody accepts, make them frequent.

`now_ns` is monotonic and decides; `ts_ns` is the wall clock and only stamps. The token's value is not
here: the shell keeps it, under the version this core gave it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

import msgspec

from shared.domain.control import SessionHealth, SessionState

SECOND_NS = 1_000_000_000
DOUBT_AFTER_NS = 2 * SECOND_NS
"""A token that is refused to others is not asked about more often: the trouble may be the broker's."""
JITTER_SHARE = 0.2
"""Pauses lose up to this share of themselves, so that several programs do not ask in step."""


class Question(StrEnum):
    LOGIN = "login"
    VALIDATE = "validate"


# -- events -----------------------------------------------------------------------


class _At(msgspec.Struct, frozen=True, kw_only=True):
    now_ns: int
    ts_ns: int


class Adopted(_At, frozen=True, kw_only=True):
    """At start there was a token on the bus, from an earlier life of this process."""

    version: int
    expires_at_ns: int


class Due(_At, frozen=True, kw_only=True):
    """A turn of the absolute schedule."""


class Doubted(_At, frozen=True, kw_only=True):
    """The broker has refused this version of the token to another process."""

    version: int


class Tick(_At, frozen=True, kw_only=True):
    """Attributes: credentials: stamp of the credentials file; a different one lifts a refusal."""

    credentials: str


class TokenGiven(_At, frozen=True, kw_only=True):
    """Attributes: value_of: the question that brought it. chance: in [0, 1), for jitter."""

    value_of: Question
    expires_at_ns: int
    chance: float = 0.0

    @property
    def is_over(self) -> bool:
        """Say whether the token was dead on arrival: the broker's mistake, or a clock that is set wrong."""
        return self.expires_at_ns <= self.ts_ns


class Confirmed(_At, frozen=True, kw_only=True):
    """The broker accepts the token and gave no new one."""


class Gone(_At, frozen=True, kw_only=True):
    """The broker does not accept the token any more."""

    reason: str


class Refused(_At, frozen=True, kw_only=True):
    """The login was refused. Attributes: fatal: useless to repeat until `remedy` was done."""

    reason: str
    remedy: str
    fatal: bool
    chance: float


class Unanswered(_At, frozen=True, kw_only=True):
    """Transport error, 429, 5xx, unreadable: nothing was learned.

    Attributes:
        pause_s: What the broker asked us to wait (429), else 0.
        chance: In [0, 1), for jitter.
    """

    reason: str
    chance: float
    pause_s: float = 0.0


Event = Adopted | Due | Doubted | Tick | TokenGiven | Confirmed | Gone | Refused | Unanswered


# -- commands ---------------------------------------------------------------------


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    question: Question


class GiveUp(msgspec.Struct, frozen=True, kw_only=True):
    """Cancel the running question: it has taken longer than any answer may."""

    question: Question


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: changed: for the stream too, not only for the hash."""

    state: SessionState
    changed: bool


Command = Ask | GiveUp | Publish


# -- state ------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Token:
    """What is known of a token, but for its value. Times with `_mono_ns` are on the monotonic clock.

    Attributes:
        unproven: A login brought it, and no validation has found it good since.
    """

    version: int
    expires_at_ns: int
    renew_mono_ns: int
    expires_mono_ns: int
    confirmed: bool
    renewal_asked: bool = False
    unproven: bool = False


@dataclass(slots=True, kw_only=True)
class State:
    renew_at_life_share: float
    ask_within_ns: int
    retry_first_ns: int
    retry_max_ns: int
    refused_retry_ns: int
    token: Token | None = None
    version: int = 0
    ts_validated_ns: int = 0
    due: bool = False
    asking: Question | None = None
    asked_ns: int = 0
    asked_credentials: str = ""
    failures: int = 0
    failure: str = ""
    retry_ns: int = 0
    gone: str = ""
    refusal: str = ""
    refused_ns: int = 0
    credentials: str = ""
    refused_credentials: str = ""
    login_ended_ns: int = 0
    login_pause_ns: int = 0
    logins_in_vain: int = 0
    skipped_turns: int = 0
    published: tuple[SessionHealth, int, str, int] | None = field(default=None)


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event and return what must now happen."""
    match event:
        case Adopted():
            state.version = event.version
            if event.expires_at_ns > event.ts_ns:
                _take(event, event.expires_at_ns, event.version, state, confirmed=False)
        case Due():
            state.skipped_turns += state.asking is not None
            state.due = True
        case Doubted():
            current = state.token is not None and state.token.version == event.version
            if current and state.asking is None and event.now_ns - state.asked_ns >= DOUBT_AFTER_NS:
                state.due = True
        case Tick():
            state.credentials = event.credentials
            late = state.asking is not None and event.now_ns - state.asked_ns > state.ask_within_ns
            if late:
                question = state.asking
                assert question is not None
                reason = f"the broker did not answer a {question} within {state.ask_within_ns // SECOND_NS} s"
                _failed(event, reason, 0.0, 0.0, state)
                return [GiveUp(question=question), *_onward(event, state)]
        case TokenGiven(value_of=question) if event.is_over:
            # Asked for without a pause, such tokens would come as fast as the broker answers.
            reason = f"the {question} brought a token whose life is over already; check this machine's clock"
            state.refusal = ""  # what was refused before is taken now
            _failed(event, reason, 0.0, event.chance, state)
        case TokenGiven(value_of=question):
            if question is Question.VALIDATE:
                _proven(state)
            _take(event, event.expires_at_ns, _next_version(event, state), state, confirmed=True)
            assert state.token is not None
            if question is Question.LOGIN:
                state.token.unproven, state.login_ended_ns = True, event.now_ns
            _answered(event, state)
        case Confirmed():
            _answered(event, state)
            _proven(state)
            if state.token is not None:
                state.token.confirmed = True
        case Gone():
            if state.token is not None and state.token.unproven:
                _login_in_vain(0.0, state)
            state.asking, state.failure, state.failures = None, "", 0
            state.token, state.gone = None, event.reason
            state.due = True
        case Refused():
            _refused(event, state)
        case Unanswered():
            _failed(event, event.reason, event.pause_s, event.chance, state)
        case _:
            assert_never(event)
    return _onward(event, state)


def health(state: State, now_ns: int) -> tuple[SessionHealth, str]:
    """Return what the session is, and why in words."""
    token = state.token
    if token is None or now_ns >= token.expires_mono_ns:
        if state.refusal:
            return SessionHealth.REFUSED, state.refusal
        if token is not None or state.gone:
            why = state.gone or "its life is over"
            return SessionHealth.EXPIRED, f"the token is not valid any more ({why}); {_asking(state)}"
        return SessionHealth.UNKNOWN, f"not logged in yet; {_asking(state)}"
    if state.failure:
        return SessionHealth.UNKNOWN, f"{state.failure}; the token is kept while its life lasts"
    if state.refusal or now_ns >= token.renew_mono_ns:
        why = state.refusal or "most of the token's life is over"
        return SessionHealth.RENEWING, f"{why}; the old token still works"
    if not token.confirmed:
        return SessionHealth.UNKNOWN, "found a token from before; validating it"
    return SessionHealth.ACTIVE, "validated"


def _asking(state: State) -> str:
    return state.failure or "logging in"


def _onward(event: Event, state: State) -> list[Command]:
    """Ask what has to be asked now, and say what has changed."""
    commands: list[Command] = []
    question = _question(event.now_ns, state) if state.asking is None else None
    if question is not None:
        state.asking, state.asked_ns, state.due = question, event.now_ns, False
        state.asked_credentials = state.credentials
        if state.token is not None and event.now_ns >= state.token.renew_mono_ns:
            state.token.renewal_asked = True
        commands.append(Ask(question=question))
    word, reason = health(state, event.now_ns)
    token_version = state.token.version if state.token is not None else state.version
    now_public = (word, token_version, reason, state.ts_validated_ns)
    if now_public != state.published:
        before = state.published
        state.published = now_public
        message = SessionState(
            health=word,
            token_version=token_version,
            token_expires_at_ns=state.token.expires_at_ns if state.token is not None else 0,
            ts_validated_ns=state.ts_validated_ns,
            reason=reason,
            ts_ns=event.ts_ns,
        )
        commands.append(Publish(state=message, changed=before is None or before[:3] != now_public[:3]))
    return commands


def _question(now_ns: int, state: State) -> Question | None:
    """Return what has to be asked now, if anything."""
    token = state.token
    alive = token is not None and now_ns < token.expires_mono_ns
    if now_ns < state.retry_ns:
        return None
    may_log_in = not state.refusal or (
        state.credentials != state.refused_credentials or now_ns - state.refused_ns >= state.refused_retry_ns
    )
    if state.logins_in_vain and now_ns - state.login_ended_ns < state.login_pause_ns:
        may_log_in = False
    if not alive:
        return Question.LOGIN if may_log_in else None
    assert token is not None
    if state.due or state.failure:
        return Question.VALIDATE
    if now_ns >= token.renew_mono_ns and may_log_in:
        # `validate` brings a new token when the broker has one ready; a confirmation alone does not
        # lengthen the life of the old one.
        return Question.LOGIN if token.renewal_asked else Question.VALIDATE
    return None


def _next_version(event: Event, state: State) -> int:
    """Return a version above all earlier ones, also when the bus has forgotten them."""
    return max(state.version + 1, event.ts_ns // SECOND_NS)


def _take(event: Event, expires_at_ns: int, version: int, state: State, *, confirmed: bool) -> None:
    life_ns = max(0, expires_at_ns - event.ts_ns)
    state.version = version
    state.token = Token(
        version=version,
        expires_at_ns=expires_at_ns,
        renew_mono_ns=event.now_ns + int(life_ns * state.renew_at_life_share),
        expires_mono_ns=event.now_ns + life_ns,
        confirmed=confirmed,
    )
    state.gone = ""
    state.refusal = ""


def _answered(event: Event, state: State) -> None:
    state.asking, state.failure, state.failures, state.retry_ns = None, "", 0, 0
    state.ts_validated_ns = event.ts_ns


def _proven(state: State) -> None:
    """Take note that the broker accepts the token: if a login brought it, that was not in vain."""
    if state.token is not None and state.token.unproven:
        state.token.unproven = False
        state.logins_in_vain = 0


def _login_in_vain(chance: float, state: State) -> None:
    state.logins_in_vain += 1
    state.login_pause_ns = int(_doubled_ns(state.logins_in_vain, state) * (1 - JITTER_SHARE * chance))


def _doubled_ns(times: int, state: State) -> int:
    return min(state.retry_first_ns << min(times - 1, 32), state.retry_max_ns)


def _refused(event: Refused, state: State) -> None:
    words = f"{event.reason}. {event.remedy}".strip()
    if not event.fatal:
        state.refusal = ""  # of other credentials
        _failed(event, f"login refused: {words}", 0.0, event.chance, state)
        return
    state.asking, state.failure, state.failures = None, "", 0
    state.refusal, state.refused_ns = f"login refused: {words}", event.now_ns
    state.refused_credentials = state.asked_credentials


def _failed(event: Event, reason: str, pause_s: float, chance: float, state: State) -> None:
    if state.asking is Question.LOGIN:
        state.login_ended_ns = event.now_ns
        _login_in_vain(chance, state)
    state.failures += 1
    doubled_ns = _doubled_ns(state.failures, state)
    pause_ns = max(int(doubled_ns * (1 - JITTER_SHARE * chance)), int(pause_s * SECOND_NS))
    state.asking, state.failure = None, reason
    state.retry_ns = event.now_ns + pause_ns
