"""`julie up` as a newcomer types it: every process, on real sockets, and what comes of killing one.

One installation for the whole file; the tests run in order, each leaves it trading.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shared.domain.order import Side
from shared.wire import topics
from tests.support.eventually import TIME_FACTOR, eventually
from tests.support.operator_desk import ACCOUNT_ID, Orders, Venue
from tests.support.stack import ROOT, Stack, running_stack
from tests.support.streams import Stored, read_stream

EVALUATING_WITHIN_S = 20.0
TRADED_WITHIN_S = 90.0
"""Nine hundred simulated seconds at the speed of the example settings."""

BACK_WITHIN_S = 40.0
QUARANTINE_S = "5"
"""The default is 120 s: long for a test, in which no order can land late."""

LOOK_EVERY_S = 0.3
FRESH_S = 1.5
FATES = frozenset(
    {
        *("new", "absent", "expired", "not_sent"),
        *("trading_reducing", "heartbeat_silent", "session_inactive", "not_in_sync"),
        *("reference_stale", "reference_missing", "reference_not_live"),
    }
)
"""What may become of an order that meets a kill: it works, it never came to be, or it was denied for it."""

SYMBOLS = ("MES", "MNQ")
INSTANCES = ("breakout-mes", "breakout-mnq")
SERVICES = ("simulator", "heartbeat", "feed", "broker_sync", "execution", "guard", "recorder", "strategy")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * TIME_FACTOR)]


class Started:
    """The running stack and what was seen of its start."""

    def __init__(self, stack: Stack, said: str) -> None:
        self.stack = stack
        self.said = said
        self.orders = Orders(stack)
        self.venue = Venue(stack)

    def wait(self, condition: Any, *, within_s: float = BACK_WITHIN_S, what: str = "") -> Any:
        try:
            return asyncio.run(eventually(condition, within_s=within_s, what=what, poll_s=LOOK_EVERY_S))
        except AssertionError as error:
            error.add_note(self.stack.julie("status", COLUMNS="150").stdout)
            error.add_note(self.stack.logs(15))
            raise

    async def trading(self) -> dict[str, Any]:
        """Return the status when everybody does its job now and new exposure is allowed; {} otherwise."""
        found = await self.stack.look()
        if not found or found["session"]["health"] != "active" or found["trading"]["state"] != "active":
            return {}
        processes = {p["process"].partition("@")[0]: p for p in found["processes"]}
        well = (
            set(processes) >= set(SERVICES)
            and all(
                p["health"] == "alive" and p["ready"] and p["beat_age_s"] < FRESH_S
                for p in processes.values()
            )
            and all(" live;" in f" {processes['feed']['detail'].get(symbol)}" for symbol in SYMBOLS)
            and processes["broker_sync"]["detail"]["sync"].startswith("in_sync")
        )
        return found if well else {}

    def read(self, key: str, kind: str | None = None) -> list[Stored]:
        return [one for one in read_stream(self.stack, key) if kind is None or one.kind == kind]

    def streams(self) -> list[str]:
        async def keys() -> list[str]:
            bus = self.stack.installation().bus()
            try:
                found = await bus.keys("*")
            finally:
                await bus.close()
            rows = [(key, topics.topic_of(key)) for key in found]
            return sorted(key for key, row in rows if row is not None and row.kind is topics.Kind.STREAM)

        return asyncio.run(keys())


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    with running_stack(survives_kills=True, JULIE_EXECUTION__QUARANTINE_S=QUARANTINE_S) as stack:
        yield Started(stack, stack.first_up.stdout)


# -- the start ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("process", "promise"),
    [
        ("simulator", "REST and both hubs"),
        ("heartbeat", "validates the session every 60 s"),
        ("feed", "bars of MES, MNQ"),
        ("broker_sync", "reconciles with the broker every 30 s"),
        ("execution", "written to disk before it is sent"),
        ("guard", "closes everything by itself when execution does not"),
        ("recorder", "trims only what is archived"),
        ("strategy", "in a process of its own"),
    ],
)
def test_each_process_is_announced_with_what_it_guarantees(
    started: Started, process: str, promise: str
) -> None:
    said = " ".join(started.said.split())
    line = re.search(rf"ready [\d.]+ s {process} (.*?)(ready [\d.]+ s |$)", said)
    assert line is not None, said
    assert promise in line[1]


def test_the_start_says_where_to_look_next(started: Started) -> None:
    for word in ("status", "tail 'md:{MES}'", "halt", "redis-cli -s", "logs:", "down"):
        assert word in started.said


def test_both_instruments_are_evaluated_soon_after_the_start(started: Started) -> None:
    """Times from the bus alone: the oldest start of a process, and the first market data a worker took."""
    found = started.wait(started.trading, what="everything alive and trading")
    began_ns = min(p["started_at_ns"] for p in found["processes"] if ":" not in p["process"])
    for instance, symbol in zip(INSTANCES, SYMBOLS, strict=True):
        journal = topics.journal(ACCOUNT_ID, instance)

        def evaluated(journal: str = journal, symbol: str = symbol) -> list[int]:
            return [
                one.message["asof_ns"]
                for one in started.read(journal, "inputs")
                if any(run[0] == topics.md(symbol) for run in one.message["runs"])
            ]

        first_ns = started.wait(evaluated, what=f"{instance} consumes {symbol}")[0]
        assert (first_ns - began_ns) / 1e9 < EVALUATING_WITHIN_S * TIME_FACTOR


def test_it_trades_within_a_few_simulated_minutes(started: Started) -> None:
    def fills() -> list[Stored]:
        return [
            one
            for one in started.read(topics.orders(ACCOUNT_ID), "order_filled")
            if one.message["strategy_id"] in INSTANCES
        ]

    (first, *_) = started.wait(fills, within_s=TRADED_WITHIN_S, what="a fill of the example strategy")
    assert first.message.get("role", "entry") == "entry"
    parents = [
        one.message.get("parent_client_order_id")
        for one in started.read(topics.orders(ACCOUNT_ID), "order_updated")
        if one.message.get("role") in ("stop_loss", "take_profit")
    ]
    assert first.message["client_order_id"] in parents, "the entry has its protection at the broker"


# -- the command line -----------------------------------------------------------------


def test_status_for_machines(started: Started) -> None:
    started.wait(started.trading)
    done = started.stack.julie("status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert found["bus"]["answers"] is True
    assert found["bus"]["redis_cli"].startswith("redis-cli -s ")
    assert found["session"]["health"] == "active"
    assert 0 <= found["session"]["validated_age_s"] < 70
    assert found["judged"] is True
    assert found["trading"] == {"state": "active", "halts": {}, "latched": {}}
    assert {"positions", "working_orders", "open_pnl", "account", "sync"} <= set(found["account"])
    processes = {p["process"].partition("@")[0]: p for p in found["processes"]}
    assert set(processes) == {*SERVICES, *(f"strategy:{one}" for one in INSTANCES)}
    for process in processes.values():
        os.kill(process["pid"], 0)
        assert process["health"] == "alive"
        assert isinstance(process["lag"], dict)
    sync = processes["broker_sync"]["duties"]["reconcile"]
    assert sync["interval_s"] == 30.0
    assert 0 <= sync["progress_age_s"] < 45
    assert sync["lateness_ms_max"] >= sync["lateness_ms_p99"] >= 0
    assert processes["heartbeat"]["duties"]["validate"]["interval_s"] == 60.0


def test_status_for_people(started: Started) -> None:
    done = started.stack.julie("status", COLUMNS="100")
    assert done.returncode == 0, done.stdout
    for word in (*SERVICES, *INSTANCES, "session  active", "trading  active", "reconcile", "redis-cli -s"):
        assert word in done.stdout
    found = asyncio.run(started.stack.look())
    assert all(str(p["pid"]) in done.stdout for p in found["processes"])


def test_tail_shows_a_stream_readably(started: Started) -> None:
    bars = started.stack.julie("tail", "md:{MES}", "--kind", "bar", "--last", "5000", "--count", "2")
    assert bars.returncode == 0
    assert [line.split()[2] for line in bars.stdout.splitlines()] == ["bar", "bar"]
    assert "close=" in bars.stdout
    live = started.stack.julie("tail", "md:{MNQ}", "--last", "0", "--count", "3")
    assert len(live.stdout.splitlines()) == 3


@pytest.mark.proves("I-26")
def test_halt_stops_new_exposure_and_resume_lifts_it(started: Started) -> None:
    halted = started.stack.julie("halt", "--reason", "a test")
    assert halted.returncode == 0
    assert '"halted"' in halted.stdout
    assert started.orders.outcome(started.orders.take("MES", Side.BUY)) == "trading_halted"
    status = started.stack.julie("status")
    assert "halted" in status.stdout
    assert "a test" in status.stdout

    resumed = started.stack.julie("resume")
    assert resumed.returncode == 0
    assert '"active"' in resumed.stdout
    assert started.orders.outcome(started.orders.rest("MES", Side.BUY)) == "new"


@pytest.mark.proves("I-26")
def test_flatten_leaves_nothing_at_the_broker(started: Started) -> None:
    assert started.orders.outcome(started.orders.take("MNQ", Side.BUY)) in ("filled", "new")
    started.wait(started.venue.positions, what="a position at the broker")

    assert started.stack.julie("flatten", "--reason", "a test").returncode == 0
    started.wait(lambda: not started.venue.positions() and not started.venue.working(), what="flat")
    started.wait(lambda: started.read(topics.orders(ACCOUNT_ID), "flatten_finished"))
    assert started.orders.outcome(started.orders.take("MES", Side.SELL)) == "trading_halted"

    assert started.stack.julie("resume").returncode == 0
    started.wait(started.trading)


def test_a_second_up_is_refused(started: Started) -> None:
    done = started.stack.julie("up")
    assert done.returncode == 1
    assert "running already" in done.stdout
    assert "down" in done.stdout


# -- doctor ---------------------------------------------------------------------------


def test_doctor_finds_nothing(started: Started) -> None:
    done = started.stack.julie("doctor")
    assert done.returncode == 0, done.stdout
    checked = [line.split()[:2] for line in done.stdout.splitlines()]
    names = ("settings", "python", "disk", "credentials", "bus", "durability", "broker", "clock")
    assert checked == [["good", name] for name in names]


def test_doctor_on_a_key_file_that_is_not_there(started: Started) -> None:
    done = started.stack.julie("doctor", JULIE_BROKER__API_KEY_FILE=str(started.stack.folder / "no_key"))
    assert done.returncode == 1
    assert "no_key" in done.stdout
    assert "chmod 600" in done.stdout


@pytest.mark.proves("I-27")
def test_doctor_on_a_wrong_key_tells_it_in_words_and_never_shows_it(started: Started) -> None:
    file = started.stack.folder / "wrong_key"
    file.write_text("canary-8317")
    file.chmod(0o644)
    done = started.stack.julie("doctor", JULIE_BROKER__API_KEY_FILE=str(file))
    assert done.returncode == 1
    assert "refused the user name and API key" in done.stdout
    assert "others can read it" in done.stdout
    assert "canary" not in done.stdout + done.stderr


def test_doctor_without_bus_and_broker_names_both(started: Started) -> None:
    done = started.stack.julie(
        "doctor",
        JULIE_REDIS__URL=f"unix://{started.stack.folder}/nobody.sock",
        JULIE_BROKER__REST_URL="http://127.0.0.1:9",
    )
    assert done.returncode == 1
    bad = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("bad")]
    assert bad == ["bus", "broker"]
    assert done.stdout.count(" do: ") == 2


def test_wrong_settings_are_told_all_at_once(started: Started) -> None:
    wrong = {
        "JULIE_FEED__STALE_AFTR_S": "5",
        "JULIE_EXECUTION__TICK_MS": "-1",
        "JULIE_JULIE__SYMBOLS": '["mes"]',
        "JULIE_HARTBEAT__X": "1",
    }
    told = ("feed.stale_aftr_s", "'stale_after_s'?", "execution.tick_ms", "julie.symbols", "'heartbeat'?")
    for command, code in (("doctor", 1), ("up", 78)):
        done = started.stack.julie(command, **wrong)
        assert done.returncode == code
        for word in told:
            assert word in done.stdout + done.stderr, command
        assert "Traceback" not in done.stderr


# -- kill -9 --------------------------------------------------------------------------


def pid_of(stack: Stack, program: str) -> int:
    """Return the pid of the service itself, which its warm parent has forked; 0 while there is none."""
    for pid, command in stack.processes().items():
        if "redis.sock" in command if program == "redis" else _name(pid) == program:
            return pid
    return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.parametrize("victim", [*SERVICES, "redis"])
@pytest.mark.proves("I-18")
def test_a_killed_process_comes_back_and_trading_goes_on(started: Started, victim: str) -> None:
    """With an order under way at the moment of the kill, whose fate is then known."""
    stack = started.stack
    started.wait(started.trading)
    before = pid_of(stack, victim)
    assert before
    side = (Side.BUY, Side.SELL)[len(started.orders.sent) % 2]
    name = started.orders.rest("MES", side)
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        pid = pid_of(stack, victim)
        found = await started.trading()
        beats = {p["process"].partition("@")[0]: p["pid"] for p in found.get("processes", [])}
        return pid not in (0, before) and bool(found) and beats.get(victim, pid) == pid

    started.wait(back, what=f"{victim} back, and trading active")
    assert started.orders.outcome(name) in FATES


@pytest.mark.proves("I-12", "I-14")
def test_after_all_that_no_entry_is_missing_or_double(started: Started) -> None:
    streams = started.streams()
    for key in (topics.md("MES"), topics.orders(ACCOUNT_ID), topics.journal(ACCOUNT_ID, INSTANCES[0])):
        assert key in streams
    for key in streams:
        seqs = [one.seq for one in started.read(key)]
        assert all(later == earlier + 1 for earlier, later in pairwise(seqs)), key
        assert seqs[0] == 1, key


@pytest.mark.proves("I-1")
def test_after_all_that_no_order_reached_the_broker_twice(started: Started) -> None:
    tags = started.venue.tags()
    assert len(tags) == len(set(tags))
    # The gateway makes tags unique itself: what it refused as a repetition must not have been sent either.
    attempts = [
        one.message["client_order_id"]
        for one in started.read(topics.orders(ACCOUNT_ID), "order_updated")
        if one.message["status"] == "pending_new"
    ]
    assert len(attempts) == len(set(attempts))
    assert not [
        one
        for one in started.read(topics.orders(ACCOUNT_ID), "order_updated")
        if one.message["status"] == "rejected" and not one.message["reason"].startswith("not sent: ")
    ]


# -- stop and go ------------------------------------------------------------------------


def test_stopped_nothing_is_left_and_started_again_everything_goes_on(started: Started) -> None:
    stack = started.stack
    # The examples trade as they like: when they hold all that may be held, there is a position already.
    assert started.orders.outcome(started.orders.take("MES", Side.BUY)) in ("filled", "new", "position_max")
    started.wait(started.venue.positions)
    seen = {key: started.read(key)[-1].seq for key in started.streams()}
    tags = started.venue.tags()

    stopped = stack.julie("down")
    assert stopped.returncode == 0
    assert "stopped" in stopped.stdout
    assert stack.processes() == {}
    assert "nothing is running" in stack.julie("down").stdout
    assert stack.julie("status").returncode == 1

    # This time in the foreground, as `make up` does it; Ctrl-C ends it.
    with subprocess.Popen(
        [sys.executable, "-m", "julie", "up"],
        env=stack.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as up:  # fmt: skip
        try:
            started.wait(started.trading, within_s=60, what="everything alive and trading again")
            assert started.venue.tags()[: len(tags)] == tags, "the broker kept its books"
            _everything_goes_on(started, seen)
            up.send_signal(signal.SIGINT)
            said, _ = up.communicate(timeout=40 * TIME_FACTOR)
        finally:
            up.kill()
    assert "stopped; everything is stored" in said
    assert up.returncode == 0
    assert stack.processes() == {}


def _everything_goes_on(started: Started, seen: dict[str, int]) -> None:
    for key, last in seen.items():
        seqs = [one.seq for one in started.read(key)]
        assert seqs == list(range(1, len(seqs) + 1)), key
        assert len(seqs) >= last, key

    async def shown_as_held() -> bool:
        # A stop may be filled at any moment, and what is left be nothing.
        held = {one["contractId"] for one in started.venue.positions()}
        shown = (await started.stack.look())["account"]["positions"]
        return {one["contract_id"] for one in shown} == held

    started.wait(shown_as_held, what="what the broker holds is shown")
    for instance in INSTANCES:
        journal = topics.journal(ACCOUNT_ID, instance)
        newest = started.read(journal, "started")[-1]
        assert newest.message["reason"] == "snapshot", "it goes on from what it had stored"
        assert newest.seq > seen[journal]
        started.wait(lambda journal=journal, seq=newest.seq: started.read(journal, "inputs")[-1].seq > seq)
