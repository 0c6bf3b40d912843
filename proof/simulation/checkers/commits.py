"""What execution commits: claims (I-1, I-3, I-4, I-11), moves (I-5, I-7), what it calls flat (I-26)."""

from __future__ import annotations

from proof.simulation.checkers.checker import Checker
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.scaled import EXITS_PER_MIN_MAX, REFERENCE_AGE_S
from services.execution.ledger import Commit
from services.execution.records import NOT_SENT, OrderRecord
from shared.domain.control import HaltKind
from shared.domain.execution import FlattenFinished, OrderClaimed, OrderUpdated, TradingStateChanged
from shared.domain.ids import dependent_order_id
from shared.domain.order import TRANSITIONS, OrderStatus, OrderType
from shared.wire.codec import decode

ANSWER_WITHIN_S = 0.1
"""An answer of the broker needs no longer to come here, where it comes at all."""
PURPOSES = tuple(f"{what}{n}" for what in ("stop", "exit") for n in range(10))
GIVEN_UP = frozenset({OrderStatus.ABSENT, OrderStatus.REJECTED})
STALE_MARGIN_S = 0.75
"""A price is stamped when the feed hears it and comes here a moment later, at worst after one poll."""


BY_FILLS = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})
FOLLOWING: dict[OrderStatus, frozenset[OrderStatus]] = {
    status: frozenset(to for (of, _), to in TRANSITIONS.items() if of is status) for status in OrderStatus
}
"""Where one fact may lead."""


def may_follow(was: OrderStatus, status: OrderStatus, cum_qty: int) -> bool:
    """Return whether one fact explains a move; its fills say whether what works is new."""
    if status is was:
        return True
    ends = FOLLOWING[was]
    if status in BY_FILLS:
        return bool(ends & BY_FILLS) and (status is OrderStatus.PARTIALLY_FILLED) == (cum_qty > 0)
    if status is OrderStatus.FILLED and ends & {*BY_FILLS, OrderStatus.PENDING_CANCEL}:
        return cum_qty > 0
    return status in ends


class Commits(Checker):
    """See the module."""

    def committed(self, batch: Commit, incarnation: Incarnation) -> None:
        """Look at a commit before it is on the disk."""
        orders = self.world.disk.orders
        if self.world.tracing:
            for step in batch.steps:
                self.world.trace("step", step.seq, step.value.decode())
        halts = self.world.disk.standing_now().halts
        moves: dict[str, list[OrderUpdated]] = {}
        for step in batch.steps:
            if step.kind == b"trading_state":
                changed = decode(step.kind, step.value)
                assert isinstance(changed, TradingStateChanged)
                halts = changed.halts  # lifted before the claim, if only just
            elif step.kind == b"order_claimed":
                message = decode(step.kind, step.value)
                assert isinstance(message, OrderClaimed)
                self._claimed(message, batch, halts)
            elif step.kind == b"order_updated":
                update = decode(step.kind, step.value)
                assert isinstance(update, OrderUpdated)
                moves.setdefault(update.client_order_id, []).append(update)
            elif step.kind == b"flatten_finished":
                finished = decode(step.kind, step.value)
                assert isinstance(finished, FlattenFinished)
                self._finished(finished)
        for name, after in batch.orders.items():
            self._moved(name, orders.get(name), after, moves.get(name, []), incarnation)
        if batch.standing is not None and HaltKind.INVARIANT in batch.standing.halts:
            if self.judge.lost_ns is not None:
                self.reach("rollback detected")
            self.judge.lost_ns = None

    def _finished(self, finished: FlattenFinished) -> None:
        """Flat is said of what is flat: a question without an answer is none."""
        if not finished.flat or self.world.venue.externals:
            return
        held_s = (
            0.0
            if self.judge.exposure.held_ns is None
            else (self.world.clock.true_ns() - self.judge.exposure.held_ns) / NS_PER_S
        )
        self.check(
            "I-26",
            held_s <= ANSWER_WITHIN_S,
            lambda: f"flat is said, the broker holds {self.world.venue.net_qty:+d} for {held_s:.2f} s",
        )

    def _claimed(self, claim: OrderClaimed, batch: Commit, halts: dict[HaltKind, str]) -> None:
        world, name = self.world, claim.client_order_id
        now_ns = world.clock.true_ns()
        self.check("I-1", name not in self.judge.claims, lambda: f"{name} is claimed again")
        asked = name in self.judge.wishes or (claim.reduce_only and self._depends(name))
        self.check("I-3", asked, lambda: f"{name} is claimed and nobody asked for it")
        self.judge.claims.setdefault(name, (claim, now_ns))
        if claim.reduce_only:
            if claim.order_type is OrderType.MARKET:  # a stop protects: it ends nothing yet
                self._exited(name)
            return
        frozen = [
            one.client_order_id
            for one in world.disk.orders.values()
            if one.status is OrderStatus.UNKNOWN
            and one.contract_id == claim.contract_id
            and not _found_before(one.client_order_id, name, batch)
        ]
        self.check("I-4", not frozen, lambda: f"{name} goes into a contract frozen by {frozen}")
        self.check("I-4", not halts, lambda: f"{name} is claimed while halted: {halts}")
        age_s = (now_ns - world.market_ns()) / NS_PER_S
        fresh = age_s <= REFERENCE_AGE_S + STALE_MARGIN_S
        self.check("I-4", fresh, lambda: f"{name} is claimed on a market of {age_s:.2f} s ago")

    def _depends(self, name: str) -> bool:
        """Is it an order that execution sends by itself, to protect or end the position of a known one?"""
        disk = self.world.disk
        # What was traded by hand, or by a flatten, may be left over in a strategy's books, too.
        by_hand = {
            f"{by}:{fill.broker_order_id}" for fill in disk.fills.values() for by in ("external", "flatten")
        }
        parents = disk.orders.keys() | by_hand
        found = any(dependent_order_id(one, purpose) == name for one in parents for purpose in PURPOSES)
        if found:
            self.reach("order of execution's own")
            self.judge.dependent.add(name)
        return found

    def _exited(self, name: str) -> None:
        """Count exits: too many in a minute must have latched. One that provably never left is none."""
        self.judge.exits.append(name)
        orders = self.world.disk.orders
        count = sum(1 for one in self.judge.exits if one not in orders or not _never_left(orders[one]))
        self.check("I-11", count <= EXITS_PER_MIN_MAX, lambda: f"{count} exits in less than a minute")

    def _moved(
        self,
        name: str,
        before: OrderRecord | None,
        after: OrderRecord,
        moves: list[OrderUpdated],
        incarnation: Incarnation,
    ) -> None:
        was = before.status if before is not None else OrderStatus.PENDING_NEW
        if before is not None or after.status not in (OrderStatus.DENIED, OrderStatus.EXPIRED):
            told = [(one.status, one.cum_qty) for one in moves]
            self._step_by_step(name, was, [*told, (after.status, after.cum_qty)])
        least = before.cum_qty if before is not None else 0
        counted = after.cum_qty >= least and (after.cum_qty <= after.order_qty or after.is_protective)
        self.check(
            "I-7", counted, lambda: f"{name}: filled {least}, then {after.cum_qty} of {after.order_qty}"
        )
        if after.status is was:
            return
        if after.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED) and after.broker_order_id is not None:
            there = self.world.venue.state.orders.get(after.broker_order_id)
            works = there is not None and int(there.status) in (1, 6, 8)
            self.check(
                "I-5", not works, lambda: f"{name} is taken for {after.status}, the broker has {there}"
            )
        if after.status is OrderStatus.UNKNOWN:
            self.reach("unknown")
        if was is OrderStatus.ABSENT:
            self.reach("late landing adopted after it was given up")
        elif was is OrderStatus.UNKNOWN and after.status not in GIVEN_UP:
            self.reach("unknown, then found")
        if after.status in GIVEN_UP:
            self._given_up(name, after, incarnation)

    def _step_by_step(self, name: str, was: OrderStatus, told: list[tuple[OrderStatus, int]]) -> None:
        """Each move is told, and each follows from the one before by one fact."""
        for status, cum_qty in told:
            self.check(
                "I-7",
                may_follow(was, status, cum_qty),
                lambda w=was, s=status, q=cum_qty: f"{name} moves from {w} to {s}, filled {q}",  # type: ignore[misc]
            )
            was = status

    def _given_up(self, name: str, after: OrderRecord, incarnation: Incarnation) -> None:
        """Nothing that the broker shows may be given up, nor anything whose quarantine is not over.

        What landed after the last search asked for orders could not be in it, however long the search then
        waited, for its place in the request budget or for its other answers. Such an order is on watch and
        adopted, which the check at rest sees (I-8).
        """
        world = self.world
        self.reach(f"given up: {after.status}")
        visible_ns = world.clock.true_ns()
        if after.status is OrderStatus.ABSENT:
            searched_ns = self.judge.requests.searched_ns.get(incarnation, visible_ns)
            visible_ns = searched_ns - round(world.plan.search_lag_s * NS_PER_S)
        held = [
            one for one in world.venue.landed.get(name, ()) if not one.refused and one.at_ns <= visible_ns
        ]
        self.check("I-5", not held, lambda: f"{name} is given up as {after.status}: the broker has {held}")


def _found_before(unknown: str, claimed: str, batch: Commit) -> bool:
    """Return whether the commit that claims one order has found the unknown one in an earlier step."""
    for step in batch.steps:
        if step.kind in (b"order_claimed", b"order_updated"):
            message = decode(step.kind, step.value)
            assert isinstance(message, OrderClaimed | OrderUpdated)
            if isinstance(message, OrderUpdated):
                if message.client_order_id == unknown and message.status is not OrderStatus.UNKNOWN:
                    return True
            elif message.client_order_id == claimed:
                return False
    return False


def _never_left(order: OrderRecord) -> bool:
    return order.status is OrderStatus.REJECTED and order.reason.startswith(NOT_SENT)
