"""A worker process on a real server: what it commits, and what a crash at any moment leaves behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from services.strategy.spawn import ProcessSpawn, WorkerProcess
from services.strategy.spec import (
    EXIT_FENCED,
    EXIT_REFUSED,
    EXIT_ROLLED_BACK,
    EXIT_STOPPED,
    EXIT_STRATEGY_FAILED,
    WorkerSpec,
)
from services.strategy.zygote import Zygote, ZygoteGone
from shared.bus.bus import RedisBus
from shared.bus.port import Lease, StreamWriter
from shared.domain.journal import (
    EntriesSkipped,
    InputsConsumed,
    MarketAdopted,
    Started,
    StrategyFailed,
    StrategySnapshot,
)
from shared.domain.market import BarsWanted, FeedHealth, MarketState
from shared.domain.order import SubmitOrder
from shared.runtime.clock import SystemClock
from shared.wire import topics
from shared.wire.codec import decode, encode
from tests.support.eventually import eventually
from tests.support.strategy_rows import contract, feed_state, quote
from tests.support.valkey import ValkeyServer, running_valkey

pytestmark = pytest.mark.integration

MD, INTENTS, JOURNAL = topics.md("MES"), topics.intents(1001, "b1"), topics.journal(1001, "b1")
OBEDIENT = "tests.support.strategy_burners:Obedient"


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


_zygotes: list[Zygote] = []


@pytest.fixture(autouse=True)
def zygote() -> Iterator[None]:
    """Fork one for each test, before it has a loop."""
    _zygotes.append(Zygote.fork())
    yield
    _zygotes.pop().close()


class Rig:
    """A server, the feed's place, and one worker at a time."""

    def __init__(self, server: ValkeyServer, bus: RedisBus, feed: StreamWriter, lease: Lease) -> None:
        self.server, self.bus, self.feed, self.lease = server, bus, feed, lease
        self.worker: WorkerProcess | None = None
        self.zygote = _zygotes[-1]
        self.spawn = ProcessSpawn(self.zygote)

    def start(
        self, strategy_class: str = OBEDIENT, skip_behind_s: float = 30.0, **settings: object
    ) -> WorkerProcess:
        self.worker = self.spawn.start(self.spec(strategy_class, skip_behind_s, **settings))
        return self.worker

    def spec(
        self, strategy_class: str = OBEDIENT, skip_behind_s: float = 30.0, **settings: object
    ) -> WorkerSpec:
        return WorkerSpec(
            strategy_id="b1", strategy_class=strategy_class, symbols=("MES",), settings=settings, env="sim",
            account_id=1001, lease=tuple(self.lease), redis=dataclasses.asdict(self.server.address),
            build="test", max_input_age_s=60.0, commit_interval_ms=50, skip_behind_s=skip_behind_s,
        )  # fmt: skip

    async def ready(self) -> None:
        worker = self.worker
        assert worker is not None
        await eventually(lambda: worker.look().ready or worker.exit_code() is not None, what="worker ready")
        assert worker.exit_code() is None, worker.look()

    async def exit_code(self) -> int:
        worker = self.worker
        assert worker is not None
        await eventually(lambda: worker.exit_code() is not None, what="worker gone")
        code = worker.exit_code()
        assert code is not None
        return code

    def drop(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    async def quotes(self, n: int) -> None:
        for _ in range(n):
            self.feed.append(quote(100.0, ts_ns=time.time_ns()))
        await self.feed.flush()

    async def intents(self) -> list[SubmitOrder]:
        entries = await self.bus.last(INTENTS, 100_000)
        out = [decode(e.kind, e.value) for e in entries]
        assert all(isinstance(i, SubmitOrder) for i in out)
        return out  # type: ignore[return-value]

    async def wait_for_intents(self, n: int) -> None:
        async def there() -> bool:
            return await self.bus.length(INTENTS) >= n

        await eventually(there, what=f"{n} intents")

    async def journal(self) -> list[object]:
        return [decode(e.kind, e.value) for e in await self.bus.last(JOURNAL, 100_000)]


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    with running_valkey() as server:
        clock = SystemClock()
        bus = RedisBus(server.address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
        await bus.ready()
        feed = await bus.open(MD)
        lease = await bus.lease(topics.lease(1001, "b1"), "test", 60)
        assert isinstance(lease, Lease)
        it = Rig(server, bus, feed, lease)
        try:
            feed.append(contract())
            feed.append(feed_state(ts_ns=time.time_ns()))
            await feed.flush()
            yield it
        finally:
            it.drop()
            await bus.close()


@pytest.mark.proves("I-13")
def test_intents_journal_and_snapshot_are_one_step() -> None:
    async def scenario() -> None:
        async with rig() as it:
            it.start()
            await it.ready()
            await it.quotes(100)
            await it.wait_for_intents(10)
            intents = await it.intents()
            assert [i.reason for i in intents] == [f"quote {10 * n}" for n in range(1, 11)]
            journal = await it.journal()
            assert isinstance(journal[0], Started) and journal[0].reason == "fresh"
            named = [i for m in journal if isinstance(m, InputsConsumed) for i in m.intents]
            assert named == [i.client_order_id for i in intents]
            value = await it.bus.get(topics.state(1001, "b1"))
            assert value is not None
            snapshot = msgspec.json.decode(value, type=StrategySnapshot)
            assert msgspec.json.decode(snapshot.strategy) == {"count": 100}

    asyncio.run(scenario())


@pytest.mark.proves("I-13", "I-18")
def test_killed_again_and_again_every_intent_is_there_once() -> None:
    """SIGKILL at 12 moments while quotes pour in: counts and ids come out as without a crash."""

    async def scenario() -> None:
        async with rig() as it:
            total = 0
            for turn in range(12):
                it.start()
                if turn % 3:
                    await it.ready()
                await it.quotes(157)
                total += 157
                worker = it.worker
                assert worker is not None
                await eventually(lambda w=worker, t=turn: w.look().handled > t * 11 or w.look().commits > 1)  # type: ignore[misc]
                worker.kill()
                await it.exit_code()
                it.drop()
            it.start()
            await it.wait_for_intents(total // 10)
            intents = await it.intents()
            assert [i.reason for i in intents] == [f"quote {10 * n}" for n in range(1, total // 10 + 1)]
            assert len({i.client_order_id for i in intents}) == len(intents)
            seqs = [e.seq for e in await it.bus.last(INTENTS, 100_000)]
            assert seqs == list(range(1, len(seqs) + 1))

    asyncio.run(scenario())


@pytest.mark.proves("I-12")
def test_redis_killed_and_back() -> None:
    async def scenario() -> None:
        async with rig() as it:
            worker = it.start()
            await it.ready()
            await it.quotes(25)
            await it.wait_for_intents(2)
            it.server.kill()
            await eventually(lambda: worker.look().away, what="worker notices")
            it.server.start()
            await eventually(lambda: not worker.look().away, what="worker is back")
            await it.quotes(25)
            await it.wait_for_intents(5)
            assert [i.reason for i in await it.intents()] == [f"quote {10 * n}" for n in range(1, 6)]
            assert worker.exit_code() is None

    asyncio.run(scenario())


@pytest.mark.proves("I-17")
def test_lease_taken_by_another_stops_the_worker() -> None:
    async def scenario() -> None:
        async with rig() as it:
            it.start()
            await it.ready()
            await it.bus.release(it.lease)
            assert isinstance(await it.bus.lease(it.lease.key, "other", 60), Lease)
            await it.quotes(10)
            assert await it.exit_code() == EXIT_FENCED
            assert await it.bus.length(INTENTS) == 0

    asyncio.run(scenario())


@pytest.mark.proves("I-16")
def test_stream_that_ends_before_the_workers_place_starts_it_anew() -> None:
    """Redis lost what the worker had read, and the clock was set back: it would be deaf for ever."""

    async def scenario() -> None:
        async with rig() as it:
            it.start()
            await it.ready()
            await it.quotes(10)
            await it.wait_for_intents(1)
            newest = (await it.bus.last(MD))[0]
            await it.bus.delete(MD)
            earlier = f"{newest.ts_ms - 3_600_000}-{newest.seq + 1}"
            await it.bus._once.execute_command("XADD", MD, earlier, newest.kind, newest.value)
            assert await it.exit_code() == EXIT_ROLLED_BACK

    asyncio.run(scenario())


def test_raising_strategy_is_journaled_and_restarts_from_its_snapshot() -> None:
    async def scenario() -> None:
        async with rig() as it:
            it.start("tests.support.strategy_burners:Raise")
            await it.ready()
            await it.quotes(3)
            assert await it.exit_code() == EXIT_STRATEGY_FAILED
            assert it.worker is not None
            assert not it.worker.look().busy, "it raised; it did not hang while that was journaled"
            failed = (await it.journal())[-1]
            assert isinstance(failed, StrategyFailed)
            assert "ZeroDivisionError: on purpose" in failed.error
            assert failed.cause.startswith("md:{MES}@")
            it.drop()
            it.start("tests.support.strategy_burners:Raise")
            assert await it.exit_code() == EXIT_STRATEGY_FAILED
            again = [m for m in await it.journal() if isinstance(m, StrategyFailed)]
            assert [m.cause for m in again] == [failed.cause] * 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("strategy_class", "words"),
    [
        ("strategies.nowhere:X", "there is no module"),
        ("tests.support.strategy_burners:NotSaved", "NotSaved.handle"),
    ],
)
def test_refused_instance_says_why(strategy_class: str, words: str) -> None:
    async def scenario() -> None:
        async with rig() as it:
            worker = it.start(strategy_class)
            assert await it.exit_code() == EXIT_REFUSED
            assert words in worker.look().reason

    asyncio.run(scenario())


def test_stop_commits_everything() -> None:
    async def scenario() -> None:
        async with rig() as it:
            worker = it.start()
            await it.ready()
            await it.quotes(7)
            await eventually(lambda: worker.look().handled >= 9)
            worker.ask_stop()
            assert await it.exit_code() == 0
            value = await it.bus.get(topics.state(1001, "b1"))
            assert value is not None
            snapshot = msgspec.json.decode(value, type=StrategySnapshot)
            assert msgspec.json.decode(snapshot.strategy) == {"count": 7}

    asyncio.run(scenario())


def test_worker_without_feed_history_adopts_the_conflated_view() -> None:
    async def scenario() -> None:
        async with rig() as it:
            await it.bus.delete(MD)
            seen = MarketState(
                symbol="MES", contract_id="C", health=FeedHealth.LIVE, bid_px=1.0, ask_px=1.25, last_px=1.0,
                crossed=False, tick_size="0.25", tick_value="1.25", ts_event_ns=1, ts_asof_ns=time.time_ns(),
            )  # fmt: skip
            await it.bus.set(topics.quote("MES"), encode(seen))
            it.start()
            await it.ready()
            await it.quotes(10)
            await it.wait_for_intents(1)
            assert any(isinstance(m, MarketAdopted) for m in await it.journal())

    asyncio.run(scenario())


@pytest.mark.proves("I-24")
def test_strategy_that_is_too_slow_skips_to_the_newest() -> None:
    async def scenario() -> None:
        async with rig() as it:
            it.start("tests.support.strategy_burners:Burn", skip_behind_s=2.0, burn_ms=40)
            await it.ready()
            worker = it.worker
            assert worker is not None

            async def skipped() -> bool:
                await it.quotes(20)
                return any(isinstance(m, EntriesSkipped) for m in await it.journal())

            await eventually(skipped, within_s=30, what="entries skipped")
            assert worker.exit_code() is None

    asyncio.run(scenario())


def test_worker_asks_for_the_bars_of_its_strategy() -> None:
    async def scenario() -> None:
        async with rig() as it:
            it.start(bar_interval_s=300)
            await it.ready()
            wishes = await it.bus.hash_get(topics.BARS_WANTED)
            assert wishes == {"1001:b1": encode(BarsWanted(interval_s=300, symbols=["MES"]))}

    asyncio.run(scenario())


def test_page_tells_which_entries_are_consumed() -> None:
    async def scenario() -> None:
        async with rig() as it:
            worker = it.start()
            await it.ready()
            await it.quotes(50)
            heads = await it.bus.heads([topics.orders(1001), MD])
            assert heads == {topics.orders(1001): 0, MD: 52}
            await eventually(lambda: worker.look().seqs[:3] == (0, 52, 0), what="all consumed")

    asyncio.run(scenario())


def test_many_workers_of_one_zygote_end_each_in_its_own_way() -> None:
    """How each ended is told apart, and a lost lease is no kill."""

    async def scenario() -> None:
        async with rig() as it:
            killed, stopped, refused = it.start(), it.start(), it.start("strategies.breakout:Nobody")
            assert len({killed.pid, stopped.pid, refused.pid}) == 3
            killed.kill()
            stopped.ask_stop()
            workers = (killed, stopped, refused)
            await eventually(lambda: all(w.exit_code() is not None for w in workers), what="all gone")
            assert killed.exit_code() == -signal.SIGKILL
            # Before it listens for the signal, it is ended by it.
            assert stopped.exit_code() in (EXIT_STOPPED, -signal.SIGTERM)
            assert refused.exit_code() == EXIT_REFUSED
            for worker in (killed, stopped):
                worker.close()

    asyncio.run(scenario())


def test_workers_draw_chance_of_their_own() -> None:
    """Forked off one process, they would otherwise all draw what it would have drawn next."""

    async def scenario() -> None:
        async with rig() as it:
            drawn = []
            for _ in range(2):
                worker = it.start("tests.support.strategy_burners:Drawing")
                await it.exit_code()
                drawn.append(worker.look().reason)
                it.drop()
            assert drawn[0].startswith("RuntimeError: drew ")
            assert drawn[0] != drawn[1]

    asyncio.run(scenario())


def test_without_its_zygote_no_worker_lives_and_none_is_started() -> None:
    async def scenario() -> None:
        async with rig() as it:
            worker = it.start()
            await it.ready()
            os.kill(it.zygote.pid, signal.SIGKILL)
            assert await it.exit_code() == -signal.SIGKILL
            with pytest.raises(ZygoteGone, match=str(it.zygote.pid)):
                it.spawn.start(it.spec())
            await eventually(lambda: not is_running(worker.pid), what="the kernel has ended it")

    asyncio.run(scenario())


HOST = """
from services.strategy.spawn import ProcessSpawn
from services.strategy.spec import WorkerSpec
from services.strategy.zygote import Zygote
spec = WorkerSpec(strategy_id='b1', strategy_class='{strategy}', symbols=('MES',), settings={{}}, env='sim',
    account_id=1001, lease=('l', 'h', 1), build='x', redis={{'unix_path': '/nowhere/redis.sock'}})
worker = ProcessSpawn(Zygote.fork()).start(spec)
"""


def test_a_host_without_standard_input_has_workers() -> None:
    """What is handed to the zygote must not get the number that is the worker's own input."""
    code = (
        f"import os, time\nos.close(0)\n{HOST.format(strategy='strategies.breakout:Nobody')}"
        "while (code := worker.exit_code()) is None:\n"
        "    time.sleep(0.01)\n"
        "print(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1:] == [str(EXIT_REFUSED)], done.stderr


def test_worker_dies_with_its_host() -> None:
    """A host that is killed leaves no worker behind that nobody watches."""
    code = (
        f"import time\n{HOST.format(strategy='strategies.breakout:Breakout')}"
        "print(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert host.stdout is not None
    try:
        pid = int(host.stdout.readline())
        os.kill(pid, 0)
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()
        host.stdout.close()

    asyncio.run(eventually(lambda: not is_running(pid), what="worker gone"))
