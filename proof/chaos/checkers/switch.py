"""I-26: what left for the broker after trading was halted, and how soon what closes left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from proof.chaos.checkers.evidence import Evidence
from proof.record import Record
from shared.domain.control import TradingState
from shared.domain.execution import FlattenProgressed, TradingStateChanged

PLACE = "/api/Order/place"
CLOSING = ("/api/Order/cancel", "/api/Position/closeContract")
STILL_S = 1.0
CANCELED_S = 5.0
SLACK_S = 1.0
"""The door sees a request when its own process gets its turn, and has to look up whose connection it is."""


class Halted(NamedTuple):
    """A time during which trading was halted, by execution's own steps."""

    since_ns: int
    until_ns: int


def check(evidence: Evidence, record: Record) -> None:
    if "execution" in evidence.world.clocks_jumped:
        return  # its steps do not tell when they were
    _silent(evidence, record)
    _closing(evidence, record)


def halts(evidence: Evidence) -> Iterator[Halted]:
    """Yield each time from the step that halts to the one that ends it."""
    since_ns: int | None = None
    for step, message in evidence.said(TradingStateChanged):
        if message.state is TradingState.HALTED:
            since_ns = step.ts_ns if since_ns is None else since_ns
        elif since_ns is not None:
            yield Halted(since_ns, step.ts_ns)
            since_ns = None
    if since_ns is not None:
        yield Halted(since_ns, 1 << 63)


def _silent(evidence: Evidence, record: Record) -> None:
    """No order leaves while trading is halted, but what protects a position or ends it."""
    orders = evidence.orders
    sent: list[tuple[int, str]] = []
    for request in evidence.world.requests.all:
        tag = _tag(request.body) if request.path == PLACE else ""
        if tag and (tag not in orders or orders[tag].parent is None):
            sent.append((evidence.ns(request.mono_s), tag))
    bound_ns = round((STILL_S + SLACK_S) * 1e9)
    for one in halts(evidence):
        late = [tag for at_ns, tag in sent if one.since_ns + bound_ns < at_ns < one.until_ns]
        record.check("I-26", not late, f"sent while trading was halted: {late}")


def _closing(evidence: Evidence, record: Record) -> None:
    """A round of a flatten that has something to cancel or close does so soon, when nothing hinders it."""
    closing = [evidence.ns(one.mono_s) for one in evidence.world.requests.all if one.path.startswith(CLOSING)]
    bound_ns = round((CANCELED_S + SLACK_S) * 1e9)
    for step, message in evidence.said(FlattenProgressed):
        asked = message.round == 1 and (message.cancels or message.closes)
        since_s = evidence.mono_s(step.ts_ns)
        if not asked or not evidence.world.sampler.calm(since_s, since_s + CANCELED_S):
            continue
        # What was under way already when the flatten began is not sent again.
        soon = any(-bound_ns <= at_ns - step.ts_ns <= bound_ns for at_ns in closing)
        words = f"nothing was canceled or closed within {CANCELED_S:g} s of a flatten (step {step.seq})"
        record.check("I-26", soon, words)
        record.reach("flatten: cancels and closes timed")


def _tag(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body).get("customTag", ""))
    except (msgspec.DecodeError, AttributeError):
        return ""
