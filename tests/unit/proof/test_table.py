from __future__ import annotations

from proof.record import Record
from proof.table import PAGE, TOLD, bugs, invariants, kept, page, runs, states


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


def test_figures_of_no_samples_are_left_out() -> None:
    one = Record(machine="chaos", command="", build="", started="")
    one.figures = {"lost": 0, "noticed_s_p99": 0.0, "noticed_samples": 0}
    assert runs([one])[-1].endswith("| 0 lost |")
    one.figures |= {"noticed_s_p99": 1.7, "noticed_samples": 3}
    assert runs([one])[-1].endswith("| 0 lost, standstill noticed in p99 1.7 s (3 times) |")


def test_longest_time_without_a_stop_is_told_with_who_told_it() -> None:
    one = Record(machine="chaos", command="", build="", started="")
    one.figures = {"unprotected_s_max": 71.2, "unprotected_over_5s": 1}
    one.reach(TOLD)
    assert runs([one])[-1].endswith("| longest without its stop 71.2 s (1 of 1 over 5 s told by an alarm) |")
    one.figures = {"unprotected_s_max": 1.3, "unprotected_over_5s": 0}
    assert runs([one])[-1].endswith("| longest without its stop 1.3 s |")


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
