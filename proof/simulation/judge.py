"""The checkers: each compares a promise with the broker's truth, the bus and the disk, after every event.

They never ask what the code believes. A check that does not hold names the seed, the virtual time and the
facts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from proof.record import Record
from proof.simulation.bus.replies import ErrorReply
from proof.simulation.bus.session import Parked
from proof.simulation.bus.streams import Stream
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.scaled import EXITS_PER_MIN_MAX, HALT_WITHIN_S, INTENT_TTL_S, REFERENCE_AGE_S
from proof.simulation.swarm import POSITION_MAX, QUARANTINE_S
from proof.simulation.venue import ACCOUNT_ID
from proof.simulation.wire import PLACE, Post
from services.execution.account import VENUE_MARGIN_NS
from services.execution.ledger import Commit
from services.execution.records import BEFORE, OrderRecord
from services.simulator.orders import Order
from services.simulator.state import Command, FillBooked
from shared.broker.projectx.payloads import PlaceOrderRequest
from shared.domain.control import HaltKind
from shared.domain.execution import FlattenFinished, OrderClaimed, OrderUpdated
from shared.domain.ids import dependent_order_id
from shared.domain.order import (
    TRANSITIONS,
    ClosePosition,
    Intent,
    OrderStatus,
    OrderType,
    SubmitOrder,
)
from shared.wire import topics
from shared.wire.codec import decode

if TYPE_CHECKING:
    from proof.simulation.world import World

PROTECTED_WITHIN_S = 5.0
HEARD_WITHIN_S = 2.5
"""Until execution knows of a fill whose push was lost: one reconcile of the scaled installation."""
ANSWER_WITHIN_S = 0.1
"""An answer of the broker needs no longer to come here, where it comes at all."""
LOOK_S = 0.25
PURPOSES = tuple(f"{what}{n}" for what in ("stop", "exit") for n in range(10))
GIVEN_UP = frozenset({OrderStatus.ABSENT, OrderStatus.REJECTED})
LANDING_MARGIN_S = 0.5
STALE_MARGIN_S = 0.75
_place = msgspec.json.Decoder(PlaceOrderRequest)


def _reachable() -> dict[OrderStatus, frozenset[OrderStatus]]:
    """Return where any number of facts may lead: one commit may hold several."""
    table = {status: {status} for status in OrderStatus}
    for _ in OrderStatus:
        for (status, _fact), following in TRANSITIONS.items():
            for ends in table.values():
                if status in ends:
                    ends.add(following)
    return {status: frozenset(ends) for status, ends in table.items()}


REACHABLE = _reachable()


@dataclass(slots=True)
class Wish:
    """One intent that the bus acknowledged."""

    intent: Intent
    entry_id: bytes


@dataclass(slots=True)
class Sent:
    """One order that left for the broker.

    Attributes:
        posts: When, true time.
        arrives: May still come to the broker.
    """

    tag: str
    buys: bool
    qty: int
    posts: list[int] = field(default_factory=list)
    arrives: bool = True
    late: bool = False
    protective: bool = False


class Judge:
    """See the module."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.record = Record(machine="simulation", command="", build="", started="")
        self.wishes: dict[str, Wish] = {}
        self.claims: dict[str, tuple[OrderClaimed, int]] = {}
        self.sent: dict[str, Sent] = {}
        self.halted_ns: int | None = None
        self.lost_ns: int | None = None
        self.naked_ns: int | None = None
        self.naked_s = 0.0
        self.held_ns: int | None = None
        self.alarms: list[tuple[int, str, str]] = []
        self.external_net = 0
        self.blocked_until_ns = 0
        self.data_lost = False
        self.exits: list[int] = []
        self.dependent: set[str] = set()

    def check(self, invariant: str, holds: bool, say: Callable[[], str]) -> None:
        record = self.record
        record.checks[invariant] = record.checks.get(invariant, 0) + 1
        if not holds:
            world = self.world
            text = f"seed {world.plan.seed}, at {world.loop.now_s:.3f} s: {say()}"
            record.violations[invariant] = record.violations.get(invariant, 0) + 1
            if len(record.texts) < 20:
                record.texts.append(f"{invariant}: {text}")
            world.trace("violation", invariant, text)

    def reach(self, state: str) -> None:
        reached = self.record.reached
        reached[state] = reached.get(state, 0) + 1

    # -- the bus ----------------------------------------------------------------

    def wrote(self, incarnation: Incarnation, name: str, answer: object) -> None:
        """Look at what one process has just written to Redis."""
        if type(answer) is list and (name == "julie_open" or (name == "julie_lease" and answer[1])):
            incarnation.process.writer = incarnation
        elif name == "julie_append" or name == "julie_step":
            writer = incarnation.process.writer
            owed = isinstance(answer, Parked)  # frozen: nothing is carried out yet
            if writer is not incarnation and writer is not None and not self.data_lost and not owed:
                refused = isinstance(answer, ErrorReply)
                self.check(
                    "I-17", refused, lambda: f"the older {incarnation.name} may still {name}: {answer}"
                )
                self.reach("fenced write")
            if name == "julie_step":
                self.world.scan_intents()

    def wished(self, intent: Intent, entry_id: bytes) -> None:
        """Take note of an intent that the bus has."""
        if isinstance(intent, SubmitOrder | ClosePosition):
            known = self.wishes.get(intent.client_order_id)
            again = known is not None and known.entry_id != entry_id and not self.data_lost
            self.check("I-13", not again, lambda: f"{intent.client_order_id} is in its stream twice")
            self.wishes.setdefault(intent.client_order_id, Wish(intent, entry_id))

    # -- the disk ---------------------------------------------------------------

    def committed(self, batch: Commit, incarnation: Incarnation) -> None:
        """Look at a commit before it is on the disk."""
        orders = self.world.disk.orders
        if self.world.tracing:
            for step in batch.steps:
                self.world.trace("step", step.seq, step.value.decode())
        for step in batch.steps:
            if step.kind == b"order_claimed":
                message = decode(step.kind, step.value)
                assert isinstance(message, OrderClaimed)
                self._claimed(message, batch)
            elif step.kind == b"flatten_finished":
                finished = decode(step.kind, step.value)
                assert isinstance(finished, FlattenFinished)
                self._finished(finished)
        for name, after in batch.orders.items():
            self._moved(name, orders.get(name), after)
        if batch.standing is not None and HaltKind.INVARIANT in batch.standing.halts:
            if self.lost_ns is not None:
                self.reach("rollback detected")
            self.lost_ns = None

    def _finished(self, finished: FlattenFinished) -> None:
        """Flat is said of what is flat: a question without an answer is none."""
        if not finished.flat or self.world.venue.externals:
            return
        held_s = 0.0 if self.held_ns is None else (self.world.clock.true_ns() - self.held_ns) / NS_PER_S
        self.check(
            "I-26",
            held_s <= ANSWER_WITHIN_S,
            lambda: f"flat is said, the broker holds {self.world.venue.net_qty:+d} for {held_s:.2f} s",
        )

    def _claimed(self, claim: OrderClaimed, batch: Commit) -> None:
        world, name = self.world, claim.client_order_id
        now_ns = world.clock.true_ns()
        self.check("I-1", name not in self.claims, lambda: f"{name} is claimed again")
        asked = name in self.wishes or (claim.reduce_only and self._depends(name))
        self.check("I-3", asked, lambda: f"{name} is claimed and nobody asked for it")
        self.claims.setdefault(name, (claim, now_ns))
        if claim.reduce_only:
            if claim.order_type is OrderType.MARKET:  # a stop protects: it ends nothing yet
                self._exited(now_ns)
            return
        frozen = [
            one.client_order_id
            for one in world.disk.orders.values()
            if one.status is OrderStatus.UNKNOWN
            and one.contract_id == claim.contract_id
            and not _found_before(one.client_order_id, name, batch)
        ]
        self.check("I-4", not frozen, lambda: f"{name} goes into a contract frozen by {frozen}")
        halts = world.disk.standing_now().halts
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
            self.dependent.add(name)
        return found

    def _exited(self, now_ns: int) -> None:
        """Count exits: too many in a minute must have latched."""
        self.exits.append(now_ns)
        count = len(self.exits)
        self.check("I-11", count <= EXITS_PER_MIN_MAX, lambda: f"{count} exits in less than a minute")

    def _moved(self, name: str, before: OrderRecord | None, after: OrderRecord) -> None:
        was = before.status if before is not None else OrderStatus.PENDING_NEW
        if before is not None or after.status not in (OrderStatus.DENIED, OrderStatus.EXPIRED):
            self.check(
                "I-7", after.status in REACHABLE[was], lambda: f"{name} moves from {was} to {after.status}"
            )
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
            self._given_up(name, after)

    def _given_up(self, name: str, after: OrderRecord) -> None:
        """Nothing that the broker shows may be given up, nor anything whose quarantine is not over."""
        world = self.world
        self.reach(f"given up: {after.status}")
        now_ns = world.clock.true_ns()
        margin_s = world.plan.search_lag_s + LANDING_MARGIN_S if after.status is OrderStatus.ABSENT else 0.0
        visible_ns = now_ns - round(margin_s * NS_PER_S)
        held = [
            one for one in world.venue.landed.get(name, ()) if not one.refused and one.at_ns <= visible_ns
        ]
        self.check("I-5", not held, lambda: f"{name} is given up as {after.status}: the broker has {held}")

    # -- the wire ---------------------------------------------------------------

    def posted(self, post: Post) -> None:
        """Look at a mutation that leaves for the broker."""
        self.world.trace("post", post.path, post.body.decode())
        if post.path != PLACE:
            if post.path == "/api/Order/cancel":
                self.reach("cancel sent")
            return
        world = self.world
        body = _place.decode(post.body)
        tag = body.custom_tag or ""
        sent = self.sent.get(tag)
        if sent is None:
            sent = self.sent[tag] = Sent(tag, body.side == 0, body.size)
        sent.posts.append(post.at_ns)
        sent.arrives = post.arrives
        self.check(
            "I-1", len(sent.posts) == 1, lambda: f"{tag} is sent {len(sent.posts)} times: {sent.posts}"
        )
        wish, claim = self.wishes.get(tag), self.claims.get(tag)
        own = tag in self.dependent
        self.check("I-1", wish is not None or own, lambda: f"{tag} is sent and is no intent's")
        self.check("I-3", claim is not None, lambda: f"{tag} is sent without a claim")
        if claim is None:
            return
        self.reach("order sent")
        sent.protective = own
        expires_ns = world.disk.orders[tag].expires_at_ns
        if wish is not None and isinstance(wish.intent, SubmitOrder | ClosePosition):
            expires_ns = wish.intent.expires_at_ns
        now_ns = world.clock.now_ns()
        self.check(
            "I-4", now_ns < expires_ns, lambda: f"{tag} is sent {(now_ns - expires_ns) / 1e9:.3f} s too late"
        )
        if not claim[0].reduce_only:
            self._obeys(tag, post.at_ns)
            lost_ns = self.lost_ns
            self.check("I-16", lost_ns is None, lambda: f"{tag} is sent, Redis lost entries at {lost_ns}")
            bracketed = body.stop_loss_bracket is not None
            self.check("I-6", bracketed, lambda: f"{tag} is sent without its stop")
        self.within_limit(f"{tag} is sent")

    def _obeys(self, tag: str, at_ns: int) -> None:
        halted_ns = self.halted_ns
        if halted_ns is None:
            self.check("I-26", True, str)
            return
        since_s = (at_ns - halted_ns) / NS_PER_S
        bound_s = HALT_WITHIN_S
        if self.blocked_until_ns > halted_ns:
            bound_s += INTENT_TTL_S  # it could not hear: what it had claimed before goes out until it expires
        self.check("I-26", since_s <= bound_s, lambda: f"{tag} is sent {since_s:.2f} s after a halt")

    # -- the broker -------------------------------------------------------------

    def happened(self, command: Command) -> None:
        """Look at what became true at the broker."""
        self.world.trace("venue", command)
        if isinstance(command, FillBooked):
            fill = command.fill
            if fill.order_id in self.world.venue.externals:
                self.external_net += fill.size if fill.side == 0 else -fill.size
            self.held_ns = None if not self.world.venue.net_qty else self.held_ns or fill.created_ns
            self.within_limit(f"fill {fill.id} is booked")

    def arrived(self, body: bytes) -> None:
        """An order has come to the broker's door, whatever became of it there."""
        sent = self.sent.get(_place.decode(body).custom_tag or "")
        if sent is not None:
            sent.arrives = False

    def landed(self, tag: str) -> None:
        """An order of ours has come to the broker."""
        venue, sent = self.world.venue, self.sent.get(tag)
        there = [one for one in venue.landed[tag] if not one.refused]
        self.check("I-1", len(there) <= 1, lambda: f"{tag} is {len(there)} orders at the broker")
        if sent is None:
            return
        sent.arrives = False
        now_ns = self.world.clock.true_ns()
        after_s = (now_ns - sent.posts[-1]) / NS_PER_S
        record = self.world.disk.orders.get(tag)
        if after_s > QUARANTINE_S - LANDING_MARGIN_S - self.world.plan.search_lag_s:
            sent.late = True
            return
        if not there or record is None:
            return
        early = record.status in GIVEN_UP
        self.check(
            "I-5", not early, lambda: f"{tag} landed after {after_s:.2f} s and is {record.status} already"
        )

    def own_net(self) -> int:
        return self.world.venue.net_qty - self.external_net

    def within_limit(self, why: str) -> None:
        """Position, working and unknown together, by the broker's books and what is under way."""
        if self.world.venue.externals or any(sent.late for sent in self.sent.values()):
            return  # traded by hand unseen, or landed after its quarantine: the declared rest of the risk
        buys = sells = 0
        venue = self.world.venue
        for sent in self.sent.values():
            if sent.protective:
                continue
            qty = sent.qty if self._under_way(sent) else 0
            for one in venue.landed.get(sent.tag, ()):
                order = venue.state.orders.get(one.order_id)
                qty += _leaves(order)
            buys += qty if sent.buys else 0
            sells += 0 if sent.buys else qty
        net = venue.net_qty
        worst = max(net + buys, sells - net)
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

    def _under_way(self, sent: Sent) -> bool:
        """May it still come, as far as anybody can know? Later than its quarantine is the declared rest."""
        record = self.world.disk.orders.get(sent.tag)
        given_up = record is not None and record.status in GIVEN_UP
        return sent.arrives and sent.tag not in self.world.venue.landed and not given_up

    def _raced(self) -> int:
        """Return what stops, targets and exits have filled in the last seconds."""
        venue = self.world.venue
        since_ns = self.world.clock.true_ns() - round(PROTECTED_WITHIN_S * NS_PER_S)
        raced = 0
        for fill in reversed(venue.state.fills):
            if fill.created_ns < since_ns:
                break
            claim = self.claims.get(venue.tag_of.get(fill.order_id, ""))
            if claim is None or claim[0].reduce_only:
                raced += fill.size
        return raced

    # -- time -------------------------------------------------------------------

    def tick(self) -> None:
        """Look at what must not last."""
        world = self.world
        now_ns = world.clock.true_ns()
        net = self.own_net() if not world.venue.externals else 0
        if abs(net) <= world.venue.protection():
            self.naked_ns, self.naked_s = None, 0.0
            self.check("I-6", True, str)
            return
        since_ns = self.naked_ns = now_ns if self.naked_ns is None else self.naked_ns
        if world.can_act():
            # Silence of execution itself is heartbeat's alarm, and guard's to act on.
            self.naked_s += LOOK_S
        naked_s = self.naked_s
        answered = world.disk.standing_now().flatten is not None or any(
            at_ns >= since_ns for at_ns, _, _ in self.alarms
        )
        self.check(
            "I-6",
            naked_s <= HEARD_WITHIN_S + PROTECTED_WITHIN_S or answered,
            lambda: f"{net:+d} contracts, stops for {world.venue.protection()}, for {naked_s:.1f} s",
        )

    # -- rest -------------------------------------------------------------------

    def unsettled(self) -> str:
        """Return what is not at rest yet, empty when all is."""
        if self.left_to_a_person():
            return ""
        world = self.world
        orders = world.disk.orders
        waiting = (OrderStatus.PENDING_NEW, OrderStatus.UNKNOWN, OrderStatus.PENDING_CANCEL)
        for order in orders.values():
            if order.status in waiting or order.missing_qty:
                return f"{order.client_order_id} is {order.status}, {order.missing_qty} fills are missing"
        for name in self.wishes:
            if name not in orders and name not in world.forgotten:
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
        if any(sent.arrives and tag not in world.venue.landed for tag, sent in self.sent.items()):
            return "orders are under way"
        return ""

    def left_to_a_person(self) -> bool:
        """Was traded by hand as the ledger began, so that no clock tells whether the baseline contains it?

        The position stays unexplained, which is said, and what is unknown stays so.
        """
        begun_ns = self.world.disk.standing_now().baseline_venue_ns
        told = any(event == "unexplained_position" for _, _, event in self.alarms)
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
        self.streams()
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

    def streams(self) -> None:
        """Look at every stream as it lies there: numbers without gap, and what stands in which."""
        world = self.world
        for key, stream in list(world.redis.server.store.keys.items()):
            if not isinstance(stream, Stream) or not stream.ids:
                continue
            name = key.decode()
            seqs = [entry_id[1] for entry_id in stream.ids]
            whole = seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            self.check("I-14", whole, lambda n=name, q=seqs: f"{n} has the numbers {q}")  # type: ignore[misc]
            begins = seqs[0] == 1 or self.data_lost
            self.check("I-12", begins, lambda n=name, q=seqs: f"{n} begins with {q[0]}")  # type: ignore[misc]
            read = int(world.disk.cursors.get(name, "0-0").partition("-")[2])
            trimmed = stream.deleted_max[1]
            unread = name.startswith("intents") and trimmed > read
            self.check(
                "I-15",
                not unread,
                lambda n=name, t=trimmed, r=read: f"{n}: trimmed to {t}, read to {r}",  # type: ignore[misc]
            )
        self._outbox()

    def _outbox(self) -> None:
        """Entry n of the orders stream is step n of the ledger."""
        world = self.world
        stream = world.stream(topics.orders(ACCOUNT_ID).encode())
        if stream is None or self.data_lost:
            return
        steps = {step.seq: step for step in world.disk.steps}
        for (_, seq), row in zip(stream.ids, stream.rows, strict=True):
            step = steps.get(seq)
            same = step is not None and [step.kind, step.value] == list(row[1])
            self.check("I-13", same, lambda q=seq, t=step, r=row: f"entry {q} is {r}, the step {t}")  # type: ignore[misc]

    def _books(self) -> dict[str, int]:
        """Return each strategy's position as the ledger's fills make it."""
        books: dict[str, int] = {}
        for fill in self.world.disk.fills.values():
            books[fill.strategy_id] = books.get(fill.strategy_id, 0) + fill.signed_qty
        return books

    def halts_at_rest(self, halts: dict[HaltKind, str]) -> None:
        """Trading goes on again unless something that a person must look at has latched a halt."""
        plan = self.world.plan
        expected = {HaltKind.OPERATOR} if self.halted_ns is not None else set()
        if any(event == "resume_refused" for _, _, event in self.alarms):
            expected.add(
                HaltKind.OPERATOR
            )  # its word came too old, by a clock that jumped, and nothing is lifted
        by_word = any(word == "halt-reducing" for _, word in plan.commands)
        # Unexplained for a while by what was done by hand; or exits that a closed market refused.
        for_people = plan.externals or plan.closed
        if self.data_lost or plan.disk or by_word or for_people:
            expected.add(HaltKind.INVARIANT)
        if self.data_lost:
            expected.add(
                HaltKind.OPERATOR
            )  # its resume may be among what was lost; the halt is in the ledger
        if len(self.exits) >= EXITS_PER_MIN_MAX:
            expected.add(HaltKind.RUNAWAY)
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


def _leaves(order: Order | None) -> int:
    return order.leaves if order is not None and int(order.status) in (1, 6, 7) else 0


def _difference(ours: dict[int, int], theirs: dict[int, int]) -> str:
    missing = {k: v for k, v in theirs.items() if ours.get(k) != v}
    extra = {k: v for k, v in ours.items() if theirs.get(k) != v}
    return f"the broker has {missing}, we have {extra}"
