from __future__ import annotations

from services.feed.events import Alarm, InputRefused, PublishState
from shared.domain.market import FeedHealth
from tests.support.feed_desk import Desk


def views(desk: Desk) -> list[PublishState]:
    return desk.of(PublishState)


def test_state_is_published_when_it_changed_and_at_least_every_half_second() -> None:
    desk = Desk()
    desk.quote(0, bid_px=99.75, ask_px=100.0)
    desk.tick(0)
    desk.commands.clear()
    desk.tick(0.05)
    assert views(desk) == []
    desk.quote(0.06, bid_px=99.5)
    desk.tick(0.1)
    [view] = views(desk)
    assert (view.state.bid_px, view.state.health, view.state.ts_asof_ns) == (
        99.5,
        FeedHealth.LIVE,
        desk.now_ns,
    )
    desk.tick(0.59)
    assert len(views(desk)) == 1
    desk.tick(0.6)
    assert len(views(desk)) == 2


def test_quiet_market_is_vouched_for_with_old_prices() -> None:
    desk = Desk()
    desk.quote(0, bid_px=99.75, ask_px=100.0)
    event_ns = desk.now_ns
    desk.tick(0)
    desk.tick(5)
    view = views(desk)[-1].state
    assert view.ts_event_ns == event_ns
    assert view.ts_asof_ns == desk.now_ns


def test_prices_are_not_vouched_for_before_the_socket_was_read_after_a_pause_of_our_own() -> None:
    desk = Desk(stall_ns=250_000_000)
    desk.quote(0, bid_px=99.75, ask_px=100.0)
    desk.tick(0)
    desk.tick(0.1)
    desk.commands.clear()
    desk.tick(6)
    assert views(desk) == []
    desk.quote(6.01, bid_px=99.5)
    desk.tick(6.05)
    assert [view.state.bid_px for view in views(desk)] == [99.5]


def test_lost_link_is_published_without_waiting_for_a_tick() -> None:
    desk = Desk()
    desk.quote(0, bid_px=99.75, ask_px=100.0)
    desk.tick(0)
    desk.link(False)
    view = views(desk)[-1].state
    assert (view.health, view.bid_px) == (FeedHealth.DISCONNECTED, None)


def test_nothing_is_published_before_the_contract_is_known() -> None:
    desk = Desk(up=False)
    desk.tick(0)
    assert views(desk) == []


def test_refused_input_is_counted_and_said_not_more_often_than_one_can_read() -> None:
    desk = Desk()
    for number in range(50):
        desk.second = number * 0.01
        desk.decide(InputRefused(origin="GatewayQuote", field="bestBid", reason="off tick", **desk.at()))
    assert desk.state.refused == 50
    assert [a.count for a in desk.of(Alarm)] == [1]
    desk.second = 10
    desk.decide(InputRefused(origin="GatewayQuote", field="bestBid", reason="off tick", **desk.at()))
    assert [a.count for a in desk.of(Alarm)] == [1, 50]


def test_venue_time_comes_from_the_broker_until_events_tell_it() -> None:
    desk = Desk(venue_clock=True, speed=10.0)
    assert desk.state.time.now(desk.now_ns, desk.mono_ns) is None
    desk.tick(0, venue_now_ns=5_000 * 10**9)
    assert desk.state.time.now(desk.now_ns, desk.mono_ns) == 5_000 * 10**9
    desk.second = 1
    assert desk.state.time.now(desk.now_ns, desk.mono_ns) == 5_010 * 10**9
