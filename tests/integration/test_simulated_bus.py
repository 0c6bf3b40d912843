"""The bridge to synchronous code, and what the simulation sees of a bus: the names of its calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from proof.simulation.bridge import await_, run_blocking, sleep
from proof.simulation.bus.address import SimAddress
from proof.simulation.bus.server import SimServer
from proof.simulation.calls import PlainCalls
from shared.bus.blocking import BlockingBus, Output
from shared.bus.port import BusAway, Lease
from shared.domain.market import Quote
from tests.support.buses import make_bus, run

pytestmark = pytest.mark.integration
T = TypeVar("T")


class Crash(BaseException):
    """The process is killed."""


class CrashingCalls(PlainCalls):
    """Ends the process around the effect of one call.

    Attributes:
        names: Of all calls so far.
        crash_at: Name of the call that ends it.
        before: Whether the effect is left undone.
    """

    def __init__(self, crash_at: str = "", *, before: bool = False) -> None:
        self.names: list[str] = []
        self.crash_at = crash_at
        self.before = before

    async def call(self, port: str, name: str, effect: Callable[[], T], lost: Callable[[], Exception]) -> T:
        assert port == "bus"
        self.names.append(name)
        if name == self.crash_at and self.before:
            raise Crash
        answer = effect()
        if name == self.crash_at:
            raise Crash
        return answer


def quote(n: int) -> Quote:
    return Quote(symbol="MES", ts_event_ns=n, ts_recv_ns=n, bid_px=5_000.25, ask_px=5_000.5)


def sim_server() -> SimServer:
    return SimServer(lambda: time.time_ns() // 1000)


def test_synchronous_code_waits_in_the_loop() -> None:
    """Two of them and a task take turns in one thread."""
    order: list[str] = []

    def work(name: str, naps: list[float]) -> str:
        for nap in naps:
            order.append(name)
            sleep(nap)
        return name

    async def scenario() -> None:
        both = await asyncio.gather(
            run_blocking(lambda: work("a", [0.01, 0.05])), run_blocking(lambda: work("b", [0.03, 0.01]))
        )
        assert both == ["a", "b"]

    asyncio.run(scenario())
    assert order == ["a", "b", "a", "b"]


def test_an_error_is_raised_where_it_was_waited_for() -> None:
    async def fails() -> None:
        raise BusAway("gone")

    def work() -> str:
        try:
            await_(fails())
        except BusAway as away:
            return str(away)
        raise AssertionError

    assert asyncio.run(run_blocking(work)) == "gone"


@pytest.mark.parametrize("cancelled", [False, True])
def test_what_ends_a_process_ends_its_synchronous_code(cancelled: bool) -> None:
    """It unwinds, and its cleaning up reaches nothing any more."""
    reached: list[str] = []

    async def ends() -> None:
        if cancelled:
            await asyncio.sleep(100)
        raise Crash

    async def never() -> None:
        reached.append("the outside")

    def work() -> None:
        try:
            await_(ends())
        except Exception:
            reached.append("an except clause")
        finally:
            reached.append("finally")
            await_(never())

    async def scenario() -> None:
        task = asyncio.ensure_future(run_blocking(work))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError if cancelled else Crash):
            await task

    asyncio.run(scenario())
    assert reached == ["finally"]


def test_waiting_outside_of_the_bridge_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="run_blocking"):
        sleep(1)


def test_every_command_of_the_bus_is_one_call() -> None:
    calls = CrashingCalls()

    async def scenario() -> None:
        bus = make_bus(SimAddress(server=sim_server(), calls=calls))
        await bus.ready()
        writer = await bus.open("s")
        writer.append(quote(1))
        await writer.flush()
        await bus.get("k")
        calls.names.clear()
        await bus.get("k")
        await bus.hash_set("h", {"a": b"1"})
        await bus.set_and_publish("k", "beats", b"1")
        writer.append(quote(2))
        writer.append(quote(3))
        await writer.flush()
        await bus.lease("l", "me", 5)
        await bus.last("s")
        assert calls.names == ["GET", "MULTI", "SET", "julie_append", "julie_lease", "XREVRANGE"]

    run(scenario)


@pytest.mark.parametrize("before", [True, False])
def test_a_worker_is_killed_around_its_step(before: bool) -> None:
    """Before the effect nothing is there, after it everything; the next worker repeats it harmlessly."""
    server = sim_server()
    outputs = [Output("journal", 1, [quote(1)]), Output("intents", 1, [quote(2), quote(3)])]

    def worker(calls: PlainCalls, lease: Lease) -> None:
        bus = BlockingBus(SimAddress(server=server, calls=calls), now_ns=time.time_ns, block_ms=10)
        bus.ready()
        bus.step_and_read(lease, "state", b"after", outputs, {"md": b"0-0"}, 10)

    async def scenario() -> None:
        bus = make_bus(SimAddress(server=server, calls=PlainCalls()))
        await bus.ready()
        lease = await bus.lease("l", "me", 5)
        assert isinstance(lease, Lease)
        with pytest.raises(Crash):
            await run_blocking(lambda: worker(CrashingCalls("julie_step", before=before), lease))
        done = 0 if before else 1
        assert await bus.length("journal") == done
        assert await bus.length("intents") == 2 * done
        assert await bus.get("state") == (None if before else b"after")
        await run_blocking(lambda: worker(PlainCalls(), lease))
        assert await bus.length("intents") == 2

    run(scenario)


def test_two_runs_are_the_same() -> None:
    """No order of it hangs on addresses or hashes: the file is the same, byte for byte."""

    def log() -> list[list[list[bytes]]]:
        server = SimServer(lambda: 1_700_000_000_000_000)

        async def scenario() -> None:
            address = SimAddress(server=server, calls=PlainCalls())
            buses = [make_bus(address) for _ in range(3)]
            for bus in buses:
                await bus.ready()

            async def write(number: int) -> None:
                writer = await buses[number]._fcall("julie_open", [f"s{number}:head"], [])
                assert writer == [1, 0]
                for n in range(20):
                    await buses[number].set(f"k{n}", b"%d" % number)
                    await buses[number].publish("beats", b"x")

            await asyncio.gather(*(write(number) for number in range(3)))

        run(scenario)
        return server.log

    assert log() == log()
