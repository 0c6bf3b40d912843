"""The hand on the simulated gateway: sets its faults, trades by hand, reads its books.

Needs a simulator with `simulator.control = true`. What a fault may be told stands in
`services/simulator/fault_settings.py`, what the books hold in `services/simulator/ledger.py`. For example

    async with venue_control("http://127.0.0.1:8700") as venue:
        await venue.set_faults({"kind": "status", "status": 429, "rate": 0.5, "for_s": 60}, seed=7)
        await venue.set_faults({"kind": "late_landing", "delay_s": [1, 90], "count": 3})
        await venue.place_external(account_id=1001, symbol="MES", side="buy", size=1)
        books = await venue.ledger("attempts", "orders", "positions")
        await venue.clear()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp

Row = dict[str, Any]
SIDES = {"buy": 0, "sell": 1}
WITHIN_S = 10.0


class VenueRefused(Exception):
    """The simulator does not do what was asked; says why."""


class VenueControl:
    """One simulator's control endpoint."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Args:
        url: Base of the simulator's REST API.
        """
        self._session = session
        self._url = url

    async def set_faults(self, *faults: Mapping[str, Any], seed: int = 1) -> Row:
        """Put exactly these faults in force; return them with the hits so far.

        Raises:
            VenueRefused: If one is not understood; nothing has changed then.
        """
        return await self._ask("PUT", "faults", {"seed": seed, "active": list(faults)})

    async def clear(self) -> Row:
        """End all faults."""
        return await self._ask("PUT", "faults", {})

    async def injected(self) -> dict[str, int]:
        """Return how often each fault has hit since the simulator's first start, by name."""
        hits: dict[str, int] = (await self._ask("GET", "faults"))["injected"]
        return hits

    async def ledger(self, *parts: str) -> Row:
        """Return the books; without parts, all of them."""
        return await self._ask("GET", "ledger" + (f"?parts={','.join(parts)}" if parts else ""))

    async def place_external(
        self, *, account_id: int, symbol: str, side: Literal["buy", "sell"], size: int, **order: Any
    ) -> Row:
        """Place an order as somebody else would: without a tag, at the market unless `order` says otherwise.

        Args:
            order: `type` (the gateway's number), `limit_price`, `stop_price`.

        Returns: `code` (0: accepted), `message`, `order_id`.
        """
        body = {"account_id": account_id, "symbol": symbol, "side": SIDES[side], "size": size, **order}
        return await self.act("place", **body)

    async def cancel_external(self, *, account_id: int, order_id: int) -> Row:
        return await self.act("cancel", account_id=account_id, order_id=order_id)

    async def close_external(self, *, account_id: int, symbol: str) -> Row:
        return await self.act("close", account_id=account_id, symbol=symbol)

    async def act(self, act: str, **what: Any) -> Row:
        """Do one thing of `services/simulator/acts.py`."""
        return await self._ask("POST", "act", {"act": act, **what})

    async def _ask(self, method: str, path: str, body: object = None) -> Row:
        """Raises:
        VenueRefused: If the answer is not 200.
        aiohttp.ClientError: If the simulator is not there.
        """
        async with self._session.request(method, f"{self._url}/simulator/{path}", json=body) as answer:
            if answer.status != 200:
                raise VenueRefused(f"{method} {path}: {answer.status} {await answer.text()}")
            told: Row = await answer.json()
            return told


@asynccontextmanager
async def venue_control(url: str) -> AsyncIterator[VenueControl]:
    """Open the control endpoint of the simulator at `url`."""
    timeout = aiohttp.ClientTimeout(total=WITHIN_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield VenueControl(session, url)


class Venue:
    """The venue of one run: a hand on it whenever it is there, and all faults that are in force together."""

    def __init__(self, url: str, seed: int, tell: Callable[..., None]) -> None:
        """Args:
        tell: Writes a line of the timeline.
        """
        self._url = url
        self._seed = seed
        self._tell = tell
        self._faults: list[Mapping[str, Any]] = []

    @property
    def is_faulty(self) -> bool:
        return bool(self._faults)

    @asynccontextmanager
    async def hand(self) -> AsyncIterator[VenueControl | None]:
        """Yield the hand on the venue, None while it is not there; what it loses meanwhile is told."""
        async with venue_control(self._url) as control:
            try:
                await control.injected()
            except (aiohttp.ClientError, OSError, TimeoutError):
                yield None
                return
            try:
                yield control
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._tell("venue away", why=str(error))

    @asynccontextmanager
    async def faults(self, *faults: Mapping[str, Any]) -> AsyncIterator[None]:
        """Put faults in force beside those that others have, inside the block."""
        self._faults += faults
        try:
            await self._put()
            yield
        finally:
            for one in faults:
                self._faults.remove(one)
            await self._put()

    async def _put(self) -> None:
        for _ in range(20):
            async with self.hand() as control:
                if control is not None:
                    await control.set_faults(*self._faults, seed=self._seed)
                    return
            await asyncio.sleep(0.5)

    async def hits(self) -> dict[str, int]:
        """Return fault -> hits; {} while the venue is not there."""
        async with self.hand() as control:
            if control is not None:
                return await control.injected()
        return {}
