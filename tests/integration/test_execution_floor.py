"""Execution over a real bus against the simulated venue, with the real feed and the real position sync."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from shared.domain.control import Flatten, HaltKind, Resume, TradingState
from shared.domain.execution import FlattenFinished, OrderDenied, OrderFilled, OrderUpdated
from shared.domain.order import Bracket, ClosePosition, ModifyOrder, OrderStatus, OrderType, Side, StopPlan
from shared.wire import topics
from shared.wire.codec import encode
from tests.support.simulator import ACCOUNT_ID
from tests.support.trading_floor import Floor, trading_floor

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


@pytest.mark.proves("I-16")
def test_ledger_soon_knows_what_the_bus_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nothing more is read or decided: a kill with a loss of Redis would hide the loss."""
    monkeypatch.setattr("services.execution.shell.IDLE_COMMIT_S", 0.3)

    async def scenario() -> None:
        async with trading_floor() as floor:
            execution = await floor.start_execution()
            await floor.stop("broker_sync")  # its reports move places, which are written as well
            name = await floor.submit(qty=0)
            await floor.until(lambda: name in execution.state.orders, "the refusal is decided")

            def known() -> bool:
                contents = execution._ledger.load()
                return contents.standing is not None and contents.standing.acked_seq == contents.last_seq

            await floor.until(known, "the newest step counts as acknowledged")

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


def modify(floor: Floor, name: str, **changes: Any) -> ModifyOrder:
    return ModifyOrder(
        client_order_id=name,
        strategy_id="s1",
        symbol="MES",
        cause="md:{MES}@1-3",
        ts_cause_ns=floor.clock.now_ns(),
        **changes,
    )


def test_trailing_stop_is_placed_changed_and_ends_the_position() -> None:
    async def scenario() -> None:
        async with trading_floor(speed=10.0) as floor:
            execution = await floor.start_execution()
            orders = execution.state.orders
            name = await floor.submit()
            await floor.until(lambda: name in orders and orders[name].cum_qty == 1, "the entry fills")
            exit_ = await floor.submit(
                Side.SELL,
                order_type=OrderType.TRAILING_STOP,
                trail_ticks=30,
                bracket=None,
                reduce_only=True,
            )
            await floor.until(
                lambda: exit_ in orders and orders[exit_].status is OrderStatus.NEW, "the trailing stop works"
            )
            number = orders[exit_].broker_order_id
            assert number is not None
            at_venue = floor.simulator.venue.state.orders[number]
            assert at_venue.trail_ticks is not None
            assert abs(at_venue.trail_ticks - 30) <= 15  # measured from the venue's last trade
            await floor.intend(modify(floor, exit_, trail_ticks=1))
            contract_id = orders[name].contract_id
            await floor.until(
                lambda: not execution.state.open and execution.state.net_qty("s1", contract_id) == 0,
                "it follows closely, is reached, and the children go",
            )
            assert await floor.broker_net_qty() == 0

    asyncio.run(scenario())


def test_stop_limit_order_where_the_gateway_has_it() -> None:
    async def scenario() -> None:
        async with trading_floor(stop_limit_orders=True, speed=10.0) as floor:
            execution = await floor.start_execution()
            orders = execution.state.orders
            market = execution.state.markets["MES"]
            assert market.ask_px is not None
            trigger = Decimal(str(market.ask_px)) + Decimal("15")
            name = await floor.submit(
                order_type=OrderType.STOP_LIMIT, stop_price=trigger, limit_price=trigger + 1
            )
            await floor.until(lambda: name in orders and orders[name].status is OrderStatus.NEW, "it waits")
            order = orders[name]
            assert (order.stop_price, order.limit_price) == (trigger, trigger + 1)
            near = Decimal(str(execution.state.markets["MES"].ask_px)) + Decimal("0.5")
            await floor.intend(modify(floor, name, stop_price=near, limit_price=near + 5))
            await floor.until(lambda: orders[name].cum_qty == 1, "it is triggered and filled")

    asyncio.run(scenario())


def test_stop_goes_to_break_even_while_its_strategy_is_gone() -> None:
    async def scenario() -> None:
        async with trading_floor(speed=10.0) as floor:
            execution = await floor.start_execution()
            orders = execution.state.orders
            plan = StopPlan(break_even_after_ticks=2, trail_after_ticks=3, trail_ticks=2)
            bracket = Bracket(stop_loss_ticks=200, take_profit_ticks=800, plan=plan)
            name = await floor.submit(bracket=bracket)
            stop = f"{name}:sl"
            await floor.until(
                lambda: stop in orders and orders[stop].status is OrderStatus.NEW, "the stop works"
            )
            first = orders[stop].stop_price
            assert first is not None
            await floor.stop("execution")
            again = await floor.start_execution()
            kept = again.state.orders
            assert kept[name].plan == plan
            entry_px = first + 50

            def followed() -> bool:
                floor.lift_market(0.1)  # by itself it may fall for as long as the test lasts
                return (kept[stop].stop_price or first) >= entry_px

            await floor.until(followed, "the stop follows the market")
            number = kept[stop].broker_order_id
            assert number is not None
            ticks = floor.simulator.venue.state.orders[number].stop_ticks
            assert ticks is not None
            assert Decimal(ticks) * Decimal("0.25") >= entry_px
            assert await floor.broker_net_qty() in (0, 1)

    asyncio.run(scenario())


@pytest.mark.proves("I-21")
def test_a_market_that_is_told_after_the_clock_was_set_back_is_taken() -> None:
    """Each one was older than the last by our clock: none was taken for as long as it had been set back."""

    async def scenario() -> None:
        async with trading_floor() as floor:
            execution = await floor.start_execution()
            await floor.stop("feed")
            known = execution.state.markets["MES"]
            ten_minutes_ns = 600_000_000_000
            back = msgspec.structs.replace(known, ts_asof_ns=known.ts_asof_ns - ten_minutes_ns, last_px=1.0)
            await floor.bus.publish(topics.quotes("MES"), encode(back))
            await floor.clock.sleep(1.2)
            assert execution.state.markets["MES"] == known, "a moment after the newest it is an old one"
            await floor.bus.publish(topics.quotes("MES"), encode(back))
            await floor.until(lambda: execution.state.markets["MES"] == back, "it is taken")

    asyncio.run(scenario())
