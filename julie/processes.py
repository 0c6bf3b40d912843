"""The processes of an installation: what each is for and what it promises."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One row of `julie up` and `julie status`.

    Attributes:
        name: As in its beats; strategy hosts and workers carry a suffix.
        promise: What it guarantees, said when it becomes ready. May name settings (`{feed.stale_after_s}`)
            and `{symbols}`.
        optional: Runs only in some installations.
    """

    name: str
    promise: str
    optional: bool = False


PROCESSES = (
    Process(
        name="simulator",
        promise="a ProjectX gateway of its own: REST and both hubs, orders and positions survive a restart",
        optional=True,
    ),
    Process(
        name="heartbeat",
        promise="validates the session every {heartbeat.validate_interval_s:g} s; judges every process by "
        "its progress and halts within 5 s of losing one",
    ),
    Process(name="feed", promise="pushes quotes, trades, depth and bars of {symbols}; marks every gap"),
    Process(
        name="broker_sync",
        promise="position sync: reconciles with the broker every {broker_sync.reconcile_interval_s:g} s",
    ),
    Process(
        name="execution",
        promise="the only sender of orders: each is written to disk before it is sent, and sent once",
    ),
    Process(
        name="guard",
        promise="keeps the prop firm's rules (daily loss, maximum loss, contracts, flat by the close): "
        "halts, and closes everything by itself when execution does not",
    ),
    Process(name="recorder", promise="archives every stream to Parquet; trims only what is archived"),
    Process(
        name="strategy",
        promise="each strategy instance in a process of its own, at low priority, with a deadline per event",
    ),
)
