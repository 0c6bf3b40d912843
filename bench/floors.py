"""What this machine can do at best, without anything of ours: raw sockets, hiredis, fsync."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import hiredis

PIPELINE = 64
BLOCK_MS = 2_000


def raw_socket(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def raw_throughput(path: str, payload: bytes, entries: int) -> float:
    """Return `XADD`s per second over one connection, 64 at a time, as `redis-benchmark -P 64` does it."""
    connection, reader = raw_socket(path), hiredis.Reader()
    batch = hiredis.pack_command(("XADD", "floor", "*", "quote", payload)) * PIPELINE
    started = time.perf_counter()
    for _ in range(entries // PIPELINE):
        connection.sendall(batch)
        replies = 0
        while replies < PIPELINE:
            reader.feed(connection.recv(65_536))
            while reader.gets() is not False:
                replies += 1
    took_s = time.perf_counter() - started
    connection.sendall(hiredis.pack_command(("DEL", "floor")))
    connection.recv(64)
    connection.close()
    return entries / took_s


def _raw_reader(path: str, samples: int, ready: Connection) -> None:
    connection, reader = raw_socket(path), hiredis.Reader()
    last, hops = b"$", []
    ready.send(None)
    while len(hops) < samples:
        connection.sendall(
            hiredis.pack_command(("XREAD", "COUNT", "100", "BLOCK", str(BLOCK_MS), "STREAMS", "floor", last))
        )
        while (reply := reader.gets()) is False:
            reader.feed(connection.recv(65_536))
        now_ns = time.monotonic_ns()
        if reply is None:
            break
        for entry_id, (_, payload) in reply[0][1]:
            hops.append((now_ns - int(payload.split(b" ", 1)[0])) / 1_000)
            last = entry_id
    ready.send(hops)


def raw_hops(path: str, payload: bytes, samples: int, every_s: float) -> list[float]:
    """Return microseconds from before a raw `XADD` to after the other process's raw `XREAD BLOCK`."""
    ours, theirs = multiprocessing.Pipe()
    reader = multiprocessing.get_context("spawn").Process(target=_raw_reader, args=(path, samples, theirs))
    reader.start()
    ours.recv()
    time.sleep(0.2)
    connection, replies = raw_socket(path), hiredis.Reader()
    for _ in range(samples):
        stamped = b"%d %s" % (time.monotonic_ns(), payload)
        connection.sendall(hiredis.pack_command(("XADD", "floor", "*", "quote", stamped)))
        while replies.gets() is False:
            replies.feed(connection.recv(4_096))
        time.sleep(every_s)
    hops: list[float] = ours.recv()
    reader.join()
    connection.sendall(hiredis.pack_command(("DEL", "floor")))
    connection.recv(64)
    connection.close()
    return hops


def fsyncs(folder: Path, samples: int) -> list[float]:
    """Return microseconds of one 4 KiB append with fsync in `folder`."""
    took: list[float] = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        block = b"x" * 4_096
        for _ in range(samples):
            started = time.perf_counter()
            os.write(file.fileno(), block)
            os.fsync(file.fileno())
            took.append((time.perf_counter() - started) * 1e6)
    return took
