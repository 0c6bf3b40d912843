"""From tick to order: the frame that the feed received to the POST that leaves execution.

The time of leaving is taken outside the product: a relay before the gateway's REST notes when the first
bytes of each order arrive, so the figure contains one loopback hop too many. Every service goes through it:
heartbeat lets nobody trade while one runs with other broker settings than the rest.
"""

from __future__ import annotations

import json
import random
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from bench.figure import Figure, percentile
from bench.floors import fsyncs, raw_hops
from bench.system import Running, instance, running_system
from shared.runtime.config import run_dir
from shared.wire import topics
from tests.support.stack import free_port

SETTLE_S = 8.0
"""A new instance's intents are discovered within a second; orders of the first moments are not measured."""

MEASURED_S = 140.0
QUOTES_PER_S = 100
EVERY = 320
"""A signal every 3.2 s: an order costs six requests (itself, its children's cancels, looking after them).
More would measure the wait for the gateway's 200 requests a minute instead of the way."""

ORDERS_MIN = 40
_TAG = re.compile(rb'"customTag":"([^"]+)"')


class Relay(socketserver.ThreadingTCPServer):
    """Forwards TCP bytes and notes the moment at which each order went by. Closed after those who use it."""

    daemon_threads = False  # a closing waits for them: no socket outlives the relay

    def __init__(self, target_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Relayed)
        self.left_ns: dict[str, int] = {}
        self.port: int = self.server_address[1]
        self.target = ("127.0.0.1", target_port)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Relayed(socketserver.BaseRequestHandler):
    """One connection; refused like the gateway's own when the gateway is not there yet."""

    server: Relay

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(self.server.target) as target:
            for one in (self.request, target):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=_pump, args=(target, self.request, None))
            answers.start()
            _pump(self.request, target, self.server.left_ns)
            answers.join()


def _pump(source: socket.socket, sink: socket.socket, left_ns: dict[str, int] | None) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            now_ns = time.time_ns()
            sink.sendall(data)
            if left_ns is not None and (found := _TAG.search(data)):
                left_ns.setdefault(found[1].decode(), now_ns)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def trading(*, every: int) -> Iterator[tuple[Running, Relay]]:
    """Run the system on a quiet market; `Flip` opens or closes on each `every`-th quote."""
    gateway_port = free_port()
    relay = Relay(gateway_port)
    try:
        with running_system(
            instances=[instance("flip", "Flip", ["MES"], every=every)],
            symbols=["MES"],
            SIMULATOR__PORT=str(gateway_port),
            BROKER__REST_URL=f"http://127.0.0.1:{relay.port}",
            BROKER__HUB_URL=f"http://127.0.0.1:{gateway_port}/hubs",
            SIMULATOR__FLOOD_QUOTES_PER_S=str(QUOTES_PER_S),
            EXECUTION__RISK=json.dumps(_permissive()),
        ) as running:
            yield running, relay
    finally:
        relay.close()


def tick_to_order() -> list[Figure]:
    """Trade and compare with three raw hops and one fsync of this machine."""
    with trading(every=EVERY) as (running, relay):
        time.sleep(SETTLE_S)
        settled_ns = time.time_ns()
        time.sleep(MEASURED_S)
        took_us = _latencies(running, relay, settled_ns)
        path = str(run_dir(running.folder) / "redis.sock")
        hops = raw_hops(path, b"x" * 150, 1_000, 0.005)
        syncs = fsyncs(running.folder, 200)
    assert len(took_us) >= ORDERS_MIN, f"only {len(took_us)} orders: {took_us}"
    rng = random.Random(1)
    floor = [sum(rng.choices(hops, k=3)) + rng.choice(syncs) for _ in range(10_000)]
    figures = []
    for name, share, most in (("p50", 0.5, 2.0), ("p99", 0.99, 4.0)):
        mine, best = percentile(took_us, share), percentile(floor, share)
        figures.append(
            Figure(
                name=f"tick to order {name} ({len(took_us)} orders)",
                value=f"{mine:,.0f} us",
                floor=f"{best:,.0f} us: three raw hops, one fsync ({percentile(syncs, share):,.0f} us)",
                ratio=mine / best,
                target=f"<= {most:g}x",
                reached=mine / best <= most,
            )
        )
    return figures


def _permissive() -> dict[str, Any]:
    """Limits that a benchmark's rate of orders does not reach."""
    many = 1_000_000
    return {
        "messages_per_min_max": 1_000,
        "daily_loss_max": str(many),
        "open_loss_max": str(many),
        "position_max": 50,
        "intents_max": many,
        "entries_max": many,
        "flips_max": many,
        "exits_per_min_max": 100_000,
    }


def _latencies(running: Running, relay: Relay, settled_ns: int) -> list[float]:
    """Return microseconds from the feed's receive time to the order's leaving, for every order since."""
    key = topics.intents(1001, "flip")
    took = []
    for _, (_, value) in running.ask("XRANGE", key, "-", "+"):
        intent = json.loads(value)
        left_ns = relay.left_ns.get(intent["client_order_id"])
        if left_ns is not None and intent["ts_cause_ns"] > settled_ns:
            took.append((left_ns - intent["ts_cause_ns"]) / 1_000)
    return took
