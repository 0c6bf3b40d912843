"""What leaves for the broker, and what becomes of it there: once, claimed, in time, not while halted.

I-1, I-3 to I-6, I-16, I-25, I-26.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from proof.simulation.checkers.checker import Checker, Sent
from proof.simulation.checkers.commits import GIVEN_UP, STALE_MARGIN_S
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.scaled import GUARD_SHARE, HALT_WITHIN_S, INTENT_TTL_S, REFERENCE_AGE_S
from proof.simulation.swarm import QUARANTINE_S
from proof.simulation.venue import HISTORY, WINDOW_S
from proof.simulation.wire import CANCEL, MODIFY, ORDER_SEARCH, PLACE, Post
from shared.broker.projectx.payloads import PlaceOrderRequest
from shared.domain.order import ClosePosition, OrderStatus, SubmitOrder

if TYPE_CHECKING:
    from proof.simulation.judge import Judge

LANDING_MARGIN_S = 0.5
"""What lands so shortly before the end of its quarantine may miss the last search: they cross on the way."""
CANCEL_WITHIN_S = 10.0
"""After a storm, as people were promised, with what is lost of requests and the broker's pause in it."""
_place = msgspec.json.Decoder(PlaceOrderRequest)


class Requests(Checker):
    """See the module.

    Attributes:
        left: When each request of the last window left, true time, and who asked.
        last_ns: When each life of a process asked last.
        forgot_ns: When Redis lost its count, or its clock fell back, last: those who live tell it what they
            were granted before, when they ask next.
        leapt_ns: When its clock leapt ahead last: for it what was granted before is over.
        searched_ns: When each life of a process last asked for the orders of a window, true time.
        waited_s: How long a cancel has been waiting since a storm; None: no storm was, or it got through.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.left: deque[tuple[int, Incarnation]] = deque()
        self.last_ns: dict[Incarnation, int] = {}
        self.forgot_ns = self.leapt_ns = 0
        self.searched_ns: dict[Incarnation, int] = {}
        self.waited_s: float | None = None

    def asked(self, path: str, incarnation: Incarnation) -> None:
        """Count a request of any kind: the window is the broker's, whoever asks."""
        now_ns, left = self.world.clock.true_ns(), self.left
        if path == HISTORY and self.world.venue.market is not None:
            return
        left.append((now_ns, incarnation))
        self.last_ns[incarnation] = now_ns
        if path == ORDER_SEARCH:
            self.searched_ns[incarnation] = now_ns
        self.judge.session.asked(path, incarnation)
        while left[0][0] <= now_ns - round(WINDOW_S * NS_PER_S):
            left.popleft()
        count = sum(self._is_known(at_ns, by) for at_ns, by in left)
        most = self.world.venue.requests_max
        if self.world.plan.guard.on and self._redis_may_be_away():
            most += GUARD_SHARE  # by its own count, so that it can close: the broker refuses what is too much
        self.check("I-25", count <= most, lambda: f"{count} requests in {WINDOW_S:g} s, now {path}")

    def _is_known(self, at_ns: int, by: Incarnation) -> bool:
        """Say whether Redis can count a request: what died with who asked, nobody tells it again."""
        return at_ns > self.leapt_ns and (at_ns > self.forgot_ns or self.last_ns[by] > self.forgot_ns)

    def redis_forgot(self) -> None:
        self.forgot_ns = self.world.clock.true_ns()

    def clock_jumped(self, by_s: float) -> None:
        if by_s > 0:
            self.leapt_ns = self.world.clock.true_ns()
        else:
            self.redis_forgot()

    def _redis_may_be_away(self) -> bool:
        plan = self.world.plan
        return bool(plan.outages or plan.reboots or plan.bus_lost)

    def storm(self, on: bool) -> None:
        self.waited_s = None if on else 0.0

    def tick(self, every_s: float) -> None:
        """Count the time in which a cancel that was wanted in a storm could have got through since."""
        if self.waited_s is None:
            return
        world = self.world
        numbers = [
            one.broker_order_id
            for one in world.disk.orders.values()
            if one.status is OrderStatus.PENDING_CANCEL
        ]
        works = {one.id for one in world.venue.working()}
        if not works.intersection(numbers):
            self.waited_s = None  # there is nothing left to cancel
        elif world.can_act() and not world.network.blind:
            self.waited_s = waited_s = self.waited_s + every_s
            self.check(
                "I-25", waited_s <= CANCEL_WITHIN_S, lambda: f"no cancel for {waited_s:.1f} s after a storm"
            )

    def posted(self, post: Post) -> None:
        """Look at a mutation that leaves for the broker."""
        self.world.trace("post", post.path, post.body.decode())
        self.judge.guard.posted(post)
        if post.path == CANCEL:
            self.reach("cancel sent")
            if self.waited_s is not None and (post.late or not post.arrives):
                self.waited_s = 0.0  # it had its way; then the link held it, or lost it
        elif post.path == MODIFY:
            self.judge.changes.posted(post)
        elif post.path == PLACE:
            self._placed(post)

    def _placed(self, post: Post) -> None:
        world = self.world
        body = _place.decode(post.body)
        tag = body.custom_tag or ""
        sent = self.judge.sent.get(tag)
        if sent is None:
            sent = self.judge.sent[tag] = Sent(tag, body.side == 0, body.size)
        sent.posts.append(post.at_ns)
        sent.arrives = post.arrives
        self.check(
            "I-1", len(sent.posts) == 1, lambda: f"{tag} is sent {len(sent.posts)} times: {sent.posts}"
        )
        wish, claim = self.judge.wishes.get(tag), self.judge.claims.get(tag)
        own = tag in self.judge.dependent
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
            self.obeys(tag, post.at_ns, self.judge.halted_ns)
            self.obeys(tag, post.at_ns, self.judge.guard.halted_ns, "of guard")
            self.fresh(tag)
            self.unfrozen(tag, tag, post.incarnation)
            self.judge.liveness.exposed(tag)
            # Asked where it leaves, not where it is claimed: between the two the bus must confirm, and a
            # claim that it does not confirm is never sent.
            lost_ns = self.judge.lost_ns
            self.check("I-16", lost_ns is None, lambda: f"{tag} is sent, Redis lost entries at {lost_ns}")
            bracketed = body.stop_loss_bracket is not None
            self.check("I-6", bracketed, lambda: f"{tag} is sent without its stop")
        self.judge.exposure.within_limit(f"{tag} is sent", buys_only=sent.buys)

    def obeys(self, what: str, at_ns: int, halted_ns: int | None, whose: str = "of a person") -> None:
        """Hold what leaves against the halt that stands since then; without one there is nothing to see."""
        if halted_ns is None:
            return
        since_s = (at_ns - halted_ns) / NS_PER_S
        bound_s = HALT_WITHIN_S
        if self.judge.blocked_until_ns > halted_ns:
            bound_s += INTENT_TTL_S  # it could not hear: what it had claimed before goes out until it expires
        self.check("I-26", since_s <= bound_s, lambda: f"{what} is sent {since_s:.2f} s after a halt {whose}")

    def fresh(self, what: str) -> None:
        """Execution asks once more as the last thing, and so does this: minutes may lie behind the claim."""
        age_s = (self.world.clock.true_ns() - self.world.market_ns()) / NS_PER_S
        fresh = age_s <= REFERENCE_AGE_S + STALE_MARGIN_S
        self.check("I-4", fresh, lambda: f"{what} is sent on a market of {age_s:.2f} s ago")

    def unfrozen(self, what: str, tag: str, incarnation: Incarnation) -> None:
        """Nothing new may leave for a contract in which the ledger has another order of unknown fate.

        One that has been stopped, and whose ledger another has written since, cannot know.
        """
        disk = self.world.disk
        if disk.locked_by is not incarnation:
            return
        contract_id = disk.orders[tag].contract_id
        frozen = [
            name
            for name, one in disk.orders.items()
            if one.status is OrderStatus.UNKNOWN and one.contract_id == contract_id and name != tag
        ]
        self.check("I-4", not frozen, lambda: f"{what} is sent into a contract frozen by {frozen}")

    def arrived(self, path: str, body: bytes) -> None:
        """A mutation has come to the broker's door, whatever became of it there."""
        if path == MODIFY:
            self.judge.changes.arrived(body)
        elif path == CANCEL and self.waited_s is not None:
            self.reach("cancel got through after a storm")
            self.waited_s = None
        if path != PLACE:
            return
        sent = self.judge.sent.get(_place.decode(body).custom_tag or "")
        if sent is not None:
            sent.arrives = False

    def landed(self, tag: str) -> None:
        """An order of ours has come to the broker."""
        venue, sent = self.world.venue, self.judge.sent.get(tag)
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
