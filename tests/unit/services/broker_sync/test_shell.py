"""What the shell asks before it shows the account: the rest is tried with a real bus and the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.broker_sync import core, events
from services.broker_sync.config import BrokerSyncSection
from services.broker_sync.shell import CONFIRMED_NS, VIEW_REWRITTEN_S, Shell
from shared.broker.port import AccountPort
from shared.bus.port import BusAway, Fenced, RolledBack
from shared.runtime.config import JulieSection
from shared.runtime.service import Context

TURN_NS = 250_000_000


class Ended(Exception):
    """The stage has seen enough turns."""


class Stage:
    """A shell whose turns come at once and whose view differs with each of them, on a bus that keeps books.

    Attributes:
        turns: After so many the stage is over.
        checks: What the stream says when it is asked, one answer after the other; then always yes.
    """

    def __init__(self, turns: int, *checks: Callable[[], None]) -> None:
        self.now_ns = 1_000_000_000_000
        self.turns = turns
        self.checks = [*checks]
        self.asked: list[int] = []
        self.looked: list[int] = []
        self.written: list[int] = []
        self.hash: dict[str, bytes] = {}
        self.away = False
        clock = SimpleNamespace(
            monotonic_ns=lambda: self.now_ns, now_ns=lambda: self.now_ns, sleep=self.sleep
        )
        context = SimpleNamespace(
            clock=clock, bus=self, config=BrokerSyncSection(), julie=JulieSection(account_id=1),
            beat=SimpleNamespace(duty=lambda *_, **__: None, detail={}, ready=False),
            log=SimpleNamespace(warning=lambda *_, **__: None),
        )  # fmt: skip
        port = SimpleNamespace(venue_now_ns=lambda: None)
        self.shell = Shell(cast(Context[BrokerSyncSection], context), cast(AccountPort, port))
        self.shell._writer = cast(Any, self)

    def run(self) -> None:
        asyncio.run(self.shell._show())

    async def sleep(self, seconds: float) -> None:
        self.turns -= 1
        if self.turns < 0:
            raise Ended
        self.now_ns += TURN_NS
        self.shell._account_id += 1  # stands for an open P&L that moves

    def append(self, message: object) -> int: ...  # type: ignore[empty-body]

    async def check(self) -> None:
        self.asked.append(self.now_ns)
        if self.checks:
            self.checks.pop(0)()

    async def hash_get(self, key: str) -> dict[str, bytes]:
        self.looked.append(self.now_ns)
        return self.hash

    async def hash_set(self, key: str, fields: dict[str, bytes]) -> None:
        if self.away:
            self.away = False
            raise BusAway("away")
        self.written.append(self.now_ns)
        self.hash = fields


def fenced() -> None:
    raise Fenced("another broker_sync has taken over")


def yes() -> None: ...


def test_who_has_not_heard_for_long_that_he_still_writes_asks_before_he_shows_anything() -> None:
    stage = Stage(100, yes, fenced)
    with pytest.raises(Fenced):
        stage.run()
    first_ns = stage.written[0]
    assert len(stage.written) > 1
    assert all(ns - first_ns <= CONFIRMED_NS for ns in stage.written)


def test_who_was_frozen_while_he_asked_asks_again() -> None:
    """The answer from before has waited for him to wake."""

    def late() -> None:
        stage.now_ns += 5 * CONFIRMED_NS

    stage = Stage(100, late, fenced)
    with pytest.raises(Fenced):
        stage.run()
    assert stage.written == []


def test_a_view_that_moves_costs_one_question_a_second_and_one_look_in_five() -> None:
    stage = Stage(101)
    with pytest.raises(Ended):
        stage.run()
    assert len(stage.written) > 95
    assert min(b - a for a, b in zip(stage.asked, stage.asked[1:], strict=False)) >= CONFIRMED_NS
    assert len(stage.looked) == 100 * TURN_NS // round(VIEW_REWRITTEN_S * 1e9)


def test_a_hash_that_has_vanished_is_found_out_while_the_view_moves() -> None:
    stage = Stage(100)
    stage.hash_set = nothing  # type: ignore[method-assign]
    with pytest.raises(RolledBack, match="vanished"):
        stage.run()


async def nothing(key: str, fields: dict[str, bytes]) -> None: ...


def test_what_a_bus_confirmed_before_it_went_away_does_not_count() -> None:
    stage = Stage(2, yes, fenced)
    stage.away = True
    with pytest.raises(Fenced):
        stage.run()
    assert stage.written == []


def test_a_link_that_is_taken_for_silent_is_built_anew() -> None:
    stage, reasons = Stage(0), list[str]()
    stage.shell._link = cast(Any, SimpleNamespace(reconnect=reasons.append))
    state = stage.shell.state
    state.link_up, state.unheard_ns = True, [1, 2]
    stage.shell._decide(events.Tick(now_ns=2 + core.HEARD_WITHIN_NS, ts_ns=1))
    (reason,) = reasons
    assert "has not told" in reason
