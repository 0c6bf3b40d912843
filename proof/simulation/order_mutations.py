"""Planted bugs of the order path; see `planting`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec

from proof.simulation.planting import Patches, bug
from services.execution import (
    account,
    changes,
    claims,
    exposure,
    fills,
    holds,
    intents,
    orders,
    resolver,
    sender,
    shell,
)
from services.execution.config import ExecutionConfig
from services.execution.events import IntentRead, Moment
from services.execution.ledger import Commit
from services.execution.records import OrderRecord
from services.execution.state import NS_PER_S, State
from services.execution.turn import Turn
from shared.broker.errors import BrokerQueryFailed
from shared.broker.port import NotSent, Outcome, Rejected, Unknown
from shared.broker.projectx.client import ProjectXAccount, ProjectXOrders
from shared.broker.projectx.gateway import Gateway
from shared.domain import risk
from shared.domain.control import TradingState
from shared.domain.order import OrderFact, OrderStatus
from shared.runtime.limiter import SharedLimiter

# -- sending ------------------------------------------------------------------------


@bug(caught_in=30)
def fresh_tag_on_retry() -> Patches:
    """An order without an answer is sent again, under another name."""
    place = ProjectXOrders.place

    async def again(self: ProjectXOrders, ticket: Any, **more: Any) -> Outcome:
        outcome = await place(self, ticket, **more)
        if isinstance(outcome, Unknown):
            again = msgspec.structs.replace(ticket, client_order_id=ticket.client_order_id[:-2] + "r2")
            return await place(self, again, **more)
        return outcome

    return [patch.object(ProjectXOrders, "place", again)]


@bug(caught_in=30)
def same_tag_on_retry() -> Patches:
    """An order without an answer is sent again, in the trust that the broker knows its name."""
    place = ProjectXOrders.place

    async def again(self: ProjectXOrders, ticket: Any, **more: Any) -> Outcome:
        outcome = await place(self, ticket, **more)
        return await place(self, ticket, **more) if isinstance(outcome, Unknown) else outcome

    return [patch.object(ProjectXOrders, "place", again)]


@bug(caught_in=8)
def claimed_order_sent_after_a_restart() -> Patches:
    """What was claimed and not answered is sent again at the start, whatever holds trading then."""
    recovered = resolver.recovered

    def again(turn: Any) -> None:
        for order in list(turn.state.open.values()):
            if order.status is OrderStatus.PENDING_NEW and order.parent is None:
                claims.post(turn, order)
        recovered(turn)

    return [
        patch.object(resolver, "recovered", again),
        patch.object(holds, "hold", lambda state, order, at: None),
    ]


@bug(caught_in=60)
def order_that_a_search_does_not_show_sent_again() -> Patches:
    """As if it had never left: neither the search that fails to show it nor its own doubt holds it back."""
    not_found, hold = resolver._not_found, holds.hold

    def again(turn: Any, order: Any, look: Any, at_broker: Any) -> None:
        not_found(turn, order, look, at_broker)
        if turn.at.now_ns < order.expires_at_ns and order.parent is None:
            claims.post(turn, order)

    def unheld(state: State, order: OrderRecord, at: Moment) -> str | None:
        return None if order.client_order_id in state.doubts else hold(state, order, at)

    return [patch.object(resolver, "_not_found", again), patch.object(holds, "hold", unheld)]


@bug(caught_in=14)
def expired_intent_sent() -> Patches:
    """An intent that waited too long is sent all the same."""
    take, mutate = intents.take, Gateway.mutate

    def late(turn: Any, read: IntentRead) -> None:
        expires_ns = getattr(read.intent, "expires_at_ns", None)
        if expires_ns is not None and turn.at.now_ns >= expires_ns:
            longer = msgspec.structs.replace(read.intent, expires_at_ns=turn.at.now_ns + 10 * NS_PER_S)
            read = msgspec.structs.replace(read, intent=longer)
        take(turn, read)

    async def ageless(self: Gateway, *args: Any, expires_at_ns: int | None = None, **more: Any) -> Outcome:
        return await mutate(self, *args, **more)

    return [patch.object(intents, "take", late), patch.object(Gateway, "mutate", ageless)]


@bug(caught_in=3)
def bracket_sent_separately() -> Patches:
    """The stop follows the entry in a request of its own."""
    place = ProjectXOrders.place

    async def one_by_one(self: ProjectXOrders, ticket: Any, **more: Any) -> Outcome:
        return await place(self, msgspec.structs.replace(ticket, bracket=None), **more)

    return [patch.object(ProjectXOrders, "place", one_by_one)]


@bug(caught_in=170)
def budget_not_asked() -> Patches:
    async def at_once(self: SharedLimiter, kind: Any, urgent: bool) -> None: ...

    return [patch.object(SharedLimiter, "acquire", at_once)]


# -- what an answer means -------------------------------------------------------------


@bug(caught_in=99)
def http_400_taken_for_a_rejection() -> Patches:
    mutate = Gateway.mutate

    async def sure(self: Gateway, *args: Any, **more: Any) -> Outcome:
        outcome = await mutate(self, *args, **more)
        if isinstance(outcome, Unknown) and outcome.http_status is not None and outcome.http_status < 500:
            return Rejected(code=2, reason=outcome.reason)
        return outcome

    return [patch.object(Gateway, "mutate", sure)]


@bug(caught_in=48)
def timeout_taken_for_not_sent() -> Patches:
    mutate = Gateway.mutate

    async def sure(self: Gateway, *args: Any, **more: Any) -> Outcome:
        outcome = await mutate(self, *args, **more)
        if isinstance(outcome, Unknown) and outcome.http_status is None:
            return NotSent(reason=outcome.reason)
        return outcome

    return [patch.object(Gateway, "mutate", sure)]


@bug(caught_in=352)
def failed_query_taken_for_flat() -> Patches:
    """A question without an answer is an empty list."""
    patches = []
    for name in ("orders_since", "fills_since", "positions", "working_orders"):
        ask = getattr(ProjectXAccount, name)

        async def empty(self: Any, *args: Any, ask: Any = ask, **more: Any) -> Any:
            try:
                return await ask(self, *args, **more)
            except BrokerQueryFailed:
                return []

        patches.append(patch.object(ProjectXAccount, name, empty))
    return patches


@bug(caught_in=29)
def not_among_open_orders_taken_for_canceled() -> Patches:
    def gone(turn: Any, sync: Any, begun_ns: int) -> None:
        for order in list(turn.state.open.values()):
            number = order.broker_order_id
            if number is not None and number not in sync.seen_orders:
                orders.observe(turn, order, OrderFact.CANCELED)

    return [patch.object(account, "_query_missing", gone)]


@bug(caught_in=209)
def one_look_taken_for_gone() -> Patches:
    """An order that a look at it does not show is given up at once; the look has not caught up."""
    vanished = orders.vanished

    def given_up(turn: Turn, order: OrderRecord, reason: str) -> OrderRecord:
        after = vanished(turn, order, reason)
        return orders.advance(turn, after, OrderFact.PROVEN_ABSENT, reason=reason)

    return [patch.object(orders, "vanished", given_up)]


@bug(caught_in=99)
def given_up_too_soon() -> Patches:
    """Absence is believed after a second and one search."""
    rules = ExecutionConfig.rules

    def hasty(self: ExecutionConfig, julie: Any) -> Any:
        return msgspec.structs.replace(rules(self, julie), quarantine_s=1.0, searches_min=1)

    return [patch.object(ExecutionConfig, "rules", hasty)]


# -- state ----------------------------------------------------------------------------


@bug(caught_in=3)
def fill_counted_twice() -> Patches:
    take = fills.take

    def twice(turn: Any, fill: Any) -> Any:
        if fill.fill_id in turn.state.fills and not fill.voided:
            fill = msgspec.structs.replace(fill, fill_id=fill.fill_id + 1_000_000)
        return take(turn, fill)

    return [patch.object(fills, "take", twice)]


@bug(caught_in=8)
def halt_not_asked_with_the_connection_in_hand() -> Patches:
    """Whether trading is halted is asked once, before the wait for a connection."""
    mutate = Gateway.mutate

    async def once(
        self: Gateway, *args: Any, held: Callable[[], str | None] = lambda: None, **more: Any
    ) -> Outcome:
        asked: list[str | None] = []

        def first() -> str | None:
            asked.append(asked[0] if asked else held())
            return asked[0]

        return await mutate(self, *args, held=first, **more)

    return [patch.object(Gateway, "mutate", once)]


@bug(caught_in=227)
def change_sent_while_halted() -> Patches:
    """A change is taken for no new order: it is not held up, neither when it is decided nor as it leaves."""
    check = risk.check

    def active(wish: Any, figures: Any, *rest: Any) -> Any:
        return check(wish, msgspec.structs.replace(figures, trading_state=TradingState.ACTIVE), *rest)

    return [
        patch.object(changes, "check", active),
        patch.object(holds, "hold_change", lambda state, change, at: None),
    ]


@bug(caught_in=121)
def greater_size_counted_when_it_is_shown() -> Patches:
    """The size that a change has asked for counts from the broker's report on."""
    return [patch.object(OrderRecord, "most_leaves_qty", property(lambda order: order.leaves_qty))]


@bug(caught_in=381)
def halt_not_latched() -> Patches:
    """A restart forgets that a person has halted."""
    load = State.load

    def forget(self: State, standing: Any, *rest: Any) -> None:
        load(self, standing, *rest)
        self.standing.halts = {}

    return [patch.object(State, "load", forget)]


@bug(caught_in=60)
def risk_without_unknown_orders() -> Patches:
    """Orders of unknown fate neither count nor freeze."""
    working = exposure._working

    def known(state: State, *args: Any) -> Any:
        before = state.open
        state.open = {k: v for k, v in before.items() if v.status is not OrderStatus.UNKNOWN}
        try:
            return working(state, *args)
        finally:
            state.open = before

    return [
        patch.object(exposure, "_working", known),
        patch.object(State, "is_frozen", lambda self, contract_id: False),
    ]


@bug(caught_in=140)
def timeouts_by_the_wall_clock() -> Patches:
    now = sender.Sender.now

    def wall(self: sender.Sender) -> Moment:
        at = now(self)
        return msgspec.structs.replace(at, mono_ns=at.now_ns)

    return [patch.object(sender.Sender, "now", wall)]


@bug(caught_in=63)
def cursor_committed_before_the_effect() -> Patches:
    apply = shell.Shell._apply

    def first(self: Any, *events: Any) -> None:
        if self._inbox.unsaved and any(isinstance(one, IntentRead) for one in events):
            self._commit([])
        apply(self, *events)

    return [patch.object(shell.Shell, "_apply", first)]


@bug(caught_in=245)
def commit_in_two_steps() -> Patches:
    """The claim is said in one transaction and kept in another."""
    from proof.simulation.disk import SimLedger

    commit = SimLedger.commit

    def split(self: SimLedger, batch: Commit) -> None:
        if batch.steps and batch.orders:
            commit(self, batch._replace(orders={}, fills={}, standing=None, cursors={}))
            batch = batch._replace(steps=[])
        commit(self, batch)

    return [patch.object(SimLedger, "commit", split)]
