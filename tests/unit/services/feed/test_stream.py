from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.feed.events import Alarm, Append
from shared.domain.market import Bar, Depth, FeedGap, FeedHealth, FeedState, Quote, Trade
from tests.support.feed_desk import Desk, S, make_history_bar


def live() -> Desk:
    """Return a desk in the middle of a live market with nothing said yet."""
    desk = Desk()
    desk.quote(0, bid_px=99.75, ask_px=100.0, last_px=100.0, volume=5)
    desk.tick(0)
    desk.messages.clear()
    desk.commands.clear()
    return desk


def test_sparse_quotes_are_merged() -> None:
    desk = live()
    desk.quote(1, ask_px=100.25)
    desk.quote(2, last_px=100.25, volume=6)
    first, second = desk.of(Quote)
    assert (first.bid_px, first.ask_px, first.last_px, first.volume) == (99.75, 100.25, 100.0, 5)
    assert (second.bid_px, second.ask_px, second.last_px, second.volume) == (99.75, 100.25, 100.25, 6)


def test_quote_that_changes_nothing_is_not_repeated_but_vouches() -> None:
    desk = live()
    desk.quote(5, bid_px=99.75)
    assert desk.of(Quote) == []
    assert desk.market().last_event_ns == desk.now_ns
    assert desk.market().unchanged == 1


def test_a_merged_quote_may_be_crossed_by_its_halves() -> None:
    desk = live()
    desk.quote(1, bid_px=100.5)
    [quote] = desk.of(Quote)
    assert quote.crossed


def test_a_whole_quote_passes_as_it_came() -> None:
    desk = live()
    whole = desk.make_quote(1, bid_px=101.0, ask_px=100.0, last_px=100.0, volume=6, crossed=True)
    desk.frame(whole)
    assert desk.of(Quote) == [whole]


def test_order_of_the_wire_is_kept_within_and_between_symbols() -> None:
    desk = Desk("MES", "MNQ")
    frame = [
        desk.make_quote(1, bid_px=1.0, ask_px=2.0),
        desk.make_depth(1),
        desk.make_quote(1, symbol="MNQ", bid_px=5.0, ask_px=6.0),
        desk.make_trade(1, 2.0),
        desk.make_trade(1, 1.0),
        desk.make_depth(1),
    ]
    commands = [c for c in desk.frame(*frame) if isinstance(c, Append)]
    assert [c.symbol for c in commands] == ["MES", "MNQ", "MES"]
    appended = [m for c in commands for m in c.messages if isinstance(m, Quote | Trade | Depth)]
    assert appended == frame


def test_every_record_is_appended_once() -> None:
    desk = live()
    desk.frame(*(desk.make_trade(1, 100.0) for _ in range(3)), *(desk.make_depth(1) for _ in range(2)))
    assert (len(desk.of(Trade)), len(desk.of(Depth))) == (3, 2)


def test_bar_stands_before_the_trade_that_ended_it() -> None:
    desk = live()
    desk.market().builder.resume(0)
    desk.trade(10)
    desk.trade(61)
    assert [type(m) for m in desk.messages] == [Trade, Bar, Trade]


def test_quote_past_the_margin_ends_the_bar() -> None:
    desk = live()
    desk.market().builder.resume(0)
    desk.trade(10)
    desk.quote(60.005, bid_px=99.5)
    assert desk.of(Bar) == []
    desk.quote(60.03, bid_px=99.25)
    assert len(desk.of(Bar)) == 1


def test_clock_ends_the_bar_after_the_grace() -> None:
    desk = live()
    desk.market().builder.resume(0)
    desk.trade(10)
    desk.tick(60.2)
    assert desk.of(Bar) == []
    desk.tick(60.3)
    assert len(desk.of(Bar)) == 1


def test_clock_ends_no_bar_right_after_a_pause_of_the_process() -> None:
    """What should have been read during the pause is still in the socket: trades of the bar among it."""
    desk = Desk(stall_ns=200_000_000)
    desk.quote(0, bid_px=99.75, ask_px=100.0)
    desk.trade(10)
    desk.tick(59)
    desk.tick(61)
    assert desk.of(Bar) == []
    desk.trade(59.9)
    desk.tick(61.1)
    desk.tick(61.2)
    assert desk.of(Bar) == []
    desk.tick(61.3)
    assert [bar[2] for bar in desk.bars()] == [2]


def test_late_trade_is_in_the_stream_and_in_no_bar() -> None:
    desk = live()
    desk.market().builder.resume(0)
    desk.trade(10)
    desk.trade(61)
    late = desk.make_trade(59)
    desk.frame(late)
    assert desk.messages[-1] == late
    assert [bar[2] for bar in desk.bars()] == [1]
    assert desk.market().builder.late_trades == 1
    assert [alarm.name for alarm in desk.of(Alarm)] == ["trade_late"]


def test_first_event_ends_the_gap() -> None:
    desk = Desk()
    desk.quote(3, bid_px=1.0)
    opened, closed = desk.of(FeedGap)
    assert (opened.reason, opened.ts_from_ns, opened.ts_to_ns) == ("start", None, None)
    assert closed.ts_to_ns == desk.now_ns
    assert isinstance(desk.messages[-1], Quote)


def test_event_from_the_future_is_refused() -> None:
    desk = live()
    future = desk.make_trade(1)
    late = Trade(
        symbol="MES", ts_event_ns=future.ts_event_ns + 10**12, ts_recv_ns=future.ts_recv_ns, px=1.0, qty=1
    )
    desk.frame(late, future)
    assert desk.of(Trade) == [future]
    assert desk.market().refused == 1
    assert [alarm.name for alarm in desk.of(Alarm)] == ["event_from_the_future"]


def test_a_wall_clock_that_is_set_back_does_not_pass_over_the_market() -> None:
    desk = live()
    desk.ahead_s = -3_600.0
    desk.tick(1, venue_now_ns=desk.market_ns)
    desk.quote(2, bid_px=99.5, ask_px=99.75)
    desk.trade(2)
    desk.tick(3)
    assert [q.bid_px for q in desk.of(Quote)] == [99.5]
    assert len(desk.of(Trade)) == 1
    assert desk.of(Alarm) == []
    assert desk.market().health is FeedHealth.LIVE


def test_what_is_ahead_of_our_clock_and_of_the_brokers_is_refused() -> None:
    desk = live()
    desk.ahead_s = -3_600.0
    desk.tick(1, venue_now_ns=desk.market_ns)
    desk.frame(msgspec.structs.replace(desk.make_trade(2), ts_event_ns=desk.market_ns + 61 * S))
    assert desk.of(Trade) == []
    assert desk.market().refused == 1


def test_while_all_that_comes_is_refused_the_feed_is_not_live() -> None:
    """A quiet market is told by history; what was refused is no silence."""
    desk = live()
    desk.ahead_s = -3_600.0
    desk.quote(2, bid_px=99.5, ask_px=99.75)
    desk.tick(3)
    assert desk.market().last_mono_ns < desk.mono_ns - 2 * S
    state = desk.of(FeedState)[-1]
    assert (state.health, "check this machine's clock" in state.reason) == (FeedHealth.STALE, True)
    desk.ahead_s = 0.0
    desk.quote(4, bid_px=99.25)
    desk.tick(4)
    assert desk.market().health is FeedHealth.LIVE


def test_price_jump_is_marked_and_believed_when_it_stands() -> None:
    desk = live()
    desk.trade(1, 100.0)
    desk.trade(2, 150.0)
    state, trade = desk.messages[-2:]
    assert isinstance(state, FeedState)
    assert (state.health, isinstance(trade, Trade)) == (FeedHealth.STALE, True)
    assert "150" in state.reason
    desk.tick(3)
    assert desk.market().health is FeedHealth.STALE
    desk.tick(7.1)
    assert desk.market().health is FeedHealth.LIVE


def test_price_jump_that_is_taken_back() -> None:
    desk = live()
    desk.trade(1, 100.0)
    desk.trade(2, 1.0)
    desk.trade(2.5, 100.25)
    desk.tick(3)
    assert desk.market().health is FeedHealth.LIVE
    assert len(desk.of(FeedState)) == 2


def test_events_received_before_the_contract_was_subscribed_are_another_months() -> None:
    desk = live()
    desk.market().contract_since_mono_ns = desk.mono_ns + 1
    desk.trade(0)
    assert desk.of(Trade) == []


def test_replay_of_the_same_day_is_said() -> None:
    desk = Desk(venue_clock=True)
    desk.market().minutes_out_ns = make_history_bar(120).ts_open_ns
    desk.quote(1, bid_px=1.0)
    assert [a.name for a in desk.of(Alarm)] == ["venue_time_went_back"]


sparse = st.fixed_dictionaries(
    {},
    optional={
        "bid_px": st.integers(390, 410).map(lambda t: t * 0.25),
        "ask_px": st.integers(390, 410).map(lambda t: t * 0.25),
        "last_px": st.integers(390, 410).map(lambda t: t * 0.25),
        "volume": st.integers(0, 5),
    },
)


@given(st.lists(sparse, max_size=40), st.integers(1, 7))
def test_merged_quotes_equal_a_naive_merge(rows: list[dict[str, float]], per_frame: int) -> None:
    """Whatever the frames were cut into: a message for each quote that changed something, complete."""
    desk = Desk()
    merged: dict[str, float] = {}
    expected = []
    for row in rows:
        if any(merged.get(name) != value for name, value in row.items()):
            merged.update(row)
            expected.append(dict(merged))
    quotes = [
        desk.make_quote(1, **row, crossed=row.get("bid_px", 0) > row.get("ask_px", 1e9))  # as the border does
        for row in rows
    ]
    for start in range(0, len(quotes), per_frame):
        desk.frame(*quotes[start : start + per_frame])
    names = ("bid_px", "ask_px", "last_px", "volume")
    assert [
        {n: getattr(q, n) for n in names if getattr(q, n) is not None} for q in desk.of(Quote)
    ] == expected
    assert all(
        q.crossed == (q.bid_px is not None and q.ask_px is not None and q.bid_px > q.ask_px)
        for q in desk.of(Quote)
    )
