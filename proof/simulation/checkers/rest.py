"""When the faults are over: everything known, equal, trading again, and at the end flat (I-2, I-8, I-26)."""

from __future__ import annotations

from proof.simulation.checkers.checker import Checker, Wish
from proof.simulation.checkers.guard_books import CLOCK_S
from proof.simulation.scaled import EXITS_PER_MIN_MAX
from proof.simulation.venue import ACCOUNT_ID
from services.execution.account import VENUE_MARGIN_NS
from services.execution.records import BEFORE, EXIT
from shared.domain.control import HaltKind
from shared.domain.execution import FlattenFinished
from shared.domain.order import OrderStatus
from shared.wire import topics


class Rest(Checker):
    """See the module."""

    def unsettled(self) -> str:
        """Return what is not at rest yet, empty when all is."""
        unarchived = self.judge.archive.unsettled()  # first: it has to look for some time
        return self._open() or unarchived

    def _open(self) -> str:
        if self.left_to_a_person():
            return ""
        world = self.world
        orders = world.disk.orders
        waiting = (OrderStatus.PENDING_NEW, OrderStatus.UNKNOWN, OrderStatus.PENDING_CANCEL)
        for order in orders.values():
            if order.status in waiting or order.missing_qty:
                return f"{order.client_order_id} is {order.status}, {order.missing_qty} fills are missing"
        for name, wish in self.judge.wishes.items():
            if name not in orders and name not in world.forgotten and not self._below(wish):
                return f"intent {name} has no answer"
        if not world.in_sync:
            return "broker_sync is not in sync"
        ours = self.ledger_net()
        if world.venue.net_qty not in (ours, ours + self._latched_difference()):
            return f"the ledger holds {ours:+d}, the broker {world.venue.net_qty:+d}"
        books = self._books()
        for strategy_id, position in world.strategy_positions():
            if position != books.get(strategy_id, 0):
                return f"{strategy_id} sees {position:+d}, holds {books.get(strategy_id, 0):+d}"
        if not self._latched_difference() and len(self._own_fills()) < len(world.venue.state.fills):
            return "the broker has fills that the ledger has not"
        if any(sent.arrives and tag not in world.venue.landed for tag, sent in self.judge.sent.items()):
            return "orders are under way"
        judge = self.judge
        unsettled = (
            judge.guard.unsettled,
            judge.session.unsettled,
            judge.hosts.unsettled,
            judge.feed.unsettled,
        )
        return next((words for one in unsettled if (words := one())), "")

    def _below(self, wish: Wish) -> bool:
        """Was its id read before already? Redis was emptied and the clock set back, then.

        Execution has halted over the loss; who asks for an order again is heard, and this one has expired.
        """
        if not (self.judge.data_lost and self.world.plan.jumps):
            return False
        stream = topics.intents(ACCOUNT_ID, wish.intent.strategy_id)
        return _place(wish.entry_id) <= _place(self.world.disk.cursors.get(stream, "0-0").encode())

    def left_to_a_person(self) -> bool:
        """Was traded by hand as the ledger began, so that no clock tells whether the baseline contains it?

        The position stays unexplained, which is said, and what is unknown stays so.
        """
        begun_ns = self.world.disk.standing_now().baseline_venue_ns
        told = any(event == "unexplained_position" for _, _, event, _ in self.judge.alarms)
        by_hand_ns = [
            fill.created_ns
            for fill in self.world.venue.state.fills
            if fill.order_id in self.world.venue.externals
        ]
        return told and any(abs(ns - begun_ns - VENUE_MARGIN_NS) <= VENUE_MARGIN_NS for ns in by_hand_ns)

    def _latched_difference(self) -> int:
        """Return what execution has halted over; only what was done by hand at its start may be that."""
        if not self.world.plan.externals:
            return 0
        mismatches = self.world.disk.standing_now().mismatches
        return mismatches.get(self.world.venue.contract.id, 0)

    def _own_fills(self) -> dict[int, int]:
        """Return what each of the broker's fills is in the ledger, contracts bought."""
        ours: dict[int, int] = {}
        for fill in self.world.disk.fills.values():
            if fill.fill_id >= 0:  # below: between two books of ours, at the end of a flatten
                ours[fill.fill_id] = ours.get(fill.fill_id, 0) + fill.signed_qty
        return ours

    def ledger_net(self) -> int:
        disk, contract_id = self.world.disk, self.world.venue.contract.id
        standing = disk.standing_now()
        fills = [
            one for one in disk.fills.values() if one.contract_id == contract_id and one.strategy_id != BEFORE
        ]
        return standing.baselines.get(contract_id, 0) + sum(one.signed_qty for one in fills)

    def at_rest(self, left: str) -> None:
        """Faults are over and the time to settle as well: all must be known and equal."""
        world = self.world
        self.judge.streams.streams()
        self.judge.session.leaks()
        if not left:
            self.judge.archive.at_rest()
        self.check("I-2", not left, lambda: f"not at rest in {world.settle_s:g} s after the faults: {left}")
        if left:
            return
        venue, disk = world.venue, world.disk
        if self.left_to_a_person():
            self.reach("unexplained position, for a person to look at")
            return
        if self._latched_difference() and self.ledger_net() != venue.net_qty:
            self.reach("position mismatch latched, for a person to look at")
            return
        self.check("I-8", self.ledger_net() == venue.net_qty, lambda: "positions differ")
        theirs = {one.id: (one.size if one.side == 0 else -one.size) for one in venue.state.fills}
        ours = self._own_fills()
        self.check("I-8", ours == theirs, lambda: f"fills differ: {_difference(ours, theirs)}")
        for tag, landed in venue.landed.items():
            for one in landed:
                order, record = venue.state.orders[one.order_id], disk.orders.get(tag)
                same = record is not None and (one.refused or record.cum_qty == order.fill_volume)
                self.check("I-8", same, lambda o=order, r=record: f"{r} at rest, the broker has {o}")  # type: ignore[misc]
        fees = sum(one.fees for one in disk.fills.values())
        self.check("I-8", fees == sum(one.fees for one in venue.state.fills), lambda: "fees differ")

    def _books(self) -> dict[str, int]:
        """Return each strategy's position as the ledger's fills make it."""
        books: dict[str, int] = {}
        for fill in self.world.disk.fills.values():
            books[fill.strategy_id] = books.get(fill.strategy_id, 0) + fill.signed_qty
        return books

    def halts_at_rest(self, halts: dict[HaltKind, str]) -> None:
        """Trading goes on again unless something that a person must look at has latched a halt."""
        plan = self.world.plan
        expected = {HaltKind.OPERATOR} if self.judge.halted_ns is not None else set()
        if any(event == "resume_refused" for _, _, event, _ in self.judge.alarms):
            expected.add(
                HaltKind.OPERATOR
            )  # its word came too old, by a clock that jumped, and nothing is lifted
        by_word = any(word == "halt-reducing" for _, word in plan.commands)
        # Unexplained for a while by what was done by hand; or exits that a closed market refused.
        for_people = plan.externals or plan.closed
        if self.judge.data_lost or plan.disk or by_word or for_people:
            expected.add(HaltKind.INVARIANT)
        if self.judge.data_lost:
            expected.add(
                HaltKind.OPERATOR
            )  # its resume may be among what was lost; the halt is in the ledger
        # Execution counts every exit that was sent, those with a limit as well.
        exits = [one for one in self.world.disk.orders.values() if one.role == EXIT and one.attempts]
        if len(exits) >= EXITS_PER_MIN_MAX:
            expected.add(HaltKind.RUNAWAY)
        if self.judge.guard.demands(margin_s=CLOCK_S):
            expected.add(HaltKind.GUARD)
        wrong = {kind: why for kind, why in halts.items() if kind not in expected}
        self.check("I-2", not wrong, lambda: f"halted at rest for no reason that was given: {wrong}")
        for kind in halts:
            self.reach(f"latched at rest: {kind}")

    def ended_flat(self, finished: FlattenFinished | None, took_s: float) -> None:
        """The last flatten must end flat, with nothing left that works."""
        venue = self.world.venue
        done = finished is not None and finished.flat
        self.check("I-26", done, lambda: f"not flat {took_s:.1f} s after the flatten: {finished}")
        if not done:
            return
        working = [one.id for one in venue.working()]
        text = f"flat is said: position {venue.net_qty:+d}, working {working}"
        self.check("I-26", venue.net_qty == 0 and not working, lambda: text)
        left = [n for n, o in self.world.disk.orders.items() if not o.status.is_terminal]
        self.check("I-2", not left, lambda: f"without an end after the flatten: {left}")


def _place(entry_id: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split(b"-"))


def _difference(ours: dict[int, int], theirs: dict[int, int]) -> str:
    missing = {k: v for k, v in theirs.items() if ours.get(k) != v}
    extra = {k: v for k, v in ours.items() if theirs.get(k) != v}
    return f"the broker has {missing}, we have {extra}"
