from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.bars import (
    MINUTE_NS,
    NEVER_NS,
    Folder,
    MinuteBuilder,
    interval_open_ns,
    minute_open_ns,
)
from shared.domain.market import Bar, BarSource, Trade

BASE_NS = int(datetime(2024, 1, 10, 15, tzinfo=UTC).timestamp()) * 10**9
S = 10**9


def make_trade(second: float, px: float = 100.0, qty: int = 1) -> Trade:
    ts_ns = BASE_NS + int(second * S)
    return Trade(symbol="MES", ts_event_ns=ts_ns, ts_recv_ns=ts_ns, px=px, qty=qty)


def make_builder() -> MinuteBuilder:
    builder = MinuteBuilder("MES")
    builder.resume(BASE_NS)
    return builder


def make_minute(number: int, px: float = 100.0, **changes: object) -> Bar:
    fields: dict[str, object] = {
        "symbol": "MES",
        "interval_s": 60,
        "ts_open_ns": BASE_NS + number * MINUTE_NS,
        "open": px,
        "high": px + 1,
        "low": px - 1,
        "close": px + 0.5,
        "volume": 10,
        "trades": 2,
        "ts_recv_ns": 0,
    }
    return Bar(**{**fields, **changes})  # type: ignore[arg-type]


def build(trades: list[Trade]) -> tuple[list[Bar], MinuteBuilder]:
    builder = make_builder()
    bars = [bar for trade in trades if (bar := builder.add(trade)) is not None]
    last = builder.close(0)
    return bars + ([last] if last else []), builder


def naive(trades: list[Trade]) -> list[tuple[int, float, float, float, float, int, int]]:
    """Group by minute; nothing shared with the builder."""
    minutes: dict[int, list[Trade]] = {}
    for trade in trades:
        minutes.setdefault(trade.ts_event_ns // MINUTE_NS * MINUTE_NS, []).append(trade)
    return [
        (
            ts,
            group[0].px,
            max(t.px for t in group),
            min(t.px for t in group),
            group[-1].px,
            sum(t.qty for t in group),
            len(group),
        )
        for ts, group in sorted(minutes.items())
    ]


def values(bar: Bar) -> tuple[int, float, float, float, float, int, int]:
    return (bar.ts_open_ns, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trades)


steps = st.tuples(st.integers(0, 150), st.integers(1, 400), st.integers(1, 50))


@given(st.lists(steps, max_size=60))
def test_bars_equal_a_naive_recomputation(rows: list[tuple[int, int, int]]) -> None:
    second, trades = 0, []
    for step, ticks, qty in rows:
        second += step
        trades.append(make_trade(second, ticks * 0.25, qty))
    bars, builder = build(trades)
    assert [values(bar) for bar in bars] == naive(trades)
    assert builder.late_trades == 0
    assert not any(bar.partial for bar in bars)


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(1, 400), st.integers(1, 50)), max_size=60))
def test_trades_in_any_order_are_in_a_bar_or_counted_late(rows: list[tuple[int, int, int]]) -> None:
    trades = [make_trade(second, ticks * 0.25, qty) for second, ticks, qty in rows]
    bars, builder = build(trades)
    assert sum(bar.trades for bar in bars) + builder.late_trades == len(trades)
    opened = [bar.ts_open_ns for bar in bars]
    assert opened == sorted(set(opened))


@given(st.lists(steps, min_size=1, max_size=60), st.sampled_from([120, 180, 300, 900, 3600, 14_400]))
def test_larger_bars_equal_the_trades_too(rows: list[tuple[int, int, int]], interval_s: int) -> None:
    second, trades = 0, []
    for step, ticks, qty in rows:
        second += step
        trades.append(make_trade(second, ticks * 0.25, qty))
    folder = Folder("MES", interval_s)
    folder.starts_whole_at(0)
    folded = [bar for minute in build(trades)[0] for bar in folder.add(minute)]
    last = folder.close(0)
    folded += [last] if last else []
    groups: dict[int, list[Trade]] = {}
    for trade in trades:
        groups.setdefault(interval_open_ns("MES", trade.ts_event_ns, interval_s), []).append(trade)
    expected = [
        (
            ts, group[0].px, max(t.px for t in group), min(t.px for t in group), group[-1].px,
            sum(t.qty for t in group), len(group),
        )
        for ts, group in sorted(groups.items())
    ]  # fmt: skip
    assert [values(bar) for bar in folded] == expected


def test_late_trade_changes_nothing() -> None:
    builder = make_builder()
    builder.add(make_trade(10, 100))
    bar = builder.add(make_trade(61, 101))
    assert builder.add(make_trade(59, 500)) is None
    assert builder.late_trades == 1
    assert bar is not None
    assert (bar.high, bar.volume) == (100, 1)


def test_late_trade_of_a_minute_closed_by_the_clock() -> None:
    builder = make_builder()
    builder.add(make_trade(10))
    builder.close(0)
    builder.add(make_trade(59))
    assert builder.late_trades == 1
    assert builder.end_ns == NEVER_NS


@pytest.mark.parametrize(
    ("since", "first", "partial"),
    [(0, 5, False), (1, 5, True), (61, 65, True), (60, 65, False)],
)
def test_partial_when_the_minute_was_not_seen_from_its_start(since: int, first: int, partial: bool) -> None:
    builder = MinuteBuilder("MES")
    builder.resume(BASE_NS + since * S)
    builder.add(make_trade(first))
    bar = builder.close(0)
    assert bar is not None
    assert bar.partial is partial


def test_cut_makes_the_minute_under_way_partial_even_when_resumed_at_once() -> None:
    builder = make_builder()
    builder.add(make_trade(5))
    builder.cut()
    builder.resume(BASE_NS + 20 * S)
    bar = builder.add(make_trade(65))
    assert bar is not None
    assert bar.partial
    following = builder.close(0)
    assert following is not None
    assert not following.partial


def test_volume_of_a_minute_that_was_seen_whole() -> None:
    builder = make_builder()
    builder.add(make_trade(5, qty=3))
    assert builder.volume_of(BASE_NS) == 3
    assert builder.volume_of(BASE_NS + MINUTE_NS) is None
    builder.cut()
    assert builder.volume_of(BASE_NS) is None


@pytest.mark.parametrize(
    ("interval_s", "when", "expected"),
    [
        (60, "2024-01-10T15:07:31", "2024-01-10T15:07"),
        (300, "2024-01-10T15:07:31", "2024-01-10T15:05"),
        (3600, "2024-01-10T15:07:31", "2024-01-10T15:00"),
        (14_400, "2024-01-10T15:07:31", "2024-01-10T15:00"),  # the session opened at 23:00
        (14_400, "2024-01-10T14:59", "2024-01-10T11:00"),
        (5_400, "2024-01-10T01:00", "2024-01-10T00:30"),
        (14_400, "2024-07-10T03:00", "2024-07-10T02:00"),  # in summer at 22:00
        (86_400, "2024-01-10T15:07:31", "2024-01-09T23:00"),  # a day is a session
    ],
)
def test_alignment(interval_s: int, when: str, expected: str) -> None:
    def ns(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S

    assert interval_open_ns("MES", ns(when), interval_s) == ns(expected)


def test_minute_open() -> None:
    assert minute_open_ns(BASE_NS + 59 * S) == BASE_NS
    assert minute_open_ns(BASE_NS + 60 * S) == BASE_NS + MINUTE_NS


def test_last_minute_ends_the_larger_bar_at_once() -> None:
    folder = Folder("MES", 300)
    folder.starts_whole_at(BASE_NS)
    assert [folder.add(make_minute(n)) for n in range(4)] == [[]] * 4
    [bar] = folder.add(make_minute(4))
    assert (bar.ts_open_ns, bar.volume, bar.trades, bar.partial) == (BASE_NS, 50, 10, False)


def test_a_gap_of_minutes_ends_two_larger_bars() -> None:
    folder = Folder("MES", 300)
    folder.starts_whole_at(BASE_NS)
    folder.add(make_minute(1))
    bars = folder.add(make_minute(9))
    assert [bar.ts_open_ns for bar in bars] == [BASE_NS, BASE_NS + 5 * MINUTE_NS]


def test_backfilled_minute_makes_the_larger_bar_backfilled() -> None:
    folder = Folder("MES", 120)
    folder.starts_whole_at(BASE_NS)
    folder.add(make_minute(0, source=BarSource.BACKFILL, trades=0))
    [bar] = folder.add(make_minute(1))
    assert bar.source is BarSource.BACKFILL
    assert bar.trades == 0


def test_larger_bar_is_partial_when_its_start_was_not_seen() -> None:
    folder = Folder("MES", 300)
    folder.starts_whole_at(BASE_NS + 2 * MINUTE_NS)
    folder.add(make_minute(2))
    [bar] = folder.add(make_minute(4))
    assert bar.partial


def test_minutes_are_folded_once_and_published_intervals_not_again() -> None:
    folder = Folder("MES", 120, published_ns=BASE_NS)
    folder.starts_whole_at(BASE_NS)
    assert folder.add(make_minute(0)) == []
    assert folder.add(make_minute(1)) == []
    folder.add(make_minute(2))
    assert folder.add(make_minute(2)) == []
    [bar] = folder.add(make_minute(3))
    assert bar.volume == 20


def test_unpublished_bar_is_folded_again() -> None:
    folder = Folder("MES", 120)
    folder.starts_whole_at(BASE_NS)
    folder.add(make_minute(0))
    [bar] = folder.add(make_minute(1))
    folder.unpublish(bar.ts_open_ns)
    folder.add(make_minute(0))
    assert folder.add(make_minute(1)) == [bar]
