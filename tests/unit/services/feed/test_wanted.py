from __future__ import annotations

import pytest

from services.feed.events import Alarm, FetchBars, IntervalWanted, Purpose, Resumed, Shed
from services.feed.wanted import INTERVALS_MAX
from shared.domain.market import Bar
from tests.support.feed_desk import MINUTE_NS, OPEN_NS, Desk, make_history_bar, make_instrument


def want(desk: Desk, interval_s: int, *symbols: str) -> None:
    desk.decide(IntervalWanted(who="1001:b", interval_s=interval_s, symbols=symbols or ("MES",), **desk.at()))


def larger(desk: Desk, interval_s: int) -> list[tuple[int, int, str]]:
    return [bar[1:] for bar in desk.bars() if bar[0] == interval_s]


def folds(desk: Desk) -> list[tuple[int, int]]:
    """Return which minutes of history were asked for to fold a new interval from."""
    return [_minutes(fetch) for fetch in desk.fetches(Purpose.FOLD)]


def _minutes(fetch: FetchBars) -> tuple[int, int]:
    return (fetch.start_ns - OPEN_NS) // MINUTE_NS, (fetch.end_ns - OPEN_NS) // MINUTE_NS


def running(minute: int = 10, *, backfill_bars: int = 10, **settings: object) -> Desk:
    """Return a desk that started just before `minute`, has its history, and saw two minutes from there on."""
    desk = Desk(second=minute * 60 - 10, backfill_bars=backfill_bars - 1, **settings)
    desk.tick()
    history = [make_history_bar(n) for n in range(minute - backfill_bars, minute)]
    desk.history(desk.fetches(Purpose.BACKFILL)[0], *history)
    desk.quote(minute * 60 - 9, bid_px=1.0)
    desk.tick(minute * 60 + 1)
    desk.history(desk.fetches(Purpose.BACKFILL)[-1], *history)
    desk.trade(minute * 60 + 1, qty=2)
    desk.trade(minute * 60 + 61, qty=3)
    desk.trade(minute * 60 + 121, qty=4)
    return desk


def test_new_interval_begins_with_what_the_minutes_hold() -> None:
    desk = running()
    want(desk, 300)
    desk.tick(723)
    assert folds(desk) == []
    assert larger(desk, 300) == [(0, 35, "backfill"), (5, 35, "backfill")]
    for minute in (13, 14):
        desk.trade(minute * 60 + 1)
    desk.trade(901)
    assert larger(desk, 300)[2:] == [(10, 2 + 3 + 4 + 1 + 1, "trades")]


def test_bars_are_the_minutes_folded() -> None:
    desk = running()
    want(desk, 120)
    desk.tick(723)
    for minute in range(13, 20):
        desk.trade(minute * 60 + 1, px=100 + minute, qty=minute)
    desk.tick(1202)
    minutes = [bar for bar in desk.of(Bar) if bar.interval_s == 60]
    found = [bar for bar in desk.of(Bar) if bar.interval_s == 120]
    assert [bar.ts_open_ns for bar in found] == [OPEN_NS + n * MINUTE_NS for n in range(0, 20, 2)]
    for bar in found:
        part = [m for m in minutes if 0 <= m.ts_open_ns - bar.ts_open_ns < 2 * MINUTE_NS]
        assert (bar.open, bar.close) == (part[0].open, part[-1].close)
        assert (bar.high, bar.low) == (max(m.high for m in part), min(m.low for m in part))
        assert bar.volume == sum(m.volume for m in part)
        assert not bar.partial


def test_the_same_wish_again_changes_nothing() -> None:
    desk = running(intervals_s=(60, 300))
    before = desk.bars()
    want(desk, 300)
    want(desk, 60)
    want(desk, 120)
    desk.tick(723)
    found = larger(desk, 120)
    want(desk, 120)
    desk.tick(724)
    assert larger(desk, 120) == found
    assert [bar for bar in desk.bars() if bar[0] != 120] == before


def test_interval_waits_for_the_history_of_the_start() -> None:
    desk = Desk(second=601, backfill_bars=10)
    want(desk, 300)
    desk.tick()
    assert desk.bars() == []
    desk.history(desk.fetches(Purpose.BACKFILL)[0], *(make_history_bar(n) for n in range(10)))
    desk.tick(602)
    assert larger(desk, 300) == [(0, 35, "backfill"), (5, 35, "backfill")]


def test_minutes_from_before_the_start_come_from_history() -> None:
    desk = running(backfill_bars=3)  # has minutes 7 to 11; a bar of 15 minutes began at 0
    want(desk, 900)
    desk.tick(723)
    assert folds(desk) == [(0, 7)]
    desk.tick(724)
    assert folds(desk) == [(0, 7)]
    desk.history(desk.fetches(Purpose.FOLD)[0], *(make_history_bar(n) for n in range(7)))
    for minute in (13, 14):
        desk.trade(minute * 60 + 1)
    desk.trade(901)
    desk.tick(902)
    assert larger(desk, 900) == [(0, 10 * 7 + 2 + 3 + 4 + 1 + 1, "backfill")]


def test_others_do_not_wait_for_that_history() -> None:
    desk = running(backfill_bars=3)
    want(desk, 900)
    desk.tick(723)
    assert folds(desk)
    desk.trade(781)
    assert desk.bars()[-1] == (60, 12, 4, "trades")


def test_without_history_the_first_bar_is_partial() -> None:
    desk = running(backfill_bars=3, backfill_attempts_max=2)
    want(desk, 900)
    desk.tick(723)
    desk.fail(Purpose.FOLD)
    desk.tick(723.5)
    assert len(folds(desk)) == 1
    desk.tick(725)
    desk.fail(Purpose.FOLD)
    desk.tick(728)
    desk.trade(901)
    desk.tick(902)
    assert larger(desk, 900) == [(0, 3 * 7 + 2 + 3 + 4, "partial")]


def test_what_a_feed_before_published_is_not_published_again() -> None:
    desk = Desk(up=False, second=630, backfill_bars=10)
    out = {60: make_history_bar(8).ts_open_ns, 300: make_history_bar(0).ts_open_ns}
    desk.decide(Resumed(symbol="MES", bars_out_ns=out, last_event_ns=OPEN_NS, **desk.at()))
    want(desk, 300)
    desk.find(make_instrument())
    desk.link(True)
    desk.tick()
    [fetch] = desk.fetches(Purpose.BACKFILL)
    desk.history(fetch, make_history_bar(9))
    desk.tick(631)
    assert folds(desk) == [(5, 9)]
    desk.history(desk.fetches(Purpose.FOLD)[0], *(make_history_bar(n) for n in range(5, 9)))
    desk.tick(632)
    assert desk.bars() == [(60, 9, 7, "backfill"), (300, 5, 35, "backfill")]


def test_bars_that_may_be_out_count_as_published() -> None:
    """The tail that was read begins at 15:06: what ended before it nobody has looked at."""
    desk = Desk(up=False, second=630, backfill_bars=10)
    desk.decide(
        Resumed(
            symbol="MES",
            bars_out_ns={60: make_history_bar(8).ts_open_ns},
            last_event_ns=OPEN_NS,
            read_from_ns=OPEN_NS + 6 * MINUTE_NS,
            **desk.at(),
        )
    )
    desk.find(make_instrument())
    desk.link(True)
    desk.tick()
    desk.history(desk.fetches(Purpose.BACKFILL)[0], make_history_bar(9))
    want(desk, 300)
    desk.tick(631)
    assert folds(desk) == [(5, 9)]


def test_interval_begun_goes_on_after_a_gap() -> None:
    desk = running()
    want(desk, 300)
    desk.tick(723)
    desk.link(False)
    desk.second = 1000
    desk.link(True)
    desk.tick(1002)
    desk.history(desk.fetches(Purpose.BACKFILL)[-1], *(make_history_bar(n) for n in (12, 13, 14, 15)))
    desk.tick(1003)
    assert larger(desk, 300) == [
        (0, 35, "backfill"),
        (5, 35, "backfill"),
        (10, 2 + 3 + 3 * 7, "backfill"),
    ]


def test_after_a_roll_nothing_of_the_old_month_is_folded() -> None:
    desk = running()
    desk.find(make_instrument("M26"))
    desk.tick(723)
    desk.tick(726)
    want(desk, 300)
    desk.tick(727)
    assert larger(desk, 300) == []
    desk.quote(728, bid_px=1.0)
    desk.tick(729)
    assert [bar for bar in larger(desk, 300) if bar[2] != "partial"] == []


def test_answer_for_the_old_month_is_asked_again() -> None:
    desk = running(backfill_bars=3)
    want(desk, 900)
    desk.tick(723)
    fetch = desk.fetches(Purpose.FOLD)[0]
    desk.find(make_instrument("M26"))
    desk.history(fetch, *(make_history_bar(n) for n in range(7)))
    desk.tick(726)
    assert larger(desk, 900) == []
    assert desk.market().wishes[900].older is None


@pytest.mark.parametrize("interval_s", [-60, 0, 30, 90, 86_460, 2**40])
def test_other_lengths_are_refused_by_name(interval_s: int) -> None:
    desk = running()
    want(desk, interval_s)
    [alarm] = [a for a in desk.of(Alarm) if a.name == "bars_refused"]
    assert str(interval_s) in alarm.text and "1001:b" in alarm.text and "bar_interval_s" in alarm.text
    assert not desk.market().wishes


def test_symbols_of_another_feed_are_passed_over() -> None:
    desk = running()
    want(desk, 300, "ES", "MES")
    desk.tick(723)
    assert larger(desk, 300)
    assert not desk.of(Alarm)


def test_there_is_a_limit() -> None:
    desk = running()
    for minute in range(2, INTERVALS_MAX + 5):
        want(desk, minute * 60)
    assert len(desk.market().wishes) == INTERVALS_MAX - 1
    assert [a.name for a in desk.of(Alarm)] == ["bars_refused"] * 4


def test_nothing_begins_while_messages_are_shed() -> None:
    desk = running()
    desk.decide(Shed(symbol="MES", messages=[], **desk.at()))
    want(desk, 300)
    desk.tick(723)
    assert 300 in desk.market().wishes
