"""What guard reads from the streams: its places in them, and whose word is for it, on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import pytest

from services.guard.config import GuardConfig
from services.guard.events import Send
from services.guard.shell import Shell as Guard
from services.guard.state import Enforcing
from services.guard.store import RecordFile
from shared.broker.port import Accepted, NotSent, OrderPort, Outcome
from shared.bus.port import Fenced, RolledBack
from shared.domain.control import Halt, HaltKind, Resume
from shared.domain.flat import Close
from shared.wire import topics
from tests.support.eventually import eventually
from tests.support.simulator import ACCOUNT_ID
from tests.support.trading_floor import Floor, trading_floor

pytestmark = pytest.mark.integration


class FailingFile(RecordFile):
    failing = True

    def _read(self) -> bytes:
        if self.failing:
            raise OSError("disk I/O error")
        return super()._read()

    def _replace(self, value: bytes) -> None:
        if self.failing:
            raise OSError("disk I/O error")
        super()._replace(value)


def guard_of(floor: Floor, file: RecordFile | None = None) -> Guard:
    adapter = floor.adapter()
    return Guard(
        floor.context("guard", GuardConfig, profile="none"),
        orders=adapter.orders(),
        account=adapter.account(),
        market=adapter.market(),
        watch=floor.watch,
        file=file or RecordFile(floor.folder / "guard.json"),
    )


@asynccontextmanager
async def guarding(
    floor: Floor, file: RecordFile | None = None
) -> AsyncIterator[tuple[Guard, asyncio.Task[None]]]:
    """Run guard until it knows the account, and to the end of the block."""
    guard = guard_of(floor, file)
    running = asyncio.create_task(guard.run())
    try:
        await eventually(lambda: guard.state.truth is not None, what="guard knows the account")
        yield guard, running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.proves("I-16")
def test_guard_begins_anew_where_a_stream_ends_before_its_place() -> None:
    """Redis came back with less, the wall clock an hour back: it would have heard nobody for an hour."""

    async def scenario() -> None:
        async with trading_floor() as floor, guarding(floor) as (guard, running):
            await floor.command(Halt(kind=HaltKind.LIVENESS, reason="t", issuer="t", ts_ns=1))
            stream = topics.CONTROL_OPERATOR
            await eventually(lambda: guard._reader.cursor(stream) != "$", what="guard has read it")
            await floor.bus.delete(stream)
            await floor.bus._once.execute_command("XADD", stream, "1000-1", "halt", b"null")
            await asyncio.wait({running}, timeout=20)
            with pytest.raises(ExceptionGroup) as caught:
                running.result()
            assert caught.group_contains(RolledBack, match=f"{stream} ends before our place")

    asyncio.run(scenario())


def test_guard_keeps_no_closing_hours_by_its_own_clock_before_it_has_asked_the_broker() -> None:
    """Our clock may be an hour ahead: it would close everything at a start, without a look."""

    async def scenario() -> None:
        async with trading_floor() as floor:
            floor.julie = floor.julie.model_copy(update={"market_clock": "system"})
            assert guard_of(floor)._now().market_ns is None
            async with guarding(floor) as (guard, _):
                assert guard._now().market_ns is not None

    asyncio.run(scenario())


@pytest.mark.proves("I-29")
def test_arming_a_strategy_is_no_word_to_guard() -> None:
    """`julie resume --strategy` leaves every halt as it is, guard's latch too."""

    async def scenario() -> None:
        async with trading_floor() as floor, guarding(floor) as (guard, _):

            def heard() -> int:
                record = guard.state.record
                return len(record.resumes) if record is not None else 0

            said = Resume(
                kind=HaltKind.OPERATOR,
                reason="t",
                issuer="t",
                ts_ns=floor.clock.now_ns(),
                strategy_id="breakout",
            )
            await floor.command(said)
            stream = topics.CONTROL_OPERATOR
            await eventually(lambda: guard._reader.cursor(stream) != "$", what="guard has read it")
            await asyncio.sleep(0)
            assert heard() == 0
            await floor.command(msgspec.structs.replace(said, strategy_id=None))
            await eventually(lambda: heard() == 1, what="guard has heard a resume")

    asyncio.run(scenario())


@pytest.mark.proves("I-29")
def test_each_start_of_guard_makes_the_record_its_own() -> None:
    """One that was stopped, and wakes beside its successor, must find that the record is another's."""

    async def scenario() -> None:
        async with trading_floor() as floor:

            def lives() -> int:
                record = RecordFile(floor.folder / "guard.json").load(account_id=ACCOUNT_ID, since="")
                return record.lives if record is not None else -1

            async with guarding(floor):
                await eventually(lambda: lives() >= 0, what="guard has written its record")
            before = lives()
            async with guarding(floor):
                await eventually(lambda: lives() == before + 1, what="the next guard has taken it")

    asyncio.run(scenario())


@pytest.mark.proves("I-29")
def test_a_guard_that_could_not_read_the_record_writes_nothing_over_a_newer_guards() -> None:
    """It cannot tell that the file has changed; who is the newest guard, the stream can."""

    async def scenario() -> None:
        async with trading_floor() as floor:
            file = FailingFile(floor.folder / "guard.json")
            async with guarding(floor, file) as (guard, _):
                # It has asked, and found the disk failing: it asks again before it tries again.
                await eventually(lambda: guard.state.record_failure is not None, what="the disk fails")
                await floor.bus.open(topics.CONTROL_GUARD)
                file.path.write_text("the newer one's")
                file.failing = False
                await eventually(lambda: isinstance(guard._refused, Fenced), what="guard is told")
            assert file.path.read_text() == "the newer one's"

    asyncio.run(scenario())


def test_a_guard_that_could_not_read_the_record_writes_when_it_can() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            file = FailingFile(floor.folder / "guard.json")
            async with guarding(floor, file):
                file.failing = False
                await eventually(file.path.exists, what="the record is written")

    asyncio.run(scenario())


@pytest.mark.proves("I-17")
def test_a_guard_ends_when_another_has_opened_its_stream_though_neither_says_anything() -> None:
    """What it says next would be refused: execution would wait for its resume, and nobody would tell."""

    async def scenario() -> None:
        async with trading_floor() as floor, guarding(floor) as (_, running):
            await floor.bus.open(topics.CONTROL_GUARD)
            await asyncio.wait({running}, timeout=20)
            with pytest.raises(ExceptionGroup) as caught:
                running.result()
            assert caught.group_contains(Fenced)

    asyncio.run(scenario())


@pytest.mark.proves("I-26")
def test_a_remedy_that_waited_stays_when_nothing_demands_it_any_more() -> None:
    """By then it may be another position: a person has re-armed, or the closing hours are over."""

    class Orders:
        """Asks as the last thing before it sends, when a place in the request budget has come at last."""

        def __init__(self, guard: Guard) -> None:
            self.guard = guard
            self.asked: list[str | None] = []

        async def close_contract(
            self, account_id: int, contract_id: str, *, held: Callable[[], str | None]
        ) -> Outcome:
            self.asked.append(held())
            self.guard.state.enforcing = None
            self.asked.append(held())
            return NotSent(reason="held")

    async def scenario() -> None:
        async with trading_floor() as floor, guarding(floor) as (guard, _):
            orders = Orders(guard)
            guard._orders = cast(OrderPort, orders)
            guard.state.enforcing = Enforcing(reason="t", since=guard._now())
            await guard._send(Send(remedy=Close(contract_id="C"), sent_ns=1), guard.state.enforcing)
            assert orders.asked == [None, "nothing demands it any more"]

    asyncio.run(scenario())


class Told:
    """A broker's way in that sends all that is not held back, and remembers it."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.meanwhile = meanwhile
        self.demand: Callable[[], None] = lambda: None
        self.sent: list[str] = []
        self.held: list[str] = []

    async def close_contract(
        self, account_id: int, contract_id: str, *, held: Callable[[], str | None]
    ) -> Outcome:
        self.demand()
        self.meanwhile()
        why = held()
        if why is not None:
            self.held.append(why)
            return NotSent(reason=why)
        self.sent.append(contract_id)
        return Accepted()


def frozen(guard: Guard) -> None:
    """Make what the bus has said so far as old as a freeze makes it."""
    guard._fence.forget()


async def send_close(guard: Guard, orders: Told, check: Callable[[], Awaitable[None]] | None = None) -> None:
    """Have guard close, with nobody but this to ask the bus."""
    guard._orders = cast(OrderPort, orders)
    enforcing = Enforcing(reason="t", since=guard._now())
    orders.demand = lambda: setattr(guard.state, "enforcing", enforcing)  # no rule that a tick would see
    for task in asyncio.all_tasks():
        if task.get_name() == "check":
            task.cancel()
    frozen(guard)
    if check is not None:
        guard._fence.begin(check)
    await guard._send(Send(remedy=Close(contract_id="C"), sent_ns=1), enforcing)


@pytest.mark.proves("I-26")
def test_a_guard_that_wakes_beside_a_newer_one_closes_nothing() -> None:
    """By its old picture it would close what a person has allowed the newer one to hold."""

    async def scenario() -> None:
        async with trading_floor() as floor, guarding(floor) as (guard, _):
            orders = Told()
            await floor.bus.open(topics.CONTROL_GUARD)
            await send_close(guard, orders)
            assert (orders.sent, orders.held) == ([], [])
            assert isinstance(guard._refused, Fenced)

    asyncio.run(scenario())


@pytest.mark.proves("I-26")
def test_a_remedy_that_waited_stays_when_a_newer_guard_turns_up_meanwhile() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor, guarding(floor) as (guard, _):

            def taken_over() -> None:
                guard._refuse(RolledBack("the stream has lost entries"))
                guard._refuse(Fenced("epoch 1 is older than 2"))
                guard._refuse(RolledBack("the stream has lost entries"))

            orders = Told(meanwhile=taken_over)
            await send_close(guard, orders)
            assert orders.sent == []
            assert orders.held == ["a newer guard has taken over"]

    asyncio.run(scenario())


@pytest.mark.proves("I-26")
def test_a_bus_that_is_silent_or_has_lost_entries_keeps_no_close_back() -> None:
    async def silent() -> None:
        await asyncio.Event().wait()

    async def rolled_back() -> None:
        raise RolledBack("the stream has lost entries")

    async def scenario() -> None:
        async with trading_floor() as floor, guarding(floor) as (guard, _):
            orders = Told()
            began_ns = floor.clock.monotonic_ns()
            await send_close(guard, orders, silent)
            assert floor.clock.monotonic_ns() - began_ns < 1_000_000_000
            await send_close(guard, orders, rolled_back)
            assert orders.sent == ["C", "C"]

    asyncio.run(scenario())


@pytest.mark.proves("I-26")
def test_a_guard_that_is_frozen_while_it_asks_asks_again() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor, guarding(floor) as (guard, _):
            asked = 0

            async def frozen_once() -> None:
                nonlocal asked
                asked += 1
                if asked > 1:
                    raise Fenced("epoch 1 is older than 2")
                time.sleep(1.2)  # noqa: ASYNC251 - the whole process, as a freeze does
                await asyncio.Event().wait()

            orders = Told()
            await send_close(guard, orders, frozen_once)
            assert orders.sent == []
            assert isinstance(guard._refused, Fenced)

    asyncio.run(scenario())
