"""Execution when the broker's answers, Redis or the disk fail under it: one POST an intent, always."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from services.execution.events import HeartbeatHeard
from services.execution.ledger import Commit, LedgerFailed
from shared.broker.errors import HttpFailed
from shared.broker.port import AccountPort, OrderPort, OrderTicket, Outcome, Unknown
from shared.bus.port import RolledBack
from shared.domain.control import Halt, HaltKind, TradingState
from shared.domain.execution import OrderClaimed, OrderUpdated
from shared.domain.order import OrderStatus
from shared.wire import topics
from tests.support.simulator import ACCOUNT_ID
from tests.support.trading_floor import Floor, trading_floor

pytestmark = pytest.mark.integration

Place = Callable[[OrderTicket], Awaitable[Outcome]]


class FaultyOrders:
    """An order port whose `place` goes through `do`; counts every POST by its tag."""

    def __init__(self, port: OrderPort, do: Callable[[Place, OrderTicket], Awaitable[Outcome]]) -> None:
        self._port = port
        self._do = do
        self.posts: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def place(self, ticket: OrderTicket, *, held: Callable[[], str | None]) -> Outcome:
        self.posts[ticket.client_order_id] += 1
        return await self._do(partial(self._port.place, held=held), ticket)


class FaultyAccount:
    """An account port whose questions fail while `away` is set."""

    def __init__(self, port: AccountPort) -> None:
        self._port = port
        self.away = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not self.away or name not in ("orders_since", "fills_since", "positions", "order_by_id"):
            return found

        async def fail(*_: Any, **__: Any) -> None:
            raise HttpFailed(endpoint=name, reason="not answered with 200", http_status=503)

        return fail


async def lose_reply(place: Place, ticket: OrderTicket) -> Outcome:
    await place(ticket)
    return Unknown(reason="reset after the request had left")


async def lose_request(place: Place, ticket: OrderTicket) -> Outcome:
    return Unknown(reason="timeout")


def faulty(floor: Floor, do: Callable[[Place, OrderTicket], Awaitable[Outcome]]) -> list[FaultyOrders]:
    made: list[FaultyOrders] = []

    def wrap(port: OrderPort) -> OrderPort:
        made.append(FaultyOrders(port, do))
        return made[-1]  # type: ignore[return-value]

    floor.wrap_orders = wrap
    return made


@pytest.mark.proves("I-1", "I-5")
def test_lost_reply_is_found_and_never_sent_again() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            made = faulty(floor, lose_reply)
            execution = await floor.start_execution()
            state = execution.state
            name = await floor.submit(qty=2)
            await floor.until(
                lambda: name in state.orders and state.orders[name].cum_qty == 2, "found and filled"
            )
            await floor.until(lambda: f"{name}:sl" in state.orders, "its stop is adopted")
            assert made[0].posts == {name: 1}
            said = [m.status for m in await floor.published(OrderUpdated) if m.client_order_id == name]
            assert said[0] is OrderStatus.UNKNOWN or OrderStatus.NEW in said
            assert await floor.broker_net_qty() == 2

    asyncio.run(scenario())


@pytest.mark.proves("I-2", "I-5")
def test_lost_request_ends_absent_and_failed_searches_do_not_count() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            made = faulty(floor, lose_request)
            accounts: list[FaultyAccount] = []

            def wrap(port: AccountPort) -> AccountPort:
                accounts.append(FaultyAccount(port))
                return accounts[-1]  # type: ignore[return-value]

            floor.wrap_account = wrap
            floor.execution_settings = {"quarantine_s": 1.0}
            state = (await floor.start_execution()).state
            accounts[0].away = True
            name = await floor.submit()
            await floor.until(
                lambda: name in state.doubts and state.search_attempt >= 2, "it was asked about"
            )
            assert state.orders[name].status is OrderStatus.UNKNOWN
            assert state.doubts[name].good_searches == 0
            accounts[0].away = False
            await floor.until(lambda: state.orders[name].status is OrderStatus.ABSENT, "it is given up")
            assert made[0].posts == {name: 1}
            assert await floor.broker_net_qty() == 0

    asyncio.run(scenario())


@pytest.mark.proves("I-1", "I-18")
def test_killed_with_a_post_under_way() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            gate = asyncio.Event()

            async def hang(place: Place, ticket: OrderTicket) -> Outcome:
                await place(ticket)
                await gate.wait()
                raise AssertionError("the process is gone")

            made = faulty(floor, hang)
            floor.execution_settings = {"stop_wait_s": 0.0}
            await floor.start_execution()
            name = await floor.submit()
            await floor.until(lambda: made[0].posts[name] == 1, "it is under way")
            await floor.stop("execution")
            again = await floor.start_execution()
            await floor.until(lambda: again.state.orders[name].cum_qty == 1, "found after the restart")
            assert sum(one.posts[name] for one in made) == 1
            assert [m.client_order_id for m in await floor.published(OrderClaimed)] == [name]

    asyncio.run(scenario())


@pytest.mark.proves("I-16")
def test_emptied_redis_halts_and_is_written_again() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            execution = await floor.start_execution()
            name = await floor.submit()
            await floor.until(
                lambda: name in execution.state.orders and execution.state.orders[name].cum_qty == 1, "filled"
            )
            before = await floor.published(object)
            await floor.until(
                lambda: execution.state.standing.acked_seq >= 2, "the ledger knows what was acknowledged"
            )
            for key in (topics.orders(ACCOUNT_ID), topics.head(topics.orders(ACCOUNT_ID))):
                await floor.bus.delete(key)
            await floor.command(Halt(kind=HaltKind.LIVENESS, reason="t", issuer="t", ts_ns=1))
            running = floor._running["execution"]
            with pytest.raises(AssertionError) as failed:
                await floor.until(lambda: False, "it stops")
            assert "execution failed" in str(failed.value)
            group = failed.value.__cause__
            assert isinstance(group, ExceptionGroup) and group.subgroup(RolledBack) is not None
            assert running.done()
            await floor.stop("execution")
            again = await floor.start_execution()
            assert "Redis has lost entries" in again.state.standing.halts[HaltKind.INVARIANT]
            assert again.state.trading_state is TradingState.REDUCING
            after = await floor.published(object)
            assert after[: len(before)] == before

    asyncio.run(scenario())


@pytest.mark.proves("I-3")
def test_ledger_that_takes_no_writes_sends_nothing() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            made = faulty(floor, lose_request)
            execution = await floor.start_execution()

            tried: list[Commit] = []
            commit = execution._ledger.commit

            def full(batch: Commit) -> None:
                tried.append(batch)
                if len(tried) == 1:
                    raise LedgerFailed("database or disk is full")
                commit(batch)

            execution._ledger.commit = full  # type: ignore[method-assign]
            name = await floor.submit()
            with pytest.raises(AssertionError) as failed:
                await floor.until(lambda: False, "it stops")
            assert isinstance(failed.value.__cause__, ExceptionGroup)
            assert made[0].posts[name] == 0
            assert await floor.broker_net_qty() == 0
            # There is room again, but memory is ahead: its records would stand without their steps.
            with pytest.raises(LedgerFailed):
                execution._apply(HeartbeatHeard(at=execution._now()))
            assert len(tried) == 1

    asyncio.run(scenario())


@pytest.mark.proves("I-20")
def test_silent_heartbeat_denies() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            floor.execution_settings = {"risk": {"heartbeat_silence_ms_max": 600}}
            state = (await floor.start_execution()).state
            floor.heartbeat_silent = True
            heard_ns = state.heartbeat_ns
            assert heard_ns is not None
            await floor.until(
                lambda: floor.clock.monotonic_ns() - (state.heartbeat_ns or 0) > 700_000_000, "silence"
            )
            name = await floor.submit()
            await floor.until(lambda: name in state.orders, "decided")
            assert (state.orders[name].status, state.orders[name].reason) == (
                OrderStatus.DENIED,
                "heartbeat_silent",
            )

    asyncio.run(scenario())


@pytest.mark.proves("I-26")
def test_the_flag_file_halts_without_redis_and_stays_latched() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            execution = await floor.start_execution()
            floor.valkey.pause()
            try:
                (floor.folder / "halt").write_text("enough")
                await floor.until(
                    lambda: HaltKind.OPERATOR in execution._ledger.load().standing.halts,  # type: ignore[union-attr]
                    "the ledger has the halt",
                )
                assert execution.state.trading_state is TradingState.HALTED
            finally:
                floor.valkey.resume()
            (floor.folder / "halt").unlink()
            await floor.stop("execution")
            again = await floor.start_execution()
            assert again.state.trading_state is TradingState.HALTED
            assert "enough" in again.state.standing.halts[HaltKind.OPERATOR]

    asyncio.run(scenario())
