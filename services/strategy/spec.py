"""What a worker is told when it starts: one line of JSON on its standard input.

Not on its command line, where every user of the machine could read the bus password.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

EXIT_STOPPED = 0
EXIT_HOST_GONE = 3
EXIT_FENCED = 20
EXIT_ROLLED_BACK = 21
EXIT_STRATEGY_FAILED = 22
EXIT_REFUSED = 23
"""Class not found, settings or memory that do not fit: starting again would not help."""

WORKER_PREFIX = "strategy:"
"""Before an instance's id: the name of its worker among the processes."""


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of one strategy instance.

    Attributes:
        strategy_class: `package.module:Class`.
        lease: Key, holder and epoch; every commit checks the epoch.
        redis: Fields of the bus address, with the password.
        warmup_s: How far back a fresh instance begins to read, so that it knows some bars.
    """

    strategy_id: str
    strategy_class: str
    symbols: tuple[str, ...]
    settings: dict[str, Any]
    env: str
    account_id: int
    lease: tuple[str, str, int]
    redis: dict[str, Any]
    build: str
    log_level: str = "INFO"
    intent_ttl_s: float = 5.0
    max_input_age_s: float = 5.0
    warmup_s: float = 3_600.0
    skip_behind_s: float = 30.0
    commit_interval_ms: int = 250
    commit_entries_max: int = 4_096
    memory_max_mb: int = 512


class Seen(NamedTuple):
    """One look at a worker's shared page; see `progress.py`."""

    busy: bool
    handled: int
    intents: int
    commits: int
    refused: int
    ready: bool
    last_id: str
    suppressed: int
    away: bool
    turns: int
    behind_ms: int
    reason: str
    seqs: tuple[int, ...] = ()
