"""How fast: back after a kill, noticed, halted; and how much memory and how many requests it took."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from proof.chaos.checkers.evidence import Evidence
from proof.chaos.proxy import UNKNOWN, Request
from proof.chaos.sampler import LOOK_S, PROTECTED_S
from proof.chaos.world import BEAT_NAMES
from proof.record import Record
from proof.table import TOLD
from shared.domain.execution import FlattenFinished, FlattenProgressed, OrderClaimed

NOTICED_S = 3.0
NOTICED_SLACK_S = 1.0
"""Everyone is judged each quarter of a second, a verdict is seen a tenth later; the rest is the machine's."""
STOPPED_S = 5.0
BUDGET = 200
WINDOW_S = 60.0
UNTOLD_S = 15.0
"""Whatever happened meanwhile: PROTECTED_S, and what execution may need to start and to see the position."""
_ALARM = re.compile(r'\S+ ERROR execution (unprotected|fills_missing|blind) why="((?P<about>\S+): )?')
"""What calls a person to a position which may lack its stop."""
ANY = "any contract"
RSS_MB_MAX = 400.0
VITAL = ("feed", "broker_sync", "execution", "guard")
JUDGED = (*VITAL, "recorder", "strategy")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def check(evidence: Evidence, record: Record, *, strict: bool) -> None:
    """Args:
    strict: Times beyond their thresholds are violations; else they are figures only.
    """
    _recoveries(evidence, record)
    _detection(evidence, record, strict=strict)
    _no_exposure_while_away(evidence, record)
    _requests(evidence, record)
    _mixed(evidence, record)
    protected(evidence, record)
    _memory(evidence, record)


def _mixed(evidence: Evidence, record: Record) -> None:
    """I-30: while a service ran with other settings nothing new was claimed."""
    claims = [(step.ts_ns, m) for step, m in evidence.said(OrderClaimed) if not m.reduce_only]
    for begun_ns, end_ns in evidence.world.mixed:
        late = [m.client_order_id for ts_ns, m in claims if begun_ns < ts_ns < end_ns]
        record.check("I-30", not late, f"claimed while settings differed: {late}")


def protected(evidence: Evidence, record: Record) -> None:
    """I-6: looked at once a second at the venue; what lasts must have been told by execution, and in time.

    In time is before it could have used more than the promise allows; what it is kept from does not count, up
    to a bound that nothing excuses.
    """
    answers = [*_alarms(evidence), *_flattens(evidence)]
    sampler = evidence.world.sampler
    for bare in sampler.bare:
        if bare.seconds <= PROTECTED_S:
            continue
        until_ns = bare.since_ns + round((bare.seconds + LOOK_S) * 1e9)
        due_ns = bare.due_ns + round(LOOK_S * 1e9) if bare.due_ns else until_ns
        told = any(
            bare.since_ns - round(LOOK_S * 1e9) <= at_ns <= due_ns and contract in (bare.contract, ANY)
            for at_ns, contract in answers
        )
        words = (
            f"{bare.contract} lacked its stop for {bare.seconds:.0f} s, of which execution could use "
            f"{bare.usable_s:.0f}, and nobody was told in time: {bare.words}"
        )
        record.check("I-6", told or not (bare.due_ns or bare.seconds > UNTOLD_S), words)
        if told:
            record.reach(TOLD)
    record.check("I-6", True, times=max(1, sampler.looks))
    lasted = [bare.seconds for bare in sampler.bare]
    record.figures["unprotected_s_max"] = round(max(lasted, default=0.0), 1)
    record.figures["unprotected_over_5s"] = sum(seconds > PROTECTED_S for seconds in lasted)


def _flattens(evidence: Evidence) -> Iterator[tuple[int, str]]:
    """Yield when execution was at closing what it holds: stops go first then."""
    for step, _ in evidence.said(FlattenProgressed, FlattenFinished):
        yield step.ts_ns, ANY


def _alarms(evidence: Evidence) -> Iterator[tuple[int, str]]:
    """Yield when execution said that a position is not protected, or that it cannot know, and of what.

    What it names is an order of ours, or the contract itself; who is blind speaks of all.
    """
    path = evidence.world.installation.logs / "execution.log"
    for line in path.read_text(errors="replace").splitlines():
        found = _ALARM.match(line)
        if found is None:
            continue
        at = datetime.strptime(line[:23], "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=UTC)
        about = found["about"] or ""
        order = evidence.orders.get(about)
        contract = order.contract_id if order is not None else about if about.startswith("CON.") else ANY
        yield round(at.timestamp() * 1e9), contract


def _memory(evidence: Evidence, record: Record) -> None:
    """I-24: memory stays in bounds; how it grows is looked at in long runs (`endurance`)."""
    for name, samples in evidence.world.sampler.memory.items():
        most = max(one.rss_mb for one in samples)
        record.figures[f"rss_mb_max_{name}"] = round(most, 1)
        record.check("I-24", most <= RSS_MB_MAX, f"{name} held {most:.0f} MB")


def _recoveries(evidence: Evidence, record: Record) -> None:
    watch = evidence.world.watch
    kills = Counter(kill.process for kill in evidence.world.kills)
    record.figures["kills"] = sum(kills.values())
    for name, times in sorted(kills.items()):
        record.figures[f"kills_{name}"] = times
    groups: dict[str, list[float]] = defaultdict(list)
    for one in watch.recoveries:
        kind = "worker" if one.process.startswith("strategy:") else one.process.partition("@")[0]
        groups["any"].append(one.overall_s)
        if not one.clean:
            continue
        groups["clean"].append(one.took_s)
        groups["cold" if one.cold else "warm"].append(one.took_s)
        groups[kind].append(one.took_s)
    for name, values in sorted(groups.items()):
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            record.figures[f"deciding_again_{name}_s_{label}"] = round(percentile(values, share), 3)
        record.figures[f"deciding_again_{name}_samples"] = len(values)
    if restarts_s := evidence.world.restarts_s:
        record.figures["all_again_s_max"] = round(max(restarts_s), 3)
        record.figures["all_again_samples"] = len(restarts_s)
    record.check("I-18", not watch.waiting, f"never came back: {', '.join(watch.waiting)}", times=1)
    if watch.recoveries:
        record.check("I-18", True, times=len(watch.recoveries))


def _detection(evidence: Evidence, record: Record, *, strict: bool) -> None:
    """I-20: a process that stands still for longer than the bound is judged within it."""
    times = []
    bound_s = NOTICED_S if strict else NOTICED_S + NOTICED_SLACK_S
    for one in evidence.world.standstills:
        if one.process not in JUDGED or one.end_s - one.start_s < NOTICED_S + NOTICED_SLACK_S:
            continue
        name = BEAT_NAMES.get(one.process, one.process)
        took_s = evidence.world.watch.noticed_s(name, one.start_s)
        if took_s is not None:
            times.append(took_s)
        ok = took_s is not None and took_s <= bound_s
        record.check("I-20", ok, f"{one.process} stood still and was noticed after {took_s} s")
    if times:
        record.figures["noticed_s_p50"] = round(percentile(times, 0.5), 3)
        record.figures["noticed_s_p99"] = round(percentile(times, 0.99), 3)
    record.figures["noticed_samples"] = len(times)


def _no_exposure_while_away(evidence: Evidence, record: Record) -> None:
    """I-20: 5 s after a vital process stood still there is no new exposure until it is back."""
    claims = [(step.ts_ns, message) for step, message in evidence.said(OrderClaimed)]
    for one in evidence.world.standstills:
        if one.process not in (*VITAL, "heartbeat"):
            continue
        start_ns, end_ns = one.start_ns + round(STOPPED_S * 1e9), one.end_ns
        if start_ns >= end_ns:
            continue
        late = [m.client_order_id for ts, m in claims if start_ns < ts < end_ns and not m.reduce_only]
        record.check("I-20", not late, f"{one.process} stood still, and {late} were claimed")


def _counts(request: Request) -> bool:
    """Is it one of the services', in the window of all endpoints but history?"""
    return request.client != UNKNOWN and not request.path.startswith("/api/History")


def _requests(evidence: Evidence, record: Record) -> None:
    """I-25: in any minute no more requests than the gateway allows, counted at its door.

    When Redis has lost the window, who lives tells it again with his next request; who died does not.
    """
    counted = [r.mono_s for r in evidence.world.requests.all if _counts(r)]
    wall_s = time.time() - time.monotonic()
    lost_s = [at_ns / 1e9 - wall_s for at_ns in evidence.world.rebuilt_ns]
    most = start = 0
    for end, at_s in enumerate(counted):
        while at_s - counted[start] > WINDOW_S:
            start += 1
        most = max(most, end - start + 1)
        if end % 50 == 0:
            lost = any(at_s - 2 * WINDOW_S < one < at_s for one in lost_s)
            count, allowed = end - start + 1, BUDGET + (BUDGET // 4 if lost else 0)
            record.check("I-25", count <= allowed, f"{count} requests in a minute")
    record.figures["requests_max_per_60s"] = most
    record.figures["requests"] = len(counted)
