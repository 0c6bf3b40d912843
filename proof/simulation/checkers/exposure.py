"""What the account may hold, and what protects it, by the broker's books (I-6, I-10)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from proof.simulation.checkers.checker import Checker, Sent
from proof.simulation.checkers.commits import GIVEN_UP
from proof.simulation.swarm import POSITION_MAX
from services.execution.books import Book
from services.simulator.orders import Order
from services.simulator.state import Command, FillBooked, PositionUpdated
from shared.domain.order import OrderType

if TYPE_CHECKING:
    from proof.simulation.judge import Judge

PROTECTED_WITHIN_S = 5.0
HEARD_WITHIN_S = 2.5
"""Until execution knows of a fill whose push was lost: one reconcile of the scaled installation. Only worlds
that may lose pushes have it; in all others the promise is the five seconds alone."""
DEAF = frozenset({"hub", "partitions", "long", "bus", "outages"})
"""Kinds of fault that lose or delay what the hub tells. Whoever is killed or frozen hears nothing either."""
LOOK_S = 0.25
SPEAKS_OF_IT = frozenset(
    {"unprotected", "own_stop", "exit_failed", "position_left", "brackets_refused", "fills_missing",
     "position_mismatch", "unexplained_position", "overfilled", "late_landing", "blind", "flatten_incomplete",
     "fill_voided", "two_broker_orders"}
)  # fmt: skip
"""Alarms that send a person to the position: it lacks its stop, or is not what our books say."""


class Exposure(Checker):
    """See the module.

    Attributes:
        held_ns: Since when the account holds a position.
        naked_ns: Since when a position has no stop of its size.
        naked_s: How much of that time execution could have used.
        acted_s: How much of the time since the first race execution could have used.
        deaf: May a push be lost in this world?
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.held_ns: int | None = None
        self.naked_ns: int | None = None
        self.naked_s = 0.0
        self.acted_s = 0.0
        self._races: deque[tuple[float, int]] = deque()
        self._fills_seen = 0
        self._race_seen = False
        self._told: set[str] = set()
        self._heard = 0
        plan = judge.world.plan
        absent = {one.process for one in plan.kills} | {one.process for one in plan.stops}
        self.deaf = "broker_sync" in absent or bool(DEAF & set(plan.kinds))

    def happened(self, command: Command) -> None:
        """Look at what became true at the broker."""
        self.world.trace("venue", command)
        self.judge.guard.happened(command)
        if isinstance(command, FillBooked):
            fill = command.fill
            if fill.order_id in self.world.venue.externals:
                self.judge.external_net += fill.size if fill.side == 0 else -fill.size
            self._note_races()
            self.held_ns = None if not self.world.venue.net_qty else self.held_ns or fill.created_ns
            self.within_limit(f"fill {fill.id} is booked")
        elif isinstance(command, PositionUpdated) and not command.position.net_qty:
            # What one fill turned is another position between two looks, with five seconds of its own.
            self.naked_ns, self.naked_s = None, 0.0

    def _note_races(self) -> None:
        """Note every fill that the broker has by now: of one moment there may be more than the one told."""
        venue = self.world.venue
        fills = venue.state.fills[self._fills_seen :]
        self._fills_seen += len(fills)
        for fill in fills:
            claim = self.judge.claims.get(venue.tag_of.get(fill.order_id, ""))
            if claim is None or claim[0].reduce_only:
                self._races.append((self.acted_s, fill.size))

    def own_net(self) -> int:
        return self.world.venue.net_qty - self.judge.external_net

    def within_limit(self, why: str, *, buys_only: bool | None = None) -> None:
        """Position, working and unknown together, by the broker's books and what is under way.

        Args:
            buys_only: Side of an order that is sent: it can make no more of the other one.
        """
        if self.world.venue.externals or any(sent.late for sent in self.judge.sent.values()):
            return  # traded by hand unseen, or landed after its quarantine: the declared rest of the risk
        buys = sells = 0
        venue = self.world.venue
        for sent in self.judge.sent.values():
            if sent.protective:
                continue
            qty = sent.qty if self._under_way(sent) else 0
            for one in venue.landed.get(sent.tag, ()):
                order = venue.state.orders.get(one.order_id)
                qty += self._most_leaves(order)
            buys += qty if sent.buys else 0
            sells += 0 if sent.buys else qty
        net = venue.net_qty
        long, short = net + buys, sells - net
        worst = max(long, short) if buys_only is None else long if buys_only else short
        room = POSITION_MAX
        if worst > room and (raced := self._raced()):
            # A stop and an exit filled at once: nobody can know before, and `protection` takes it back.
            self.reach("an exit raced a stop")
            room += raced
        self.check(
            "I-10",
            worst <= room,
            lambda: (
                f"when {why}: position {net:+d}, may still buy {buys} and sell {sells}, limit {POSITION_MAX}"
            ),
        )

    def _most_leaves(self, order: Order | None) -> int:
        if order is None or not _leaves(order):
            return 0
        return self.judge.changes.most_qty(order.id, order.size) - order.fill_volume

    def _under_way(self, sent: Sent) -> bool:
        """May it still come, as far as anybody can know? Later than its quarantine is the declared rest."""
        record = self.world.disk.orders.get(sent.tag)
        given_up = record is not None and record.status in GIVEN_UP
        return sent.arrives and sent.tag not in self.world.venue.landed and not given_up

    def _raced(self) -> int:
        """Return what stops, targets and exits have filled, until execution could have taken it back."""
        races = self._races
        while races and races[0][0] < self.acted_s - PROTECTED_WITHIN_S:
            races.popleft()
        return sum(qty for _, qty in races)

    def tick(self) -> None:
        """Look at what must not last."""
        world = self.world
        now_ns = world.clock.true_ns()
        net = self.own_net()
        if self._race_seen and world.can_act():
            self.acted_s += LOOK_S
        self._race_seen = bool(self._races)
        self._hear_alarms()
        if world.venue.externals:
            return  # what was traded by hand has no stop, and may have ended a position that had one
        if abs(net) <= world.venue.protection():
            self.naked_ns, self.naked_s = None, 0.0
            self.check("I-6", True, str)
            return
        seen_before = self.naked_ns is not None
        since_ns = self.naked_ns = self.naked_ns if self.naked_ns is not None else now_ns
        if seen_before and world.can_act():
            # Silence of execution itself is heartbeat's alarm, and guard's to act on.
            self.naked_s += LOOK_S
        bound_s = PROTECTED_WITHIN_S + (HEARD_WITHIN_S if self.deaf else 0.0)
        naked_s = self.naked_s
        answered = world.disk.standing_now().flatten is not None or any(
            at_ns >= since_ns and event in SPEAKS_OF_IT for at_ns, _, event, _ in self.judge.alarms
        )
        self.check(
            "I-6",
            naked_s <= bound_s or answered or self._told_already(net),
            lambda: f"{net:+d} contracts, stops for {world.venue.protection()}, for {naked_s:.1f} s",
        )

    def _hear_alarms(self) -> None:
        """Keep what alarms speak of, until it is protected again: a later loss has to be told anew."""
        heard, self._heard = self._heard, len(self.judge.alarms)
        for _, _, event, words in self.judge.alarms[heard:]:
            if event == "unprotected":
                self._told.add(words.partition(": ")[0])
        if self._told:
            parts = self._parts()
            self._told -= {name for name in self._told if self._stops_of(name) >= abs(parts.get(name, 1))}

    def _told_already(self, net: int) -> bool:
        """Is it what alarms spoke of, which other parts of the position hid for a while?"""
        parts = self._parts()
        told = sum(parts.get(name, 0) for name in self._told)
        return told * net > 0 and abs(told) >= abs(net)

    def _parts(self) -> dict[str, int]:
        """Return entry -> signed contracts of the position that it holds, by the ledger's fills."""
        books: dict[str, Book] = {}
        for fill in self.world.disk.fills.values():
            books.setdefault(fill.strategy_id, Book(22)).add(fill)
        return {
            name: lot.qty * (1 if book.position.net_qty > 0 else -1)
            for book in books.values()
            for name, lot in book.lots.items()
        }

    def _stops_of(self, entry: str) -> int:
        """Return contracts of the stops that work at the broker for an entry."""
        venue = self.world.venue
        qty = 0
        for record in self.world.disk.orders.values():
            if record.parent == entry and record.order_type in (OrderType.STOP, OrderType.TRAILING_STOP):
                qty += _leaves(venue.state.orders.get(record.broker_order_id or 0))
        return qty


def _leaves(order: Order | None) -> int:
    return order.leaves if order is not None and int(order.status) in (1, 6, 7) else 0
