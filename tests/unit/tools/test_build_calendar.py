"""The committed table against its source, so that a stale one is noticed."""

from __future__ import annotations

import runpy
import warnings
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from shared.domain import calendar

pytestmark = pytest.mark.xdist_group("calendar")  # one reading of the source is enough
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def tool() -> dict[str, object]:
    pytest.importorskip("pandas_market_calendars", reason="a development dependency, absent here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' own
        return runpy.run_path(str(ROOT / "tools" / "build_calendar.py"))


@pytest.mark.parametrize("group", ["equity", "fx"])
@pytest.mark.filterwarnings("ignore")
def test_every_session_of_the_source_is_in_the_table(tool: dict[str, object], group: str) -> None:
    source = tool["source_sessions"](group)  # type: ignore[operator]
    ours = {s.trading_date: (s.open_ns // 10**9, s.close_ns // 10**9) for s in calendar.sessions(group)}
    assert ours == {day: (int(o.timestamp()), int(c.timestamp())) for day, (o, c) in source.items()}


@pytest.mark.parametrize(("group", "other"), [("equity", "CBOT_Equity"), ("fx", "CME_FX")])
@pytest.mark.filterwarnings("ignore")
def test_other_names_of_the_source_agree(tool: dict[str, object], group: str, other: str) -> None:
    """YM is CBOT's, and the source has a calendar of its own for it."""
    import pandas_market_calendars

    schedule = pandas_market_calendars.get_calendar(other).schedule(
        calendar.FIRST_DAY, calendar.LAST_DAY, tz="UTC"
    )
    theirs = [int(t.timestamp()) for t in schedule.market_close]
    assert theirs == [s.close_ns // 10**9 for s in calendar.sessions(group)]


def test_sessions_do_not_overlap() -> None:
    for group in ("equity", "fx"):
        table = calendar.sessions(group)
        for earlier, later in pairwise(table):
            assert earlier.open_ns < earlier.close_ns < later.open_ns
            assert later.trading_date - earlier.trading_date <= timedelta(days=5)
