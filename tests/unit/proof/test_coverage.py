from __future__ import annotations

import re

from proof.record import Record
from proof.simulation.coverage import ROWS, STATES, count_faults


def test_faults_are_counted_by_their_effects() -> None:
    record = Record(machine="simulation", command="", build="", started="")
    record.reach("kill of execution after ledger commit", 3)
    record.reach("redis emptied")
    record.reach("redis rolled_back")
    record.reach("unknown, then found")
    count_faults(record)
    assert record.faults == {"F-2": 3, "F-6": 2}


def test_every_row_but_plain_kills_is_the_effect_of_a_state_that_must_be_reached() -> None:
    unreached = [row for pattern, row in ROWS if not any(re.fullmatch(pattern, one) for one in STATES)]
    assert unreached == ["F-1"]
