from __future__ import annotations

from proof.record import Record
from proof.table import PAGE, invariants, kept, page


def test_page_has_the_tables_of_the_records() -> None:
    """`python -m proof.table` writes them anew."""
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, kept()) == text


def test_checks_of_all_machines_are_added_and_violations_shown() -> None:
    one = Record(machine="simulation", command="", build="", started="")
    other = Record(machine="chaos", command="", build="", started="")
    one.check("I-1", True, times=1_000)
    other.check("I-1", False, "two orders")
    row = next(row for row in invariants({"simulation": one, "chaos": other}) if row.startswith("| I-1 |"))
    assert row.endswith("| simulation 1,000, chaos 1 | 1,001 | 1 |")
    assert any(row.endswith("| nowhere yet | 0 | 0 |") for row in invariants({}))
