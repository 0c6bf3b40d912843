"""What becomes of user events, of market data and of frames: decisions without sockets."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from services.simulator.core import MarketTraded, TouchChanged
from services.simulator.fault_settings import FaultsConfig
from services.simulator.faults import Faults
from services.simulator.frames import fragments, pieces
from services.simulator.lagging import LaggingBooks
from services.simulator.market_faults import MarketFaults
from services.simulator.user_events import UserEvents
from shared.broker.projectx.enums import TradeLogType
from tests.support.venue import MES, NOW_NS, Desk

TOUCH = TouchChanged(NOW_NS, MES, 400, 10, 401, 12)
TRADE = MarketTraded(NOW_NS, MES, 401, 3, TradeLogType.BUY)


class Room:
    """User events sent, timers waiting."""

    def __init__(self, *faults: dict[str, Any]) -> None:
        self.sent: list[bytes] = []
        self.waiting: list[tuple[float, Callable[[], None]]] = []
        self.events = UserEvents(
            faults=make(*faults),
            after=lambda delay_s, do: self.waiting.append((delay_s, do)),
            send=lambda clients, record: self.sent.append(record),
        )

    def publish(self, count: int) -> list[bytes]:
        records = [b"%d" % number for number in range(count)]
        for record in records:
            self.events.publish("GatewayUserTrade", [], record)
        return records

    def ring(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, do in waiting:
            do()


def make(*faults: dict[str, Any]) -> Faults:
    return Faults(FaultsConfig.model_validate({"active": faults}), lambda: 0)


def test_without_faults_events_pass_in_order() -> None:
    room = Room()
    assert room.publish(5) == room.sent


def test_dropped_with_the_chance_of_the_fault() -> None:
    room = Room({"kind": "event_drop", "rate": 0.1})
    published = room.publish(500)
    assert 20 < len(published) - len(room.sent) < 80
    again = Room({"kind": "event_drop", "rate": 0.1})
    again.publish(500)
    assert again.sent == room.sent


def test_shuffled_within_the_window_and_released_in_the_end() -> None:
    room = Room({"kind": "event_shuffle", "window": 5})
    published = room.publish(40)
    assert len(room.sent) == 36
    room.ring()
    assert room.sent != published
    assert sorted(room.sent) == sorted(published)


def test_delayed_and_repeated() -> None:
    late = {"kind": "event_delay", "delay_s": 2, "count": 1}
    room = Room({"kind": "event_repeat", "copies": 3, "count": 1}, late)
    room.publish(2)
    assert room.sent == [b"0", b"0", b"1"]
    assert [delay_s for delay_s, _ in room.waiting] == [2.0]
    room.ring()
    assert room.sent == [b"0", b"0", b"1", b"0"]


@pytest.mark.parametrize(
    ("fault", "bid", "ask", "price"),
    [
        ({"kind": "market_crossed"}, 403, 400, 401),
        ({"kind": "market_spike", "percent": -10}, 360, 361, 361),
        ({"kind": "market_zero"}, 0, 0, 0),
        ({"kind": "market_negative"}, -400, -401, -401),
        ({"kind": "market_zero", "only": ["MNQ"]}, 400, 401, 401),
    ],
)
def test_market_data_is_distorted(fault: dict[str, Any], bid: int, ask: int, price: int) -> None:
    market = MarketFaults(make(fault))
    touch, trade = market.touch(TOUCH, "MES"), market.trade(TRADE, "MES")
    assert touch is not None
    assert trade is not None
    assert (touch.bid, touch.ask, trade.price) == (bid, ask, price)
    assert (touch.bid_qty, touch.ask_qty, touch.now_ns) == (10, 12, NOW_NS)


def test_frozen_market_tells_nothing() -> None:
    market = MarketFaults(make({"kind": "market_freeze"}))
    assert market.any
    assert market.touch(TOUCH, "MES") is None
    assert market.trade(TRADE, "MES") is None


def test_stale_data_keeps_its_old_time() -> None:
    market = MarketFaults(make({"kind": "market_stale", "skip": 1}))
    later = MarketTraded(NOW_NS + 5, MES, 405, 1, TradeLogType.BUY)
    assert market.trade(TRADE, "MES") is TRADE
    assert market.trade(later, "MES") is TRADE


def test_pieces_are_the_whole_and_the_same_for_a_seed() -> None:
    data = bytes(range(256)) * 4
    cut = pieces(data, 7, Random(1))
    assert b"".join(cut) == data
    assert len(cut) == 7
    assert all(cut)
    assert cut == pieces(data, 7, Random(1))
    assert pieces(b"x", 5, Random(1)) == [b"x"]
    assert b"".join(pieces(b"xy", 5, Random(1))) == b"xy"


@pytest.mark.parametrize("size", [5, 125, 126, 70_000, 200_000])
def test_fragments_are_one_message(size: int) -> None:
    data = b"z" * size
    wire, found, heads = fragments(data, 3, Random(4)), b"", []
    while wire:
        first, length = wire[0], wire[1]
        at = 2
        if length == 126:
            (length,), at = struct.unpack("!H", wire[2:4]), 4
        elif length == 127:
            (length,), at = struct.unpack("!Q", wire[2:10]), 10
        heads.append(first)
        found += wire[at : at + length]
        wire = wire[at + length :]
    assert found == data
    assert heads == [0x01, 0x00, 0x80]


def test_lagging_books_follow_at_their_distance() -> None:
    desk, now = Desk(), [0]
    desk.place(tag="before")
    books = LaggingBooks(desk.state, lag_s=2, monotonic_ns=lambda: now[0])
    said = len(desk.said)
    desk.place(size=2, tag="after")
    books.hear(desk.said[said:])
    key = (7, MES)
    now[0] = 1_999_999_999
    assert (len(books.catch_up().orders), books.positions[key].net_qty, len(books.fills)) == (1, 1, 1)
    now[0] = 2_000_000_000
    assert (len(books.catch_up().orders), books.positions[key].net_qty, len(books.fills)) == (2, 3, 2)
    assert books.positions[key].avg_ticks == Decimal(401)
    said = len(desk.said)
    desk.close()
    books.hear(desk.said[said:])
    assert key in books.positions
    now[0] = 4_000_000_000
    assert key not in books.catch_up().positions
