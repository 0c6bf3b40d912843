"""The recorder on a real server and a real disk: killed, restarted, cut off, out of space."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import polars as pl
import pytest

from services.recorder.archive import ArchiveLocked, DiskArchive, read_archive
from services.recorder.columns import missing_before
from services.recorder.config import RecorderConfig
from services.recorder.shell import Shell
from shared.bus.bus import RedisBus
from shared.bus.port import StreamWriter
from shared.domain.control import Halt, HaltKind
from shared.domain.market import Quote
from shared.runtime.beat import BeatBoard
from shared.runtime.clock import NS_PER_S, SystemClock
from shared.runtime.logs import Log
from shared.wire import topics
from shared.wire.codec import decode, encode, kind_of
from tests.support.buses import make_bus, run
from tests.support.eventually import eventually
from tests.support.valkey import ValkeyServer, running_valkey

pytestmark = pytest.mark.integration

MD = topics.md("MES")
HOUR_S = 3_600
DAY_S = 86_400


class MovableClock(SystemClock):
    """The machine's clock, some seconds ahead."""

    ahead_s = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_s * NS_PER_S


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with running_valkey(survives_kills=True) as running:
        yield running


def make_quote(n: int) -> Quote:
    return Quote(symbol="MES", ts_event_ns=n, ts_recv_ns=n, bid_px=5_000.25, ask_px=5_000.5)


def make_shell(bus: RedisBus, data_dir: Path, clock: SystemClock, **settings: object) -> Shell:
    config = RecorderConfig(flush_interval_s=0.1, scan_interval_s=0.05, retry_s=0.05, **settings)  # type: ignore[arg-type]
    beat = BeatBoard(process="recorder", clock=clock, bus=bus, interval_s=1, pid=1, host="h", build="b")
    log = Log(logging.getLogger("recorder"))
    return Shell(config=config, bus=bus, clock=clock, beat=beat, log=log, archive=DiskArchive(data_dir))


@asynccontextmanager
async def running_shell(shell: Shell) -> AsyncIterator[Shell]:
    task = asyncio.create_task(shell.run())
    try:
        yield shell
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def recorder_process(server: ValkeyServer, data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The real thing: `python -m services.recorder`."""
    environ = {
        **os.environ,
        "JULIE_JULIE__DATA_DIR": str(data_dir),
        "JULIE_REDIS__URL": f"unix://{server.socket}",
        "JULIE_RECORDER__FLUSH_INTERVAL_S": "0.1",
        "JULIE_RECORDER__SCAN_INTERVAL_S": "0.05",
        "JULIE_RECORDER__ROWS_MAX": "100",
    }
    environ.pop("JULIE_CONFIG", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "services.recorder"], env=environ, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def seqs(data_dir: Path, stream: str) -> list[int]:
    found: list[int] = read_archive(data_dir, stream)["seq"].to_list()
    return found


def test_every_stream_is_archived_under_its_own_folder(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = SystemClock()
        bus = make_bus(server.address)
        await bus.ready()
        halt = Halt(kind=HaltKind.OPERATOR, reason="lunch", issuer="me", ts_ns=1)
        intents = topics.intents(1001, "breakout-mes")
        streams = (MD, topics.orders(1001), intents, topics.SESSION, topics.CONTROL_OPERATOR)
        for stream in streams:
            writer = await bus.open(stream)
            writer.append(halt)
            await writer.flush()
        async with running_shell(make_shell(bus, tmp_path, clock)) as shell:
            await eventually(lambda: shell.entries_written == len(streams))
        for stream in streams:
            frame = read_archive(tmp_path, stream)
            kind, payload = frame.row(0)[3:]
            assert decode(kind.encode(), payload) == halt
            assert frame["id"].to_list() == [f"{frame['ts_ms'][0]}-1"]

    run(scenario)
    today = "????-??-??"
    folders = ["md/MES", "orders/1001", "intents/1001/breakout-mes", "session", "control/operator"]
    for folder in folders:
        assert len(list((tmp_path / "archive").glob(f"{folder}/{today}/*.parquet"))) == 1


@pytest.mark.proves("I-15")
def test_kill_in_the_middle_leaves_no_hole_and_no_double(server: ValkeyServer, tmp_path: Path) -> None:
    """Five kills at whatever point the recorder is at, while entries keep coming."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        for _ in range(5):
            with recorder_process(server, tmp_path) as process:
                stood = len(seqs(tmp_path, MD))
                for _ in range(10):
                    for _ in range(500):
                        writer.append(make_quote(writer.last_seq + 1))
                    await writer.flush()
                await eventually(lambda stood=stood: len(seqs(tmp_path, MD)) > stood, within_s=30)
                process.send_signal(signal.SIGKILL)
                process.wait()
        with recorder_process(server, tmp_path):
            await eventually(lambda: len(seqs(tmp_path, MD)) == writer.last_seq, within_s=30)

    run(scenario)
    frame = read_archive(tmp_path, MD)
    assert frame["seq"].to_list() == list(range(1, 25_001))
    assert missing_before(frame).is_empty()
    events = frame["payload"].map_elements(lambda raw: json.loads(raw)["ts_event_ns"], return_dtype=pl.Int64)
    assert events.to_list() == list(range(1, 25_001))


def test_sigterm_stops_at_once_and_cleanly(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        writer.append(make_quote(1))
        await writer.flush()
        with recorder_process(server, tmp_path) as process:
            await eventually(lambda: seqs(tmp_path, MD) == [1], within_s=30)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 10) == 0

    run(scenario)


@pytest.mark.proves("I-15")
def test_only_archived_and_old_entries_are_trimmed(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = MovableClock()
        bus = make_bus(server.address)
        await bus.ready()
        md, orders = await bus.open(MD), await bus.open(topics.orders(1001))
        for n in range(1_000):
            md.append(make_quote(n))
            orders.append(make_quote(n))
        await md.flush()
        shell = make_shell(bus, tmp_path, clock)
        async with running_shell(shell):
            await eventually(lambda: shell.entries_written == 2_000)
            assert (await bus.length(MD), await bus.length(topics.orders(1001))) == (1_000, 1_000)
            clock.ahead_s = HOUR_S + 60
            await eventually(lambda: shell.entries_trimmed == 999)
            # The newest archived entry stays, and orders stay for days.
            assert (await bus.length(MD), await bus.length(topics.orders(1001))) == (1, 1_000)
            md.append(make_quote(1_000))
            await md.flush()
            await eventually(lambda: len(seqs(tmp_path, MD)) == 1_001)
        assert missing_before(read_archive(tmp_path, MD)).is_empty()

    run(scenario)


def test_entries_lost_to_the_hard_cap_are_recorded_and_alarmed(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        shell = make_shell(bus, tmp_path, SystemClock())
        for n in range(10):
            writer.append(make_quote(n))
        await writer.flush()
        async with running_shell(shell):
            await eventually(lambda: shell.entries_written == 10)
        for n in range(90):
            writer.append(make_quote(n))
        await writer.flush()
        last = (await bus.last(MD, 50))[0]
        await bus.trim_before(MD, last.id.decode())
        shell = make_shell(bus, tmp_path, SystemClock())
        async with running_shell(shell):
            await eventually(lambda: shell.entries_written == 50)
        assert shell.state.entries_missing == 40

    run(scenario)
    assert missing_before(read_archive(tmp_path, MD)).rows()[0][1] == 40
    (note,) = (tmp_path / "archive/md/MES/holes.jsonl").read_text().splitlines()
    assert json.loads(note)["missing"] == 40


@pytest.mark.proves("I-16")
def test_emptied_redis_starts_the_sequence_again(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        shell = make_shell(bus, tmp_path, SystemClock())
        async with running_shell(shell):
            for written in (3, 6):
                writer = await bus.open(MD)
                for n in range(3):
                    writer.append(make_quote(n))
                await writer.flush()
                await eventually(lambda written=written: shell.entries_written == written)
                await bus.delete(MD)
                await bus.delete(topics.head(MD))

    run(scenario)
    assert seqs(tmp_path, MD) == [1, 2, 3, 1, 2, 3]


@pytest.mark.proves("I-15")
def test_what_an_emptied_redis_got_by_a_clock_set_back_is_set_aside(
    server: ValkeyServer, tmp_path: Path
) -> None:
    """Its ids lie before the archive's end: they were trimmed unread when the clock had passed it."""

    async def scenario() -> None:
        clock = MovableClock()
        bus = make_bus(server.address, clock)
        await bus.ready()
        shell = make_shell(bus, tmp_path, clock)

        async def write(ahead_s: int, writer: StreamWriter | None = None) -> StreamWriter:
            clock.ahead_s = ahead_s
            writer = writer or await bus.open(MD)
            archived = shell.entries_written
            for n in range(3):
                writer.append(make_quote(n))
            await writer.flush()
            await eventually(lambda: shell.entries_written == archived + 3)
            return writer

        async with running_shell(shell):
            await write(HOUR_S)
            await bus.delete(MD)
            await bus.delete(topics.head(MD))
            writer = await write(0)
            assert await bus.length(MD) == 3
            await write(2 * HOUR_S, writer)
            await eventually(lambda: shell.entries_trimmed == 3)

    run(scenario)
    assert seqs(tmp_path, MD) == [1, 2, 3, 4, 5, 6]
    aside = pl.read_parquet(tmp_path / "archive/md/MES/aside/*/*.parquet")
    assert aside["seq"].to_list() == [1, 2, 3]


@pytest.mark.proves("I-15")
@pytest.mark.parametrize("restarted", [False, True])
def test_another_entry_under_the_id_of_the_archives_end_is_not_taken_for_it(
    server: ValkeyServer, tmp_path: Path, restarted: bool
) -> None:
    """Redis lost its newest entries; while the clock is set back their ids are given again."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        long_ago_ms = SystemClock().now_ns() // 1_000_000 - 2 * HOUR_S * 1_000

        async def archive(shell: Shell, *numbers: int) -> None:
            for seq, number in enumerate(numbers, 1):
                quote, entry_id = make_quote(number), f"{long_ago_ms}-{seq}"
                await bus._once.execute_command("XADD", MD, entry_id, kind_of(quote), encode(quote))
            entries = shell.entries_written + len(numbers)
            async with running_shell(shell):
                await eventually(lambda: shell.entries_written == entries)

        shell = make_shell(bus, tmp_path, SystemClock())
        await archive(shell, 1, 2)
        await bus.delete(MD)
        if restarted:
            shell = make_shell(bus, tmp_path, SystemClock())
        await archive(shell, 1, 20, 30)

    run(scenario)
    assert seqs(tmp_path, MD) == [1, 2, 3]
    aside = pl.read_parquet(tmp_path / "archive/md/MES/aside/*/*.parquet")
    assert aside["payload"].to_list() == [encode(make_quote(1)), encode(make_quote(20))]


def test_undecodable_entries_and_foreign_keys(server: ValkeyServer, tmp_path: Path) -> None:
    """Bytes that are no message are archived as they are; a key of another type stops nobody else."""
    raw = b"\xff\xfe{not json\x00"

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        await bus.set(topics.orders(7), b"not a stream")
        writer = await bus.open(MD)
        writer.append(make_quote(1))
        await writer.flush()
        connection = bus._once
        await connection.execute_command("XADD", MD, "*", b"\xffodd", raw)
        shell = make_shell(bus, tmp_path, SystemClock())
        async with running_shell(shell):
            await eventually(lambda: shell.entries_written == 2)
            assert list(shell.state.failures()) == [topics.orders(7)]
            await bus.delete(topics.orders(7))
            await eventually(lambda: not shell.state.failures())

    run(scenario)
    assert read_archive(tmp_path, MD)["payload"].to_list()[1] == raw


def test_small_files_of_a_finished_day_become_one(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = MovableClock()
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        shell = make_shell(bus, tmp_path, clock)
        async with running_shell(shell):
            for n in range(5):
                writer.append(make_quote(n))
                await writer.flush()
                await eventually(lambda n=n: len(seqs(tmp_path, MD)) == n + 1)
            before = read_archive(tmp_path, MD)
            clock.ahead_s = 2 * DAY_S
            await eventually(lambda: len(list(tmp_path.rglob("*.parquet"))) <= 2)
            assert read_archive(tmp_path, MD).equals(before)

    run(scenario)


def test_read_by_time(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = MovableClock()
        bus = make_bus(server.address, clock)
        await bus.ready()
        writer = await bus.open(MD)
        for n in range(3):
            clock.ahead_s = n * HOUR_S
            writer.append(make_quote(n))
            await writer.flush()
        shell = make_shell(bus, tmp_path, clock)
        async with running_shell(shell):
            await eventually(lambda: shell.entries_written == 3)

    run(scenario)
    first, second, third = read_archive(tmp_path, MD)["ts_ms"].to_list()
    assert read_archive(tmp_path, MD, first_ms=first + 1)["seq"].to_list() == [2, 3]
    assert read_archive(tmp_path, MD, last_ms=third - 1)["seq"].to_list() == [1, 2]
    assert read_archive(tmp_path, MD, first_ms=second, last_ms=second)["seq"].to_list() == [2]
    assert read_archive(tmp_path, topics.md("MNQ")).is_empty()


class FullDisk(DiskArchive):
    """A disk without room for one stream, until it is told otherwise."""

    full_for = MD

    def _write(self, stream, rows, aside):  # type: ignore[no-untyped-def]
        if stream == self.full_for:
            raise OSError(28, "No space left on device")
        return super()._write(stream, rows, aside)


@pytest.mark.proves("I-15")
def test_full_disk_trims_nothing_and_is_retried(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = MovableClock()
        bus = make_bus(server.address)
        await bus.ready()
        md, session = await bus.open(MD), await bus.open(topics.SESSION)
        for n in range(10):
            md.append(make_quote(n))
            session.append(make_quote(n))
        await md.flush()
        shell = make_shell(bus, tmp_path, clock)
        archive = FullDisk(tmp_path)
        shell._archive = archive
        clock.ahead_s = 2 * HOUR_S
        async with running_shell(shell):
            await eventually(lambda: shell.state.failures() and len(seqs(tmp_path, topics.SESSION)) == 10)
            await eventually(lambda: "No space left" in shell._beat.detail.get("archive", ""))
            assert await bus.length(MD) == 10
            archive.full_for = "none"
            await eventually(lambda: not shell.state.failures() and len(seqs(tmp_path, MD)) == 10)
            await eventually(lambda: shell.entries_trimmed == 9)

    run(scenario)


def test_one_recorder_at_a_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = DiskArchive(tmp_path), DiskArchive(tmp_path)
        await first.lock()
        with pytest.raises(ArchiveLocked, match="another recorder"):
            await second.lock()
        await first.unlock()
        await second.lock()
        await second.unlock()

    run(scenario)


def test_redis_away_and_back(server: ValkeyServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        shell = make_shell(bus, tmp_path, SystemClock())
        async with running_shell(shell):
            writer.append(make_quote(1))
            await writer.flush()
            await eventually(lambda: shell.entries_written == 1)
            server.kill()
            await eventually(lambda: shell._bus_away)
            await asyncio.to_thread(server.start)
            writer.append(make_quote(2))
            await writer.flush()
            await eventually(lambda: shell.entries_written == 2)

    run(scenario)
    assert seqs(tmp_path, MD) == [1, 2]
