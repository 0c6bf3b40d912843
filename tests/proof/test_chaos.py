"""The chaos machine itself: faults do what they say, and no checker lets its own bug pass."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from proof.chaos.checkers import endurance, orders, positions, streams, timing
from proof.chaos.checkers.endurance import WARM_UP_S, lives, slope_pct_per_10min
from proof.chaos.checkers.evidence import Evidence
from proof.chaos.faults import ACTIONS
from proof.chaos.installation import ACCOUNT_ID, Installation
from proof.chaos.plans import Chaos, plans
from proof.chaos.proxy import Door, Link, Request, Requests
from proof.chaos.sampler import Bare, Length, Memory
from proof.chaos.watch import Seen, Watch
from proof.chaos.world import World
from proof.invariants import FAULTS
from proof.record import Record
from services.execution.ledger import Step
from services.execution.records import FillRecord, OrderRecord
from services.simulator.orders import Fill as VenueFill
from services.simulator.orders import Order as VenueOrder
from shared.broker.projectx import enums
from shared.bus.client import Address
from shared.domain.control import Beat, TradingState
from shared.domain.execution import OrderClaimed, TradingStateChanged
from shared.domain.journal import InputsConsumed
from shared.domain.order import OrderStatus, OrderType, Side, SubmitOrder
from shared.wire import topics
from shared.wire.codec import encode, kind_of

CONTRACT = "CON.F.US.MES.Z26"
TAG = "sim.c1.aaaaaaaaaaaaaaaaaaaa"
NS = 1_700_000_000_000_000_000


# -- doors ------------------------------------------------------------------------


def through_door(
    folder: Path, scenario: Callable[[Door, Link, list[bytes]], Awaitable[None]], me: str = "me"
) -> None:
    """Run a scenario with an echoing server behind a door; the list is what the server got."""
    got: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4_096):
                got.append(data)
                writer.write(b"+" + data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def whole() -> None:
        server = await asyncio.start_unix_server(echo, str(folder / "real"))
        door = Door("redis", target=folder / "real", who={os.getpid(): me}.get, seed=1)
        await door.open_unix(folder / "door")
        try:
            await scenario(door, door.link(me), got)
        finally:
            await door.close()
            server.close()
            await asyncio.sleep(0.01)  # the server's ends close after the door's

    asyncio.run(whole())


async def ask(folder: Path, *words: bytes) -> list[bytes]:
    """Say each word after the answer to the one before; return the answers, b"" for a cut connection."""
    reader, writer = await asyncio.open_unix_connection(str(folder / "door"))
    answers = []
    try:
        for word in words:
            writer.write(word)
            answers.append(await reader.read(4_096))
    except ConnectionError:
        answers.append(b"")
    finally:
        writer.transport.abort()
    return answers


def test_door_passes_on_and_knows_whose_connection_it_is(tmp_path: Path) -> None:
    async def scenario(door: Door, link: Link, got: list[bytes]) -> None:
        link.toxics.slice_bytes = 1
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "door"))
        writer.write(b"hello")
        assert await reader.readexactly(6)
        assert link.connections == 1
        writer.transport.abort()

    through_door(tmp_path, scenario)


def test_lost_reply_was_done_at_the_server(tmp_path: Path) -> None:
    async def scenario(door: Door, link: Link, got: list[bytes]) -> None:
        link.toxics.lose_reply_to = [b"XADD"]
        assert await ask(tmp_path, b"XADD 1") == [b""]
        assert got == [b"XADD 1"]
        assert link.lost == 1
        assert await ask(tmp_path, b"XADD 2") == [b"+XADD 2"]

    through_door(tmp_path, scenario)


def test_request_that_is_cut_never_reaches_the_server(tmp_path: Path) -> None:
    async def scenario(door: Door, link: Link, got: list[bytes]) -> None:
        link.toxics.cut_on = [b"POST"]
        assert await ask(tmp_path, b"POST 1") == [b""]
        assert got == []
        assert link.cut == 1

    through_door(tmp_path, scenario)


@pytest.mark.parametrize("way", ["up", "down"])
def test_partition_holds_one_way_and_goes_on_where_it_stopped(tmp_path: Path, way: str) -> None:
    async def scenario(door: Door, link: Link, got: list[bytes]) -> None:
        setattr(link.toxics, f"hold_{way}", True)
        asking = asyncio.create_task(ask(tmp_path, b"one"))
        done, _ = await asyncio.wait({asking}, timeout=0.2)
        assert not done
        assert got == ([] if way == "up" else [b"one"])
        link.heal()
        assert await asking == [b"+one"]

    through_door(tmp_path, scenario)


def test_fault_of_one_client_leaves_others_alone(tmp_path: Path) -> None:
    async def scenario(door: Door, link: Link, got: list[bytes]) -> None:
        door.link("other").toxics.refuse = True
        assert await ask(tmp_path, b"one") == [b"+one"]
        link.toxics.refuse = True
        assert await ask(tmp_path, b"two") == [b""]

    through_door(tmp_path, scenario)


def test_requests_are_counted_however_they_are_cut() -> None:
    tap, link = Requests(), Link("execution", "rest")
    body = b'{"customTag":"a"}'
    data = b"POST /api/Order/place HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for byte in data + data:
        tap(link, 1, bytes([byte]))
    assert [(one.path, one.body) for one in tap.all] == [("/api/Order/place", body)] * 2


# -- plans ------------------------------------------------------------------------


def test_every_row_of_the_matrix_has_an_action_or_a_plan() -> None:
    assert {one.row for one in ACTIONS.values()} | {plan.row for plan in plans().values()} - {""} == set(
        FAULTS
    )


def test_matrix_names_the_rows_that_it_did_not_reach() -> None:
    matrix = plans()["matrix"]
    assert matrix.rows == [row for row in FAULTS if row != "F-32"]
    record = Record(machine="chaos", command="", build="", started="")
    world = World(Installation(every_s=1, seed=1), record, 1)
    for row in set(matrix.rows) - {"F-31"}:
        record.inject(row)
    assert Chaos(world, matrix, 1).missing() == ["F-31"]
    shutil.rmtree(world.installation.folder)


def test_plans_name_actions_that_there_are() -> None:
    for plan in plans().values():
        assert {*plan.weights, *plan.first} <= set(ACTIONS)


# -- recoveries ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("process", "other", "clean"),
    [
        ("execution", "recorder", True),
        ("execution", "heartbeat", False),
        ("strategy:c1", "strategy@chaos", False),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_recovery_is_clean_when_nothing_it_needs_was_killed(
    process: str, other: str, clean: bool, first: bool
) -> None:
    watch = Watch(Address(unix_path="nowhere"))
    for name in (other, process) if first else (process, other):
        watch.killed(name, 7)
    beat(watch, process)
    assert [one.clean for one in watch.recoveries] == [clean]


def test_time_to_deciding_counts_from_the_last_kill_and_overall_from_the_first() -> None:
    watch = Watch(Address(unix_path="nowhere"))
    watch.killed("feed", 7)
    first_s = time.monotonic()
    watch.killed("feed", 8)
    beat(watch, "feed")
    (found,) = watch.recoveries
    assert found.took_s < found.overall_s
    assert found.overall_s <= time.monotonic() - first_s + 0.1


def beat(watch: Watch, process: str) -> None:
    """Let the watch hear that a new incarnation does its job."""
    one = Beat(
        process=process, pid=99, host="h", build="b", started_at_ns=NS, ts_ns=NS, seq=1, ready=True,
        duties={}, lag={}, detail={},
    )  # fmt: skip
    watch.hear(encode(one))


# -- endurance ---------------------------------------------------------------------


def life(pid: int, seconds: int, growth_mb_per_s: float) -> list[Memory]:
    return [Memory(pid, float(at_s), 100.0 + growth_mb_per_s * at_s, 12) for at_s in range(seconds)]


def test_growth_is_that_of_one_life_after_its_warm_up() -> None:
    short, long = life(1, 800, 1.0), life(2, 1_200, 0.01)
    (found,) = lives([*short, *long])
    assert (found[0].pid, found[0].mono_s) == (2, WARM_UP_S + 1.0)
    assert slope_pct_per_10min(found) == pytest.approx(5.75, abs=0.1)


def test_restarts_hide_no_growth_and_make_none() -> None:
    restarted = [look for pid in range(3) for look in life(pid, 1_000, 0.0)]
    assert [slope_pct_per_10min(one) for one in lives(restarted)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("steps_mb", "pct"),
    [
        ([0.0, 3.0, 3.0], 0.0),  # once, in the middle
        ([0.0, 0.0, 3.0], 0.0),  # once, at the end
        ([0.0, 0.3, 0.6], 0.0),  # within one arena
        ([0.0, 1.0, 2.0], 1.0),
        ([0.0, 1.0, 3.0], 1.0),
        ([0.0, -1.0, 3.0], -1.0),
    ],
)
def test_what_happens_once_is_no_growth_and_what_goes_on_is(steps_mb: list[float], pct: float) -> None:
    thirds_of_life = [
        Memory(mono_s=600.0 * third + at, pid=1, rss_mb=100.0 + step, descriptors=9)
        for third, step in enumerate(steps_mb)
        for at in range(600)
    ]
    assert slope_pct_per_10min(thirds_of_life) == pytest.approx(pct, abs=0.01)


@pytest.mark.parametrize(
    ("growth_mb_per_s", "descriptors_more", "entries_more", "holds"),
    [(0.0, 2, 0, True), (0.01, 0, 0, False), (0.0, 3, 0, False), (0.0, 0, 1_000, False)],
)
def test_endurance_is_broken_by_each_growth(
    growth_mb_per_s: float, descriptors_more: int, entries_more: int, holds: bool
) -> None:
    record = Record(machine="chaos", command="", build="", started="")
    world = World(Installation(every_s=1, seed=1, keep_s=600.0), record, 1)
    grown = life(1, 1_800, growth_mb_per_s)
    for late in grown[1_200:]:
        late.descriptors += descriptors_more
    world.sampler.memory["execution"] = grown
    world.sampler.lengths["md:{MES}"] = [
        Length(float(at_s), 1_000 + entries_more * (at_s > 1_400)) for at_s in range(1_800)
    ]
    endurance.check(world.sampler, record)
    assert record.checks["I-24"] == 3
    assert ("I-24" not in record.violations) is holds
    shutil.rmtree(world.installation.folder)


@pytest.mark.parametrize(
    ("process", "fills", "holds"), [("guard", 1_000, True), ("guard", 100, False), ("feed", 1_000, False)]
)
def test_what_guard_holds_of_a_day_is_no_endless_growth(process: str, fills: int, holds: bool) -> None:
    record = Record(machine="chaos", command="", build="", started="", figures={"fills": fills})
    world = World(Installation(every_s=1, seed=1, keep_s=600.0), record, 1)
    world.sampler.memory[process] = life(1, 1_800, 0.002)  # 1.2 % in ten minutes
    endurance.check(world.sampler, record)
    assert ("I-24" not in record.violations) is holds
    shutil.rmtree(world.installation.folder)


# -- checkers: one good case, then one bug at a time -----------------------------------


@pytest.fixture
def evidence() -> Iterator[Evidence]:
    """One intent, claimed, sent once, filled, the same on both sides."""
    world = World(Installation(every_s=1, seed=1), Record(machine="", command="", build="", started=""), 1)
    found = Evidence(world, {})
    intent = SubmitOrder(
        client_order_id=TAG, strategy_id="c1", symbol="MES", side=Side.BUY, order_qty=1, cause="md:{MES}@1-1",
        ts_cause_ns=NS, expires_at_ns=NS + 5_000_000_000,
    )  # fmt: skip
    claimed = OrderClaimed(
        client_order_id=TAG, strategy_id="c1", symbol="MES", contract_id=CONTRACT, side=Side.BUY, order_qty=1,
        order_type=OrderType.MARKET, cause="intents:{1001}:c1@1-1", ts_ns=NS + 1,
    )  # fmt: skip
    key = topics.intents(ACCOUNT_ID, "c1")
    found.final[key] = [seen(1, intent)]
    world.watch.streams[key] = [seen(1, intent)]
    told = InputsConsumed(runs=[], intents=[TAG], asof_ns=NS)
    found.final[topics.journal(ACCOUNT_ID, "c1")] = [seen(1, told)]
    active = TradingStateChanged(state=TradingState.ACTIVE, halts={}, ts_ns=NS)
    found.steps = [(step(1, active), active), (step(2, claimed), claimed)]
    found.orders = {TAG: order(OrderStatus.FILLED)}
    found.venue_orders = [venue_order(1)]
    found.fills = [
        FillRecord(
            fill_id=1, broker_order_id=1, contract_id=CONTRACT, side=Side.BUY, qty=1, px=Decimal(1),
            fees=Decimal(1), multiplier=Decimal(5), ts_event_ns=NS, client_order_id=TAG, strategy_id="c1",
        )
    ]  # fmt: skip
    found.venue_fills = [
        VenueFill(
            id=1, account_id=ACCOUNT_ID, contract_id=CONTRACT, created_ns=NS, price_ticks=4,
            side=enums.OrderSide.BID, size=1, profit_and_loss=None, fees=Decimal(1), order_id=1,
        )
    ]  # fmt: skip
    found.venue_positions = {CONTRACT: 1}
    post(found)
    yield found
    shutil.rmtree(world.installation.folder)


def seen(seq: int, message: msgspec.Struct) -> Seen:
    return Seen(f"{NS // 1_000_000}-{seq}".encode(), kind_of(message), encode(message), 0.0)


def step(seq: int, message: msgspec.Struct) -> Step:
    return Step(seq, NS + seq, kind_of(message), encode(message), "")


def order(status: OrderStatus, **changes: object) -> OrderRecord:
    one = OrderRecord(
        client_order_id=TAG, strategy_id="c1", symbol="MES", contract_id=CONTRACT, side=Side.BUY, order_qty=1,
        order_type=OrderType.MARKET, cause="", tick_size=Decimal("0.25"), multiplier=Decimal(5),
        ts_claimed_ns=NS, status=status, cum_qty=1,
    )  # fmt: skip
    return msgspec.structs.replace(one, **changes)


def venue_order(number: int) -> VenueOrder:
    return VenueOrder(
        id=number, account_id=ACCOUNT_ID, contract_id=CONTRACT, created_ns=NS, updated_ns=NS,
        status=enums.OrderStatus.FILLED, type=enums.OrderType.MARKET, side=enums.OrderSide.BID, size=1,
        fill_volume=1, custom_tag=TAG,
    )  # fmt: skip


def post(evidence: Evidence) -> None:
    body = msgspec.json.encode({"customTag": TAG})
    evidence.world.requests.all.append(
        Request(mono_s=0.0, client="execution", path="/api/Order/place", body=body)
    )


def broken(evidence: Evidence) -> set[str]:
    record = Record(machine="chaos", command="", build="", started="")
    for checker in (orders, positions, streams):
        checker.check(evidence, record)
    assert sum(record.checks.values()) > 10
    return set(record.violations)


def test_good_run_has_no_violation(evidence: Evidence) -> None:
    assert broken(evidence) == set()


def test_second_post_is_a_violation_even_if_the_venue_refused_it(evidence: Evidence) -> None:
    post(evidence)
    assert broken(evidence) == {"I-1"}


def test_second_order_at_the_venue_is_a_violation(evidence: Evidence) -> None:
    evidence.venue_orders.append(venue_order(2))
    assert "I-1" in broken(evidence)


@pytest.mark.parametrize("status", [OrderStatus.UNKNOWN, OrderStatus.PENDING_NEW])
def test_intent_without_an_end_is_lost(evidence: Evidence, status: OrderStatus) -> None:
    evidence.orders[TAG] = order(status)
    assert "I-2" in broken(evidence)


def test_intent_that_was_never_decided_is_lost(evidence: Evidence) -> None:
    other = msgspec.structs.replace(evidence.final[topics.intents(ACCOUNT_ID, "c1")][0].message)
    other = msgspec.structs.replace(other, client_order_id="sim.c1.bbbb")
    evidence.world.watch.streams["intents:{1001}:c1"].append(seen(2, other))
    evidence.final["intents:{1001}:c1"].append(seen(2, other))
    assert broken(evidence) == {"I-2", "I-13"}  # and no step of the journal led to it


def test_order_that_was_never_claimed_is_a_violation(evidence: Evidence) -> None:
    evidence.steps.clear()
    assert broken(evidence) == {"I-3"}


def test_claim_while_halted_is_a_violation(evidence: Evidence) -> None:
    halted = TradingStateChanged(state=TradingState.REDUCING, halts={}, ts_ns=NS)
    evidence.steps[0] = (step(1, halted), halted)
    assert broken(evidence) == {"I-4"}


def test_claim_after_the_expiry_is_a_violation(evidence: Evidence) -> None:
    step, claimed = evidence.steps[-1]
    evidence.steps[-1] = (step, msgspec.structs.replace(claimed, ts_ns=NS + 6_000_000_000))
    assert broken(evidence) == {"I-4"}


@pytest.mark.parametrize("status", [OrderStatus.ABSENT, OrderStatus.REJECTED])
def test_order_called_absent_that_the_venue_holds_is_a_violation(
    evidence: Evidence, status: OrderStatus
) -> None:
    evidence.orders[TAG] = order(status)
    assert broken(evidence) == {"I-5"}


def test_fill_that_was_counted_twice_or_missed_is_a_violation(evidence: Evidence) -> None:
    evidence.fills.append(msgspec.structs.replace(evidence.fills[0], fill_id=2))
    assert broken(evidence) == {"I-8"}
    evidence.fills.clear()
    assert broken(evidence) == {"I-8"}


def test_gap_in_a_stream_is_a_violation(evidence: Evidence) -> None:
    entries = evidence.final["intents:{1001}:c1"]
    entries.append(Seen(f"{NS // 1_000_000}-3".encode(), entries[0].kind, entries[0].value, 0.0))
    assert "I-14" in broken(evidence)


def test_entry_that_was_seen_and_is_gone_is_a_violation(evidence: Evidence) -> None:
    evidence.final["intents:{1001}:c1"] = []
    assert "I-12" in broken(evidence)


def test_intent_that_the_journal_tells_and_the_stream_lacks_is_a_violation(evidence: Evidence) -> None:
    evidence.final["intents:{1001}:c1"] = evidence.world.watch.streams["intents:{1001}:c1"] = []
    assert "I-13" in broken(evidence)


def test_claim_right_after_a_loss_in_redis_is_a_violation(evidence: Evidence) -> None:
    key = topics.orders(ACCOUNT_ID)
    told = seen(2, evidence.steps[-1][1])
    evidence.world.watch.streams[key] = [told]
    evidence.world.rebuilt_ns.append(NS + 2)
    evidence.world.watch.rebuilt.append({key: 1})
    assert "I-16" in broken(evidence)  # the newest step is gone, and it claims
    evidence.world.watch.streams[key].append(told)  # it was there again
    assert "I-16" not in broken(evidence)


def test_stream_that_differs_from_the_ledger_is_a_violation(evidence: Evidence) -> None:
    _, claimed = evidence.steps[-1]
    changed = msgspec.structs.replace(claimed, order_qty=2)
    evidence.final[topics.orders(ACCOUNT_ID)] = [seen(2, changed)]
    assert "I-13" in broken(evidence)


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ("nothing of it", True),
        (f'ERROR execution unprotected why="{TAG}: 0 of 1 contracts have a stop after 5 s"', False),
        (f'ERROR execution fills_missing why="{CONTRACT}: 1 filled contracts are in no trade"', False),
        ('ERROR execution fills_missing why="CON.F.US.MNQ.Z26: 1 filled contracts are in no trade"', True),
        ('ERROR execution blind why="no search has been answered for 5 s since the start"', False),
    ],
)
def test_position_without_its_stop_must_be_told_and_of_this_contract(
    evidence: Evidence, line: str, broken: bool
) -> None:
    folder = evidence.world.installation.logs
    folder.mkdir(exist_ok=True)
    (folder / "execution.log").write_text(f"2023-11-14T22:13:30.000Z {line}\n")
    evidence.world.sampler.bare = [Bare(CONTRACT, 0.0, NS, 20.0, "1 contract, no stop")]
    record = Record(machine="chaos", command="", build="", started="")
    timing.protected(evidence, record)
    assert bool(record.violations) is broken
