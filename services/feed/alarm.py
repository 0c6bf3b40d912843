"""Saying things to a person, and saying each not more often than a person can read."""

from __future__ import annotations

from services.feed.events import Alarm
from services.feed.state import State

REPEAT_NS = 5_000_000_000
"""The same alarm of the same symbol is said once in this time, with how often it was meant."""


def alarm(
    state: State, name: str, symbol: str, text: str, mono_ns: int, *, grave: bool = True
) -> list[Alarm]:
    """Return the alarm, or nothing when it was said just now; it is counted either way."""
    said_ns, count = state.alarms.get((name, symbol), (None, 0))
    if said_ns is not None and mono_ns - said_ns < REPEAT_NS:
        state.alarms[name, symbol] = (said_ns, count + 1)
        return []
    state.alarms[name, symbol] = (mono_ns, 0)
    return [Alarm(name=name, symbol=symbol, text=text, count=count + 1, grave=grave)]
