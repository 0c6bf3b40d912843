"""What was written before the wall clock was set back, and lies where the clock is now."""

from __future__ import annotations

from typing import Any

from services.strategy.ages import AGE_UNKNOWN_NS, Ages
from tests.support.strategy_burners import BuysAlways
from tests.support.strategy_rows import MD, ORDERS, T0, Bench, S, contract, feed_state, quote

MS = 1_000_000


def reply(*ids: bytes, stream: str = MD) -> list[tuple[str, list[list[Any]]]]:
    return [(stream, [[one, [b"quote", b""]] for one in ids])]


def test_a_clock_that_was_not_set_back_judges_everything() -> None:
    ages = Ages({MD: b"11000-7", ORDERS: b"0-0"}, 10_000 * MS)
    assert ages.asof_ns(reply(b"9000-5", b"11000-7"), 10_000 * MS) == 10_000 * MS


def test_up_to_the_newest_entry_of_before_nobody_knows_an_age() -> None:
    ages = Ages({MD: b"3600000-7", ORDERS: b"9000-2"}, 10_000 * MS)
    judged = [
        ages.asof_ns(reply(*ids, stream=stream), 10_000 * MS)
        for stream, ids in (
            (MD, (b"9999-4", b"10000-5")),
            (ORDERS, (b"9000-2",)),
            (MD, (b"10000-6", b"3600000-7", b"3600000-8")),
            (MD, (b"3600000-9",)),
        )
    ]
    assert judged == [AGE_UNKNOWN_NS, 10_000 * MS, AGE_UNKNOWN_NS, 10_000 * MS]


def test_by_a_place_behind_it_everything_is_judged() -> None:
    ages = Ages({MD: b"3600000-7"}, 10_000 * MS)
    assert ages.asof_ns(reply(b"3600000-8"), 10_000 * MS) == 10_000 * MS
    assert ages.asof_ns(reply(b"12000-9"), 12_000 * MS) == 12_000 * MS, "of an emptied Redis"


def test_no_intents_come_of_an_unknown_age() -> None:
    bench = Bench(BuysAlways)
    assert bench.give(contract(), feed_state(), quote(100.0), asof_ns=AGE_UNKNOWN_NS) == []
    assert bench.suppressed == {"late": 1}
    assert len(bench.give(quote(100.0, ts_ns=T0 + S))) == 1
