"""The broker's ports for one process, from its settings. The only place that names an adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import BaseModel

from shared.broker.port import AccountPort, Credentials, MarketPort, OrderPort, SessionPort
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.broker.projectx.endpoints import ORDER_PLACE
from shared.domain.instrument import Instrument
from shared.runtime import marks
from shared.runtime.limiter import LOCAL_SHARE, SharedLimiter
from shared.runtime.service import Context
from shared.runtime.session import SessionWatch

ConfigT = TypeVar("ConfigT", bound=BaseModel)

ORDER_SPARES = 2
"""Requests that execution may send without asking the shared budget first: an entry and an exit."""
GUARD_SHARE = 80
"""Requests a minute that guard may send while Redis is away: everybody else has far fewer then."""


@asynccontextmanager
async def session_port(context: Context[ConfigT]) -> AsyncIterator[SessionPort]:
    """Yield the session port; heartbeat alone uses it.

    Raises:
        SettingsRefused: If the API key cannot be read.
    """
    credentials = Credentials(user_name=context.broker.user_name, api_key=context.broker.api_key().reveal())
    async with _adapter(context, None) as adapter:
        yield adapter.session(credentials)


@asynccontextmanager
async def market_port(context: Context[ConfigT], watch: SessionWatch) -> AsyncIterator[MarketPort]:
    """Yield the market data port; its requests and hub links carry the newest token of `watch`."""
    async with _adapter(context, watch) as adapter:
        yield adapter.market()


@asynccontextmanager
async def account_port(
    context: Context[ConfigT],
    watch: SessionWatch,
    instruments: Mapping[str, Instrument] | None = None,
    *,
    blind: Callable[[], bool] | None = None,
) -> AsyncIterator[AccountPort]:
    """Yield the account port.

    Args:
        instruments: contract_id -> instrument, read at each use; prices of these are checked.
        blind: Says whether trading waits for what is asked here; default: until the process is ready.
    """
    async with _adapter(context, watch, blind=blind) as adapter:
        yield adapter.account(instruments)


@asynccontextmanager
async def order_ports(
    context: Context[ConfigT], watch: SessionWatch, instruments: Mapping[str, Instrument] | None = None
) -> AsyncIterator[tuple[OrderPort, AccountPort]]:
    """Yield the ports of execution: to send orders, and to search for what became of them."""
    async with _adapter(context, watch, spares=ORDER_SPARES) as adapter:
        yield adapter.orders(), adapter.account(instruments)


@asynccontextmanager
async def guard_ports(
    context: Context[ConfigT], watch: SessionWatch
) -> AsyncIterator[tuple[OrderPort, AccountPort, MarketPort]]:
    """Yield the ports of guard: to close everything, and to see account and prices, also without Redis."""
    async with _adapter(context, watch, local_share=GUARD_SHARE) as adapter:
        yield adapter.orders(), adapter.account(), adapter.market()


@asynccontextmanager
async def _adapter(
    context: Context[ConfigT],
    watch: SessionWatch | None,
    *,
    spares: int = 0,
    local_share: int = LOCAL_SHARE,
    blind: Callable[[], bool] | None = None,
) -> AsyncIterator[ProjectX]:
    broker = context.broker
    limiter = SharedLimiter(
        bus=context.bus,
        clock=context.clock,
        broker=broker,
        process=context.process,
        spares=spares,
        local_share=local_share,
        blind=blind or (lambda: not context.beat.ready),
    )
    adapter = ProjectX(
        settings=ProjectXSettings(
            api_url=broker.rest_url,
            hub_url=broker.hub_url,
            live=broker.live_data,
            stop_limit=broker.stop_limit_orders,
        ),
        clock=context.clock,
        limiter=limiter,
        token=watch.token if watch is not None else lambda: None,
        chance=context.rng.random,
        on_refused=watch.refused if watch is not None else lambda: None,
        on_sent=_mark_sent if marks.ARMED else None,
    )
    keeping = [
        asyncio.create_task(work, name="spares")
        for work in ((limiter.keep_spares(), limiter.hear_pauses()) if spares else ())
    ]
    try:
        yield adapter
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await adapter.close()


def _mark_sent(path: str) -> None:
    if path == ORDER_PLACE.path:
        marks.reached("after_post_sent")
