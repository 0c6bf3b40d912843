from __future__ import annotations

from services.feed.events import Alarm, Drained, FetchBars, Purpose, Resumed, Shed
from tests.support.feed_desk import MINUTE_NS, OPEN_NS, Desk, make_history_bar, make_instrument


def fetches(desk: Desk) -> list[FetchBars]:
    return desk.fetches(Purpose.BACKFILL)


def minutes(fetch: FetchBars) -> tuple[int, int]:
    return (fetch.start_ns - OPEN_NS) // MINUTE_NS, (fetch.end_ns - OPEN_NS) // MINUTE_NS


def started(**settings: object) -> Desk:
    """Return a desk that started at 15:10:30 with three bars of history wanted."""
    desk = Desk(second=630, **{"backfill_bars": 3, **settings})
    desk.tick()
    return desk


def test_first_start_asks_for_the_bars_before() -> None:
    desk = started()
    [fetch] = fetches(desk)
    assert minutes(fetch) == (7, 10)


def test_history_stands_before_live_bars_and_completes_the_first_minute() -> None:
    desk = started()
    desk.trade(631)
    desk.history(fetches(desk)[0], *(make_history_bar(n) for n in (7, 8, 9)))
    assert [bar[1] for bar in desk.bars()] == [7, 8, 9]
    desk.trade(661)  # ends 15:10, of which half was seen
    desk.tick(662)
    [_, fetch] = fetches(desk)
    assert minutes(fetch) == (10, 11)
    desk.history(fetch, make_history_bar(10, volume=9))
    desk.trade(721)
    assert desk.bars()[3:] == [(60, 10, 9, "backfill"), (60, 11, 1, "trades")]


def test_minute_missed_in_part_has_a_bar_though_no_trade_of_it_was_seen() -> None:
    desk = started()
    desk.quote(631, bid_px=1.0)
    desk.history(fetches(desk)[0])
    desk.tick(661.5)
    fetch = fetches(desk)[-1]
    assert minutes(fetch) == (10, 11)
    desk.history(fetch, make_history_bar(10))
    assert desk.bars() == [(60, 10, 7, "backfill")]


def test_live_bars_wait_for_history() -> None:
    desk = started()
    desk.trade(631)
    desk.trade(661)
    desk.trade(721)
    assert desk.bars() == []
    desk.history(fetches(desk)[0], make_history_bar(9))
    assert [bar[1] for bar in desk.bars()] == [9]
    desk.tick(722)
    desk.history(fetches(desk)[-1], make_history_bar(10))
    assert [(bar[1], bar[3]) for bar in desk.bars()] == [(9, "backfill"), (10, "backfill"), (11, "trades")]


def test_failed_history_is_asked_again_and_given_up_in_time() -> None:
    desk = started(backfill_hold_ns=10 * 10**9)
    desk.trade(631)
    desk.fail(Purpose.BACKFILL)
    desk.tick(632.5)
    assert len(fetches(desk)) == 2
    desk.fail(Purpose.BACKFILL)
    desk.tick(641)
    assert "backfill_given_up" in [a.name for a in desk.of(Alarm)]
    desk.trade(661)
    desk.trade(721)
    assert [(bar[1], bar[3]) for bar in desk.bars()] == []
    desk.tick(722)
    desk.fail(Purpose.BACKFILL)
    desk.tick(733)
    assert [(bar[1], bar[3]) for bar in desk.bars()] == [(10, "partial"), (11, "trades")]


def test_history_that_comes_late_is_asked_again() -> None:
    """The minute had trades, so it must appear; history may be a moment behind."""
    desk = started(backfill_attempts_max=3)
    desk.history(fetches(desk)[0])
    desk.trade(631)
    desk.trade(661)
    desk.tick(662)
    desk.history(fetches(desk)[-1])
    assert desk.bars() == []
    desk.tick(664)
    desk.history(fetches(desk)[-1], make_history_bar(10, volume=3))
    assert desk.bars() == [(60, 10, 3, "backfill")]


def test_a_minute_that_history_never_has_goes_out_as_partial() -> None:
    desk = started(backfill_attempts_max=2)
    desk.history(fetches(desk)[0])
    desk.trade(631)
    desk.trade(661)
    desk.tick(662)
    desk.history(fetches(desk)[-1])
    desk.tick(664)
    desk.history(fetches(desk)[-1])
    assert desk.bars() == [(60, 10, 1, "partial")]


def test_answer_that_was_given_up_publishes_nothing_twice() -> None:
    desk = started(backfill_hold_ns=5 * 10**9)
    fetch = fetches(desk)[0]
    desk.tick(636)
    desk.history(fetch, make_history_bar(9))
    assert desk.bars() == []
    assert not desk.market().fetching


def test_bars_of_a_later_gap_do_not_wait_for_a_question_that_hangs() -> None:
    """The budget may be paused for minutes: the question of the first gap is under way all the time."""
    desk = Desk(backfill_hold_ns=15 * 10**9)
    desk.quote(0, bid_px=99.0, ask_px=99.25)
    desk.tick(0)
    desk.trade(10)
    desk.link(False)
    desk.second = 20
    desk.link(True)
    desk.trade(21)
    desk.trade(61)
    desk.tick(62)
    assert len(fetches(desk)) == 1
    desk.tick(77)
    assert [bar[1:] for bar in desk.bars()] == [(0, 2, "partial")]
    desk.link(False)
    desk.second = 80
    desk.link(True)
    desk.trade(81)
    desk.trade(121)
    desk.tick(122)
    desk.tick(136)
    assert [bar[1] for bar in desk.bars()] == [0]
    desk.tick(137)
    assert [bar[1:] for bar in desk.bars()] == [(0, 2, "partial"), (1, 2, "partial")]
    assert len(fetches(desk)) == 1


def test_restart_continues_after_the_last_bar() -> None:
    desk = Desk(up=False, second=630, backfill_bars=120)
    out = {60: make_history_bar(6).ts_open_ns}
    desk.decide(Resumed(symbol="MES", bars_out_ns=out, last_event_ns=OPEN_NS, **desk.at()))
    desk.find(make_instrument())
    desk.link(True)
    desk.tick()
    [fetch] = fetches(desk)
    assert minutes(fetch) == (7, 10)
    desk.history(fetch, *(make_history_bar(n) for n in (5, 6, 7, 8, 9)))
    assert [bar[1] for bar in desk.bars()] == [7, 8, 9]


def test_restart_folds_a_larger_bar_again_from_its_first_minute() -> None:
    desk = Desk(up=False, second=630, backfill_bars=120, intervals_s=(60, 300))
    out = {60: make_history_bar(6).ts_open_ns, 300: make_history_bar(0).ts_open_ns}
    desk.decide(Resumed(symbol="MES", bars_out_ns=out, last_event_ns=OPEN_NS, **desk.at()))
    desk.find(make_instrument())
    desk.link(True)
    desk.tick()
    [fetch] = fetches(desk)
    assert minutes(fetch) == (5, 10)
    desk.history(fetch, *(make_history_bar(n) for n in (5, 6, 7, 8, 9)))
    assert desk.bars() == [
        (60, 7, 7, "backfill"),
        (60, 8, 7, "backfill"),
        (60, 9, 7, "backfill"),
        (300, 5, 35, "backfill"),
    ]


def test_gap_is_filled_and_its_partial_minutes_replaced() -> None:
    desk = Desk()
    desk.tick()
    desk.quote(0, bid_px=99.0, ask_px=99.25)
    desk.trade(10)
    desk.second = 70
    desk.trade(70, qty=2)
    desk.link(False)
    desk.tick(130)  # the clock ends 15:01, cut at 70 s
    desk.history(fetches(desk)[-1], make_history_bar(1))
    desk.second = 250
    desk.link(True)
    desk.tick(251.5)
    fetch = fetches(desk)[-1]
    assert minutes(fetch) == (2, 4)
    desk.history(fetch, make_history_bar(2))
    desk.trade(252, qty=5)
    desk.tick(301.5)
    desk.history(fetches(desk)[-1], make_history_bar(4, volume=6))
    desk.trade(361)
    assert desk.bars() == [
        (60, 0, 1, "trades"),
        (60, 1, 7, "backfill"),
        (60, 2, 7, "backfill"),
        (60, 4, 6, "backfill"),
    ]


def test_larger_bar_is_closed_by_the_clock() -> None:
    desk = Desk(intervals_s=(60, 300))
    desk.quote(0, bid_px=99.0, ask_px=99.25)
    desk.tick(0)
    desk.trade(10)
    desk.trade(70)
    desk.tick(300.1)
    assert [bar[0] for bar in desk.bars()] == [60, 60]
    desk.tick(300.3)
    assert desk.bars()[-1] == (300, 0, 2, "trades")


def test_larger_bar_over_an_unfilled_hole_is_partial() -> None:
    desk = Desk(intervals_s=(60, 300), backfill_hold_ns=5 * 10**9)
    desk.quote(0, bid_px=99.0, ask_px=99.25)
    desk.tick(0)
    desk.trade(10)
    desk.trade(61)
    desk.link(False)
    desk.second = 190
    desk.link(True)
    desk.tick(192)
    desk.fail(Purpose.BACKFILL)
    desk.tick(199)
    desk.trade(200)
    desk.tick(300.5)
    desk.tick(302)
    desk.fail(Purpose.BACKFILL)
    desk.tick(308)
    assert desk.bars()[-1][0] == 300
    assert desk.bars()[-1][3] == "partial"


def test_larger_bar_waits_for_the_minutes_that_a_lost_link_missed() -> None:
    desk = Desk(intervals_s=(60, 300))
    desk.quote(0, bid_px=99.0, ask_px=99.25)
    desk.tick(0)
    desk.trade(10)
    desk.trade(70)
    desk.link(False)
    desk.tick(121.5)
    desk.history(fetches(desk)[-1], make_history_bar(1))
    desk.tick(302)
    assert [bar[0] for bar in desk.bars()] == [60, 60]
    desk.second = 400
    desk.link(True)
    desk.tick(402)
    desk.history(fetches(desk)[-1], *(make_history_bar(n) for n in range(2, 6)))
    assert (300, 0, 1 + 4 * 7, "backfill") in desk.bars()


def test_bars_that_history_brings_while_messages_are_shed_are_not_lost() -> None:
    desk = Desk(backfill_hold_ns=15 * 10**9)
    desk.quote(0, bid_px=99.0, ask_px=99.25)
    desk.tick(0)
    desk.trade(10)
    desk.trade(70)
    desk.trade(130)
    desk.link(False)
    desk.tick(182)
    [fetch] = fetches(desk)
    desk.link(True)
    desk.decide(Shed(symbol="MES", messages=[desk.make_trade(183)], **desk.at()))
    desk.history(fetch, make_history_bar(2))
    desk.trade(190)
    desk.tick(242)
    assert fetches(desk) == [fetch]
    desk.second = 255
    desk.decide(Drained(symbol="MES", **desk.at()))
    desk.tick(256)
    assert minutes(fetches(desk)[-1]) == (2, 4)
    desk.history(fetches(desk)[-1], *(make_history_bar(n) for n in (2, 3)))
    assert [bar[1] for bar in desk.bars()] == [0, 1, 2, 3]
