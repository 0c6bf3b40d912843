"""Growth: CPU and memory per instrument and per strategy instance, and whether they grow on a line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from bench.figure import Figure
from bench.system import Running, cpu_us, instance, rss_mb, running_system

SYMBOLS = ("MES", "MNQ", "M2K", "MYM", "ES", "NQ", "RTY", "YM")
INSTRUMENTS = (1, 2, 4, 8)
INSTANCES = (1, 8, 32)
QUOTES_PER_INSTRUMENT_S = 500
SETTLE_S = 6.0
MEASURED_S = 10.0
LINEAR_R2_MIN = 0.95


class Cost(NamedTuple):
    """Of all processes together but the simulator: share of one core in percent, memory in MB."""

    cpu_percent: float
    memory_mb: float


def growth() -> list[Figure]:
    instruments = [_with_instruments(n) for n in INSTRUMENTS]
    instances = [_with_instances(n) for n in INSTANCES]
    return [
        _figure("instrument", INSTRUMENTS, [c.cpu_percent for c in instruments], "% of a core"),
        _figure("instrument", INSTRUMENTS, [c.memory_mb for c in instruments], "MB"),
        _figure("strategy instance", INSTANCES, [c.cpu_percent for c in instances], "% of a core"),
        _figure("strategy instance", INSTANCES, [c.memory_mb for c in instances], "MB"),
    ]


def _with_instruments(count: int) -> Cost:
    symbols = SYMBOLS[:count]
    with running_system(
        services=("simulator", "heartbeat", "feed"),
        symbols=symbols,
        SIMULATOR__FLOOD_QUOTES_PER_S=str(QUOTES_PER_INSTRUMENT_S * count),
    ) as running:
        return _measure(running, [])


def _with_instances(count: int) -> Cost:
    instances = [instance(f"listen{n}", "Listen", ["MES"]) for n in range(count)]
    with running_system(
        services=("simulator", "heartbeat", "feed", "strategy"),
        symbols=["MES"],
        instances=instances,
        SIMULATOR__FLOOD_QUOTES_PER_S=str(QUOTES_PER_INSTRUMENT_S),
    ) as running:
        return _measure(running, [beat.pid for beat in running.workers()])


def _measure(running: Running, workers: Sequence[int]) -> Cost:
    pids = [process.pid for name, process in running.processes.items() if name != "simulator"] + list(workers)
    time.sleep(SETTLE_S)
    before, started = sum(map(cpu_us, pids)), time.perf_counter()
    time.sleep(MEASURED_S)
    took_us = (time.perf_counter() - started) * 1e6
    return Cost((sum(map(cpu_us, pids)) - before) / took_us * 100, sum(map(rss_mb, pids)))


def _figure(what: str, counts: Sequence[int], costs: Sequence[float], unit: str) -> Figure:
    slope, r2 = _line(counts, costs)
    points = ", ".join(f"{n}: {cost:.0f}" for n, cost in zip(counts, costs, strict=True))
    return Figure(
        name=f"growth per {what}, {unit}",
        value=f"{slope:.2f} {unit} each ({points})",
        floor=f"fit of a line: R2 {r2:.3f}",
        target=f"linear (R2 >= {LINEAR_R2_MIN})",
        reached=r2 >= LINEAR_R2_MIN,
    )


def _line(xs: Sequence[int], ys: Sequence[float]) -> tuple[float, float]:
    """Return slope and R2 of the least-squares line."""
    n, mean_x, mean_y = len(xs), sum(xs) / len(xs), sum(ys) / len(ys)
    var_x = sum((x - mean_x) ** 2 for x in xs) / n
    var_y = sum((y - mean_y) ** 2 for y in ys) / n
    cov = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / n
    if not var_y:
        return 0.0, 1.0
    return cov / var_x, cov * cov / (var_x * var_y)
