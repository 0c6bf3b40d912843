"""The bus: one hop from the feed's append to a worker's callback, and entries a second."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench.figure import Figure, percentile
from bench.floors import raw_hops, raw_throughput
from bench.workers import lease_for, running_worker
from services.strategy.progress import HANDLED, READY
from services.strategy.spawn import WorkerProcess
from shared.bus.bus import RedisBus
from shared.domain.market import Quote
from shared.wire import topics
from shared.wire.codec import encode
from tests.support.valkey import ValkeyServer, running_valkey

HOP_ROUNDS = 4
HOP_SAMPLES = 500
HOP_EVERY_S = 0.002
THROUGHPUT_ENTRIES = 500_000
IN_FLIGHT_MAX = 16_384


def quote(ts_recv_ns: int) -> Quote:
    return Quote(
        symbol="MES",
        ts_event_ns=1_703_545_200_105_900_877,
        ts_recv_ns=ts_recv_ns,
        bid_px=4_800.25,
        ask_px=4_800.5,
    )


def _bus(server: ValkeyServer) -> RedisBus:
    return RedisBus(server.address, now_ns=time.time_ns, monotonic_ns=time.monotonic_ns)


async def _worker_is_ready(worker: WorkerProcess) -> None:
    while not worker.page.words[READY]:
        if worker.exit_code() is not None:
            raise RuntimeError(f"the worker ended with {worker.exit_code()}: {worker.look().reason}")
        await asyncio.sleep(0.01)


async def _hops(server: ValkeyServer, round_number: int) -> list[float]:
    bus = _bus(server)
    await bus.ready()
    lease = await lease_for(bus, f"hop{round_number}")
    writer = await bus.open(topics.md("MES"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "hops"
        with running_worker(
            server.address, lease, "Hop", symbols=("MES",), settings={"out": str(out)}
        ) as worker:
            await _worker_is_ready(worker)
            page = worker.page
            await asyncio.sleep(0.3)
            before = page.words[HANDLED]
            for _ in range(HOP_SAMPLES):
                writer.append(quote(time.monotonic_ns()))
                await asyncio.sleep(HOP_EVERY_S)
            while page.words[HANDLED] - before < HOP_SAMPLES:
                await asyncio.sleep(0.01)
        hops = [float(line) for line in out.read_text().splitlines()]
    await bus.close()
    return hops[-HOP_SAMPLES:]


def hop() -> list[Figure]:
    """Measure floor and ours in turns on one server, so that both see the same machine."""
    import uvloop

    floor: list[float] = []
    ours: list[float] = []
    with running_valkey() as server:
        for number in range(HOP_ROUNDS):
            floor += raw_hops(str(server.socket), encode(quote(1)), HOP_SAMPLES, HOP_EVERY_S)
            ours += uvloop.run(_hops(server, number))
    figures = []
    for name, share, most in (("p50", 0.5, 1.5), ("p99", 0.99, 3.0)):
        mine, best = percentile(ours, share), percentile(floor, share)
        figures.append(
            Figure(
                name=f"one hop {name}: append to callback",
                value=f"{mine:.0f} us",
                floor=f"{best:.0f} us raw XADD to XREAD BLOCK",
                ratio=mine / best,
                target=f"<= {most:g}x",
                reached=mine / best <= most,
            )
        )
    return figures


async def _appended_and_consumed(server: ValkeyServer) -> float:
    bus = _bus(server)
    await bus.ready()
    lease = await lease_for(bus, "empty")
    writer = await bus.open(topics.md("MES"))
    with running_worker(server.address, lease, "Empty", symbols=("MES",), settings={}) as worker:
        await _worker_is_ready(worker)
        page = worker.page
        message = quote(time.time_ns())
        started = time.perf_counter()
        for _ in range(THROUGHPUT_ENTRIES // 256):
            for _ in range(256):
                writer.append(message)
            while writer.last_seq - writer.acked_seq > IN_FLIGHT_MAX:
                await asyncio.sleep(0.0005)
            await asyncio.sleep(0)
        await writer.flush()
        wanted = writer.last_seq
        while page.words[HANDLED] < wanted:
            await asyncio.sleep(0.001)
        took_s = time.perf_counter() - started
    await bus.close()
    return wanted / took_s


def throughput() -> list[Figure]:
    """Append and consume at once, against appending alone in raw hiredis on the same server."""
    import uvloop

    with running_valkey() as server:
        before = raw_throughput(str(server.socket), encode(quote(1)), THROUGHPUT_ENTRIES // 2)
        ours = uvloop.run(_appended_and_consumed(server))
        after = raw_throughput(str(server.socket), encode(quote(1)), THROUGHPUT_ENTRIES // 2)
    floor = (before + after) / 2
    return [
        Figure(
            name="bus: entries appended and consumed by a worker",
            value=f"{ours:,.0f}/s",
            floor=f"{floor:,.0f}/s raw XADD, 64 in a pipeline",
            ratio=ours / floor,
            target=">= 0.4x",
            reached=ours / floor >= 0.4,
        )
    ]
