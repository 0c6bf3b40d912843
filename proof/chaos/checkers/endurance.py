"""Under load that lasts: memory, descriptors and streams of a life stay where they are after its warm-up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from proof.chaos.sampler import Memory, Sampler
from proof.record import Record

WARM_UP_S = 300.0
"""So long a life fills its caches and windows."""
LIFE_S_MIN = 600.0
"""Lives shorter than this, after their warm-up, show no slope."""
SLOPE_PCT_MAX = 1.0
"""Growth of resident memory in ten minutes."""
GRAIN_MB = 1.0
"""Python takes memory from the system in arenas of this size: a life that has one more shows no slope yet."""
VENUE = frozenset({"simulator"})
"""It is the broker: it holds what was traded, up to a hundred thousand orders, for those who search."""
DAY_KB_A_FILL = {"guard": 2.0, "broker_sync": 0.5}
"""What these hold of each fill until the trading day is over; guard reads the whole day at each look."""
DESCRIPTORS_MORE_MAX = 2
"""A request that happens to be under way holds a socket."""
LENGTH_RATIO_MAX = 1.5
"""The market is not equally busy all the time."""


def check(sampler: Sampler, record: Record) -> None:
    """I-24: no life grows by more than it says that it does, and no stream that is trimmed does."""
    for name, samples in sampler.memory.items():
        slopes: list[float] = []
        unexplained: list[float] = []
        for life in lives(samples):
            day_kb = DAY_KB_A_FILL.get(name, 0.0) * fills_per_10min(record, samples)
            day_pct = 100.0 * day_kb / 1024 / life[0].rss_mb
            slopes.append(slope_pct_per_10min(life))
            unexplained.append(slopes[-1] - day_pct)
            # Not from the first third on: the pool of connections grows to the most requests at once.
            early, late = thirds([one.descriptors for one in life[len(life) // 3 :]])
            words = f"{name} went from {early:g} to {late:g} descriptors"
            record.check("I-24", late <= early + DESCRIPTORS_MORE_MAX, words)
        if slopes:
            record.figures[f"rss_slope_pct_per_10min_{name}"] = round(max(slopes), 2)
            worst = max(unexplained)
            if name not in VENUE:
                words = f"{name} grew by {worst:.2f} % in ten minutes, beside what it holds of the day"
                record.check("I-24", worst <= SLOPE_PCT_MAX, words)
    for stream, seen in sampler.lengths.items():
        full_s = seen[0].mono_s + sampler.world.installation.keep_s + WARM_UP_S
        settled = [one.entries for one in seen if one.mono_s > full_s]
        if len(settled) >= 3:
            early, late = thirds(settled)
            record.figures[f"entries_{stream}"] = late
            words = f"{stream} went from {early:g} to {late:g} entries"
            record.check("I-24", late <= early * LENGTH_RATIO_MAX, words)


def fills_per_10min(record: Record, samples: Sequence[Memory]) -> float:
    """Return how many there were on average; `orders.check` has counted them."""
    span_s = samples[-1].mono_s - samples[0].mono_s
    return float(record.figures.get("fills", 0)) / span_s * 600.0 if span_s else 0.0


def lives(samples: Sequence[Memory]) -> Iterator[list[Memory]]:
    """Yield what was seen of each life after its warm-up, of those that lasted."""
    by_pid: dict[int, list[Memory]] = defaultdict(list)
    for one in samples:
        by_pid[one.pid].append(one)
    for life in by_pid.values():
        warm = [one for one in life if one.mono_s - life[0].mono_s > WARM_UP_S]
        if warm and warm[-1].mono_s - warm[0].mono_s >= LIFE_S_MIN:
            yield warm


def slope_pct_per_10min(life: Sequence[Memory]) -> float:
    """Return how fast resident memory keeps growing: by the smaller of the steps between its thirds.

    What leaks goes on. A step that happens once does not: the first answer of the broker that has an hour of
    orders in it leaves an arena or two behind, which the next such answers use again.
    """
    values = [one.rss_mb for one in life]
    early, late = thirds(values)
    middle = median(values[len(values) // 3 : -(len(values) // 3)])
    if 0.0 < late - early <= GRAIN_MB:
        return 0.0
    step = min(middle - early, late - middle)
    span_s = life[-1].mono_s - life[0].mono_s
    return 100.0 * step / early / (span_s / 3) * 600.0


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the first and the last third."""
    size = len(values) // 3
    return median(values[:size]), median(values[-size:])
