"""What leaves for the broker: each command is one call, made as a task, and its answer is one event.

Nothing here decides and nothing is repeated. A task that fails by a bug, or because the ledger did not take
its answer, stops the process at the next `check`: nothing may go on as if it had been recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec

from services.execution.config import ExecutionConfig
from services.execution.events import (
    Alarm,
    Cancel,
    CancelAnswered,
    CloseAnswered,
    CloseContract,
    Command,
    Event,
    Modify,
    ModifyAnswered,
    Moment,
    OrderQueried,
    Place,
    PlaceAnswered,
    Publish,
    QueryOrder,
    Search,
    Searched,
)
from shared.broker.errors import BrokerQueryFailed, LimiterUnavailable
from shared.broker.port import AccountPort, NotSent, OrderPort, OrderTicket, Outcome
from shared.domain.control import SessionHealth
from shared.runtime import marks
from shared.runtime.clock import NS_PER_MS
from shared.runtime.fence import Fence
from shared.runtime.service import Context

Call = Place | Cancel | Modify | CloseContract | Search | QueryOrder

SESSION_WAIT_S = 0.1
_encode = msgspec.json.Encoder().encode
UNCONFIRMED = "the bus did not confirm that this is the one execution"
OWN_WAIT_S, URGENT_WAIT_S = 3.0, 0.5
"""How long a bus is asked, that has not confirmed us lately, before an order, and before what gets us out."""


def words(command: Command) -> str | None:
    """Return how the ledger notes what leaves to change something at the broker; None for all else."""
    match command:
        case Publish() | Alarm() | Search() | QueryOrder():
            return None
        case Place(ticket=ticket):
            return f"Place {ticket.client_order_id}"  # its claim says the rest
        case _:
            return f"{type(command).__name__} {_encode(command).decode()}"


def withheld(ticket: OrderTicket, *, held: str | None, confirmed: bool) -> str | None:
    """Return why an order may not leave, now that nothing else holds it up; None when it may.

    Args:
        held: Why execution would not send it any more.
        confirmed: The bus has said lately that this is the one execution. What gets us out goes without.
    """
    if held is not None:
        return held
    return None if confirmed or ticket.urgent else UNCONFIRMED


class Session(Protocol):
    """The broker session, read only."""

    @property
    def health(self) -> SessionHealth: ...

    def token(self) -> str | None: ...


class Sender:
    """Makes the calls and hands their answers to `answer`."""

    def __init__(
        self,
        ctx: Context[ExecutionConfig],
        *,
        orders: OrderPort,
        account: AccountPort,
        session: Session,
        answer: Callable[[Event], None],
        fence: Fence,
        held: Callable[[str], str | None],
        held_change: Callable[[Modify], str | None],
    ) -> None:
        self._clock = ctx.clock
        self._log = ctx.log
        self._account_id = ctx.julie.account_id
        self._venue_clock = ctx.julie.market_clock == "venue"
        self._orders = orders
        self._account = account
        self._session = session
        self._answer = answer
        self._fence = fence
        self._held, self._held_change = held, held_change
        self._running: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    def now(self) -> Moment:
        """Return the clocks; ours is good enough for the broker's until its answers prove it wrong."""
        now_ns = self._clock.now_ns()
        venue_ns: int | None = now_ns - (self.clock_offset_ms() or 0) * NS_PER_MS
        if self._venue_clock:
            venue_ns = self._orders.venue_now_ns() or self._account.venue_now_ns()
        return Moment(now_ns=now_ns, mono_ns=self._clock.monotonic_ns(), venue_ns=venue_ns)

    def clock_offset_ms(self) -> int | None:
        """Return how far our clock is proven to be ahead of the broker's; None while nobody knows.

        The broker's answers tell whole seconds, so that less than one second either way proves nothing.
        """
        venue_ns = self._orders.venue_now_ns() or self._account.venue_now_ns()
        if self._venue_clock or venue_ns is None:
            return None
        most_ms = (self._clock.now_ns() - venue_ns) // NS_PER_MS
        least_ms = most_ms - 1_000
        return least_ms if least_ms > 0 else min(most_ms, 0)

    def send(self, call: Call) -> None:
        """Begin one call; it has left this turn of the loop as the next thing."""
        task = asyncio.get_running_loop().create_task(self._call(call))
        self._running.add(task)
        task.add_done_callback(self._done)

    def check(self) -> None:
        """Raise what a call failed with."""
        if self._failure is not None:
            raise self._failure

    async def finish(self, wait_s: float) -> None:
        """Wait for answers to what was sent, at most `wait_s`; what has none then is unknown."""
        if not self._running:
            return
        _, late = await asyncio.wait(set(self._running), timeout=wait_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()

    async def _call(self, call: Call) -> None:
        account_id = self._account_id
        match call:
            case Place(ticket=ticket):
                name = ticket.client_order_id
                outcome = await self._unfenced(ticket.urgent) or await self._orders.place(
                    ticket, held=partial(self._withheld, ticket)
                )
                marks.reached("after_reply")
                self._answer(PlaceAnswered(client_order_id=name, outcome=outcome, at=self.now()))
            case Cancel(broker_order_id=number):
                outcome = await self._unfenced(True) or await self._orders.cancel(account_id, number)
                self._answer(CancelAnswered(broker_order_id=number, outcome=outcome, at=self.now()))
            case Modify(client_order_id=name, broker_order_id=number):
                outcome = await self._unfenced(call.urgent) or await self._orders.modify(
                    account_id,
                    number,
                    order_qty=call.order_qty,
                    limit_price=call.limit_price,
                    stop_price=call.stop_price,
                    trail_price=call.trail_price,
                    urgent=call.urgent,
                    expires_at_ns=call.expires_at_ns,
                    held=partial(self._held_change, call),
                )
                self._answer(ModifyAnswered(client_order_id=name, outcome=outcome, at=self.now()))
            case CloseContract(contract_id=contract_id):
                outcome = await self._unfenced(True) or await self._orders.close_contract(
                    account_id, contract_id
                )
                self._answer(CloseAnswered(contract_id=contract_id, outcome=outcome, at=self.now()))
            case Search():
                await self._search(call)
            case QueryOrder(broker_order_id=number):
                await self._query(number)

    async def _unfenced(self, urgent: bool) -> Outcome | None:
        """Return None when this is the one execution as far as the bus can tell; else why nothing is sent.

        Args:
            urgent: It gets us out: a silent bus does not hold it up for long.

        Raises:
            Fenced, RolledBack: Another has taken over, or the bus has lost entries.
        """
        if self._fence.fresh or await self._fence.confirmed(URGENT_WAIT_S if urgent else OWN_WAIT_S):
            return None
        return None if urgent else NotSent(reason=UNCONFIRMED)

    def _withheld(self, ticket: OrderTicket) -> str | None:
        return withheld(ticket, held=self._held(ticket.client_order_id), confirmed=self._fence.fresh)

    async def _search(self, call: Search) -> None:
        started = self.now()
        if self._session.token() is None:
            await self._clock.sleep(SESSION_WAIT_S)
            self._answer(Searched(started=started, at=self.now(), failure="there is no session yet"))
            return
        try:
            seen = await look(self._account, self._account_id, call)
        except (BrokerQueryFailed, LimiterUnavailable) as error:
            self._log.warning("search_failed", why=str(error))
            self._answer(Searched(started=started, at=self.now(), failure=str(error)))
            return
        self._answer(Searched(started=started, at=self.now(), **seen))

    async def _query(self, number: int) -> None:
        report, failure = None, None
        try:
            report = await self._account.order_by_id(self._account_id, number)
        except (BrokerQueryFailed, LimiterUnavailable) as error:
            failure = str(error)
        self._answer(OrderQueried(broker_order_id=number, report=report, failure=failure, at=self.now()))


async def look(account: AccountPort, account_id: int, call: Search) -> dict[str, Any]:
    """Ask for all that a search shows; return it by the names of `Searched`.

    What works is asked first and what is held last: an order that fills in between shows as a position. The
    other way round it would show in neither answer, and an account that holds it would look flat.

    Raises:
        BrokerQueryFailed, LimiterUnavailable: One question got no answer; nothing is known then.
    """
    return {
        "working": await account.working_orders(account_id) if call.working else None,
        "orders": await account.orders_since(account_id, call.start_ns),
        "fills": await account.fills_since(account_id, call.start_ns),
        "positions": await account.positions(account_id),
    }
