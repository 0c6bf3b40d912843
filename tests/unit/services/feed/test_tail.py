from __future__ import annotations

import msgspec

from services.feed.tail import Tail, read_tail
from shared.bus.port import Entry
from shared.domain.market import FeedHealth, MarketState
from shared.wire.codec import encode, kind_of
from tests.support.feed_desk import MINUTE_NS, OPEN_NS, Desk, make_history_bar


def entries(*messages: msgspec.Struct, first_seq: int = 1) -> list[Entry]:
    return [
        Entry("md:{MES}", b"1-%d" % (first_seq + n), kind_of(m), encode(m)) for n, m in enumerate(messages)
    ]


def tail(found: list[Entry], written: int = 9, latest: bytes | None = None) -> Tail:
    return read_tail("MES", found, (60, 300), written=written, latest=latest)


def test_new_stream() -> None:
    assert tail([], written=0) == Tail(bars_out_ns={}, last_event_ns=None)


def test_whole_stream_without_bars() -> None:
    quote = Desk().make_quote(30, bid_px=1.0)
    assert tail(entries(quote)) == Tail(bars_out_ns={}, last_event_ns=quote.ts_event_ns)


def test_newest_bar_of_each_interval() -> None:
    found = entries(make_history_bar(3), make_history_bar(4), Desk().make_trade(330))
    assert tail(found).bars_out_ns == {60: OPEN_NS + 4 * MINUTE_NS}


def test_bars_before_the_oldest_entry_count_as_published() -> None:
    found = entries(Desk().make_trade(630), Desk().make_trade(650), first_seq=500)
    assert tail(found) == Tail(
        bars_out_ns={60: OPEN_NS + 9 * MINUTE_NS, 300: OPEN_NS + 5 * MINUTE_NS},
        last_event_ns=OPEN_NS + 650 * 10**9,
        read_from_ns=OPEN_NS + 630 * 10**9,
    )


def test_stream_that_was_archived_whole() -> None:
    state = MarketState(
        symbol="MES", contract_id="", health=FeedHealth.LIVE, bid_px=None, ask_px=None, last_px=None,
        crossed=False, tick_size="0.25", tick_value="1.25", ts_event_ns=OPEN_NS + 630 * 10**9, ts_asof_ns=0,
    )  # fmt: skip
    found = tail([], latest=encode(state))
    assert found.bars_out_ns[60] == OPEN_NS + 9 * MINUTE_NS
    assert found.last_event_ns == state.ts_event_ns


def test_entries_of_another_build_are_passed_over() -> None:
    odd = Entry("md:{MES}", b"1-1", b"bar", b'{"type":"bar","nonsense":1}')
    assert tail([odd, *entries(make_history_bar(4), first_seq=2)]).bars_out_ns[60] == OPEN_NS + 4 * MINUTE_NS
