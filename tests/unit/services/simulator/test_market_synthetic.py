"""The synthetic market: a function of seed and time, and it looks like one."""

from __future__ import annotations

from collections import Counter

from services.simulator.contracts import active_contract
from services.simulator.core import MarketTraded, SessionChanged, TouchChanged
from services.simulator.history import PastBars
from services.simulator.market_synthetic import FloodMarket, MarketEvent, SyntheticMarket
from tests.support.venue import MES, NOW_NS

MINUTE_NS = 60_000_000_000
CONTRACTS = [active_contract("MES", NOW_NS), active_contract("MNQ", NOW_NS)]


def run(seed: int, minutes: int, start_ns: int = NOW_NS) -> list[MarketEvent]:
    market = SyntheticMarket(CONTRACTS, seed=seed, start_ns=start_ns, last_ticks={})
    return market.advance(start_ns + minutes * MINUTE_NS, 10_000_000)


def of_mes(events: list[MarketEvent]) -> list[TouchChanged | MarketTraded]:
    return [one for one in events if not isinstance(one, SessionChanged) and one.contract_id == MES]


def test_same_seed_same_market() -> None:
    assert run(1, 3) == run(1, 3)
    assert run(1, 3) != run(2, 3)


def test_steps_of_any_size_give_the_same_market() -> None:
    market = SyntheticMarket(CONTRACTS, seed=1, start_ns=NOW_NS, last_ticks={})
    pieces: list[MarketEvent] = []
    for turn in range(1, 361):
        pieces += market.advance(NOW_NS + turn * MINUTE_NS // 120, 50)
    assert pieces == run(1, 3)[: len(pieces)]
    assert len(pieces) > 1_000


def test_looks_like_a_market() -> None:
    events = run(1, 60)
    touches = [one for one in of_mes(events) if isinstance(one, TouchChanged)]
    trades = [one for one in of_mes(events) if isinstance(one, MarketTraded)]
    spreads = Counter(one.ask - one.bid for one in touches if one.ask is not None and one.bid is not None)
    assert set(spreads) <= {1, 2}
    assert spreads[1] > 0.9 * len(touches)
    assert min(one.bid_qty for one in touches) >= 1
    low, high = min(one.price for one in trades), max(one.price for one in trades)
    assert 10 * 4 <= high - low <= 120 * 4  # points of an hour, in ticks
    sides = Counter(one.aggressor for one in trades)
    assert min(sides.values()) > 0.3 * len(trades)


def test_each_contract_moves_forward_in_time_and_never_beyond_now() -> None:
    events = run(3, 5)
    stamps = [one.now_ns for one in of_mes(events)]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= NOW_NS + 5 * MINUTE_NS


def test_trends_both_ways_within_the_hour() -> None:
    closes = [one.price for one in of_mes(run(1, 60)) if isinstance(one, MarketTraded)]
    moves = [later - now for now, later in zip(closes, closes[400:], strict=False)]
    assert max(moves) > 16
    assert min(moves) < -16


def test_silent_while_the_market_is_closed() -> None:
    closing_ns = NOW_NS + (6 * 60 + 30) * MINUTE_NS  # 16:00 New York; the break is an hour later
    assert run(1, 2, closing_ns + 59 * MINUTE_NS) != []
    assert run(1, 30, closing_ns + 61 * MINUTE_NS) == []
    said = [one for one in run(1, 70, closing_ns + 59 * MINUTE_NS) if isinstance(one, SessionChanged)]
    assert [one.is_open for one in said] == [False, True]


def test_flood_makes_a_quote_of_every_event() -> None:
    market = FloodMarket(CONTRACTS)
    events = market.make(4_000, NOW_NS)
    last: dict[str, tuple[int | None, int | None]] = {}
    for one in events:
        assert isinstance(one, TouchChanged)
        assert last.get(one.contract_id) != (one.bid, one.ask)
        assert one.bid is not None
        assert one.ask is not None
        assert one.bid < one.ask
        last[one.contract_id] = (one.bid, one.ask)


def test_past_is_told_the_same_whoever_asks() -> None:
    def past() -> PastBars:
        return PastBars(CONTRACTS[0], seed=1, end_ns=NOW_NS, close_ticks=26_800)

    whole = past().since(NOW_NS - 3 * 1440 * MINUTE_NS)
    piece = past().since(NOW_NS - 60 * MINUTE_NS)
    assert whole[-len(piece) :] == piece
    assert whole[-1].close == 26_800
    assert len(whole) > 600
    assert all(one.low <= min(one.open, one.close) <= max(one.open, one.close) <= one.high for one in whole)
