"""Isolation: how late heartbeat and position sync are while strategies misbehave.

Against the design that this system replaces: the same intervals as tasks of one asyncio process, beside one
such strategy.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.figure import Figure
from bench.system import instance, running_system
from proof.record import Record
from shared.domain.control import Duty
from shared.runtime.build import BUILD
from shared.runtime.clock import SystemClock
from shared.runtime.schedule import Progress, turns

VALIDATE_S = 1.0
RECONCILE_S = 2.5
MEASURED_S = 150.0
"""Shorter than the real 60 s and 30 s, so that two and a half minutes have enough turns to speak of a p99."""

OLD_DESIGN_S = 30.0
BURNERS = 8
BUSY_MS = 900
P99_MS_MAX = 25.0
MAX_MS_MAX = 250.0


def isolation() -> list[Figure]:
    instances = [
        instance(f"burn{n}", "Burn", ["MES" if n % 2 else "MNQ"], busy_ms=BUSY_MS) for n in range(BURNERS)
    ]
    instances.append(instance("sleep", "Sleep", ["MES"], sleep_s=BUSY_MS / 1_000))
    with running_system(
        instances=instances,
        HEARTBEAT__VALIDATE_INTERVAL_S=str(VALIDATE_S),
        BROKER_SYNC__RECONCILE_INTERVAL_S=str(RECONCILE_S),
    ) as running:
        time.sleep(MEASURED_S)
        heartbeat, sync = running.beat("heartbeat"), running.beat("broker_sync")
        assert heartbeat is not None
        assert sync is not None
        duties = {"heartbeat": heartbeat.duties["validate"], "position sync": sync.duties["reconcile"]}
    _record(duties["heartbeat"])
    old = asyncio.run(_old_design())
    return [_figure(name, duty, old[name]) for name, duty in duties.items()]


def _record(duty: Duty) -> None:
    record = Record(
        machine="bench",
        command="make bench ARGS=isolation",
        build=BUILD,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=MEASURED_S,
        figures={"lateness ms p99": duty.lateness_ms_p99, "lateness ms max": duty.lateness_ms_max},
    )
    holds = duty.lateness_ms_p99 <= P99_MS_MAX and duty.lateness_ms_max <= MAX_MS_MAX
    record.check("I-19", holds, f"p99 {duty.lateness_ms_p99}, max {duty.lateness_ms_max} ms", times=duty.done)
    record.write(Path("build/proof/bench.json"))


def _figure(name: str, duty: Duty, old: Duty) -> Figure:
    return Figure(
        name=f"lateness of {name}, {BURNERS} burning and one sleeping ({duty.done} turns)",
        value=f"p99 {duty.lateness_ms_p99:.1f} ms, max {duty.lateness_ms_max:.1f} ms",
        floor=f"in one process: p99 {old.lateness_ms_p99:.0f} ms, max {old.lateness_ms_max:.0f} ms",
        ratio=duty.lateness_ms_p99 / old.lateness_ms_p99,
        target=f"p99 <= {P99_MS_MAX:g} ms, max <= {MAX_MS_MAX:g} ms",
        reached=duty.lateness_ms_p99 <= P99_MS_MAX and duty.lateness_ms_max <= MAX_MS_MAX,
    )


async def _old_design() -> dict[str, Duty]:
    """Run both intervals and one busy strategy in one event loop."""
    clock = SystemClock()
    beat, sync = Progress(interval_s=VALIDATE_S), Progress(interval_s=RECONCILE_S)

    async def interval(progress: Progress) -> None:
        async for _ in turns(clock, progress.interval_s, progress):
            progress.did(clock.now_ns())

    async def strategy() -> None:
        while True:
            time.sleep(BUSY_MS / 1_000)  # noqa: ASYNC251  this is the point
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(work) for work in (interval(beat), interval(sync), strategy())]
    await asyncio.sleep(OLD_DESIGN_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"heartbeat": beat.duty(), "position sync": sync.duty()}
