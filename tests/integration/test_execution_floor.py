"""Execution over a real bus against the simulated venue, with the real feed and the real position sync."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from shared.domain.control import Flatten, HaltKind, Resume, TradingState
from shared.domain.execution import FlattenFinished, OrderDenied, OrderFilled, OrderUpdated
from shared.domain.order import ClosePosition, OrderStatus, OrderType, Side
from shared.wire import topics
from tests.support.simulator import ACCOUNT_ID
from tests.support.trading_floor import trading_floor

pytestmark = pytest.mark.integration


@pytest.mark.proves("I-6", "I-8")
def test_entry_children_close_and_books_agree() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            execution = await floor.start_execution()
            state = execution.state
            name = await floor.submit(qty=2)
            await floor.until(
                lambda: name in state.orders and state.orders[name].cum_qty == 2, "the entry fills"
            )
            contract_id = state.orders[name].contract_id
            await floor.until(
                lambda: all(
                    f"{name}:{leg}" in state.orders
                    and state.orders[f"{name}:{leg}"].status is OrderStatus.NEW
                    for leg in ("sl", "tp")
                ),
                "the children work",
            )
            assert await floor.broker_net_qty() == 2 == state.net_qty("s1", contract_id)
            now_ns = floor.clock.now_ns()
            await floor.intend(
                ClosePosition(
                    client_order_id="t.close",
                    strategy_id="s1",
                    symbol="MES",
                    cause="md:{MES}@1-2",
                    ts_cause_ns=now_ns,
                    expires_at_ns=now_ns + 5_000_000_000,
                )
            )
            await floor.until(
                lambda: not state.open and state.net_qty("s1", contract_id) == 0, "all is closed"
            )
            assert await floor.broker_net_qty() == 0
            booked, fees = await floor.broker_pnl()
            position = state.book("s1", contract_id).position
            assert (position.realized_pnl, position.fees) == (booked, fees)
            fills = await floor.published(OrderFilled)
            assert sum(fill.realized_pnl for fill in fills) == booked
            assert not state.standing.halts
            lag = execution._ctx.beat.lag
            await floor.until(lambda: execution._ctx.beat.lag is not lag, "how far behind is told again")
            assert execution._ctx.beat.lag[topics.intents(ACCOUNT_ID, "s1")] == 0

    asyncio.run(scenario())


@pytest.mark.proves("I-18")
def test_restart_keeps_everything() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            execution = await floor.start_execution()
            name = await floor.submit()
            await floor.until(
                lambda: (
                    f"{name}:sl" in execution.state.orders
                    and execution.state.orders[f"{name}:sl"].status is OrderStatus.NEW
                ),
                "the stop works",
            )
            before = (execution.state.orders, execution.state.fills)
            await floor.stop("execution")
            again = await floor.start_execution()
            assert (again.state.orders, again.state.fills) == before
            assert again.state.trading_state is TradingState.ACTIVE
            other = await floor.submit(Side.SELL, reduce_only=True, bracket=None)
            await floor.until(
                lambda: other in again.state.orders and again.state.orders[other].cum_qty, "exit fills"
            )
            await floor.until(lambda: not again.state.open, "the children are gone")

    asyncio.run(scenario())


@pytest.mark.proves("I-26")
def test_flatten_and_resume() -> None:
    async def scenario() -> None:
        async with trading_floor() as floor:
            execution = await floor.start_execution()
            state = execution.state
            name = await floor.submit(qty=2)
            market = state.markets["MES"]
            assert market.bid_px is not None
            resting = await floor.submit(
                order_type=OrderType.LIMIT, limit_price=Decimal(str(market.bid_px - 10.0)), strategy_id="s2"
            )
            await floor.until(
                lambda: (
                    name in state.orders
                    and state.orders[name].cum_qty == 2
                    and resting in state.orders
                    and state.orders[resting].status is OrderStatus.NEW
                ),
                "both are there",
            )
            now_ns = floor.clock.now_ns()
            await floor.command(Flatten(reason="test", issuer="pytest", ts_ns=now_ns))
            await floor.until(lambda: state.standing.flatten is None and not state.open, "flat")
            (finished,) = await floor.published(FlattenFinished)
            assert finished.flat
            assert await floor.broker_net_qty() == 0
            contract_id = state.orders[name].contract_id
            await floor.until(lambda: state.net_qty("s1", contract_id) == 0, "the fill of the close is heard")
            denied = await floor.submit()
            await floor.until(lambda: denied in state.orders, "decided")
            assert state.orders[denied].status is OrderStatus.DENIED
            (message,) = [m for m in await floor.published(OrderDenied) if m.client_order_id == denied]
            assert message.code == "trading_halted"
            await floor.command(Resume(kind=HaltKind.OPERATOR, reason="t", issuer="pytest", ts_ns=now_ns))
            await floor.until(lambda: state.trading_state is TradingState.ACTIVE, "resumed")
            bought = await floor.submit()
            await floor.until(
                lambda: bought in state.orders and state.orders[bought].cum_qty == 1, "trades again"
            )
            assert [m for m in await floor.published(OrderUpdated) if m.client_order_id == resting][
                -1
            ].status is (OrderStatus.CANCELED)

    asyncio.run(scenario())
