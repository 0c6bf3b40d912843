from __future__ import annotations

from proof.record import Record
from proof.table import PAGE, bugs, invariants, kept, page, runs, states


def test_page_has_the_tables_of_the_records() -> None:
    """`python -m proof.table` writes them anew."""
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, kept()) == text


def test_checks_of_all_machines_are_added_and_violations_shown() -> None:
    one = Record(machine="simulation", command="", build="", started="")
    other = Record(machine="chaos", command="", build="", started="")
    one.check("I-1", True, times=1_000)
    other.check("I-1", False, "two orders")
    row = next(row for row in invariants([one, other]) if row.startswith("| I-1 |"))
    assert row.endswith("| simulation 1,000, chaos 1 | 1,001 | 1 |")
    assert any(row.endswith("| nowhere yet | 0 | 0 |") for row in invariants([]))


def test_plans_of_chaos_are_rows_of_their_own_and_one_machine() -> None:
    kills = Record(machine="chaos", plan="kills", command="", build="", started="")
    soak = Record(machine="chaos", plan="soak", command="", build="", started="")
    for one in (kills, soak):
        one.check("I-1", True, times=2)
    assert [row.split(" | ")[0] for row in runs([kills, soak])[2:]] == ["| chaos, kills", "| chaos, soak"]
    assert any(row.endswith("| chaos 4 | 4 | 0 |") for row in invariants([kills, soak]))


def test_figures_are_told_in_words_and_those_without_words_are_not() -> None:
    one = Record(machine="chaos", command="", build="", started="")
    one.figures = {"kills": 2_000, "lost": 0, "rss_mb_max_feed": 59.6}
    assert runs([one])[-1].endswith("| 2,000 kills, 0 lost |")


def test_kills_at_the_calls_of_one_process_are_one_row() -> None:
    one = Record(machine="simulation", command="", build="", started="")
    one.reach("kill of execution before ledger commit", 2)
    one.reach("kill of execution after bus julie_append")
    one.reach("kill of execution at once")
    assert states([one])[2:] == [
        "| simulation | kill of execution at once | 1 |",
        "| simulation | kill of execution before or after a call | 3 |",
    ]


def test_planted_bugs_are_shown_with_the_seed_that_catches_them() -> None:
    one = Record(machine="simulation", command="", build="", started="")
    one.reach("planted bug caught: fill counted twice")
    one.figures = {"seeds": 1_000, "caught in seed: fill counted twice": 1}
    assert bugs([one])[2:] == ["| fill counted twice | 1 |"]
