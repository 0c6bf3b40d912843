"""Session, trading state, operator commands and beats: what keeps the system itself in order."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class TradingState(StrEnum):
    """`reducing` allows only what shrinks a position; `halted` allows only cancel and flatten."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class HaltKind(StrEnum):
    """Why trading is halted decides who may resume it.

    `liveness` (a process was away) ends when the process is back; `invariant` and `operator` end only by
    a person; `guard` (the prop firm's rules) only by guard, which a person may have to ask.
    """

    LIVENESS = "liveness"
    INVARIANT = "invariant"
    OPERATOR = "operator"
    GUARD = "guard"


class Halt(msgspec.Struct, frozen=True, kw_only=True, tag="halt"):
    """Stop new exposure. Always accepted."""

    kind: HaltKind
    reason: str
    issuer: str
    ts_ns: int


class Resume(msgspec.Struct, frozen=True, kw_only=True, tag="resume"):
    """Lift halts of `kind`; an operator's resume lifts all but guard's, which it asks guard to lift."""

    kind: HaltKind
    reason: str
    issuer: str
    ts_ns: int


class Flatten(msgspec.Struct, frozen=True, kw_only=True, tag="flatten"):
    """Cancel every working order and close every position of `symbol` (None: of the account)."""

    reason: str
    issuer: str
    ts_ns: int
    symbol: str | None = None


Control = Halt | Resume | Flatten


class SessionHealth(StrEnum):
    UNKNOWN = "unknown"
    ACTIVE = "active"
    RENEWING = "renewing"
    EXPIRED = "expired"
    REFUSED = "refused"  # credentials or subscription: a person has to act


class SessionState(msgspec.Struct, frozen=True, kw_only=True, tag="session_state"):
    """The broker session as heartbeat knows it; the token itself lies under its own key.

    Attributes:
        token_version: Rises with every new token; a reader that holds an older one reads it again.
        ts_validated_ns: Our clock at the last successful validation; 0 before the first.
    """

    health: SessionHealth
    token_version: int
    token_expires_at_ns: int
    ts_validated_ns: int
    reason: str
    ts_ns: int


class ProcessHealth(StrEnum):
    STARTING = "starting"
    ALIVE = "alive"
    LATE = "late"
    DEAD = "dead"


class ProcessJudged(msgspec.Struct, frozen=True, kw_only=True, tag="process_judged"):
    """Heartbeat's verdict on one process changed."""

    process: str
    health: ProcessHealth
    silence_ns: int
    reason: str
    ts_ns: int


SessionMessage = SessionState | ProcessJudged


class Duty(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Progress of one thing a process has promised to do.

    Attributes:
        interval_s: Promised period; 0 for work that comes when it comes (streams).
        done: How often it was completed.
        ts_done_ns: Our clock at the last completion; 0 before the first.
        waiting_since_ns: Work is waiting since then (0: none); how a stuck consumer shows.
        lateness_ms_p99: How late against the absolute schedule, over the last 1,000 times.
    """

    interval_s: float = 0.0
    done: int = 0
    ts_done_ns: int = 0
    waiting_since_ns: int = 0
    lateness_ms_last: float = 0.0
    lateness_ms_p99: float = 0.0
    lateness_ms_max: float = 0.0


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    """What a process did so far. It says nothing about being healthy: that is for others to judge.

    Attributes:
        seq: Rises by one with every beat of this incarnation.
        duties: Name of a duty -> its progress.
        lag: Stream key -> entries not yet consumed, where the process knows.
        detail: Short readable facts for `julie status`.
    """

    process: str
    pid: int
    host: str
    build: str
    started_at_ns: int
    ts_ns: int
    seq: int
    ready: bool = False
    duties: dict[str, Duty] = {}
    lag: dict[str, int] = {}
    detail: dict[str, str] = {}
