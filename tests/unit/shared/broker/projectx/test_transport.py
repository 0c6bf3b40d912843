"""The broker's clock, as the `Date` of its answers tells it."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from shared.broker.projectx.transport import Http
from tests.support.clocks import ManualClock

BEGAN_S = 1_772_461_800


class Venue:
    """A broker whose clock is right; `ManualClock` begins as it does."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.http = Http(base_url="http://127.0.0.1:1", clock=self.clock)
        self._began_ns = self.clock.monotonic_ns()

    @property
    def now_s(self) -> float:
        return BEGAN_S + (self.clock.monotonic_ns() - self._began_ns) / 1e9

    def answers(self, after_s: float = 0.0, way_back_s: float = 0.0) -> None:
        """Ask; the answer is made and sent after some time, and comes here after some more."""
        asked_ns = self.clock.monotonic_ns()
        self.clock.advance(after_s)
        date = formatdate(self.now_s, usegmt=True)
        self.clock.advance(way_back_s)
        self.http._learn_clock(date, asked_ns)

    @property
    def error_s(self) -> float:
        now_ns = self.http.venue_now_ns()
        assert now_ns is not None
        return now_ns / 1e9 - self.now_s


@pytest.mark.parametrize(("after_s", "way_back_s"), [(0, 7), (7, 0), (3, 4), (0, 60)])
def test_an_answer_that_was_long_on_its_way_does_not_set_the_brokers_clock_back(
    after_s: float, way_back_s: float
) -> None:
    venue = Venue()
    venue.answers()
    venue.answers(after_s, way_back_s)
    assert -1 <= venue.error_s <= 0


def test_a_first_answer_that_came_late_is_corrected_by_the_next() -> None:
    venue = Venue()
    venue.answers(way_back_s=7)
    assert venue.error_s == pytest.approx(-7, abs=1)
    venue.answers()
    assert -1 <= venue.error_s <= 0


def test_a_broker_that_sets_its_clock_back_is_believed() -> None:
    venue = Venue()
    venue.answers()
    venue._began_ns += 10_000_000_000
    venue.answers(0.1, 0.1)
    assert -1 <= venue.error_s <= 0
