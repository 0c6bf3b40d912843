"""The place of faults on demand: every answer and every user event passes through here.

No fault exists yet. Each will be a setting in `[simulator.faults]` and act in one of these
two functions, so that the rest of the venue stays honest: 429, 500, 503, timeout after
accept, slow replies, null lists and null tokens in `answer`; lost, late, doubled and
reordered events in `user_events`. Calendar liquidation (15:10 Chicago) will be an event of
`core.decide` like any other.
"""

from __future__ import annotations

from typing import Any


def answer(path: str, envelope: dict[str, Any]) -> dict[str, Any]:
    """Return what an endpoint really sends instead of `envelope`."""
    return envelope


def user_events(record: bytes) -> list[bytes]:
    """Return what the user hub really sends instead of `record`."""
    return [record]
