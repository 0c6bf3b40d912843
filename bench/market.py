"""The whole chain: quotes a second from the simulator through feed and Redis to a worker."""

from __future__ import annotations

import time

from bench.figure import Figure
from bench.system import Running, cpu_us, instance, running_system
from shared.wire import topics

OFFERED = 42_000
WANTED = 40_000
MEASURED_S = 60.0
SETTLE_S = 5.0
LAG_MS_MAX = 500
"""A chain that keeps up is never further behind than this; one that does not grows without end."""

CHAIN = ("simulator", "heartbeat", "feed", "strategy")


def chain() -> list[Figure]:
    """Offer a little more than is wanted for a minute and look whether everything arrives in time."""
    instances = [instance("all", "Empty", ["MES", "MNQ"])]
    with running_system(
        services=CHAIN,
        instances=instances,
        SIMULATOR__FLOOD_QUOTES_PER_S=str(OFFERED),
        FEED__MD_ENTRIES_MAX="1000000",
    ) as running:
        time.sleep(SETTLE_S)
        pids = {name: process.pid for name, process in running.processes.items()}
        pids["worker"] = running.workers()[0].pid
        before, handled, appended = _cpu(pids), _handled(running), _appended(running)
        started = time.perf_counter()
        lags = []
        while time.perf_counter() - started < MEASURED_S:
            time.sleep(1.0)
            lags.append(int(running.workers()[0].detail.get("behind_ms", "0")))
        took_s = time.perf_counter() - started
        quotes = _handled(running) - handled
        appended = _appended(running) - appended
        after = _cpu(pids)
    rate = quotes / took_s
    costs = ", ".join(f"{name} {(after[name] - before[name]) / max(1, quotes):.1f}" for name in pids)
    half = len(lags) // 2
    grew = max(lags[half:]) > max(LAG_MS_MAX, 2 * max(lags[:half]))
    return [
        Figure(
            name=f"whole chain, {MEASURED_S:.0f} s, simulator to worker",
            value=f"{rate:,.0f}/s handled, {appended / took_s:,.0f}/s appended; behind <= {max(lags)} ms",
            floor=f"CPU us a quote: {costs}",
            target=f">= {WANTED:,}/s, lag not growing",
            reached=rate >= WANTED and not grew,
        )
    ]


def _cpu(pids: dict[str, int]) -> dict[str, int]:
    return {name: cpu_us(pid) for name, pid in pids.items()}


def _handled(running: Running) -> int:
    return running.workers()[0].duties["events"].done


def _appended(running: Running) -> int:
    return sum(int(running.ask("HGET", topics.head(topics.md(s)), "seq") or 0) for s in ("MES", "MNQ"))
