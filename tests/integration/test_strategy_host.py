"""Strategy hosts as real processes: misbehaving strategies, even spread, and a host that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.bus.bus import RedisBus
from shared.domain.control import Beat
from shared.domain.market import BarsWanted
from shared.runtime.clock import SystemClock
from shared.wire import topics
from shared.wire.codec import decode, encode
from tests.support.eventually import TIME_FACTOR, eventually
from tests.support.strategy_rows import contract, feed_state, quote
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.integration

BURNERS = "tests.support.strategy_burners"
SETTINGS = """
[julie]
symbols = ["MES"]
[redis]
url = "unix://{socket}"
[strategy]
max_input_age_s = 60.0
event_deadline_ms = 300
memory_max_mb = 150
failures_max = 2
"""


class Rig:
    """A server and hosts; all of them see the same settings."""

    def __init__(self, folder: Path, bus: RedisBus) -> None:
        self.folder, self.bus = folder, bus
        self.hosts: dict[str, subprocess.Popen[bytes]] = {}

    def instances(self, **classes: str) -> None:
        with (self.folder / "julie.toml").open("a") as file:
            for name, path in classes.items():
                file.write(f'[[strategy.instances]]\nid = "{name}"\nclass = "{path}"\nsymbols = ["MES"]\n')

    def host(self, name: str) -> None:
        environ = {**os.environ, "JULIE_CONFIG": str(self.folder / "julie.toml"), "JULIE_PROCESS": name}
        self.hosts[name] = subprocess.Popen([sys.executable, "-m", "services.strategy"], env=environ)

    async def beat(self, process: str) -> Beat | None:
        value = await self.bus.get(topics.beat(process))
        beat = decode(b"beat", value) if value else None
        assert beat is None or isinstance(beat, Beat)
        return beat

    async def state(self, instance: str) -> str:
        beat = await self.beat(f"strategy:{instance}")
        return beat.detail.get("state", "") if beat else ""

    async def runs_one(self) -> None:
        """Start host `h1` with one instance, `a`, that runs."""
        self.instances(a=f"{BURNERS}:Obedient")
        self.host("h1")

        async def runs() -> bool:
            return await self.state("a") == "running"

        await eventually(runs, within_s=20)

    async def placement(self, names: list[str]) -> Counter[str]:
        """Return host -> running instances; a stale beat of a dead host does not count."""
        count: Counter[str] = Counter()
        for name in names:
            beat = await self.beat(f"strategy:{name}")
            fresh = beat is not None and time.time_ns() - beat.ts_ns < 2_000_000_000
            if fresh and beat is not None and beat.detail.get("state") == "running":
                count[beat.host] += 1
        return count


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    with running_valkey() as server:
        clock = SystemClock()
        bus = RedisBus(server.address, now_ns=clock.now_ns, monotonic_ns=clock.monotonic_ns)
        await bus.ready()
        (server.folder / "julie.toml").write_text(SETTINGS.format(socket=server.socket))
        it = Rig(server.folder, bus)
        feed = await bus.open(topics.md("MES"))
        feed.append(contract())
        feed.append(feed_state(ts_ns=time.time_ns()))

        async def pour() -> None:
            while True:
                feed.append(quote(100.0, ts_ns=time.time_ns()))
                await asyncio.sleep(0.02)

        pouring = asyncio.create_task(pour())
        try:
            yield it
        finally:
            pouring.cancel()
            for host in it.hosts.values():
                host.terminate()
            for host in it.hosts.values():
                host.wait(10 * TIME_FACTOR)
            await bus.close()


@pytest.mark.proves("I-19")
def test_misbehaving_strategies_disturb_nobody() -> None:
    async def scenario() -> None:
        async with rig() as it:
            it.instances(
                good=f"{BURNERS}:Obedient",
                spin=f"{BURNERS}:Spin",
                sleep=f"{BURNERS}:Sleep",
                leak=f"{BURNERS}:Leak",
                error=f"{BURNERS}:Raise",
                missing="strategies.nowhere:X",
            )
            it.host("h1")
            expected = {
                "spin": "a callback took longer than 300 ms",
                "sleep": "a callback took longer than 300 ms",
                "leak": "memory_max_mb",
                "error": "ZeroDivisionError: on purpose",
                "missing": "there is no module 'strategies.nowhere'",
            }

            async def all_off() -> bool:
                for name, words in expected.items():
                    state = await it.state(name)
                    if not state.startswith("off") or words not in state:
                        return False
                return True

            await eventually(all_off, within_s=40, what="all of them switched off, with their reasons")
            before = await it.bus.length(topics.intents(1001, "good"))

            async def goes_on() -> bool:
                return await it.bus.length(topics.intents(1001, "good")) > before + 3

            await eventually(goes_on, what="the good one trades on")
            assert await it.state("good") == "running"
            host = await it.beat("strategy@h1")
            assert host is not None and host.ready and "off:spin" in host.detail

    asyncio.run(scenario())


def test_host_tells_how_far_behind_its_workers_are_and_forgets_old_wishes() -> None:
    async def scenario() -> None:
        async with rig() as it:
            wish = BarsWanted(interval_s=300, symbols=["MES"])
            await it.bus.hash_set(
                topics.BARS_WANTED, dict.fromkeys(("1001:gone", "1001:good", "7:other"), encode(wish))
            )
            it.instances(good=f"{BURNERS}:Obedient", slow=f"{BURNERS}:Burn")
            it.host("h1")

            async def behind() -> bool:
                good, slow = await it.beat("strategy:good"), await it.beat("strategy:slow")
                md = topics.md("MES")
                return bool(good and slow and slow.lag.get(md, 0) > 100 > good.lag.get(md, 1_000))

            await eventually(behind, within_s=30, what="the slow one is behind")
            assert set(await it.bus.hash_get(topics.BARS_WANTED)) == {"1001:good", "1001:slow", "7:other"}

    asyncio.run(scenario())


def test_instances_spread_over_hosts_and_move_when_one_is_killed() -> None:
    names = ["a", "b", "c", "d", "e"]

    async def scenario() -> None:
        async with rig() as it:
            it.instances(**dict.fromkeys(names, f"{BURNERS}:Obedient"))
            it.host("h1")

            async def one_has_all() -> bool:
                return await it.placement(names) == {"h1": 5}

            await eventually(one_has_all, within_s=20, what="one host runs all")
            it.host("h2")
            it.host("h3")

            async def even() -> bool:
                return sorted((await it.placement(names)).values()) == [1, 2, 2]

            await eventually(even, within_s=30, what="three hosts share")
            it.hosts["h1"].send_signal(signal.SIGKILL)
            killed = time.monotonic()

            async def moved() -> bool:
                placed = await it.placement(names)
                return set(placed) == {"h2", "h3"} and placed.total() == 5

            await eventually(moved, within_s=20, what="the others took over")
            assert time.monotonic() - killed < 10 * TIME_FACTOR
            for name in names:
                entries = await it.bus.last(topics.intents(1001, name), 10_000)
                ids = [getattr(decode(e.kind, e.value), "client_order_id", "") for e in entries]
                assert len(set(ids)) == len(ids)
                reasons = [getattr(decode(e.kind, e.value), "reason", "") for e in entries]
                assert reasons == [f"quote {10 * n}" for n in range(1, len(reasons) + 1)]

    asyncio.run(scenario())


def test_stopped_host_leaves_no_worker_and_frees_its_leases() -> None:
    async def scenario() -> None:
        async with rig() as it:
            await it.runs_one()
            beat = await it.beat("strategy:a")
            assert beat is not None
            it.hosts["h1"].terminate()
            assert it.hosts["h1"].wait(10) == 0
            with pytest.raises(ProcessLookupError):
                os.kill(beat.pid, 0)
            fields = await it.bus.hash_get(topics.lease(1001, "a"))
            assert fields["holder"] == b""

    asyncio.run(scenario())


@pytest.mark.proves("I-20")
def test_a_worker_that_stands_still_is_killed_and_runs_again() -> None:
    """Stopped between two callbacks: it was called alive for ever."""

    async def scenario() -> None:
        async with rig() as it:
            await it.runs_one()
            stopped = await it.beat("strategy:a")
            assert stopped is not None
            os.kill(stopped.pid, signal.SIGSTOP)

            async def runs_again() -> bool:
                beat = await it.beat("strategy:a")
                return beat is not None and beat.pid != stopped.pid and beat.ready

            await eventually(runs_again, within_s=20, what="another worker of it runs")
            assert "stands still" in await it.state("a") or "a callback took" in await it.state("a")

    asyncio.run(scenario())


def test_host_that_has_lost_its_zygote_fails() -> None:
    """Whoever started it starts another one: without a zygote none of its workers would ever run again."""

    async def scenario() -> None:
        async with rig() as it:
            await it.runs_one()
            host = it.hosts["h1"]
            (zygote,) = [pid for pid in children(host.pid) if comm(pid) == "zygote"]
            os.kill(zygote, signal.SIGKILL)
            assert host.wait(20 * TIME_FACTOR) not in (0, -signal.SIGKILL)

    asyncio.run(scenario())


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
