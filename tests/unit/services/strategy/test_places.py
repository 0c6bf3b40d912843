"""Where a worker goes on in a stream that ends before its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.strategy.places import Places
from shared.bus.port import RolledBack

ORDERS, MD = "orders:{1}", "md:{MES}"


class Streams:
    """Stands for the bus and for the patience with it: every question is answered at once."""

    def __init__(self, **ids: list[bytes]) -> None:
        self.ids = {ORDERS: ids.get("orders", []), MD: ids.get("md", [])}

    def reach(self, call: Callable[[], Any]) -> Any:
        return call()

    def last_id(self, stream: str) -> str:
        return self.ids[stream][-1].decode() if self.ids[stream] else "0-0"

    def call(self, command: str, stream: str, *rest: Any) -> list[list[bytes]]:
        assert command == "XREVRANGE"
        return [[one] for one in reversed(self.ids[stream])][: rest[-1]]


def places(streams: Streams) -> Places:
    return Places(streams, streams, orders=ORDERS)  # type: ignore[arg-type]


def test_a_stream_without_entries_was_trimmed_or_will_have_them_again() -> None:
    places(Streams(md=[b"5-8"])).check({ORDERS: b"5-8", MD: b"5-8"})
    assert places(Streams(md=[b"5-8"])).found({ORDERS: b"5-8", MD: b"5-8"}) == {}


def test_steps_that_were_written_again_are_known_by_their_number() -> None:
    """The clock had been set back by an hour meanwhile."""
    streams = Streams(orders=[b"100-4", b"100-5", b"101-6", b"102-7"], md=[b"9000-1"])
    assert places(streams).found({ORDERS: b"3700-5", MD: b"9000-1"}) == {ORDERS: b"100-5"}


@pytest.mark.parametrize("ids", [[b"100-3"], [b"100-2", b"100-3"], [b"100-6", b"100-7"]])
def test_steps_that_are_not_there_are_waited_for(ids: list[bytes]) -> None:
    streams = Streams(orders=ids)
    assert places(streams).found({ORDERS: b"3700-5"}) == {}
    with pytest.raises(RolledBack, match="before our place 3700-5"):
        places(streams).check({ORDERS: b"3700-5"})


def test_an_entry_by_hand_among_them_is_not_ours() -> None:
    streams = Streams(orders=[b"100-4", b"100-5", b"101-0", b"102-6"])
    assert places(streams).found({ORDERS: b"3700-5"}) == {ORDERS: b"100-5"}


def test_a_market_goes_on_where_it_ends() -> None:
    assert places(Streams(md=[b"100-5"])).found({MD: b"3700-9"}) == {MD: b"100-5"}


def test_places_that_exist_stay() -> None:
    streams = Streams(orders=[b"100-5"], md=[])
    places(streams).check({ORDERS: b"100-5", MD: b"3700-9"})
    assert places(streams).found({ORDERS: b"100-5", MD: b"3700-9"}) == {}
