"""Restart at any point, and replay of the journal, give the same intents byte for byte."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.strategy.consumption import Consumption
from services.strategy.replay import replay
from shared.domain.journal import Consumed, EntriesSkipped, InputsConsumed, Started, StrategySnapshot
from shared.domain.market import Bar, Quote
from shared.domain.order import Intent, Side
from shared.strategy import EMA, OrderFilled, Strategy
from shared.wire.codec import encode
from strategies.breakout import Breakout
from tests.support.strategy_rows import (
    MD,
    ORDERS,
    RULES,
    T0,
    Bench,
    S,
    bar,
    contract,
    feed_state,
    filled,
    quote,
    received_ns,
    rows,
)


class Remembers(Strategy):
    """Keeps one of everything that a snapshot has to bring back."""

    recent: deque[float]
    seen: dict[int, tuple[str, Decimal]]
    fast: EMA

    def on_start(self) -> None:
        self.recent = deque(maxlen=4)
        self.seen = {}
        self.fast = EMA(3)
        self._last: float | None = None
        self.best = float("-inf")

    def on_quote(self, quote: Quote) -> None:
        bid = quote.bid_px or 0.0
        self.best = max(self.best, bid)
        self.recent.append(bid)
        self.seen[int(bid)] = (quote.symbol, self.on_tick(bid) if self.market().tick_size else Decimal(0))
        average = self.fast.add(bid)
        if average is not None and self.flat and bid > average and len(self.recent) == 4:
            self.buy(1, stop=self.ticks(4), reason=f"{bid} {average} {self.best} {sorted(self.seen)}")
        elif self.position > 0 and bid < min(list(self.recent)[:-1]):
            self.close(reason=f"{self.recent} {self._last}")
        self._last = bid

    def on_fill(self, fill: OrderFilled) -> None:
        self.seen[0] = (fill.client_order_id, fill.last_px)


def recorded(prices: Sequence[int]) -> list[tuple[str, list[Any]]]:
    """Return (stream, row) in order of consumption: a market with fills in between."""
    md: list[Any] = [contract(), feed_state()]
    for n, price in enumerate(prices):
        px = 100 + price * 0.25
        md += [quote(px, ts_ns=T0 + n * 60 * S), bar(n, px)]
    out = [(MD, row) for row in rows(md)]
    fills: list[Any] = [
        filled(f"f{n}", Side.BUY if n % 2 == 0 else Side.SELL, 1 - n % 2, ts_ns=T0 + n * 300 * S)
        for n in range(len(prices) // 5)
    ]
    for n, row in enumerate(rows(fills)):
        out.insert(min(len(out), 6 + n * 11), (ORDERS, row))
    return out


def run(consumption: Consumption, inputs: list[tuple[str, list[Any]]]) -> list[Intent]:
    intents: list[Intent] = []
    for stream, row in inputs:
        consumption.begin(received_ns(row))
        consumption.take(stream, [row])
        intents += consumption.step().intents
    return intents


PRICES = st.lists(st.integers(-12, 12), min_size=5, max_size=60)


@settings(max_examples=60, deadline=None)
@given(prices=PRICES, cut=st.integers(0, 130), cls=st.sampled_from([Remembers, Breakout]))
@pytest.mark.proves("I-18", "I-23")
def test_restart_anywhere_gives_the_same_intents(prices: list[int], cut: int, cls: type[Strategy]) -> None:
    inputs = recorded(prices)
    through = run(Bench(cls).consumption, inputs)
    first = Bench(cls)
    before = run(first.consumption, inputs[:cut])
    snapshot = msgspec.json.decode(first.consumption.step().snapshot, type=StrategySnapshot)
    second = Bench(cls, snapshot=snapshot)
    assert second.reason == "snapshot"
    after = run(second.consumption, inputs[cut:])
    assert [encode(i) for i in before + after] == [encode(i) for i in through]


@settings(max_examples=60, deadline=None)
@given(prices=PRICES, sizes=st.lists(st.integers(1, 20), min_size=1), late_at=st.integers(0, 40))
@pytest.mark.proves("I-23")
def test_replayed_journal_gives_the_same_bytes(prices: list[int], sizes: list[int], late_at: int) -> None:
    """Batches of any size, commits anywhere, and a clock that makes the first part catch-up."""
    inputs = recorded(prices)
    bench = Bench(Remembers)
    started = Started(
        strategy_id="b1",
        reason="fresh",
        cursors={MD: "0-0", ORDERS: "0-0"},
        build="",
        settings_hash="",
        ts_ns=0,
    )
    journal: list[Any] = [started]
    live: list[Intent] = []
    at = turn = 0
    while at < len(inputs):
        size = sizes[turn % len(sizes)]
        for stream, row in inputs[at : at + size]:
            bench.consumption.begin(max(T0 + late_at * 60 * S, received_ns(row)))
            bench.consumption.take(stream, [row])
        step = bench.consumption.step()
        journal += step.journal
        live += step.intents
        at, turn = at + size, turn + 1
    lines = dict.fromkeys((MD, ORDERS))
    stored = {stream: [row for s, row in inputs if s == stream] for stream in lines}

    def rows_of(run: Consumed) -> list[list[Any]]:
        ids = [row[0].decode() for row in stored[run.stream]]
        first = ids.index(run.first_id)
        return stored[run.stream][first : first + run.count]

    again = list(replay(journal, rows_of, loaded=bench.loaded, rules=RULES, symbols=("MES",)))
    assert [encode(i) for i in again] == [encode(i) for i in live]
    named = [i for message in journal if isinstance(message, InputsConsumed) for i in message.intents]
    assert named == [i.client_order_id for i in live]


def test_changed_settings_keep_position_and_restart_memory() -> None:
    bench = Bench(Remembers)
    run(bench.consumption, recorded([1, 2, 3, 4, 5, 6, 7, 8]))
    snapshot = msgspec.json.decode(bench.consumption.step().snapshot, type=StrategySnapshot)
    changed = msgspec.structs.replace(snapshot, settings_hash="other")
    again = Bench(Remembers, snapshot=changed)
    assert again.reason == "changed"
    assert again.strategy.position == bench.strategy.position
    assert len(vars(again.strategy)["recent"]) == 0


@pytest.mark.proves("I-23")
def test_replay_follows_a_change_of_settings() -> None:
    """The journal of two incarnations, the second with its memory begun anew."""
    inputs = recorded([1, 2, 3, 4, 5, 4, 6, 3, 7, 8, 9, 10, 11, 12, 3, 2])
    first = Bench(Remembers)
    live: list[Intent] = []
    journal: list[Any] = []

    def feed(bench: Bench, part: list[tuple[str, list[Any]]]) -> None:
        for stream, row in part:
            bench.consumption.begin(received_ns(row))
            bench.consumption.take(stream, [row])
        step = bench.consumption.step()
        journal.extend(step.journal)
        live.extend(step.intents)

    def started(bench: Bench, reason: str) -> Started:
        cursors = {stream: cursor.decode() for stream, cursor in bench.consumption.cursors.items()}
        return Started(
            strategy_id="b1", reason=reason, cursors=cursors, build="", settings_hash="hash", ts_ns=0
        )

    journal.append(started(first, "fresh"))
    feed(first, inputs[:18])
    snapshot = msgspec.json.decode(first.consumption.step().snapshot, type=StrategySnapshot)
    second = Bench(Remembers, snapshot=msgspec.structs.replace(snapshot, settings_hash="before"))
    journal.append(started(second, second.reason))
    feed(second, inputs[18:])
    assert second.reason == "changed" and live

    def rows_of(run: Consumed) -> list[list[Any]]:
        stored = [row for stream, row in inputs if stream == run.stream]
        at = [row[0].decode() for row in stored].index(run.first_id)
        return stored[at : at + run.count]

    again = list(replay(journal, rows_of, loaded=first.loaded, rules=RULES, symbols=("MES",)))
    assert [encode(i) for i in again] == [encode(i) for i in live]


@pytest.mark.proves("I-23")
def test_skipped_entries_are_a_gap_in_the_replay_too() -> None:
    """After a skip nothing is traded until the feed is live, whichever stream the next event comes from."""
    inputs = [entry for entry in recorded([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) if entry[0] == MD]
    bench = Bench(Remembers)
    journal: list[Any] = [
        Started(
            strategy_id="b1",
            reason="fresh",
            cursors={MD: "0-0", ORDERS: "0-0"},
            build="",
            settings_hash="",
            ts_ns=0,
        )
    ]
    live = run(bench.consumption, inputs[:9])
    journal += [
        InputsConsumed(runs=[_run([one])], intents=[], asof_ns=received_ns(one[1])) for one in inputs[:9]
    ]
    to_id = inputs[11][1][0].decode()
    bench.consumption.skip(EntriesSkipped(stream=MD, missing=3, to_id=to_id, asof_ns=0))
    for stream, row in inputs[12:]:
        bench.consumption.begin(received_ns(row))
        bench.consumption.take(stream, [row])
    step = bench.consumption.step()
    journal += step.journal
    assert step.intents == []
    assert bench.suppressed["not_live"] > 0

    def rows_of(run: Consumed) -> list[list[Any]]:
        at = [row[0].decode() for _, row in inputs].index(run.first_id)
        return [row for _, row in inputs[at : at + run.count]]

    again = list(replay(journal, rows_of, loaded=bench.loaded, rules=RULES, symbols=("MES",)))
    assert [encode(i) for i in again] == [encode(i) for i in live]


def _run(inputs: list[tuple[str, list[Any]]]) -> Consumed:
    first, last = inputs[0][1][0].decode(), inputs[-1][1][0].decode()
    return Consumed(stream=MD, first_id=first, last_id=last, count=len(inputs))


def test_breakout_trades_both_ways() -> None:
    bench = Bench(Breakout)
    bench.live()
    up: list[Bar] = [bar(n, 100.0) for n in range(3)]
    (buy,) = bench.give(*up, bar(3, 101.0))
    assert getattr(buy, "side", None) is Side.BUY
    other = Bench(Breakout)
    other.live()
    (sell,) = other.give(*up, bar(3, 99.0))
    assert getattr(sell, "side", None) is Side.SELL
