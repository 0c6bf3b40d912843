"""The ProjectX client against the simulator, over real sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shared.broker.errors import QueryRefused, Unauthorized
from shared.broker.limiter import LocalLimiter
from shared.broker.port import (
    Accepted,
    AccountPort,
    Credentials,
    LinkDown,
    LinkUp,
    LoggedIn,
    LoginRefused,
    MarketLink,
    MarketPort,
    OrderPort,
    OrderTicket,
    Outcome,
    Rejected,
    SessionPort,
    SubscriptionRefused,
    Validated,
)
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.broker.projectx.link_words import LinkSettings, Subscription
from shared.broker.projectx.links import ProjectXMarketLink
from shared.domain.instrument import Instrument
from shared.domain.market import Depth, Quote, Trade
from shared.domain.order import Bracket, OrderStatus, OrderType, Side
from shared.domain.report import FillReport, OrderReport, PositionReport
from shared.runtime.clock import SystemClock
from tests.support.eventually import eventually
from tests.support.simulator import ACCOUNT_ID, API_KEY, USER, running_simulator

pytestmark = pytest.mark.integration
WITHIN_S = 20.0


class Desk:
    """One logged-in client and its ports."""

    def __init__(self, adapter: ProjectX, login: Credentials) -> None:
        self.adapter = adapter
        self.token: str | None = None
        self.session: SessionPort = adapter.session(login)
        self.market: MarketPort = adapter.market()
        self.account: AccountPort = adapter.account()
        self.orders: OrderPort = adapter.orders()

    async def front(self, symbol: str) -> Instrument:
        found = await self.market.search_contracts(symbol)
        return next(one for one in found if one.symbol == symbol and one.active)


@asynccontextmanager
async def desk(*, api_key: str = API_KEY, **overrides: Any) -> AsyncIterator[Desk]:
    clock = SystemClock()
    async with running_simulator(**overrides) as simulator:
        holder: list[Desk] = []
        adapter = ProjectX(
            settings=ProjectXSettings(api_url=simulator.url, hub_url=f"{simulator.url}/hubs"),
            clock=clock,
            limiter=LocalLimiter(clock=clock),
            token=lambda: holder[0].token,
            chance=random.Random(1).random,
        )
        holder.append(Desk(adapter, Credentials(user_name=USER, api_key=api_key)))
        try:
            yield holder[0]
        finally:
            await adapter.close()


async def logged_in(client: Desk) -> Desk:
    answer = await client.session.login()
    assert isinstance(answer, LoggedIn), answer
    client.token = answer.token.value
    return client


def run(scenario: Callable[[Desk], Awaitable[None]], **overrides: Any) -> None:
    async def whole() -> None:
        async with asyncio.timeout(WITHIN_S), desk(**overrides) as client:
            await scenario(await logged_in(client))

    asyncio.run(whole())


async def until_flat(client: Desk) -> None:
    async def flat() -> bool:
        return await client.account.positions(ACCOUNT_ID) == []

    await eventually(flat)


def ticket(contract_id: str, tag: str, side: Side = Side.BUY, **fields: Any) -> OrderTicket:
    values: dict[str, Any] = {
        "account_id": ACCOUNT_ID,
        "client_order_id": tag,
        "contract_id": contract_id,
        "side": side,
        "order_qty": 1,
        **fields,
    }
    return OrderTicket(**values)


def accepted(outcome: Outcome) -> int:
    assert isinstance(outcome, Accepted), outcome
    assert outcome.broker_order_id is not None
    return outcome.broker_order_id


def test_login_validate_logout() -> None:
    async def scenario(client: Desk) -> None:
        answer = await client.session.login()
        assert isinstance(answer, LoggedIn)
        assert isinstance(await client.session.validate(answer.token), Validated)
        await client.session.logout(answer.token)
        assert client.adapter.venue_now_ns() is not None

    run(scenario)


def test_login_with_a_wrong_key() -> None:
    async def whole() -> None:
        async with desk(api_key="wrong-key-of-mine") as client:
            answer = await client.session.login()
            assert isinstance(answer, LoginRefused)
            assert (answer.code, answer.fatal) == (3, True)
            assert "wrong-key-of-mine" not in repr(answer)

    asyncio.run(whole())


def test_question_with_a_bad_token() -> None:
    async def scenario(client: Desk) -> None:
        client.token = "not-a-token"
        with pytest.raises(Unauthorized):
            await client.account.positions(ACCOUNT_ID)

    run(scenario)


def test_contracts_and_bars() -> None:
    async def scenario(client: Desk) -> None:
        mes = await client.front("MES")
        assert (mes.tick_size, mes.tick_value) == (Decimal("0.25"), Decimal("1.25"))
        assert await client.market.contract_by_id(mes.contract_id) == mes
        assert await client.market.contract_by_id("CON.F.US.NONE.Z99") is None
        assert mes in await client.market.available_contracts()
        account = (await client.account.accounts())[0]
        assert account.account_id == ACCOUNT_ID
        with pytest.raises(QueryRefused):
            await client.account.positions(999)

    run(scenario, symbols=("MES", "MNQ"))


def test_orders_from_place_to_flat() -> None:
    async def scenario(client: Desk) -> None:
        mes = await client.front("MES")
        quote = await first_quote(client, mes)
        assert quote.bid_px is not None
        resting_price = mes.price(quote.bid_px) - 400 * mes.tick_size
        resting = accepted(
            await client.orders.place(
                ticket(mes.contract_id, "t1", order_type=OrderType.LIMIT, limit_price=resting_price)
            )
        )
        again = await client.orders.place(
            ticket(mes.contract_id, "t1", order_type=OrderType.LIMIT, limit_price=resting_price)
        )
        assert isinstance(again, Rejected)
        lower = resting_price - mes.tick_size
        assert isinstance(await client.orders.modify(ACCOUNT_ID, resting, limit_price=lower), Accepted)
        order = await client.account.order_by_id(ACCOUNT_ID, resting)
        assert order is not None
        assert (order.limit_price, order.status, order.custom_tag) == (lower, OrderStatus.NEW, "t1")
        assert resting in {one.broker_order_id for one in await client.account.open_orders(ACCOUNT_ID)}
        assert isinstance(await client.orders.cancel(ACCOUNT_ID, resting), Accepted)
        assert isinstance(await client.orders.cancel(ACCOUNT_ID, resting), Rejected)
        assert await client.account.order_by_id(ACCOUNT_ID, 987_654_321) is None

        bracket = Bracket(stop_loss_ticks=40, take_profit_ticks=80)
        entry = accepted(await client.orders.place(ticket(mes.contract_id, "t2", bracket=bracket)))

        async def long_one() -> bool:
            return [one.net_qty for one in await client.account.positions(ACCOUNT_ID)] == [1]

        await eventually(long_one)
        working = await client.account.working_orders(ACCOUNT_ID)
        assert {one.order_type for one in working} == {OrderType.STOP, OrderType.LIMIT}
        assert all(one.side is Side.SELL for one in working)
        assert isinstance(await client.orders.close_contract(ACCOUNT_ID, mes.contract_id), Accepted)
        await until_flat(client)
        for child in await client.account.working_orders(ACCOUNT_ID):
            await client.orders.cancel(ACCOUNT_ID, child.broker_order_id)
        assert await client.account.working_orders(ACCOUNT_ID) == []
        start_ns = order.ts_event_ns - 3_600_000_000_000
        fills = await client.account.fills_since(ACCOUNT_ID, start_ns)
        assert [fill.side for fill in fills] == [Side.BUY, Side.SELL]
        assert fills[0].broker_order_id == entry
        assert {one.custom_tag for one in await client.account.orders_since(ACCOUNT_ID, start_ns)} >= {
            "t1",
            "t2",
        }

    run(scenario, symbols=("MES",))


async def first_quote(client: Desk, contract: Instrument) -> Quote:
    """Wait until there is a market."""
    link = client.market.market_link()
    link.subscribe(contract)
    async for batch in link.events():
        for event in batch:
            if isinstance(event, Quote) and event.bid_px is not None:
                await link.close()
                return event
    raise AssertionError("the link ended")


def test_market_link_brings_quotes_trades_and_depth() -> None:
    async def scenario(client: Desk) -> None:
        mes = await client.front("MES")
        link = client.market.market_link()
        link.subscribe(mes)
        seen: set[type] = set()
        async with aclosing(link.events()) as events:  # type: ignore[type-var]
            async for batch in events:
                seen |= {type(event) for event in batch}
                if {LinkUp, Quote, Trade, Depth} <= seen:
                    await link.close()
        assert seen == {LinkUp, Quote, Trade, Depth}

    run(scenario, symbols=("MES",), speed=20.0)


def test_market_link_says_which_subscription_was_refused() -> None:
    async def scenario(client: Desk) -> None:
        link = client.market.market_link()
        assert isinstance(link, ProjectXMarketLink)
        link.want(Subscription("SubscribeToBars", "CON.F.US.MES.Z25"))
        async for batch in link.events():
            for event in batch:
                if isinstance(event, SubscriptionRefused):
                    assert event.target == "SubscribeToBars"
                    await link.close()

    run(scenario)


def test_account_link_reports_an_order_from_acceptance_to_position() -> None:
    async def scenario(client: Desk) -> None:
        mes = await client.front("MES")
        await first_quote(client, mes)
        link = client.account.account_link([ACCOUNT_ID])
        waited: set[type] = {OrderReport, FillReport, PositionReport}
        async for batch in link.events():
            for event in batch:
                waited.discard(type(event))
                if isinstance(event, LinkUp):
                    accepted(await client.orders.place(ticket(mes.contract_id, "t1", Side.SELL)))
                if isinstance(event, PositionReport) and event.net_qty:
                    assert event.net_qty == -1
            if not waited:
                await link.close()

    run(scenario, symbols=("MES",))


@pytest.mark.parametrize("envelope", [True, False])
def test_account_link_reads_user_events_with_and_without_envelope(envelope: bool) -> None:
    async def scenario(client: Desk) -> None:
        mes = await client.front("MES")
        await first_quote(client, mes)
        link = client.account.account_link([ACCOUNT_ID])
        async for batch in link.events():
            for event in batch:
                if isinstance(event, LinkUp):
                    accepted(await client.orders.place(ticket(mes.contract_id, "t1")))
                if isinstance(event, OrderReport) and event.status is OrderStatus.FILLED:
                    await link.close()

    run(scenario, symbols=("MES",), hub={"envelope": envelope})


def test_link_comes_back_with_its_subscriptions_after_the_broker_was_away(tmp_path: Path) -> None:
    clock = SystemClock()

    async def whole() -> None:
        tokens: list[str] = []
        downs: list[LinkDown] = []
        ups: list[LinkUp] = []
        quotes: list[Quote] = []
        where: dict[str, Any] = {"database": tmp_path / "venue.sqlite", "symbols": ("MES",)}

        async def read(link: MarketLink) -> None:
            async for batch in link.events():
                downs.extend(event for event in batch if isinstance(event, LinkDown))
                ups.extend(event for event in batch if isinstance(event, LinkUp))
                quotes.extend(event for event in batch if isinstance(event, Quote))

        async with running_simulator(**where) as simulator:
            adapter = ProjectX(
                settings=ProjectXSettings(
                    api_url=simulator.url,
                    hub_url=f"{simulator.url}/hubs",
                    link=LinkSettings(pause_s=0.1, pause_max_s=0.2),
                ),
                clock=clock,
                limiter=LocalLimiter(clock=clock),
                token=lambda: tokens[-1] if tokens else None,
                chance=random.Random(1).random,
            )
            session = adapter.session(Credentials(user_name=USER, api_key=API_KEY))

            async def log_in() -> None:
                answer = await session.login()
                assert isinstance(answer, LoggedIn)
                tokens.append(answer.token.value)

            await log_in()
            market = adapter.market()
            link = market.market_link()
            link.subscribe(next(one for one in await market.search_contracts("MES") if one.symbol == "MES"))
            reader = asyncio.create_task(read(link))
            await eventually(lambda: quotes, what="quotes")
            port = int(simulator.url.rpartition(":")[2])
        await eventually(lambda: downs, what="the link to go down")
        quotes.clear()
        async with running_simulator(**where, port=port):
            await log_in()
            await eventually(lambda: len(ups) == 2 and quotes, what="quotes after the restart")
            await link.close()
            await reader
        assert ups[1].connection > ups[0].connection
        await adapter.close()

    asyncio.run(whole())
