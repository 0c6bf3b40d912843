"""When a life of the feed that was frozen could do what was due meanwhile."""

from __future__ import annotations

from proof.simulation.checkers.feed_lives import Life


def test_what_is_due_during_a_sleep_is_due_on_waking() -> None:
    life = Life()
    for now_s in (5.0, 5.5, 6.0, 9.0):
        life.stands_still(now_s, 0.5)
    assert life.held == [(4.5, 6.5), (8.5, 9.5)]
    assert [life.awake_s(due_s) for due_s in (4.0, 4.5, 6.4, 6.5, 9.0)] == [4.0, 6.5, 6.5, 6.5, 9.5]
