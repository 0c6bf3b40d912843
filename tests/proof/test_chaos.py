"""The chaos machine itself: faults do what they say, and no checker lets its own bug pass."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proof.chaos.checkers import endurance, timing
from proof.chaos.checkers.endurance import WARM_UP_S, lives, slope_pct_per_10min
from proof.chaos.checkers.evidence import Evidence
from proof.chaos.faults import ACTIONS
from proof.chaos.faults.kills import MARKS
from proof.chaos.installation import Installation
from proof.chaos.plans import Chaos, plans
from proof.chaos.proxy import Door, Link, Requests, Toxics
from proof.chaos.sampler import Length, Memory
from proof.chaos.watch import Watch
from proof.chaos.world import World
from proof.invariants import FAULTS
from proof.record import Record
from shared.bus.client import Address
from shared.domain.control import Beat
from shared.wire.codec import encode
from tests.support.chaos_run import NS, blank

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


@pytest.mark.parametrize(
    ("toxics", "passes"),
    [
        (Toxics(), True),
        (Toxics(latency_s=1.0, jitter_s=0.4, slice_bytes=1), True),  # late, and there
        (Toxics(hold_down=True), False),
        (Toxics(refuse=True), False),
        (Toxics(bytes_per_s=5_000), False),
        (Toxics(lose_reply_to=[b"place"]), False),
    ],
)
def test_link_passes_what_comes_late_and_not_what_is_held_or_lost(toxics: Toxics, passes: bool) -> None:
    assert toxics.passes is passes


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


def test_matrix_kills_at_every_mark_and_names_those_that_it_did_not_reach(evidence: Evidence) -> None:
    matrix, world = plans()["matrix"], evidence.world
    marked = {f"killed at {mark}" for mark in MARKS}
    assert marked < set(matrix.states)
    for state in matrix.states:
        world.record.reach(state)
    world.record.reached["killed at after_claim"] = 0
    assert Chaos(world, matrix, 1).unreached() == ["killed at after_claim"]
    actions = {matrix.states[state] for state in marked}
    assert {ACTIONS[name].row for name in actions} == {"F-2"}
    assert actions <= set(plans()["kills"].weights)


def test_plans_name_actions_that_there_are() -> None:
    for plan in plans().values():
        assert {*plan.weights, *plan.first, *plan.states.values()} <= set(ACTIONS)


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


def test_kill_of_everything_is_told_apart_from_the_kill_of_one(evidence: Evidence) -> None:
    watch = evidence.world.watch
    watch.killed("guard", 7)
    beat(watch, "guard")
    watch.killed("guard", 8)
    watch.disturb()  # as `kill_all` does
    beat(watch, "guard")
    evidence.world.restarts_s = [3.5, 5.25]
    record = blank()
    timing._recoveries(evidence, record)
    assert record.figures["deciding_again_any_samples"] == 2
    assert record.figures["deciding_again_clean_samples"] == 1
    assert (record.figures["all_again_s_max"], record.figures["all_again_samples"]) == (5.25, 2)


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
