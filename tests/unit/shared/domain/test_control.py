"""How old a word that loosens may be."""

from __future__ import annotations

import pytest

from shared.domain.control import HaltKind, Resume, untimely

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
