"""An hour of the real market through the whole chain, in real processes, and out right.

simulator -> SignalR -> feed -> Redis -> strategy -> execution -> simulator, replayed at a speed at which two
cores have time to spare; what the streams hold is compared with the file, read by an independent program.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from shared.wire import topics
from tests.support import real_hour
from tests.support.eventually import eventually
from tests.support.stack import Stack, running_stack
from tests.support.streams import Stored, read_stream

SPEED = "240"
PLAYED_WITHIN_S = 120.0
REST_WITHIN_S = 60.0
TICK = Decimal("0.25")
MULTIPLIER = Decimal(50)
"""ES: 12.50 a tick of 0.25."""

FILL_WINDOW_NS = 2_000_000_000
"""Market time around a fill in which its price must have existed: orders travel in real time, and at this
speed a hundredth of a second is more than a second of the market."""

pytestmark = [pytest.mark.e2e, real_hour.needs_real_hour, pytest.mark.timeout(400)]


class Played:
    """Everything the replay left behind."""

    def __init__(self, stack: Stack) -> None:
        account = 1001
        self.stack = stack
        self.md = list(read_stream(stack, topics.md("ES")))
        self.orders = list(read_stream(stack, topics.orders(account)))
        self.reports = list(read_stream(stack, topics.reports(account)))
        self.fills = {m["fill_id"]: m for m in self.of("fill_report", self.reports)}

    @staticmethod
    def of(kind: str, entries: list[Stored]) -> list[dict[str, Any]]:
        return [entry.message for entry in entries if entry.kind == kind]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    variables = {"JULIE_STRATEGY__INSTANCES": json.dumps([_instance()])}
    with running_stack("--replay", str(real_hour.FILE), "--speed", SPEED, **variables) as stack:
        asyncio.run(eventually(lambda: _replay_finished(stack), within_s=PLAYED_WITHIN_S))
        assert stack.julie("flatten", "--reason", "the recording is over").returncode == 0
        asyncio.run(eventually(lambda: _at_rest(stack), within_s=REST_WITHIN_S))
        yield Played(stack)


def _instance() -> dict[str, Any]:
    return {"id": "breakout-es", "class": "strategies.breakout:Breakout", "symbols": ["ES"]}


def _replay_finished(stack: Stack) -> bool:
    processes = {p["process"]: p for p in stack.status()["processes"]}
    return processes["simulator"]["detail"].get("replay") == "finished"


def _at_rest(stack: Stack) -> bool:
    """No position and no working order at the broker, and we have told the balance that it has."""
    positions = _ask_broker(stack, "/api/Position/searchOpen")["positions"]
    orders = _ask_broker(stack, "/api/Order/searchOpen")["orders"]
    (account,) = _ask_broker(stack, "/api/Account/search", onlyActiveAccounts=True)["accounts"]
    told = Played.of("account_report", list(read_stream(stack, topics.reports(1001))))
    return not positions and not orders and Decimal(told[-1]["balance"]) == Decimal(str(account["balance"]))


def _ask_broker(stack: Stack, path: str, **body: object) -> dict[str, Any]:
    """Ask the simulator itself, as any client would."""
    base = stack.environment["JULIE_BROKER__REST_URL"]
    login = _post(base + "/api/Auth/loginKey", {"userName": "demo", "apiKey": "demo-key"}, None)
    asked = body or {"accountId": 1001, "startTimestamp": "2023-12-25T00:00:00Z"}
    return _post(base + path, asked, login["token"])


def _post(url: str, body: Mapping[str, object], token: str | None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    assert found["success"], found
    return found


def test_every_price_change_is_there_once_and_in_order(played: Played) -> None:
    want = [one.values for one in real_hour.expected().quotes]
    got = [(m["bid_px"], m["ask_px"]) for m in played.of("quote", played.md)]
    assert got == want


def test_every_size_change_is_there_once_and_in_order(played: Played) -> None:
    want = [one.values for one in real_hour.expected().depth]
    got = [(m["side"], m["px"], m["resting_qty"]) for m in played.of("depth", played.md)]
    assert got == want


def test_every_trade_is_there_once_and_in_order(played: Played) -> None:
    want = [one.values for one in real_hour.expected().trades]
    got = [(m["px"], m["qty"]) for m in played.of("trade", played.md)]
    assert got == want


def test_all_kinds_together_keep_the_order_of_the_file(played: Played) -> None:
    market = real_hour.expected()
    rows = {"quote": iter(market.quotes), "depth": iter(market.depth), "trade": iter(market.trades)}
    order = [next(rows[e.kind]).row for e in played.md if e.kind in rows]
    assert order == sorted(order)


@pytest.mark.proves("I-14")
def test_sequence_numbers_have_no_gap(played: Played) -> None:
    for entries in (played.md, played.orders, played.reports):
        assert [e.seq for e in entries] == list(range(1, len(entries) + 1))


def test_crossed_quotes_are_marked(played: Played) -> None:
    crossed = [m for m in played.of("quote", played.md) if m["bid_px"] > m["ask_px"]]
    assert len(crossed) > 0
    assert all(m["crossed"] for m in crossed)


def test_bars_equal_an_independent_computation(played: Played) -> None:
    columns = ["ts_open_ns", "open", "high", "low", "close", "volume", "trades"]
    minutes = [m for m in played.of("bar", played.md) if m["interval_s"] == 60]
    got = pl.DataFrame([{c: m[c] for c in columns} for m in minutes], schema_overrides={"trades": pl.UInt32})
    want = real_hour.bars(60)
    # The last minute closes by the clock, which may stand still when the recording is over.
    assert want.height - 1 <= got.height <= want.height
    assert got.rows() == want.select(columns).head(got.height).rows()


def test_the_strategy_traded(played: Played) -> None:
    sides = {m["side"] for m in played.of("order_filled", played.orders) if m.get("role", "entry") == "entry"}
    assert sides, "no entry was filled in an hour"
    assert len(played.fills) >= 4


@pytest.mark.proves("I-4")
def test_no_intent_was_caused_while_quotes_were_crossed(played: Played) -> None:
    """The pre-open's crossed quotes end before the first trade of the session."""
    last_crossed_ns = max(m["ts_event_ns"] for m in played.of("quote", played.md) if m.get("crossed"))
    filled = played.of("order_filled", played.orders)
    assert min(m["ts_event_ns"] for m in filled) > last_crossed_ns


def test_fills_have_prices_that_existed_at_that_time(played: Played) -> None:
    quotes = played.of("quote", played.md)
    times = [m["ts_event_ns"] for m in quotes]
    for fill in played.fills.values():
        at = fill["ts_event_ns"]
        first = max(0, bisect_left(times, at - FILL_WINDOW_NS) - 1)
        near = quotes[first : bisect_right(times, at + FILL_WINDOW_NS)]
        low = min(Decimal(str(m["bid_px"])) for m in near) - TICK
        high = max(Decimal(str(m["ask_px"])) for m in near) + TICK
        assert low <= Decimal(fill["last_px"]) <= high, fill


@pytest.mark.proves("I-8")
def test_position_is_the_sum_of_fills_and_the_brokers(played: Played) -> None:
    signed = sum(m["last_qty"] * (1 if m["side"] == "buy" else -1) for m in played.fills.values())
    at_broker = _ask_broker(played.stack, "/api/Position/searchOpen")["positions"]
    ours = played.of("order_filled", played.orders)
    from_orders = sum(m["last_qty"] * (1 if m["side"] == "buy" else -1) for m in ours)
    assert (signed, at_broker) == (0, [])
    assert from_orders == signed


@pytest.mark.proves("I-8")
def test_every_fill_of_the_broker_is_reported_once(played: Played) -> None:
    trades = _ask_broker(played.stack, "/api/Trade/search")["trades"]
    reported = played.of("fill_report", played.reports)
    assert sorted(t["id"] for t in trades) == sorted(m["fill_id"] for m in reported)
    attributed = [m["fill_id"] for m in played.of("order_filled", played.orders)]
    assert sorted(attributed) == sorted(t["id"] for t in trades)


@pytest.mark.proves("I-8")
def test_realized_pnl_equals_a_decimal_recomputation(played: Played) -> None:
    """Cash flow of all fills: with a flat end this is the result, whatever the method of matching."""
    cash = Decimal(0)
    for fill in played.fills.values():
        sign = 1 if fill["side"] == "sell" else -1
        cash += sign * fill["last_qty"] * Decimal(fill["last_px"]) * MULTIPLIER
    ours = sum((Decimal(m["realized_pnl"]) for m in played.of("order_filled", played.orders)), Decimal(0))
    brokers = sum((Decimal(m.get("realized_pnl") or 0) for m in played.fills.values()), Decimal(0))
    assert ours == cash == brokers


def test_fees_are_named_apart(played: Played) -> None:
    fees = sum((Decimal(m["fees"]) for m in played.of("order_filled", played.orders)), Decimal(0))
    account = played.of("account_report", played.reports)
    pnl = sum((Decimal(m["realized_pnl"]) for m in played.of("order_filled", played.orders)), Decimal(0))
    assert fees > 0
    assert Decimal(account[-1]["balance"]) == Decimal(account[0]["balance"]) + pnl - fees
