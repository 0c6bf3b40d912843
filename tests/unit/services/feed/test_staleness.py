from __future__ import annotations

import pytest

from services.feed.events import Alarm, Drained, Purpose, Reconnect, Shed
from shared.domain.market import FeedGap, FeedHealth, FeedState
from tests.support.feed_desk import Desk, make_history_bar, make_instrument

NIGHT_S = -12 * 3600  # 21:00 Chicago the evening before: the session is open, the stock market is not
BREAK_S = 7.5 * 3600  # 16:30 Chicago


def live(second: float = 0.0, **settings: object) -> Desk:
    desk = Desk(second=second, **settings)
    desk.quote(second, bid_px=99.75, ask_px=100.0)
    desk.tick()
    assert desk.market().health is FeedHealth.LIVE
    return desk


def probes(desk: Desk) -> int:
    return len(desk.fetches(Purpose.PROBE))


def test_unknown_until_both_sides_are_known() -> None:
    desk = Desk()
    desk.quote(0, bid_px=99.75)
    desk.tick()
    assert desk.market().health is FeedHealth.UNKNOWN
    desk.quote(1, ask_px=100.0)
    desk.tick()
    assert [s.health for s in desk.of(FeedState)][-1] is FeedHealth.LIVE


def test_without_contract_unknown_and_says_why() -> None:
    desk = Desk(up=False)
    desk.tick()
    desk.fail(Purpose.RESOLVE)
    desk.tick(1)
    assert desk.market().health is FeedHealth.UNKNOWN
    assert "HTTP 503" in desk.of(FeedState)[-1].reason


def test_lost_link_is_disconnected_at_once_and_forgets_the_quote() -> None:
    desk = live()
    desk.link(False, "reset by peer")
    state = desk.of(FeedState)[-1]
    assert (state.health, state.reason) == (FeedHealth.DISCONNECTED, "reset by peer")
    assert desk.market().bid_px is None
    desk.second = 1
    desk.link(True)
    desk.tick()
    assert desk.market().health is FeedHealth.UNKNOWN
    desk.quote(2, bid_px=99.75, ask_px=100.0)
    desk.tick()
    assert desk.market().health is FeedHealth.LIVE
    assert [(g.reason, g.ts_to_ns is None) for g in desk.of(FeedGap)] == [
        ("start", True),
        ("start", False),
        ("reset by peer", True),
        ("reset by peer", False),
    ]


def test_closed_session_is_not_looked_into() -> None:
    desk = live(second=BREAK_S - 1800 - 5)  # five seconds before the close
    desk.tick(BREAK_S)
    assert desk.market().health is FeedHealth.CLOSED
    assert probes(desk) == 0


def test_preopen_quotes_do_not_open_a_session() -> None:
    desk = Desk(second=BREAK_S)
    desk.quote(BREAK_S, bid_px=101.0, ask_px=100.0, crossed=True)
    desk.tick()
    assert desk.market().health is FeedHealth.CLOSED


OPENING_S = BREAK_S + 1800  # 17:00 Chicago


def test_prices_of_the_last_session_do_not_make_a_new_one_live() -> None:
    """The link may be up and silent, and has been since before the close."""
    desk = live(second=BREAK_S - 1800 - 5)
    desk.tick(BREAK_S)
    desk.tick(OPENING_S)
    state = desk.of(FeedState)[-1]
    assert (state.health, state.reason) == (FeedHealth.UNKNOWN, "nothing has come since the session opened")
    desk.tick(OPENING_S + 59)
    assert desk.market().health is FeedHealth.UNKNOWN
    desk.tick(OPENING_S + 60)
    assert probes(desk) == 1
    desk.quote(OPENING_S + 61, bid_px=99.5)
    desk.tick()
    assert desk.market().health is FeedHealth.LIVE


def test_a_feed_that_starts_inside_a_session_is_live_with_what_has_come() -> None:
    desk = Desk()
    desk.quote(0, bid_px=99.75, ask_px=100.0)
    desk.tick(0.2)  # its first look
    assert desk.market().health is FeedHealth.LIVE


@pytest.mark.parametrize(("second", "within_s"), [(0.0, 10), (float(NIGHT_S), 60)])
def test_trades_do_not_vouch_for_bid_and_ask(second: float, within_s: int) -> None:
    desk = live(second=second)
    desk.trade(second + within_s)
    desk.tick()
    assert desk.market().health is FeedHealth.LIVE
    desk.trade(second + within_s + 1)
    desk.tick()
    state = desk.of(FeedState)[-1]
    assert (state.health, state.reason) == (FeedHealth.STALE, "trades come and no quotes")
    desk.quote(second + within_s + 2, bid_px=99.75)  # changes nothing, and vouches
    desk.tick()
    assert desk.market().health is FeedHealth.LIVE


def test_a_quiet_quote_without_trades_is_not_stale() -> None:
    desk = live()
    desk.trade(1)
    desk.tick(59)
    desk.history(desk.fetches(Purpose.PROBE)[0], make_history_bar(0, volume=1))
    desk.tick(59.1)
    assert desk.market().health is FeedHealth.LIVE


def test_after_a_reconnect_the_quotes_have_their_time_anew() -> None:
    desk = live()
    desk.link(False)
    desk.second = 100
    desk.link(True)
    desk.trade(101)
    assert desk.market().traded_mono_ns - desk.market().quoted_mono_ns == 1_000_000_000


@pytest.mark.parametrize(("second", "silence_s"), [(0.0, 10), (float(NIGHT_S), 60)])
def test_silence_is_probed_after_the_hours_threshold(second: float, silence_s: int) -> None:
    desk = live(second=second)
    desk.tick(second + silence_s - 1)
    assert probes(desk) == 0
    desk.tick(second + silence_s)
    assert probes(desk) == 1
    assert desk.market().health is FeedHealth.LIVE  # suspicion is not a verdict
    assert desk.of(Reconnect) == []


def test_quiet_market_stays_live_and_is_asked_again_later() -> None:
    desk = live()
    desk.tick(10)
    desk.history(desk.fetches(Purpose.PROBE)[0])
    desk.tick(19)
    assert (probes(desk), desk.market().health) == (1, FeedHealth.LIVE)
    desk.tick(20)
    assert probes(desk) == 2


def test_frozen_feed_is_stale_and_the_link_is_built_anew() -> None:
    desk = live()
    desk.tick(70)
    desk.history(desk.fetches(Purpose.PROBE)[0], make_history_bar(0), make_history_bar(1))
    desk.tick(70.1)
    assert desk.market().health is FeedHealth.STALE
    [reconnect] = desk.of(Reconnect)
    assert "frozen" in reconnect.reason
    assert [a.name for a in desk.of(Alarm)] == ["feed_frozen"]


def test_frozen_within_the_minute_shows_by_volume() -> None:
    desk = live()
    desk.trade(1, qty=3)
    desk.tick(11)
    desk.history(desk.fetches(Purpose.PROBE)[0], make_history_bar(0, volume=3))
    assert desk.of(Reconnect) == []
    desk.tick(21)
    desk.history(desk.fetches(Purpose.PROBE)[1], make_history_bar(0, volume=4))
    assert len(desk.of(Reconnect)) == 1


def test_frozen_in_a_minute_that_was_not_seen_whole_shows_between_two_looks() -> None:
    desk = live(second=20)
    for second, volume in ((30, 3), (40, 3)):
        desk.tick(second)
        desk.history(desk.fetches(Purpose.PROBE)[-1], make_history_bar(0, volume=volume))
    assert desk.of(Reconnect) == []
    desk.tick(50)
    desk.history(desk.fetches(Purpose.PROBE)[-1], make_history_bar(0, volume=4))
    [reconnect] = desk.of(Reconnect)
    assert "history has 1 contracts more than at the last look" in reconnect.reason


def test_what_came_between_two_looks_is_not_missed() -> None:
    desk = live(second=20)
    desk.tick(30)
    desk.history(desk.fetches(Purpose.PROBE)[-1], make_history_bar(0, volume=3))
    desk.trade(35, qty=2)
    desk.tick(45)
    desk.history(desk.fetches(Purpose.PROBE)[-1], make_history_bar(0, volume=5))
    assert desk.of(Reconnect) == []


def test_silence_is_looked_into_by_the_brokers_clock_when_ours_is_an_hour_off() -> None:
    desk = Desk(up=False)
    desk.ahead_s = -3_600
    desk.find(make_instrument())
    desk.link(True)
    desk.tick(0, venue_now_ns=desk.market_ns)
    desk.tick(60, venue_now_ns=desk.market_ns)
    [probe] = desk.fetches(Purpose.PROBE)
    assert probe.start_ns <= desk.market_ns < probe.end_ns


def test_data_that_arrives_while_probing_settles_it() -> None:
    desk = live()
    desk.tick(70)
    desk.quote(70.5, bid_px=99.5)
    desk.history(desk.fetches(Purpose.PROBE)[0], make_history_bar(1))
    assert desk.of(Reconnect) == []


def test_thawed_feed_is_live_again() -> None:
    desk = live()
    desk.tick(70)
    desk.history(desk.fetches(Purpose.PROBE)[0], make_history_bar(1))
    desk.quote(71, bid_px=99.5)
    desk.tick(71)
    assert desk.market().health is FeedHealth.LIVE


def test_reconnects_for_silence_keep_their_distance() -> None:
    desk = Desk("MES", "MNQ")
    for symbol in ("MES", "MNQ"):
        desk.frame(desk.make_quote(0, symbol=symbol, bid_px=1.0, ask_px=2.0))
    desk.tick(0)
    desk.tick(70)
    assert probes(desk) == 2
    for fetch in desk.fetches(Purpose.PROBE):
        desk.history(fetch, make_history_bar(1))
    assert len(desk.of(Reconnect)) == 1


def test_failed_probes_end_in_a_reconnect_without_proof() -> None:
    desk = live()
    desk.tick(10)
    desk.fail(Purpose.PROBE)
    desk.tick(10.1)
    assert desk.market().health is FeedHealth.STALE
    assert desk.of(Reconnect) == []
    desk.tick(20.1)
    desk.fail(Purpose.PROBE)
    assert len(desk.of(Reconnect)) == 1


def test_probe_without_any_answer() -> None:
    desk = live()
    desk.tick(10)
    desk.tick(15)
    assert desk.market().health is FeedHealth.STALE
    desk.tick(31)
    assert len(desk.of(Reconnect)) == 1


def test_fast_venue_is_judged_by_its_own_pace() -> None:
    desk = live(speed=5.0)
    desk.tick(1.9)
    assert probes(desk) == 0
    desk.tick(2)
    assert probes(desk) == 1


def test_venue_that_never_closes() -> None:
    desk = Desk(second=BREAK_S, always_open=True)
    desk.quote(BREAK_S, bid_px=1.0, ask_px=2.0)
    desk.tick()
    assert desk.market().health is FeedHealth.LIVE


def test_shedding_is_stale_and_leaves_a_gap() -> None:
    desk = live()
    bar = make_history_bar(0)
    desk.market().minutes_out_ns = bar.ts_open_ns
    desk.messages.clear()
    desk.decide(Shed(symbol="MES", messages=[bar], **desk.at()))
    assert desk.market().minutes_out_ns < bar.ts_open_ns
    desk.quote(1, bid_px=99.5)
    desk.tick(1)
    assert desk.messages == []
    assert desk.market().health is FeedHealth.STALE
    desk.decide(Drained(symbol="MES", **desk.at()))
    desk.quote(2, bid_px=99.25)
    desk.tick(2)
    gaps = desk.of(FeedGap)
    assert [g.ts_to_ns is None for g in gaps] == [True, False]
    assert desk.market().health is FeedHealth.LIVE
    assert desk.of(FeedState)[-1].health is FeedHealth.LIVE


def test_after_a_pause_of_its_own_a_silence_is_looked_into_before_the_market_is_called_live() -> None:
    """The look was due long ago: nobody may trade for as long as a look may take once more."""
    desk = live()
    desk.tick(60)
    assert (probes(desk), desk.market().health) == (1, FeedHealth.STALE)
    desk.history(desk.fetches(Purpose.PROBE)[0])
    desk.tick(60.1)
    assert desk.market().health is FeedHealth.LIVE
