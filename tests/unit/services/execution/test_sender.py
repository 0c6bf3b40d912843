"""What a look at the account shows when something happens in the middle of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.execution.events import Search
from services.execution.holds import HALTED
from services.execution.sender import UNCONFIRMED, look, withheld
from shared.broker.port import OrderTicket
from shared.domain.order import Side
from tests.support.execution import PaperBroker


class Between:
    """An account on which a resting order fills after the first answer."""

    def __init__(self) -> None:
        self.broker = PaperBroker()
        self.number = self.broker.external(side=Side.BUY)
        self.asked: list[str] = []

    def _then(self, name: str, answer: Any) -> Any:
        self.asked.append(name)
        if len(self.asked) == 1:
            self.broker.fill(self.number)
        return answer

    async def working_orders(self, account_id: int) -> Any:
        return self._then("working", list(self.broker.working()))

    async def orders_since(self, account_id: int, start_ns: int) -> Any:
        return self._then("orders", list(self.broker.orders.values()))

    async def fills_since(self, account_id: int, start_ns: int) -> Any:
        return self._then("fills", list(self.broker.fills))

    async def positions(self, account_id: int) -> Any:
        return self._then("positions", list(self.broker.positions()))


def test_an_order_that_fills_during_a_look_does_not_make_it_flat() -> None:
    """Positions first, then working orders: it was in neither, and a flatten called the account flat."""
    account = Between()
    seen = asyncio.run(look(account, 1001, Search(start_ns=0, working=True)))  # type: ignore[arg-type]
    assert len(account.asked) == 4
    assert seen["working"] or seen["positions"]
    assert seen["positions"]


@pytest.mark.proves("I-17")
@pytest.mark.parametrize(
    ("urgent", "held", "confirmed", "why"),
    [
        (False, None, True, None),
        (False, None, False, UNCONFIRMED),
        (True, None, False, None),
        (True, HALTED, True, HALTED),
    ],
)
def test_what_waited_is_asked_about_once_more(
    urgent: bool, held: str | None, confirmed: bool, why: str | None
) -> None:
    ticket = OrderTicket(
        account_id=1, client_order_id="o1", contract_id="MES", side=Side.BUY, order_qty=1, urgent=urgent
    )
    assert withheld(ticket, held=held, confirmed=confirmed) == why
