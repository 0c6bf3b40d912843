"""The request budget and the wall clock, on the modelled server: the Lua is the real one, its clock ours."""

from __future__ import annotations

from proof.simulation.bus.server import SimServer
from shared.bus.functions import LIBRARY

MS = 1_000
S = 1_000 * MS
WINDOW_MS = 60_000


class Desk:
    """Asks one budget of ten places, two of them for urgent requests."""

    def __init__(self) -> None:
        self.now_us = 1_760_000_000 * S
        self._server = SimServer(lambda: self.now_us)
        self._session = self._server.attach()
        self.do("FUNCTION", "LOAD", LIBRARY)
        self.asked = 0

    def do(self, *words: str | int) -> object:
        return self._server.execute(self._session, [str(word).encode() for word in words])

    def ask(self, *, urgent: bool = False, last: str = "", window_ms: int = WINDOW_MS) -> object:
        """Return 0 when granted, else milliseconds to wait; -1: Redis has lost `last`."""
        self.asked += 1
        words = (10, window_ms, 2, int(urgent), f"m{self.asked}", last)
        return self.do("FCALL", "julie_budget", 2, "b", "p", *words)

    def pause(self, pause_ms: int) -> None:
        self.do("FCALL", "julie_budget_pause", 1, "p", pause_ms)


def test_places_later_than_now_count_as_lost_and_are_told_again() -> None:
    """The clock fell back by nine minutes: a full window must not stay full until it has caught up."""
    desk = Desk()
    assert [desk.ask() for _ in range(9)] == [0] * 8 + [WINDOW_MS]
    desk.now_us -= 540 * S
    assert desk.ask(last="m8") == -1
    desk.do(
        "FCALL",
        "julie_budget_recall",
        1,
        "b",
        WINDOW_MS,
        *(w for n in range(1, 9) for w in (f"m{n}", 20_000)),
    )
    assert desk.ask(last="m8") == 40_000
    desk.now_us += 40 * S
    assert desk.ask() == 0


def test_a_pause_outlives_the_window_it_was_asked_for_in() -> None:
    desk = Desk()
    assert desk.ask(window_ms=30_000) == 0
    desk.pause(300_000)
    desk.now_us += 61 * S
    assert desk.ask(window_ms=30_000) == 239_000
    assert desk.ask(window_ms=30_000, urgent=True) == 0
    desk.now_us += 239 * S
    assert desk.ask(window_ms=30_000) == 0


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    desk = Desk()
    desk.pause(300_000)
    desk.pause(1_000)
    assert desk.ask() == 300_000
    desk.now_us += 299 * S
    desk.pause(5_000)
    assert desk.ask() == 5_000


def test_a_clock_that_is_set_back_makes_a_pause_no_longer_than_it_was_asked_for() -> None:
    """How much of it is over cannot be known then; it must not last until the clock has caught up."""
    desk = Desk()
    desk.pause(30_000)
    desk.now_us += 20 * S
    desk.now_us -= 540 * S
    assert desk.ask() == 30_000
    desk.now_us += 10 * S
    assert desk.ask() == 20_000
    desk.now_us -= 3_600 * S
    assert desk.ask() == 30_000
    assert desk.ask(urgent=True) == 0
    desk.now_us += 30 * S
    assert desk.ask() == 0


def test_a_pause_from_before_the_clock_fell_back_hides_no_longer_one() -> None:
    desk = Desk()
    desk.pause(5_000)
    desk.now_us -= 600 * S
    desk.pause(7_000)
    assert desk.ask() == 7_000


def test_a_clock_that_leaps_ahead_ends_a_pause() -> None:
    desk = Desk()
    desk.pause(300_000)
    desk.now_us += 600 * S
    assert desk.ask() == 0


def test_a_pause_takes_no_place_in_the_budget() -> None:
    desk = Desk()
    assert desk.ask() == 0
    desk.pause(30_000)
    desk.now_us += 30 * S
    assert [desk.ask() for _ in range(8)] == [0] * 7 + [30_000]
