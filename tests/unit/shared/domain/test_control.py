"""How old a word that loosens may be, and what a beat shows of halts."""

from __future__ import annotations

import pytest

from shared.domain.control import HELD, HELD_NONE, Beat, HaltKind, Resume, untimely

NOW_NS = 1_753_105_500_000_000_000
S = 1_000_000_000


@pytest.mark.parametrize(
    ("age_ns", "timely"),
    [
        (0, True),
        (60 * S, True),
        (60 * S + 1, False),
        (-5 * S, True),
        (-5 * S - 1, False),
        (10**400, False),  # found by fuzzing: no float holds it
        (-(10**400), False),
    ],
)
def test_a_resume_loosens_for_a_minute(age_ns: int, timely: bool) -> None:
    order = Resume(kind=HaltKind.OPERATOR, reason="x", issuer="me", ts_ns=NOW_NS - age_ns)
    assert (untimely(order, NOW_NS) == "") is timely


@pytest.mark.parametrize(
    ("detail", "held"),
    [
        ({}, None),
        ({HELD: HELD_NONE}, frozenset()),
        ({HELD: "guard"}, frozenset({HaltKind.GUARD})),
        ({HELD: "clock, guard"}, frozenset({HaltKind.CLOCK, HaltKind.GUARD})),
    ],
)
def test_a_beat_shows_which_halts_are_held_or_nothing(
    detail: dict[str, str], held: frozenset[str] | None
) -> None:
    beat = Beat(
        process="execution", pid=1, host="h", build="b", started_at_ns=1, ts_ns=NOW_NS, seq=1, detail=detail
    )
    assert beat.held == held
