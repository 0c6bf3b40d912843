"""What guard must not forget: the high-water mark of the balance, and a breach until a person re-arms."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec


class Rule(StrEnum):
    """What was broken."""

    DAILY_LOSS = "daily_loss"
    MAX_LOSS = "max_loss"
    CONTRACTS = "contracts"
    RECORD = "record"  # our own memory of breaches could not be read: a person has to look


class Breach(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One broken rule and how long it took to be flat. Times are our wall clock, ns; 0: not yet.

    Attributes:
        reason: With the figures that led to it.
        ts_halt_ns: Execution has shown that it holds the halt, or guard took over.
        ts_cancel_ns: First cancel or close was sent, by whoever sent it.
        ts_flat_ns: Beginning of the first of the looks that showed nothing any more.
        closed_by: `execution` or `guard`.
    """

    rule: Rule
    reason: str
    ts_breach_ns: int
    ts_halt_ns: int = 0
    ts_cancel_ns: int = 0
    ts_flat_ns: int = 0
    closed_by: str = ""


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What no fill of the window changes, and so must not move from look to look.

    Attributes:
        carried: contract -> position that the window's fills do not explain.
    """

    fills_from_ns: int | None
    carried: dict[str, int]
    balance_before: Decimal


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Everything durable about one account.

    Attributes:
        since: Trading date the rules count from, as the settings say; empty for "as far as is known".
        day: Newest trading date whose end is not in yet, ISO.
        eod_balance: At the end of the day before `day`.
        high_balance: Highest end-of-day balance, never below the starting balance.
        latch: The breach that holds trading; None: none.
        last: The newest breach, also after a re-arm.
        fingerprint: Of the looks at the account so far: after a restart one that agrees with it is enough.
        resumes: Names of the newest that were heard, oldest first. A time would not do: one that was said
            while the clock was ahead would be newer than all that follow.
        lives: How often guard has begun with this record. Each writes it down first: an older one that was
            stopped, and wakes, finds a record that is not its own.
    """

    account_id: int
    since: str
    day: str
    start_balance: Decimal
    eod_balance: Decimal
    high_balance: Decimal
    latch: Breach | None = None
    last: Breach | None = None
    fingerprint: Fingerprint | None = None
    resumes: tuple[str, ...] = ()
    lives: int = 0
