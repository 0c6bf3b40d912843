"""The loop of a worker over a bus that answers as told: what it shows its host, what it trades on."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import MagicMock

from services.strategy.loading import Loaded
from services.strategy.patience import Patience
from services.strategy.progress import TURNS
from services.strategy.spec import WorkerSpec
from services.strategy.worker import Worker
from shared.bus.blocking import Output
from shared.domain.journal import MarketAdopted
from shared.domain.market import FeedHealth, MarketState
from shared.domain.order import SubmitOrder
from shared.strategy.settings import read_settings
from shared.wire import topics
from shared.wire.codec import encode
from tests.support.strategy_burners import BuysAlways
from tests.support.strategy_rows import MD, T0, S, contract, feed_state, quote, rows

SPEC = WorkerSpec(
    strategy_id="b1", strategy_class="a:B", symbols=("MES",), settings={}, env="sim", account_id=1001,
    lease=("lease", "h", 1), redis={}, build="",
)  # fmt: skip


class Bus:
    """Gives one reply a read, and asks the worker to stop after the last.

    Attributes:
        newest: Last entry of the market stream as the worker begins.
        view: The conflated view of its symbol.
        every_ns: How long a read takes.
        turns: The page's count at each read.
    """

    def __init__(self, *replies: list[list[Any]], newest: str = "0-0") -> None:
        self.replies, self.newest = list(replies), newest
        self.page = MagicMock(words=[0] * 32)
        self.turns: list[int] = []
        self.written: list[Any] = []
        self.view: MarketState | None = None
        self.now_ns, self.every_ns = T0, 0

    def ready(self) -> None: ...

    def head(self, _: str) -> int:
        return 0

    def last_id(self, stream: str) -> str:
        return self.newest if stream == MD else "0-0"

    def call(self, command: str, key: str, *_: Any) -> Any:
        if command == "GET" and key == topics.quote("MES") and self.view is not None:
            return encode(self.view)
        return [] if command == "XRANGE" else None

    def read(self, *_: Any) -> list[tuple[str, list[list[Any]]]]:
        self.now_ns += self.every_ns
        self.turns.append(self.page.words[TURNS])
        given = self.replies.pop(0)
        return [(MD, given)] if given else []

    def step(self, _lease: Any, _key: str, _snapshot: bytes, outputs: list[Output]) -> None:
        self.written += [message for output in outputs for message in output.messages]

    def step_and_read(self, *step: Any) -> list[tuple[str, list[list[Any]]]]:
        self.step(*step[:4])
        return self.read()

    def run(self) -> None:
        Worker(
            SPEC, Loaded(BuysAlways, read_settings(BuysAlways, {}), "hash"), bus=cast(Any, self),
            page=self.page, log=cast(Any, MagicMock()), now_ns=lambda: self.now_ns, sleep=lambda _: None,
            stop_asked=lambda: not self.replies,
        ).run()  # fmt: skip


def test_the_page_moves_in_a_quiet_market() -> None:
    bus = Bus([], [], [], [])
    bus.run()
    assert len(bus.turns) == 4 and bus.turns == sorted(set(bus.turns))


def test_the_page_moves_with_each_question_to_redis() -> None:
    bus = Bus()
    patience = Patience(
        cast(Any, bus), page=bus.page, log=MagicMock(), sleep=lambda _: None, stop_asked=lambda: False
    )
    assert [patience.reach(lambda: bus.page.words[TURNS]) for _ in range(3)] == [1, 2, 3]


def test_warm_up_is_not_traded_on_where_the_clock_was_set_back_into_it() -> None:
    """By the receive time a quote of an hour ago was of this moment."""
    ahead_ms = (T0 + 3_600 * S) // 1_000_000
    before = rows([contract(), feed_state(), quote(100.0), quote(101.0, ts_ns=T0 + 3_600 * S)])
    now = rows([quote(100.5)], first_seq=5)
    before[-1][0], now[0][0] = f"{ahead_ms}-4".encode(), f"{ahead_ms}-5".encode()
    bus = Bus(before, now, [], newest=f"{ahead_ms}-4")
    bus.run()
    intents = [one for one in bus.written if isinstance(one, SubmitOrder)]
    assert [one.cause.rpartition("-")[2] for one in intents] == ["5"]


def test_a_view_of_before_the_clock_was_set_back_is_adopted_once() -> None:
    """For the contract; whether the market is live is asked again until the feed says so by this clock."""
    bus = Bus([], [], [], [])
    bus.every_ns = 3 * S
    bus.view = MarketState(
        symbol="MES", contract_id="C", health=FeedHealth.LIVE, bid_px=1.0, ask_px=1.25, last_px=1.0,
        crossed=False, tick_size="0.25", tick_value="1.25", ts_event_ns=T0, ts_asof_ns=T0 + 3_600 * S,
    )  # fmt: skip
    bus.run()
    assert [type(one) for one in bus.written].count(MarketAdopted) == 1
