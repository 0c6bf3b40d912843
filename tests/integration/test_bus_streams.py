"""Appending and reading on a real server: lost replies, kills, fences, rollbacks, frozen servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.bus.blocking import BlockingBus, Output
from shared.bus.bus import RedisBus
from shared.bus.functions import VERSION
from shared.bus.places import gone_back
from shared.bus.port import BusAway, BusRefused, Entry, Fenced, Lease, RolledBack, StreamReader, WriterFull
from shared.domain.market import Quote
from shared.wire import topics
from shared.wire.codec import decode
from tests.support.bus_servers import BusServer, Link, running_bus_server
from tests.support.buses import make_bus, run
from tests.support.eventually import TIME_FACTOR, eventually
from tests.support.sequence import SequenceCheck, SequenceGap

pytestmark = pytest.mark.integration

MD = topics.md("MES")
INTENTS = topics.intents(1001, "a")
JOURNAL = topics.journal(1001, "a")
STATE = topics.state(1001, "a")
LEASE = topics.lease(1001, "a")

DEADLINE_S = 3.5 * TIME_FACTOR
"""No call on the bus may last longer, whatever the server does."""


@pytest.fixture(params=["valkey", "model"])
def server(request: pytest.FixtureRequest) -> Iterator[BusServer]:
    with running_bus_server(request.param) as running:
        yield running


@asynccontextmanager
async def bus_over_link(server: BusServer) -> AsyncIterator[tuple[RedisBus, Link]]:
    async with server.link() as link:
        bus = make_bus(link.address)
        await bus.ready()
        try:
            yield bus, link
        finally:
            await bus.close()


def make_quote(n: int) -> Quote:
    return Quote(symbol="MES", ts_event_ns=n, ts_recv_ns=n, bid_px=5_000.25, ask_px=5_000.5)


def numbers(entries: list[Entry]) -> list[int]:
    """The numbers that `make_quote` was given."""
    found = []
    for entry in entries:
        quote = decode(entry.kind, entry.value)
        assert isinstance(quote, Quote)
        found.append(quote.ts_event_ns)
    return found


async def everything(bus: RedisBus, stream: str) -> list[Entry]:
    entries: list[Entry] = []
    after = "-"
    while batch := await bus.between(stream, after, "+", 5_000):
        entries += batch
        after = f"({batch[-1].id.decode()}"
    return entries


async def read_until(reader: StreamReader, count: int) -> list[Entry]:
    """Read until `count` entries are there."""
    entries: list[Entry] = []

    async def enough() -> bool:
        entries.extend(await reader.read(block_ms=20, count=1_000))
        return len(entries) >= count

    await eventually(enough)
    return entries


def test_entries_read_back_as_appended(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        assert [writer.append(make_quote(n)) for n in range(1, 1_001)] == list(range(1, 1_001))
        await writer.flush()
        assert writer.acked_seq == 1_000
        entries = await everything(bus, MD)
        assert [entry.seq for entry in entries] == numbers(entries) == list(range(1, 1_001))
        assert [entry.kind for entry in await bus.last(MD, 2)] == [b"quote", b"quote"]
        assert numbers(await bus.last(MD, 2)) == [999, 1_000]
        assert await bus.length(MD) == 1_000
        assert await bus.last("md:{NONE}") == []

    run(scenario)


@pytest.mark.proves("I-13")
def test_lost_reply_to_append(server: BusServer) -> None:
    """The server has the batch, we do not know: it is sent again and added once."""

    async def scenario() -> None:
        async with bus_over_link(server) as (bus, link):
            writer = await bus.open(MD)
            for n in range(1, 21):
                link.lose_reply_to = b"julie_append"
                writer.append(make_quote(n))
                writer.append(make_quote(-n))
                await writer.flush()
            assert link.lost == 20
            expected = [m for n in range(1, 21) for m in (n, -n)]
            assert numbers(await everything(bus, MD)) == expected

    run(scenario)


@pytest.mark.proves("I-13")
def test_lost_reply_to_append_in_a_pipeline(server: BusServer) -> None:
    """Many batches are under way when the link breaks."""

    async def scenario() -> None:
        async with bus_over_link(server) as (bus, link):
            writer = await bus.open(MD)
            for n in range(1, 10_001):
                writer.append(make_quote(n))
                if n % 1_000 == 0:
                    link.lose_reply_to = b"julie_append"
                    await asyncio.sleep(0)
            await writer.flush()
            assert link.lost > 0
            assert numbers(await everything(bus, MD)) == list(range(1, 10_001))

    run(scenario)


def test_lost_reply_to_open(server: BusServer) -> None:
    """Opening is not repeated behind our back; asked again it goes on where the stream stands."""

    async def scenario() -> None:
        async with bus_over_link(server) as (bus, link):
            first = await bus.open(MD)
            first.append(make_quote(1))
            await first.flush()
            link.lose_reply_to = b"julie_open"
            with pytest.raises(BusAway):
                await bus.open(MD)
            again = await bus.open(MD)
            assert again.last_seq == 1
            assert again.epoch > first.epoch
            again.append(make_quote(2))
            await again.flush()
            assert numbers(await everything(bus, MD)) == [1, 2]

    run(scenario)


def test_lost_reply_to_lease(server: BusServer) -> None:
    async def scenario() -> None:
        async with bus_over_link(server) as (bus, link):
            link.lose_reply_to = b"julie_lease"
            with pytest.raises(BusAway):
                await bus.lease(LEASE, "host-a", 10)
            lease = await bus.lease(LEASE, "host-a", 10)
            assert isinstance(lease, Lease)
            assert await bus.renew(lease, 10)

    run(scenario)


@pytest.mark.proves("I-13")
def test_lost_reply_to_a_step(server: BusServer) -> None:
    """State, journal and intents of a step are there once, and the cursor is where it belongs."""

    async def scenario() -> None:
        async with bus_over_link(server) as (bus, link):
            lease = await bus.lease(LEASE, "host-a", 10)
            assert isinstance(lease, Lease)
            md = await bus.open(MD)
            for n in range(3):
                md.append(make_quote(n))
            await md.flush()
            outputs = [
                Output(INTENTS, 1, [make_quote(1), make_quote(2)]),
                Output(JOURNAL, 1, [make_quote(9)]),
            ]

            def work() -> list[tuple[str, list[list[object]]]]:
                worker = BlockingBus(link.address, now_ns=time.time_ns, block_ms=50)
                worker.connect()
                link.lose_reply_to = b"julie_step"
                with pytest.raises(BusAway):
                    worker.step_and_read(lease, STATE, b"at 0", outputs, {MD: b"0-0"}, 10)
                worker.connect()
                read = worker.step_and_read(lease, STATE, b"at 0", outputs, {MD: b"0-0"}, 10)
                assert (worker.head(INTENTS), worker.head(JOURNAL)) == (2, 1)
                worker.close()
                return read

            ((stream, rows),) = await server.blocking(work)
            assert (stream, len(rows)) == (MD, 3)
            assert link.lost == 1
            assert numbers(await everything(bus, INTENTS)) == [1, 2]
            assert numbers(await everything(bus, JOURNAL)) == [9]
            assert await bus.get(STATE) == b"at 0"

    run(scenario)


@pytest.mark.proves("I-17")
def test_step_without_the_lease_changes_nothing(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        old = await bus.lease(LEASE, "host-a", 0.001)
        assert isinstance(old, Lease)

        async def taken() -> bool:
            return isinstance(await bus.lease(LEASE, "host-b", 10), Lease)

        await eventually(taken)

        def work() -> None:
            worker = BlockingBus(server.address, now_ns=time.time_ns, block_ms=50)
            worker.connect()
            with pytest.raises(Fenced):
                worker.step(old, STATE, b"mine", [Output(INTENTS, 1, [make_quote(1)])])
            with pytest.raises(Fenced):
                worker.step_and_read(old, STATE, b"mine", [], {MD: b"0-0"}, 1)
            worker.close()

        await server.blocking(work)
        assert await bus.get(STATE) is None
        assert await bus.length(INTENTS) == 0

    run(scenario)


@pytest.mark.proves("I-13")
def test_step_with_one_bad_stream_writes_none(server: BusServer) -> None:
    """All of a step or nothing of it: the second stream has lost entries."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        lease = await bus.lease(LEASE, "host-a", 10)
        assert isinstance(lease, Lease)

        def work() -> None:
            worker = BlockingBus(server.address, now_ns=time.time_ns, block_ms=50)
            worker.connect()
            outputs = [Output(INTENTS, 1, [make_quote(1)]), Output(JOURNAL, 7, [make_quote(2)])]
            with pytest.raises(RolledBack):
                worker.step(lease, STATE, b"x", outputs)
            worker.close()

        await server.blocking(work)
        assert await bus.length(INTENTS) == await bus.length(JOURNAL) == 0
        assert await bus.get(STATE) is None

    run(scenario)


@pytest.mark.proves("I-12")
def test_kills_of_the_server_under_load(server: BusServer) -> None:
    """With appendfsync everysec a killed process loses nothing that it acknowledged."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        reader = bus.reader()
        reader.follow(MD, "0-0")
        stop = asyncio.Event()
        seen: list[Entry] = []

        async def produce() -> None:
            while not stop.is_set():
                # A server may take long to start on a busy machine.
                for _ in range(20 if writer.last_seq - writer.acked_seq < 20_000 else 0):
                    writer.append(make_quote(writer.last_seq + 1))
                await asyncio.sleep(0.001)

        async def consume() -> None:
            while not (stop.is_set() and len(seen) >= writer.last_seq):
                seen.extend(await reader.read(block_ms=20, count=500))

        tasks = [asyncio.create_task(produce()), asyncio.create_task(consume())]
        for _ in range(4):
            stood = writer.acked_seq
            await eventually(lambda stood=stood: writer.acked_seq > stood + 200)
            server.kill()
            await eventually(lambda: reader.away_since_ns is not None)
            await asyncio.to_thread(server.start)
        stood = writer.acked_seq
        await eventually(lambda: writer.acked_seq > stood + 200)
        stop.set()
        await asyncio.gather(*tasks)
        await writer.flush()
        whole = list(range(1, writer.last_seq + 1))
        assert numbers(await everything(bus, MD)) == whole
        assert numbers(seen) == whole
        assert reader.away_since_ns is None

    run(scenario)


@pytest.mark.proves("I-17")
def test_second_writer_fences_the_first(server: BusServer) -> None:
    async def scenario() -> None:
        one, two = make_bus(server.address), make_bus(server.address)
        await one.ready()
        old = await one.open(MD)
        old.append(make_quote(1))
        await old.flush()
        new = await two.open(MD)
        new.append(make_quote(2))
        await new.flush()
        old.append(make_quote(99))
        with pytest.raises(Fenced):
            await old.flush()
        with pytest.raises(Fenced):
            old.append(make_quote(100))
        with pytest.raises(Fenced):
            await old.flush()
        assert numbers(await everything(two, MD)) == [1, 2]

    run(scenario)


@pytest.mark.proves("I-17")
def test_second_writer_fences_the_first_after_redis_was_emptied_between_them(server: BusServer) -> None:
    """Nothing in Redis tells of the first one any more; its next entry would even have the right number."""

    async def scenario() -> None:
        one, two = make_bus(server.address), make_bus(server.address)
        await one.ready()
        old = await one.open(MD)
        old.append(make_quote(1))
        await old.flush()
        await asyncio.sleep(0.01)  # the clock is what is left to tell
        await two._once.flushall()
        new = await two.open(MD)
        new.append(make_quote(2))
        await new.flush()
        with pytest.raises(Fenced):
            await old.check()
        await new.check()
        assert numbers(await everything(two, MD)) == [2]

    run(scenario)


@pytest.mark.proves("I-16")
def test_emptied_server_is_noticed(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        writer.append(make_quote(1))
        await writer.flush()
        await bus._once.flushall()
        writer.append(make_quote(2))
        with pytest.raises(RolledBack, match="stands at 0, the writer at 1"):
            await writer.flush()
        assert await bus.length(MD) == 0

    run(scenario)


@pytest.mark.proves("I-14", "I-16")
def test_a_stream_that_ends_before_the_place_of_its_reader_is_told_from_a_trimmed_one(
    server: BusServer,
) -> None:
    """Found by simulation: Redis came back with less, and the wall clock an hour back: nobody read on."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        reader = bus.reader()
        reader.follow(MD, "$")
        assert await gone_back(bus, {MD: reader.cursor(MD)}) is None  # nothing read yet
        reader.follow(MD, "0-0")
        for n in (1, 2):
            writer.append(make_quote(n))
        await writer.flush()
        assert len(await reader.read(block_ms=1_000, count=10)) == 2
        place = {MD: reader.cursor(MD)}
        assert await gone_back(bus, place) is None
        await bus._once.execute_command("XTRIM", MD, "MAXLEN", 0)
        assert await gone_back(bus, place) is None
        await bus._once.flushall()
        assert await gone_back(bus, place) == (
            f"{MD} ends before our place {place[MD]} in it: Redis has lost entries"
        )
        await bus._once.execute_command("XADD", MD, "1000-7", "quote", b"{}")
        assert await reader.read(block_ms=10, count=10) == []
        assert await gone_back(bus, place) is not None
        await reader.close()

    run(scenario)


def test_functions_are_loaded_again(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        await bus._once.function_flush()
        writer.append(make_quote(1))
        await writer.flush()
        await bus._once.function_flush()
        assert isinstance(await bus.lease(LEASE, "a", 1), Lease)
        await bus._once.function_flush()

        def work() -> int:
            worker = BlockingBus(server.address, now_ns=time.time_ns, block_ms=50)
            worker.connect()
            with pytest.raises(BusRefused, match="unction not found"):
                worker.call("FCALL", "julie_version", 0)
            worker.load_functions()
            return int(worker.call("FCALL", "julie_version", 0))

        assert b"%d" % await server.blocking(work) == VERSION
        assert numbers(await everything(bus, MD)) == [1]

    run(scenario)


def test_refused_append_is_sent_again_when_the_server_is_well(server: BusServer) -> None:
    """Out of memory is no reason to give up, and no reason to skip an entry."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        await bus._once.config_set("maxmemory", "1")
        for n in range(1, 601):
            writer.append(make_quote(n))
        await eventually(lambda: bus._pipe.trouble)
        assert writer.acked_seq == 0
        await bus._once.config_set("maxmemory", "0")
        await writer.flush()
        assert numbers(await everything(bus, MD)) == list(range(1, 601))

    run(scenario)


def test_wrong_type_is_final_and_told(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        await bus.set(MD, b"not a stream")
        writer = await bus.open(MD)
        writer.append(make_quote(1))
        with pytest.raises(BusRefused, match="WRONGTYPE"):
            await writer.flush()

    run(scenario)


@pytest.mark.proves("I-24")
def test_buffer_is_bounded_while_the_server_is_away(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD, pending_max=100)
        server.kill()
        for n in range(1, 101):
            writer.append(make_quote(n))
        with pytest.raises(WriterFull, match="100 entries wait"):
            writer.append(make_quote(101))
        assert writer.last_seq == 100
        await asyncio.to_thread(server.start)
        await writer.flush()
        writer.append(make_quote(101))
        await writer.flush()
        assert numbers(await everything(bus, MD)) == list(range(1, 102))

    run(scenario)


@pytest.mark.proves("I-24")
def test_hard_cap_counts_what_it_deleted(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD, entries_max=1_000)
        for n in range(1, 5_001):
            writer.append(make_quote(n))
        await writer.flush()
        length = await bus.length(MD)
        assert 1_000 <= length <= 1_200
        assert writer.trimmed == 5_000 - length

    run(scenario)


def test_flush_waits_only_for_its_own_stream(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        md, orders = await bus.open(MD), await bus.open(topics.orders(1001))
        stop = asyncio.Event()

        async def produce() -> None:
            while not stop.is_set():
                for _ in range(50 if md.last_seq - md.acked_seq < 5_000 else 0):
                    md.append(make_quote(1))
                await asyncio.sleep(0)

        task = asyncio.create_task(produce())
        for _ in range(20):
            orders.append(make_quote(2))
            async with asyncio.timeout(DEADLINE_S):
                await orders.flush()
        stop.set()
        await task
        await md.flush()

    run(scenario)


def test_closed_bus_keeps_nobody_waiting(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        server.kill()
        writer.append(make_quote(1))
        waiting = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        await bus.close()
        with pytest.raises(BusRefused, match="has stopped"):
            await waiting

    run(scenario)


def test_reader_starts_at_the_newest(server: BusServer) -> None:
    """`$` means from now on, also when nothing comes between two reads or the stream is not there yet."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        writer.append(make_quote(1))
        await writer.flush()
        reader = bus.reader()
        reader.follow(MD, "$")
        assert await reader.read(block_ms=1, count=10) == []
        writer.append(make_quote(2))
        await writer.flush()
        assert numbers(await read_until(reader, 1)) == [2]
        # Followed while connected: what comes before the next read must not be skipped either.
        other = topics.md("MNQ")
        reader.follow(other, "$")
        assert await reader.read(block_ms=1, count=10) == []
        second = await bus.open(other)
        second.append(make_quote(3))
        await second.flush()
        assert numbers(await read_until(reader, 1)) == [3]

    run(scenario)


@pytest.mark.proves("I-14")
def test_reader_across_a_restart(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        reader = bus.reader()
        reader.follow(MD, "0-0")
        check = SequenceCheck()
        gaps: list[SequenceGap] = []
        for n in range(1, 4):
            writer.append(make_quote(n))
            await writer.flush()
            for entry in await read_until(reader, 1):
                gap = check.see(entry)
                if gap is not None:
                    gaps.append(gap)
            server.kill()
            assert await reader.read(block_ms=10, count=10) == []
            assert reader.away_since_ns is not None
            await asyncio.to_thread(server.start)
        assert gaps == []
        assert reader.cursor(MD).endswith("-3")

    run(scenario)


@pytest.mark.proves("I-14")
def test_gap_of_a_trimmed_stream_is_seen_in_one_read(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        reader = bus.reader()
        reader.follow(MD, "0-0")
        check = SequenceCheck()
        writer.append(make_quote(1))
        await writer.flush()
        (first,) = await read_until(reader, 1)
        assert check.see(first) is None
        for n in range(2, 11):
            writer.append(make_quote(n))
        await writer.flush()
        last = (await bus.last(MD))[0]
        assert await bus.trim_before(MD, last.id.decode()) == 9
        (entry,) = await read_until(reader, 1)
        assert check.see(entry) == SequenceGap(MD, 2, 10)

    run(scenario)


def test_canceled_read_does_not_desynchronize(server: BusServer) -> None:
    """Reads are canceled at every moment of a slow link; nothing is skipped, nothing comes twice."""

    async def scenario() -> None:
        async with bus_over_link(server) as (bus, link):
            writer = await bus.open(MD)
            reader = bus.reader()
            reader.follow(MD, "0-0")
            link.delay_s = 0.002
            seen: list[Entry] = []
            for n in range(1, 41):
                writer.append(make_quote(n))
                read = asyncio.create_task(reader.read(block_ms=20, count=10))
                for _ in range(n % 12):
                    await asyncio.sleep(0.0005)
                read.cancel()
                done = (await asyncio.gather(read, return_exceptions=True))[0]
                if isinstance(done, list):
                    seen += done
            await writer.flush()
            link.delay_s = 0
            seen += await read_until(reader, 40 - len(seen)) if len(seen) < 40 else []
            assert numbers(seen) == list(range(1, 41))

    run(scenario)


def test_canceled_command_does_not_desynchronize(server: BusServer) -> None:
    async def scenario() -> None:
        async with bus_over_link(server) as (bus, link):
            for n in range(20):
                await bus.set(f"beat:k{n}", b"%d" % n)
            link.delay_s = 0.002
            for n in range(20):
                call = asyncio.create_task(bus.get(f"beat:k{n}"))
                for _ in range(n % 8):
                    await asyncio.sleep(0.0005)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                assert await bus.get(f"beat:k{19 - n}") == b"%d" % (19 - n)

    run(scenario)


def test_late_reply_is_never_taken_for_the_next_one(server: BusServer) -> None:
    """A read whose reply comes after its deadline: the connection is given up, entries come once."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        reader = bus.reader()
        reader.follow(MD, "0-0")
        await reader.read(block_ms=1, count=10)
        writer.append(make_quote(1))
        await writer.flush()
        server.pause()
        try:
            started = time.monotonic()
            assert await reader.read(block_ms=10, count=10) == []
            assert time.monotonic() - started < DEADLINE_S
            assert reader.away_since_ns is not None
        finally:
            server.resume()
        writer.append(make_quote(2))
        await writer.flush()
        seen = await read_until(reader, 2)
        assert numbers(seen) == [1, 2]
        assert await reader.read(block_ms=20, count=10) == []

    run(scenario)


def test_frozen_server_holds_nobody_longer_than_the_deadline(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        reader = bus.reader()
        reader.follow(MD, "0-0")
        writer.append(make_quote(1))
        await writer.flush()
        server.pause()
        try:
            calls = [
                bus.ready(),
                bus.open(topics.md("MNQ")),
                bus.set("beat:x", b"1"),
                bus.lease(LEASE, "a", 1),
                bus.set_and_publish("beat:x", "beats", b"1"),
                bus.hash_set("account:{1}", {"a": b"1"}),
                bus.budget("x", requests_max=1, window_s=1, reserve=0, urgent=True, member="m"),
            ]
            started = time.monotonic()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [BusAway] * len(calls)
            assert time.monotonic() - started < DEADLINE_S
            started = time.monotonic()
            assert await reader.read(block_ms=10, count=1) == []
            assert time.monotonic() - started < DEADLINE_S
            # The buffer takes what comes meanwhile, more than a socket holds.
            for n in range(2, 40_001):
                writer.append(make_quote(n))
            await eventually(lambda: bus._pipe.trouble)
        finally:
            server.resume()
        await writer.flush()
        assert numbers(await everything(bus, MD)) == list(range(1, 40_001))

    run(scenario)


def test_nothing_stays_open_after_a_frozen_server(server: BusServer) -> None:
    """Closing the bus is bounded too; an unclosed socket would fail this test as a warning."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        writer.append(make_quote(1))
        await writer.flush()
        reader = bus.reader()
        reader.follow(MD, "0-0")
        await reader.read(block_ms=1, count=1)
        server.pause()
        try:
            started = time.monotonic()
            await bus.close()
            assert time.monotonic() - started < DEADLINE_S
        finally:
            server.resume()

    run(scenario)


def test_absent_server_is_away_with_its_address(tmp_path: Path) -> None:
    from shared.bus.client import Address

    async def scenario() -> None:
        bus = make_bus(Address(unix_path=str(tmp_path / "none.sock")))
        with pytest.raises(BusAway, match=r"redis-cli -s .*none.sock"):
            await bus.ready()
        with pytest.raises(BusAway):
            await bus.get("x")

    run(scenario)


FOREIGN_IDS = ["*", "{ms}-5", "{next}-0", "{next}-1", "{next}-18446744073709551615", "{day}-7"]


@pytest.mark.parametrize("foreign_id", FOREIGN_IDS)
def test_an_entry_added_by_hand_does_not_stop_the_writer(server: BusServer, foreign_id: str) -> None:
    """Whatever id it took: ours go behind it, with their own numbers."""

    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        writer.append(make_quote(1))
        await writer.flush()
        ms = (await bus.last(MD))[0].ts_ms
        by_hand = foreign_id.format(ms=ms, next=ms + 1_000, day=ms + 86_400_000)
        await bus._once.execute_command("XADD", MD, by_hand, "foo", "bar")
        for n in (2, 3):
            writer.append(make_quote(n))
        await writer.flush()
        entries = await bus.between(MD, "-", "+", 10)
        assert [e.kind for e in entries] == [b"quote", b"foo", b"quote", b"quote"]
        assert [e.seq for e in entries if e.kind == b"quote"] == [1, 2, 3]

    run(scenario)


def test_a_foreign_id_that_nothing_can_follow_is_told_with_its_remedy(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        await bus._once.execute_command("XADD", MD, f"{2**63}-0", "foo", "bar")
        writer.append(make_quote(1))
        with pytest.raises(BusRefused, match="XDEL"):
            await writer.flush()

    run(scenario)


def test_a_list_keeps_the_newest(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        await bus.keep_newest("refused:x", [b"1", b"2"], entries_max=3)
        await bus.keep_newest("refused:x", [b"3", b"4"], entries_max=3)
        assert await bus._reads.lrange("refused:x", 0, -1) == [b"4", b"3", b"2"]

    run(scenario)


def test_check_tells_an_idle_writer_that_another_has_taken_over(server: BusServer) -> None:
    async def scenario() -> None:
        bus, other = make_bus(server.address), make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        writer.append(make_quote(1))
        await writer.flush()
        await writer.check()
        assert (await bus.heads([MD]))[MD] == 1, "asking adds nothing"
        await other.open(MD)
        await writer.flush()  # everything is acknowledged: it has nothing to ask
        with pytest.raises(Fenced):
            await writer.check()

    run(scenario)


def test_check_tells_an_idle_writer_that_the_stream_is_gone(server: BusServer) -> None:
    async def scenario() -> None:
        bus = make_bus(server.address)
        await bus.ready()
        writer = await bus.open(MD)
        await writer.check()
        writer.append(make_quote(1))
        await writer.check()  # with what is on its way
        assert writer.acked_seq == 1
        await bus.delete(MD)
        await bus.delete(topics.head(MD))
        with pytest.raises(RolledBack):
            await writer.check()

    run(scenario)
