"""Input that nobody should send, through the real processes: refused, counted, kept, and nothing else stops.

One installation for most of the file. It trades MES beside a symbol that does not exist and beside strategy
instances that cannot start; the tests run in order, and at the end every process is the one that was started.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.wire import topics
from tests.support.eventually import TIME_FACTOR
from tests.support.fault_gateway import RECORD_END, call, calls
from tests.support.faulty_stack import FaultyStack, faulty_stack
from tests.support.operator_desk import Venue

ACCOUNT_ID = 1001
MD = topics.md("MES")
GOOD, TYPO, ABSENT = "good", "typo", "absent"
INSTANCES = [
    {"id": GOOD, "class": "strategies.breakout:Breakout", "symbols": ["MES"]},
    {"id": TYPO, "class": "strategies.breakout:Breakout", "symbols": ["MES"], "settings": {"lenght": 3}},
    {"id": ABSENT, "class": "strategies.nowhere:Nobody", "symbols": ["MES"]},
    {"id": "elsewhere", "class": "strategies.breakout:Breakout", "symbols": ["MNQ"]},
]
HUGE_BYTES = 10_000_000
SEQ_MAX = 2**64 - 1
UNREADABLE = 4
"""Of the garbage: kinds that the example strategy looks at, or that nobody knows. The rest it passes by."""

MARK_QTY = 987_654
"""Of trades that are slipped in and valid: no real one is so large."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 * TIME_FACTOR)]


class Fed(FaultyStack):
    """Attributes: started: process -> pid, when everything ran."""

    started: dict[str, int]

    def contract_id(self) -> str:
        found: str = json.loads(self.redis("GET", topics.quote("MES")))["contract_id"]
        return found

    def market_time(self, offset_s: float = 0.0) -> datetime:
        """Return the event time of the newest market data."""
        ts_ns: int = json.loads(self.redis("GET", topics.quote("MES")))["ts_event_ns"]
        return datetime.fromtimestamp(ts_ns / 1e9 + offset_s, UTC)

    def bid(self) -> float:
        return float(json.loads(self.redis("GET", topics.quote("MES")))["bid_px"])


@pytest.fixture(scope="module")
def fed() -> Iterator[Fed]:
    variables = {
        "JULIE_JULIE__SYMBOLS": json.dumps(["MES", "XXX"]),
        "JULIE_STRATEGY__INSTANCES": json.dumps(INSTANCES),
        "JULIE_BROKER_SYNC__RECONCILE_SPACING_S": "0.5",
        "JULIE_BROKER_SYNC__RECONCILE_INTERVAL_S": "10",
    }
    with faulty_stack(**variables) as made:
        fed = Fed(made.stack, made.gateway)
        fed.wait(fed.trading, within_s=30, what="trading beside what cannot work")
        fed.started = fed.pids()
        yield fed


# -- settings of one instance, and a symbol that does not exist --------------------------------------


def test_a_symbol_that_does_not_exist_is_named_and_the_other_one_trades(fed: Fed) -> None:
    said = fed.wait(
        lambda: "XXX" in fed.detail("feed", "XXX") + fed.log("feed") and fed.detail("feed", "XXX")
    )
    assert "no active contract" in said or "XXX" in said, said
    before = len(fed.entries(MD, "trade"))
    fed.wait(lambda: len(fed.entries(MD, "trade")) > before, what="more trades of MES")


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        (TYPO, ["lenght: no such setting", "there are", "correct them"]),
        (ABSENT, ["strategies.nowhere", "correct `class`"]),
        ("elsewhere", ["MNQ", "julie.symbols"]),
    ],
)
def test_an_instance_that_cannot_start_is_off_with_a_reason(
    fed: Fed, instance: str, words: list[str]
) -> None:
    reason = fed.wait(lambda: fed.detail("strategy", f"off:{instance}"), what=f"{instance} is off")
    assert all(word in reason for word in words), reason
    assert fed.processes()[f"strategy:{GOOD}"]["ready"]


# -- the market hub -----------------------------------------------------------------------------------


def bad_market_frames(contract_id: str, now: str, px: float) -> dict[str, tuple[bytes, str]]:
    """Return name -> (frame, a word of the reason it is refused with)."""

    def trade(**changes: Any) -> bytes:
        row = {"symbolId": "F.US.MES", "price": px, "timestamp": now, "type": 0, "volume": 1, **changes}
        return call("GatewayTrade", contract_id, [row])

    def depth(**changes: Any) -> bytes:
        row = {
            "timestamp": now,
            "type": 2,
            "price": px,
            "volume": 1,
            "currentVolume": 1,
            "index": 0,
            **changes,
        }
        return call("GatewayDepth", contract_id, [row])

    def quote(**changes: Any) -> bytes:
        row = {"symbol": "F.US.MES", "lastUpdated": now, "timestamp": now, "bestBid": px, **changes}
        return call("GatewayQuote", contract_id, row)

    head = b'{"type":1,"target":"GatewayTrade","arguments":'
    return {
        "truncated": (trade()[:-20] + RECORD_END, "truncated"),
        "huge": (quote(symbolName="x" * HUGE_BYTES), "the limit is"),
        "nested": (head + b"[" * 100_000 + b"]" * 100_000 + b"}" + RECORD_END, "recursion"),
        "not UTF-8": (trade().replace(b"F.US.MES", b"\xff\xfe\xc3"), "utf-8"),
        "off-tick trade": (trade(price=px + 0.13), "tick"),
        "off-tick quote": (quote(bestBid=px + 0.13), "tick"),
        "NaN": (trade(price=float("nan")), "invalid character"),
        "infinite": (quote(bestAsk=float("inf")), "invalid character"),
        "unknown enum of a trade": (trade(type=7), "7 is not a side of a trade"),
        "unknown enum of depth": (depth(type=99), "99 is not a known kind of depth"),
        "negative size": (trade(volume=-3), "a trade of -3 contracts"),
        "negative resting size": (depth(currentVolume=-1), "-1 is not a resting size"),
        "negative price": (trade(price=-px), "not a possible price"),
        "no time": (trade(timestamp="yesterday"), "yesterday"),
        "unknown event": (call("GatewayWeather", contract_id, {"rain": True}), "not an event"),
        "unknown contract": (call("GatewayTrade", "CON.F.US.NONE.Z99", [{}]), "missing required field"),
    }


def test_refused_market_frames_leave_everything_around_them(fed: Fed) -> None:
    """Before, between and after them every trade arrives exactly once and in order."""
    contract_id, px = fed.contract_id(), fed.bid()
    counted = fed.refused_count("feed")
    fed.gateway.recording = True
    fed.wait(lambda: calls(fed.gateway.passed("market"), "GatewayTrade"), what="trades before")
    frames = bad_market_frames(contract_id, fed.market_time().isoformat(), px)
    for frame, _ in frames.values():
        assert fed.gateway.slip_in("market", frame) == 1
        no_zone = fed.market_time().replace(tzinfo=None).isoformat(timespec="milliseconds")
        row = {"symbolId": "F.US.MES", "price": px, "timestamp": no_zone, "type": 0, "volume": MARK_QTY}
        assert fed.gateway.slip_in("market", call("GatewayTrade", contract_id, [row]), counts=True) == 1
    fed.wait(lambda: fed.refused_count("feed") >= counted + len(frames), what="all counted")
    marked = fed.wait(
        lambda: [m for _, _, m in fed.entries(MD, "trade") if m["qty"] == MARK_QTY][len(frames) - 1 :],
        what="a trade without a zone after each",
    )
    passed = calls(fed.gateway.passed("market"), "GatewayTrade")
    fed.gateway.recording = False
    sent = [
        (row["price"], row["volume"])
        for contract, rows in passed
        if contract == contract_id
        for row in (rows if isinstance(rows, list) else [rows])
    ]
    fed.wait(lambda: contained(sent, stored_trades(fed)), what="every trade exactly once and in order")
    assert abs(marked[-1]["ts_event_ns"] / 1e9 - fed.market_time().timestamp()) < 3_600, "UTC, not local time"

    assert fed.refused_count("feed") == counted + len(frames)
    kept = kept_of(fed, "feed", frames)
    for name, fitting in kept.items():
        assert all(one.get("raw") or one.get("raw_base64") for one in fitting), name
        assert all(len(one.get("raw", "")) <= 2_048 for one in fitting), name
    assert "input_refused" in fed.log("feed")


def kept_of(fed: Fed, process: str, frames: dict[str, tuple[bytes, str]]) -> dict[str, list[dict[str, Any]]]:
    """Return name -> what is kept of that frame, of every frame; a beat may count one before it is stored."""

    def kept() -> dict[str, list[dict[str, Any]]]:
        rows = fed.refused(process)
        return {
            name: [one for one in rows if reason in one["why"].lower() or reason in one["why"]]
            for name, (_, reason) in frames.items()
        }

    fed.wait(lambda: all(kept().values()), what=f"{process} keeps one of each of {list(frames)}")
    return kept()


def stored_trades(fed: Fed) -> list[tuple[float, int]]:
    return [(m["px"], m["qty"]) for _, _, m in fed.entries(MD, "trade")]


def contained(part: list[tuple[float, int]], whole: list[tuple[float, int]]) -> bool:
    """Say whether `part` stands in `whole` without a hole; the marked ones tell where."""
    at = next(n for n, one in enumerate(part) if one[1] == MARK_QTY)
    return any(
        whole[n - at : n - at + len(part)] == part for n, one in enumerate(whole) if one[1] == MARK_QTY
    )


# -- the user hub -------------------------------------------------------------------------------------


def bad_user_frames(contract_id: str) -> dict[str, tuple[bytes, str]]:
    now = datetime.now(UTC).isoformat()
    order = {
        "id": 999_999, "accountId": ACCOUNT_ID, "contractId": contract_id, "creationTimestamp": now,
        "status": 3, "type": 2, "side": 0, "size": 1,
    }  # fmt: skip
    position = {
        "id": 1, "accountId": ACCOUNT_ID, "contractId": contract_id, "creationTimestamp": now, "type": 1,
        "size": 1, "averagePrice": 5_000.0,
    }  # fmt: skip
    trade = {
        "id": 77_777, "accountId": ACCOUNT_ID, "contractId": contract_id, "creationTimestamp": now,
        "price": 5_000.0, "side": 0, "size": 1, "orderId": 999_999, "fees": 0,
    }  # fmt: skip
    return {
        "truncated": (call("GatewayUserOrder", order)[:-9] + RECORD_END, "truncated"),
        "huge": (call("GatewayUserOrder", {**order, "customTag": "x" * HUGE_BYTES}), "the limit is"),
        "nested": (
            b'{"type":1,"target":"GatewayUserOrder","arguments":' + b"[" * 9_000 + b"]" * 9_000 + b"}\x1e",
            "recursion",
        ),
        "not UTF-8": (
            call("GatewayUserOrder", {**order, "customTag": "\u00ff"}).replace(b"\\u00ff", b"\xff"),
            "utf-8",
        ),
        "unknown status": (call("GatewayUserOrder", {**order, "status": 42}), "42 has no meaning"),
        "unknown side": (call("GatewayUserTrade", {**trade, "side": 9}), "9 has no meaning"),
        "unknown position type": (call("GatewayUserPosition", {**position, "type": 9}), "9 has no meaning"),
        "negative size": (call("GatewayUserPosition", {**position, "size": -1}), "-1"),
        "NaN": (call("GatewayUserTrade", {**trade, "price": float("nan")}), "invalid character"),
        "no time": (call("GatewayUserTrade", {**trade, "creationTimestamp": "soon"}), "soon"),
        "a null": (call("GatewayUserAccount", {"id": ACCOUNT_ID, "name": None}), "expected"),
        "unknown event": (call("GatewayUserWeather", {}), "not an event"),
    }


def test_refused_user_frames_change_nothing_and_ask_the_broker_again(fed: Fed) -> None:
    counted = fed.refused_count("broker_sync")
    frames = bad_user_frames(fed.contract_id())
    for frame, _ in frames.values():
        assert fed.gateway.slip_in("user", frame) >= 1
    fed.wait(lambda: fed.refused_count("broker_sync") >= counted + len(frames), what="all counted")
    kept_of(fed, "broker_sync", frames)
    fed.wait(lambda: fed.detail("broker_sync", "sync").startswith("in_sync"), what="in sync")
    assert not [m for _, _, m in fed.entries(topics.reports(ACCOUNT_ID)) if "999999" in json.dumps(m)]


# -- the bus ------------------------------------------------------------------------------------------


def garbage(now_ms: int) -> list[tuple[str, str, bytes]]:
    """Return (id, field, value) of entries that nobody of us would write."""
    return [
        ("*", "foo", b"bar"),
        ("*", "trade", b"{"),
        ("*", "trade", b'{"type":"trade","symbol":"MES"}'),
        ("*", "quote", b"\xff\xfe"),
        ("*", "submit_order", b'{"type":"submit_order","symbol":"MES","side":"up"}'),
        ("*", "fill_report", b"[" * 5_000),
        (f"{now_ms + 2_000}-{SEQ_MAX}", "halt", b"null"),
    ]


def put(fed: Fed, key: str) -> int:
    rows = garbage(time.time_ns() // 1_000_000)
    for entry_id, name, value in rows:
        fed.redis("XADD", key, entry_id, name, value)
    return len(rows)


def test_garbage_in_the_market_stream_stops_neither_feed_nor_strategy(fed: Fed) -> None:
    worker = f"strategy:{GOOD}"
    refused_before = int(fed.detail(worker, "refused") or 0)
    put(fed, MD)
    last = fed.entries(MD)[-1][0]
    fed.wait(lambda: int(fed.detail(worker, "refused") or 0) >= refused_before + UNREADABLE, what="counted")
    fed.wait(lambda: fed.entries(MD)[-1][0] != last and fed.entries(MD)[-1][1] != "halt", what="feed goes on")
    handled = fed.processes()[worker]["duties"]["events"]["done"]
    fed.wait(lambda: fed.processes()[worker]["duties"]["events"]["done"] > handled, what="events go on")
    fed.wait(
        lambda: {"bar", "null"} <= {one.get("raw") for one in fed.refused(worker) if MD in one["origin"]},
        what="kept",
    )
    # An id of the server's choice may take the number that our next entry has as well.
    by_hand = {(name.encode(), value) for _, name, value in garbage(0)}
    rows = fed.redis("XRANGE", MD, "-", "+")
    ours = [int(i.partition(b"-")[2]) for i, fields in rows if tuple(fields) not in by_hand]
    assert ours == list(range(ours[0], ours[0] + len(ours))), "no number of ours is missing"


@pytest.mark.proves("I-3")
def test_garbage_in_the_intents_never_becomes_an_order(fed: Fed) -> None:
    venue = Venue(fed.stack)
    key = topics.intents(ACCOUNT_ID, "stranger")
    put(fed, key)
    fed.wait(lambda: "stranger" in fed.log("execution"), what="execution tells of it")
    assert not [tag for tag in venue.tags() if ".stranger." in tag]


@pytest.mark.parametrize("key", [topics.reports(ACCOUNT_ID), topics.intents(ACCOUNT_ID, GOOD)])
def test_garbage_in_a_stream_of_execution_is_told_and_the_rest_goes_on(fed: Fed, key: str) -> None:
    alarms = int(fed.detail("execution", "alarms") or 0)
    put(fed, key)
    fed.wait(lambda: int(fed.detail("execution", "alarms") or 0) > alarms, what="alarms are counted")
    fed.wait(fed.trading, within_s=60, what="trading goes on")


def test_garbage_in_a_control_stream_halts_until_an_operator_has_looked(fed: Fed) -> None:
    """A command that cannot be read may have been a halt."""
    put(fed, topics.CONTROL_OPERATOR)
    fed.wait(lambda: "control" in str(fed.look()["trading"]["halts"].get("invariant")), what="halted")
    done = fed.stack.julie("resume", "--reason", "looked at it")
    assert done.returncode == 0, done.stdout + done.stderr
    fed.wait(fed.trading, what="trading again")


def test_garbage_among_the_beats_is_counted_by_the_judge(fed: Fed) -> None:
    before = fed.refused_count("heartbeat")
    fed.redis("SET", topics.beat("stranger"), b"not a beat")
    fed.redis("PUBLISH", topics.BEATS, b"\xff\xfe")
    fed.wait(lambda: fed.refused_count("heartbeat") > before, what="counted")
    fed.redis("DEL", topics.beat("stranger"))
    fed.wait(fed.trading, what="trading")


def test_after_all_that_every_process_is_the_one_that_was_started(fed: Fed) -> None:
    pids = fed.pids()
    assert {name: pids.get(name) for name in fed.started} == fed.started
    fed.wait(fed.trading, what="trading")
    archived = fed.processes()["recorder"]["detail"]
    assert "cannot be archived" not in archived["archive"], archived
