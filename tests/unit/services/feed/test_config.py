from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.feed.config import FeedConfig
from shared.runtime.config import JulieSection


def test_minutes_are_always_among_the_intervals() -> None:
    assert FeedConfig(bar_intervals_s=(300, 900)).bar_intervals_s == (60, 300, 900)


@pytest.mark.parametrize("interval_s", [0, 30, 90, -60, 86_460])
def test_interval_that_is_no_multiple_of_a_minute(interval_s: int) -> None:
    with pytest.raises(ValidationError, match="whole number of minutes"):
        FeedConfig(bar_intervals_s=(interval_s,))


def test_settings_of_the_core() -> None:
    settings = FeedConfig(stale_after_s=7).settings(JulieSection(market_clock="venue", market_speed=20))
    assert (settings.stale_after_ns, settings.venue_clock, settings.speed) == (7 * 10**9, True, 20)
