"""How fast: what chaos promises of it is broken by each delay, and by nothing else."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from proof.chaos.checkers import timing
from proof.chaos.checkers.evidence import Evidence
from proof.chaos.sampler import Able, Bare, Sampler
from proof.chaos.world import Standstill
from shared.domain.control import ProcessHealth, ProcessJudged
from shared.domain.execution import FlattenProgressed
from tests.support.chaos_run import CONTRACT, NS, TAG, blank, step

S = 1_000_000_000


def alarms(evidence: Evidence, *lines: str) -> None:
    """Write execution's log; each line is seconds after NS and what it said."""
    folder = evidence.world.installation.logs
    folder.mkdir(exist_ok=True)
    (folder / "execution.log").write_text("".join(f"{line}\n" for line in lines))


def at(seconds: float) -> str:
    moment = datetime.fromtimestamp(NS / 1e9 + seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def broken_by(evidence: Evidence, bare: Bare) -> bool:
    evidence.world.sampler.bare = [bare]
    record = blank()
    timing.protected(evidence, record)
    assert record.checks["I-6"]
    return bool(record.violations)


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
    record = blank()
    timing.protected(evidence, record)
    assert bool(record.violations) is broken


@pytest.mark.parametrize(
    ("seconds", "usable_s", "told_s", "broken"),
    [
        (8.0, 8.0, None, True),
        (8.0, 8.0, 5.2, False),
        (60.0, 60.0, 40.0, True),  # told, and far too late
        (8.0, 1.0, None, False),  # execution was dead, frozen or cut off for most of it
        (20.0, 1.0, None, True),  # for this long nothing excuses
        (20.0, 1.0, 19.0, False),
        (6.5, 6.5, None, False),
    ],
)
def test_position_without_its_stop_must_be_told_in_time(
    evidence: Evidence, seconds: float, usable_s: float, told_s: float | None, broken: bool
) -> None:
    line = f'{at(told_s)} ERROR execution unprotected why="{TAG}: 0 of 1"' if told_s is not None else ""
    alarms(evidence, line)
    due_ns = NS + 7 * S if usable_s > 7.0 else 0
    bare = Bare(CONTRACT, 0.0, NS, seconds, "1 contract, no stop", usable_s, due_ns)
    assert broken_by(evidence, bare) is broken


def test_flatten_under_way_is_an_answer_to_a_missing_stop(evidence: Evidence) -> None:
    alarms(evidence)
    bare = Bare(CONTRACT, 0.0, NS, 9.0, "1 contract, no stop", 9.0, NS + 7 * S)
    assert broken_by(evidence, bare)
    progressed = FlattenProgressed(round=1, cancels=1, closes=1, ts_ns=NS)
    evidence.steps.append((step(3, progressed), progressed))
    assert not broken_by(evidence, bare)


@pytest.mark.parametrize(
    ("process", "name", "noticed_s", "strict", "broken"),
    [
        ("execution", "execution", 1.6, False, False),
        ("guard", "guard", 3.4, False, False),
        ("guard", "guard", 3.4, True, True),
        ("guard", "guard", 4.2, False, True),  # before its end, and too late
        ("feed", "feed", None, False, True),
        ("strategy", "strategy@chaos", 1.6, False, False),
        ("strategy", "strategy", 1.6, False, True),
        ("heartbeat", "heartbeat", None, False, False),  # nobody judges the judge
    ],
)
def test_standstill_must_be_noticed_in_time(
    evidence: Evidence, process: str, name: str, noticed_s: float | None, strict: bool, broken: bool
) -> None:
    evidence.world.standstills = [Standstill(process, 100.0, 107.0, NS, NS + 7 * S)]
    if noticed_s is not None:
        judged = ProcessJudged(process=name, health=ProcessHealth.LATE, reason="", silence_ns=0, ts_ns=NS)
        evidence.world.watch.verdicts = [(100.0 + noticed_s, judged)]
    record = blank()
    timing._detection(evidence, record, strict=strict)
    assert ("I-20" in record.violations) is broken
    assert ("noticed_s_p99" in record.figures) is bool(record.figures["noticed_samples"])


def test_new_exposure_while_guard_stands_still_is_a_violation(evidence: Evidence) -> None:
    evidence.world.standstills = [Standstill("guard", 0.0, 9.0, NS - 6 * S, NS + 3 * S)]
    record = blank()
    timing._no_exposure_while_away(evidence, record)
    assert record.violations == {"I-20": 1}


# -- what execution could do ----------------------------------------------------------


def looks(sampler: Sampler, *able: tuple[float, bool]) -> None:
    sampler.able = [Able(mono_s, acts, acts, acts) for mono_s, acts in able]


def test_time_that_execution_could_use_is_that_between_two_good_looks(evidence: Evidence) -> None:
    sampler = evidence.world.sampler
    looks(sampler, (0.0, True), (1.0, True), (2.0, False), (3.0, True), (4.0, True), (9.0, True))
    assert (
        sampler.usable_s(0.0, 9.0, lambda one: one.acts) == 2.0
    )  # what lies between looks far apart is not known
    assert sampler.usable_s(2.5, 4.5, lambda one: one.acts) == 1.0


@pytest.mark.parametrize(
    ("able", "calm"),
    [
        ([(0.0, True), (1.0, True), (2.0, True), (3.0, True)], True),
        ([(0.0, True), (1.0, False), (2.0, True), (3.0, True)], False),
        ([(0.0, True), (1.0, True)], False),  # nobody has looked since
        ([(0.0, True), (9.0, True)], False),
        ([], False),
    ],
)
def test_calm_is_what_was_seen_to_be(evidence: Evidence, able: list[tuple[float, bool]], calm: bool) -> None:
    looks(evidence.world.sampler, *able)
    assert evidence.world.sampler.calm(0.5, 2.5) is calm


def test_gap_grows_only_while_execution_can_close_it(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = evidence.world.sampler
    monkeypatch.setattr(Sampler, "_venue", lambda _: ({CONTRACT: 1}, {}))
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    for hears in [True] * 4 + [False] * 9 + [True] * 6:
        sampler.able.append(Able(0.0, hears, hears, hears))
        sampler._protection()
    (bare,) = sampler.bare
    assert bare.seconds == 18.0
    assert (bare.usable_s, bool(bare.due_ns)) == (8.0, True)
