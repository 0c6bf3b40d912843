"""Guard's own looks at the broker. A question without an answer makes a look fail, or half of it unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TypeVar

from services.guard.events import Event, Looked, Moment, Priced
from services.guard.state import NS_PER_S
from shared.broker.errors import BrokerQueryFailed, LimiterUnavailable
from shared.broker.port import AccountPort, MarketPort
from shared.domain.flat import Look
from shared.domain.instrument import Instrument

T = TypeVar("T")

BAR_S = 60
BARS_BACK_S = 600
"""A contract without a trade for so long has no price that counts."""
AHEAD_S = 120
"""The venue's clock may be ahead of our estimate."""

Now = Callable[[], Moment]


class AccountMissing(Exception):
    """The broker's list does not hold the account."""


async def look(
    port: AccountPort, account_id: int, now: Now, *, fills_from_ns: int, asked_ns: int | None, working: bool
) -> Looked:
    """Read fills, account and positions, in this order; see `truth` for why that is enough.

    Args:
        fills_from_ns: Begin of the window.
        asked_ns: As the core named the window.

    Raises:
        BrokerQueryFailed: One question got no usable answer; nothing is known then.
        LimiterUnavailable: The request budget could not be asked.
        AccountMissing: The account is not there.
    """
    started = now()
    fills = await port.fills_since(account_id, fills_from_ns)
    accounts = await port.accounts(only_active=False)
    account = next((one for one in accounts if one.account_id == account_id), None)
    if account is None:
        raise AccountMissing(f"the broker does not list account {account_id}")
    positions = await port.positions(account_id)
    orders = await port.working_orders(account_id) if working else None
    return Looked(
        started=started,
        account=account,
        fills=fills,
        fills_from_ns=asked_ns,
        positions=positions,
        working=orders,
        at=now(),
    )


async def flat_look(port: AccountPort, account_id: int, now: Now, within_s: float) -> Look:
    """Read working orders and positions side by side; what fails or takes too long is unknown."""
    started = now()
    working, positions = await asyncio.gather(
        _or_unknown(port.working_orders(account_id), within_s),
        _or_unknown(port.positions(account_id), within_s),
    )
    return Look(started_ns=started.mono_ns, working=working, positions=positions)


async def price(
    port: MarketPort, instruments: dict[str, Instrument], contract_id: str, now: Now
) -> Event | None:
    """Return the newest trade price of a contract by the broker's history, None when there is none.

    Raises:
        BrokerQueryFailed, LimiterUnavailable: As for `look`.
    """
    instrument = instruments.get(contract_id)
    if instrument is None:
        instrument = await port.contract_by_id(contract_id)
        if instrument is None:
            return None
        instruments[contract_id] = instrument
    market_ns = now().market_ns
    if market_ns is None:
        return None
    bars = await port.bars(
        instrument,
        interval_s=BAR_S,
        start_ns=market_ns - BARS_BACK_S * NS_PER_S,
        end_ns=market_ns + AHEAD_S * NS_PER_S,
        partial=True,
    )
    if not bars:
        return None
    return Priced(
        contract_id=contract_id,
        symbol=instrument.symbol,
        px=Decimal(str(bars[-1].close)),
        multiplier=instrument.multiplier,
        at=now(),
    )


async def _or_unknown(question: Awaitable[T], within_s: float) -> T | None:
    try:
        async with asyncio.timeout(within_s):
            return await question
    except (BrokerQueryFailed, LimiterUnavailable, TimeoutError):
        return None
