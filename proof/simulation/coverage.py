"""Rare states that many seeds together must reach: what is never reached is not proven."""

from __future__ import annotations

import re

from proof.record import Record
from proof.simulation.runs import Outcome

SEEDS_MIN = 1_000
"""From so many seeds on every state of the list must have been reached."""

STATES: tuple[str, ...] = (
    "unknown",
    "unknown, then found",
    "given up: absent",
    "given up: rejected",
    "late landing",
    "late landing adopted after it was given up",
    "unknown: request lost",
    "unknown: reply lost",
    "unknown: wrong status",
    "unknown: code 6 or 7",
    "unknown: unreadable answer",
    "refused by the broker",
    "proven not sent",
    "withheld with the connection in hand",
    "no connection in time",
    "question without an answer",
    "user event dropped",
    "user hub fell",
    "fenced write",
    "rollback detected",
    "execution ended: SettledChanged",
    "write refused after a rollback",
    "request to Redis lost",
    "reply of Redis lost",
    "redis killed",
    "redis frozen",
    "redis emptied",
    "redis rolled_back",
    "redis misconf",
    "redis oom",
    "stop of execution",
    "two of execution",
    "two of broker_sync",
    "two of worker",
    "wall clock jumped",
    "machine started anew",
    "order by hand",
    "session closed",
    "storm of 429",
    "broker cut off",
    "broker answers no question",
    "ledger's disk fails",
    "feed silent",
    "operator: halt",
    "operator: flatten",
    "operator: resume",
    "operator: halt-reducing",
    "halt while an order is under way",
    "change sent",
    "enlarging change sent",
    "stop or target changed",
    "exit made as small as what is left",
    "cancel got through after a storm",
    "alarm order_vanished",
    "kill of execution before ledger commit",
    "kill of execution after ledger commit",
    "kill of execution before ledger commit of a claim",
    "kill of execution after ledger commit of a claim",
    "kill of execution before http /api/Order/place",
    "kill of execution sent http /api/Order/place",
    "kill of execution after http /api/Order/place",
    "kill of execution sent http /api/Order/cancel",
    "kill of execution before bus julie_append",
    "kill of execution after bus julie_append",
    "kill of broker_sync before bus julie_append",
    "kill of broker_sync after bus julie_append",
    "login",
    "login failed",
    "login denied",
    "login without an answer",
    "login answered slowly",
    "login after one that brought nothing",
    "validation failed",
    "validation without an answer",
    "validation answered slowly",
    "validation brought a token",
    "token dead on arrival",
    "token over on arrival",
    "tokens revoked",
    "401 for a token that lives",
    "dead token refused",
    "dead token called active",
    "heartbeat learns that its token is dead",
    "halt by heartbeat",
    "resume by heartbeat",
    "broker_sync silent for too long",
    "execution silent for too long",
    "feed silent for too long",
    "stop of heartbeat",
    "two of heartbeat",
    "heartbeat ended: Fenced",
    "heartbeat ended: RolledBack",
    "kill of heartbeat before http /api/Auth/loginKey",
    "kill of heartbeat sent http /api/Auth/loginKey",
    "kill of heartbeat after http /api/Auth/loginKey",
    "kill of heartbeat before bus SET session:token",
    "kill of heartbeat after bus SET session:token",
    "kill of heartbeat before bus julie_append",
    "kill of heartbeat after bus julie_append",
    "kill of s1 before bus julie_step",
    "kill of s1 after bus julie_step",
    "guard: breach of contracts",
    "guard: breach of daily loss",
    "guard: breach of maximum loss",
    "guard: blind with a position",
    "guard: record lost",
    "guard: a breach died with the process before it was written",
    "guard: flat after a breach",
    "guard: re-armed",
    "guard: latched at the end",
    "guard: the day turned",
    "guard closes by itself: Redis is away",
    "guard closes by itself: execution is silent",
    "guard closes by itself: nothing was",
    "guard refuses a resume: a resume that was heard before",
    "guard refuses a resume: still broken",
    "guard refuses a resume: the broker has not shown",
    "guard sent cancel",
    "guard sent closeContract",
    "guard ended: Fenced",
    "guard's disk fails",
    "stop of guard",
    "two of guard",
    "kill of guard before record write",
    "kill of guard after record write",
    "kill of guard sent http /api/Order/cancel",
    "kill of guard sent http /api/Position/closeContract",
    "kill of guard before bus julie_append",
    "kill of guard after bus julie_append",
)


ROWS: tuple[tuple[str, str], ...] = (
    (r"kill of \w+ at once", "F-1"),
    (r"kill of \w+ (before|after|sent) .*", "F-2"),
    (r"machine started anew", "F-3"),
    (r"redis killed", "F-4"),
    (r"redis (emptied|rolled_back)", "F-6"),
    (r"redis frozen", "F-7"),
    (r"redis misconf|(ledger|guard)'s disk fails", "F-8"),
    (r"redis oom", "F-9"),
    (r"reply of Redis lost", "F-10"),
    (r"request to Redis lost|broker cut off|no connection in time", "F-11"),
    (r"two of (execution|guard)", "F-12"),
    (r"wall clock jumped", "F-14"),
    (r"storm of 429|unknown: (unreadable answer|code 6 or 7)", "F-18"),
    (r"tokens revoked|token (dead|over) on arrival|401 for a token that lives", "F-19"),
    (r"user event dropped|user hub fell", "F-21"),
    (r"order by hand", "F-22"),
    (r"late landing|unknown: wrong status", "F-23"),
    (r"question without an answer|broker answers no question", "F-24"),
    (r"halt while an order is under way", "F-27"),
)
"""States that are the effect of a fault -> its row in the matrix."""


def count_faults(record: Record) -> None:
    """Count the rows of the fault matrix by what really happened."""
    for state, times in record.reached.items():
        for pattern, row in ROWS:
            if re.fullmatch(pattern, state):
                record.inject(row, times)


def complete(outcome: Outcome) -> bool:
    """Say which states were never reached."""
    if outcome.seeds < SEEDS_MIN:
        return True
    missing = [state for state in STATES if not outcome.record.reached.get(state)]
    for state in missing:
        print(f"NEVER REACHED in {outcome.seeds} seeds: {state}")
    return not missing
