"""Two executions at once, started by accident, and an old one that wakes after a pause: neither sends twice.

The tests share one installation and stand in the order in which they leave it usable.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.domain.order import Side
from shared.runtime.marks import VARIABLE
from shared.wire import topics
from tests.support.eventually import TIME_FACTOR, eventually
from tests.support.operator_desk import ACCOUNT_ID, INTENT_TTL_S, Orders, Venue
from tests.support.stack import ROOT, Stack, running_stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240 * TIME_FACTOR)]


class Floor:
    """One installation whose execution can be frozen at a marked point."""

    def __init__(self, stack: Stack, mark: Path) -> None:
        self.stack = stack
        self.orders = Orders(stack)
        self.venue = Venue(stack)
        self._mark = mark

    def wait(self, condition: Any, what: str, within_s: float = 40.0) -> Any:
        try:
            return asyncio.run(eventually(condition, within_s=within_s, what=what, poll_s=0.1))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stack.logs(lines=15)}") from None

    async def execution(self) -> dict[str, Any]:
        rows = (await self.stack.look()).get("processes", [])
        return next((row for row in rows if row["process"] == "execution"), {})

    async def trading(self) -> bool:
        found = await self.stack.look()
        row = await self.execution()
        return bool(row) and row["ready"] and found["trading"]["state"] == "active"

    def frozen_at(self, spec: str, symbol: str, **fields: Any) -> tuple[int, str]:
        """Send an order and return when execution has frozen at the mark: its pid and the order's id."""
        pid = int(asyncio.run(self.execution())["pid"])
        self._mark.write_text(spec)
        name = self.orders.take(symbol, Side.BUY, **fields)
        self.wait(lambda: state_of(pid) == "T", "execution is frozen")
        return pid, name

    async def epoch(self) -> int:
        """Return how often `orders:{acct}` has been opened for writing."""
        bus = self.stack.installation().bus()
        try:
            return int((await bus.hash_get(topics.head(topics.orders(ACCOUNT_ID))))["epoch"])
        finally:
            await bus.close()

    @contextmanager
    def another(self, **variables: str) -> Iterator[Path]:
        """Run a second execution; yield the file of what it says."""
        with tempfile.TemporaryDirectory() as folder:
            said = Path(folder) / "said"
            with said.open("wb") as out:
                process = subprocess.Popen(
                    [sys.executable, "-m", "services.execution"],
                    env=self.stack.environment | variables, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                )  # fmt: skip
            try:
                yield said
            finally:
                process.kill()
                process.wait()


def state_of(pid: int) -> str:
    """Return the letter of a process's state; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture(scope="module")
def floor() -> Iterator[Floor]:
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "mark"
        with running_stack(**{VARIABLE: f"@{mark}"}) as stack:
            running = Floor(stack, mark)
            running.wait(running.trading, "trading is active")
            yield running


@pytest.mark.proves("I-4")
def test_an_order_that_slept_past_its_expiry_is_not_sent(floor: Floor) -> None:
    pid, name = floor.frozen_at("after_claim:stop", "MES")
    try:
        asyncio.run(asyncio.sleep(INTENT_TTL_S + 1))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert floor.orders.outcome(name) == "not_sent"
    (reason,) = [row["reason"] for kind, row in floor.orders.answers(name) if kind == "order_updated"]
    # Heartbeat has missed it meanwhile: either of the two would do, and the halt may be read first.
    assert reason in (
        "not sent: it expired before it could be sent",
        "not sent: trading was halted before it could be sent",
    )
    assert name not in floor.venue.tags()
    floor.wait(floor.trading, "the halt for its silence is lifted")
    assert state_of(pid) not in ("", "T"), "the process goes on"


@pytest.mark.proves("I-17")
def test_a_second_execution_on_the_same_ledger_waits_and_says_so(floor: Floor) -> None:
    epoch = asyncio.run(floor.epoch())
    with floor.another() as said:
        floor.wait(lambda: "another execution process writes this ledger" in said.read_text(), "it says so")
        name = floor.orders.rest("MNQ", Side.BUY)
        assert floor.orders.outcome(name) == "new", "the first one works on"
        assert asyncio.run(floor.epoch()) == epoch
        assert "recovered" not in said.read_text()
    assert floor.venue.tags().count(name) == 1
    floor.wait(floor.trading, "trading is active")


@pytest.mark.proves("I-1", "I-16", "I-17")
def test_an_old_execution_that_wakes_after_another_took_over_sends_nothing(floor: Floor) -> None:
    """The other one has a ledger of its own: it finds the stream ahead of it, and halts."""
    address = floor.stack.installation().address.unix_path
    pid, name = floor.frozen_at("after_claim:stop", "MNQ", ttl_s=120.0)
    epoch = asyncio.run(floor.epoch())
    try:
        with tempfile.TemporaryDirectory() as folder:
            own = {"JULIE_JULIE__DATA_DIR": folder, "JULIE_REDIS__URL": f"unix://{address}"}
            with floor.another(**own) as said:

                async def taken_over() -> bool:
                    return await floor.epoch() > epoch

                floor.wait(taken_over, "the other one takes over")
                floor.wait(
                    lambda: "the ledger was lost or is an old copy" in said.read_text(),
                    "it notices the stream",
                )
                os.kill(pid, signal.SIGCONT)
                floor.wait(lambda: state_of(pid) in ("", "Z"), "the old one stops")
                assert "FENCED" in floor.stack.logs(200)
    finally:
        if state_of(pid) == "T":
            os.kill(pid, signal.SIGCONT)

    async def halted() -> bool:
        found = await floor.stack.look()
        row = await floor.execution()
        return bool(row) and row["pid"] not in (None, pid) and "invariant" in str(found["trading"])

    floor.wait(halted, "the old one has started again and is halted too: a person has to look")
    later = floor.orders.take("MES", Side.BUY)
    assert floor.orders.outcome(later) == "trading_reducing"
    assert {name, later}.isdisjoint(floor.venue.tags())
