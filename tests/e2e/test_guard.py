"""A rule of the prop firm breaks in a running system: everything is closed, whoever has failed meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.bus.port import BusAway, BusRefused
from shared.domain.order import Side
from shared.wire import topics
from tests.support.eventually import TIME_FACTOR
from tests.support.operator_desk import ACCOUNT_ID, Orders, Venue
from tests.support.stack import Stack, running_stack
from tests.support.valkey import ValkeyServer, running_valkey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400 * TIME_FACTOR)]

CONTRACTS = 10
MOVE_WITHIN_S = 150.0
"""Ten MES are 12.50 a tick, and a round trip costs 7.40: two or three ticks, which take seconds."""

ACCOUNT = {"id": ACCOUNT_ID, "profile": "topstep_50k", "daily_loss": 30}
SETTINGS = {"JULIE_GUARD__ACCOUNTS": json.dumps([ACCOUNT]), "JULIE_STRATEGY__INSTANCES": "[]"}


class Desk:
    """One stack without strategies, and a hand at the broker that takes the position."""

    def __init__(self, stack: Stack, server: ValkeyServer) -> None:
        self.stack = stack
        self.server = server
        self.venue = Venue(stack)
        self.until(self._ready, "everything trades")

    def _ready(self) -> bool:
        return self.stack.status()["trading"]["state"] == "active"

    def until(self, condition: Any, what: str, within_s: float = 60.0, poll_s: float = 0.2) -> Any:
        deadline = time.monotonic() + within_s * TIME_FACTOR
        while True:
            found = condition()
            if found:
                return found
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}\n{self.stack.logs(25)}"
            time.sleep(poll_s)

    def guard(self) -> dict[str, Any]:
        """Return guard's hash, {} while there is none."""

        async def read() -> dict[str, Any]:
            bus = self.stack.installation().bus()
            try:
                await bus.ready()
                fields = await bus.hash_get(topics.guard(ACCOUNT_ID))
            except (BusAway, BusRefused):
                return {}
            finally:
                await bus.close()
            return {name: json.loads(value) for name, value in fields.items()}

        return asyncio.run(read())

    def pid(self, process: str) -> int:
        return next(int(p["pid"]) for p in self.stack.status()["processes"] if p["process"] == process)

    def buy(self, qty: int) -> None:
        """Take a position by hand, with an order that rests far below."""
        contract_id = self._contract()
        place = {"contractId": contract_id, "side": 0, "size": qty}
        self.venue._ask("/api/Order/place", {**place, "type": 2})
        self.venue._ask("/api/Order/place", {**place, "type": 1, "limitPrice": 1000.0})

    def _contract(self) -> str:
        found = self.venue._ask("/api/Contract/search", {"searchText": "MES", "live": False})
        return str(next(one["id"] for one in found["contracts"] if one["activeContract"]))

    def until_flat(self) -> None:
        """Wait until the market has moved far enough. The venue counts our questions in the same budget."""
        self.until(lambda: not self.venue.positions(), "everything was closed", MOVE_WITHIN_S, poll_s=2.0)
        self.until(lambda: not self.venue.working(), "everything was cancelled", poll_s=2.0)

    def breach(self) -> dict[str, Any]:
        """Return the breach as guard recorded it, with the time it was seen flat."""

        def seen() -> dict[str, Any] | None:
            latch: dict[str, Any] | None = self.guard().get("latch")
            return latch if latch and latch.get("ts_flat_ns") else None

        found: dict[str, Any] = self.until(seen, "guard saw the account flat")
        return found

    def re_arm_is_refused(self) -> bool:
        """Ask for it and return whether guard refuses, with the figures."""
        asked = self.stack.julie("resume")
        assert asked.returncode == 0, asked.stdout

        def answer() -> str:
            found = self.guard()
            if "still broken" in found.get("refusal", ""):
                return "refused"
            return "" if found.get("latch") else "armed"

        return bool(self.until(answer, "guard answers") == "refused")


@contextmanager
def desk(**variables: str) -> Iterator[Desk]:
    with running_valkey(survives_kills=True) as server:
        url = f"unix://{server.socket}"
        with running_stack(JULIE_REDIS__URL=url, **{**SETTINGS, **variables}) as stack:
            yield Desk(stack, server)


def test_the_market_breaks_the_daily_loss_and_execution_closes() -> None:
    with desk() as it:
        it.buy(CONTRACTS)
        it.until_flat()
        breach = it.breach()
        assert breach["rule"] == "daily_loss"
        assert breach["closed_by"] == "execution"
        status = it.stack.status()
        assert "daily loss" in status["trading"]["halts"]["guard"]
        while not it.re_arm_is_refused():
            # The market came back before the close, so the loss is within the limit: fees make it worse.
            it.buy(CONTRACTS)
            it.until_flat()
            it.breach()
        assert "guard" in it.stack.status()["trading"]["halts"]
        record = json.loads((it.stack.folder / f"guard-{ACCOUNT_ID}.json").read_text())
        assert record["latch"]["rule"] == "daily_loss"


def test_a_stopped_execution_is_not_waited_for() -> None:
    with desk() as it:
        orders = Orders(it.stack)
        mine = orders.take("MES", Side.BUY)
        assert orders.outcome(mine) in ("new", "filled", "partially_filled")
        pid = it.pid("execution")
        os.kill(pid, signal.SIGSTOP)
        try:
            it.buy(CONTRACTS)
            it.until_flat()
            breach = it.breach()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert breach["closed_by"] == "guard"

        def position_is_told() -> bool:
            filled = [row for kind, row in orders_of(it, "probe") if kind == "order_filled"]
            return bool(filled) and filled[-1]["strategy_net_qty"] == 0

        it.until(position_is_told, "the strategy hears that its position was closed", 90)
        halts = it.stack.status()["trading"]["halts"]
        assert "guard" in halts
        assert "invariant" not in halts, halts


def test_redis_is_gone_and_guard_still_sees_and_closes() -> None:
    with desk() as it:
        it.server.kill()
        it.buy(CONTRACTS)
        it.until_flat()
        it.server.start()
        breach = it.breach()
        assert breach["closed_by"] == "guard"
        it.until(lambda: "guard" in it.stack.status()["trading"]["halts"], "execution heard of it later")


def orders_of(it: Desk, strategy_id: str) -> list[tuple[str, dict[str, Any]]]:
    async def read() -> list[tuple[str, dict[str, Any]]]:
        bus = it.stack.installation().bus()
        try:
            entries = await bus.between(topics.orders(ACCOUNT_ID), "-", "+", 100_000)
        finally:
            await bus.close()
        rows = [(entry.kind.decode(), json.loads(entry.value)) for entry in entries]
        return [(kind, row) for kind, row in rows if row.get("strategy_id") == strategy_id]

    return asyncio.run(read())
