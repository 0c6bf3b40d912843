"""Session, trading state, operator commands and beats: what keeps the system itself in order."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec


class TradingState(StrEnum):
    """`reducing` allows only what shrinks a position; `halted` allows only cancel and flatten."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class HaltKind(StrEnum):
    """Why trading is held; `HALTS` says what that allows and who may end it."""

    STARTING = "starting"
    LIVENESS = "liveness"
    CLOCK = "clock"
    INVARIANT = "invariant"
    RUNAWAY = "runaway"
    OPERATOR = "operator"
    GUARD = "guard"


class Lifter(StrEnum):
    """Who can end a halt. Where a message was read says who it is from, not what it claims."""

    EXECUTION = "execution"
    HEARTBEAT = "heartbeat"
    OPERATOR = "operator"
    GUARD = "guard"


class HaltRule(NamedTuple):
    """Attributes: latched: kept in the ledger over restarts; what is not is measured again."""

    meaning: str
    state: TradingState
    lifted_by: frozenset[Lifter]
    latched: bool = True


HALTS: dict[HaltKind, HaltRule] = {
    HaltKind.STARTING: HaltRule(
        "execution has started and has not yet seen what the broker holds",
        TradingState.HALTED,
        frozenset({Lifter.EXECUTION}),
        latched=False,
    ),
    HaltKind.LIVENESS: HaltRule(
        "a process that trading needs was lost, is starting, or runs another build or other settings",
        TradingState.REDUCING,
        frozenset({Lifter.HEARTBEAT, Lifter.OPERATOR}),
    ),
    HaltKind.CLOCK: HaltRule(
        "this machine's clock and the broker's differ by more than is allowed",
        TradingState.REDUCING,
        frozenset({Lifter.EXECUTION}),
        latched=False,
    ),
    HaltKind.INVARIANT: HaltRule(
        "something that must always be true is not: positions differ, control messages or Redis's entries "
        "were lost, the ledger failed",
        TradingState.REDUCING,
        frozenset({Lifter.OPERATOR}),
    ),
    HaltKind.RUNAWAY: HaltRule(
        "more exits in a minute than can be meant",
        TradingState.HALTED,
        frozenset({Lifter.OPERATOR}),
    ),
    HaltKind.OPERATOR: HaltRule(
        "a person said so: `julie halt`, `julie flatten`, the file `halt`, SIGUSR1",
        TradingState.HALTED,
        frozenset({Lifter.OPERATOR}),
    ),
    HaltKind.GUARD: HaltRule(
        "a rule of the prop firm is broken or near; a person's resume asks guard, which looks at the account",
        TradingState.REDUCING,
        frozenset({Lifter.GUARD}),
    ),
}
"""The one place that says what each kind of halt allows and who may lift it."""


def strictest(kinds: Iterable[HaltKind]) -> TradingState:
    """Return the trading state under several halts at once."""
    states = {HALTS[kind].state for kind in kinds}
    for state in (TradingState.HALTED, TradingState.REDUCING):
        if state in states:
            return state
    return TradingState.ACTIVE


class Halt(msgspec.Struct, frozen=True, kw_only=True, tag="halt"):
    """Stop new exposure. Always accepted."""

    kind: HaltKind
    reason: str
    issuer: str
    ts_ns: int


class Resume(msgspec.Struct, frozen=True, kw_only=True, tag="resume"):
    """Lift halts of `kind`; an operator's resume of kind `operator` lifts all that a person may lift.

    Attributes:
        strategy_id: Arm this strategy again instead, and leave every halt as it is.
    """

    kind: HaltKind
    reason: str
    issuer: str
    ts_ns: int
    strategy_id: str | None = None


CONTROL_AGE_S_MAX: Final = 60.0
"""What loosens is obeyed this long after it was said."""
RESUME_AHEAD_S_MAX: Final = 5.0
"""A resume from further in the future is not believed: it could be kept and played again."""


def untimely(order: Resume, now_ns: int, age_s_max: float = CONTROL_AGE_S_MAX) -> str:
    """Return why a resume is too old, or too early, to loosen anything; empty when it may."""
    age_ns = now_ns - order.ts_ns  # whole numbers: a written one may be too great for any other
    timely = round(-RESUME_AHEAD_S_MAX * 1e9) <= age_ns <= round(age_s_max * 1e9)
    return "" if timely else f"a resume of {age_ns // 1_000_000_000} s ago"


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


HELD, HELD_NONE = "held", "nothing"
"""In the detail of execution's beat: kinds of halt, or that there is none."""


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    """What a process did so far. It says nothing about being healthy: that is for others to judge.

    Attributes:
        seq: Rises by one with every beat of this incarnation.
        duties: Name of a duty -> its progress.
        lag: Stream key -> entries not yet consumed, where the process knows.
        detail: Short readable facts for `julie status`.
        settings: Hash of the settings that all processes share; other than ours is as bad as another build.
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
    settings: str = ""

    @property
    def held(self) -> frozenset[str] | None:
        """Return the kinds of halt that execution holds, as its beat shows them; None: it shows nothing."""
        words = self.detail.get(HELD)
        return None if words is None else frozenset(words.split(", ")) - {HELD_NONE}
