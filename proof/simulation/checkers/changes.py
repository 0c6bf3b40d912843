"""Changes of working orders that leave for the broker: asked for, in time, and not while trading is halted.

I-3, I-4, I-26, and for the limit what a change may make of an order (I-10). Stops and targets are execution's
own to change; what is looked at is what strategies asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from proof.simulation.checkers.checker import Checker, Sent
from proof.simulation.loop import NS_PER_S
from proof.simulation.wire import Post
from shared.broker.projectx.payloads import ModifyOrderRequest
from shared.domain.order import ModifyOrder

if TYPE_CHECKING:
    from proof.simulation.judge import Judge

_modify = msgspec.json.Decoder(ModifyOrderRequest)


@dataclass(slots=True)
class Enlarging:
    """A change that is under way and makes an order larger."""

    order_id: int
    qty: int
    body: bytes


class Changes(Checker):
    """See the module.

    Attributes:
        wishes: Order -> every change of it that the bus acknowledged.
        under_way: What may still come to the broker and make an order larger.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.wishes: dict[str, list[ModifyOrder]] = {}
        self.under_way: list[Enlarging] = []

    def wished(self, intent: ModifyOrder) -> None:
        self.wishes.setdefault(intent.client_order_id, []).append(intent)

    def posted(self, post: Post) -> None:
        """Look at a change that leaves for the broker."""
        world, body = self.world, _modify.decode(post.body)
        tag = world.venue.tag_of.get(body.order_id, "")
        sent, order = self.judge.sent.get(tag), world.venue.state.orders.get(body.order_id)
        if sent is None or sent.protective or order is None:
            self.reach("stop or target changed")
            return
        self.reach("change sent")
        asked = [one for one in self.wishes.get(tag, ()) if _same(one, body)]
        claim = self.judge.claims.get(tag)
        if not asked and claim is not None and claim[0].reduce_only and _shrinks(body, order.size):
            self.reach("exit made as small as what is left")  # by execution: its rest would turn the position
            return
        self.check("I-3", bool(asked), lambda: f"a change of {tag} is sent that nobody asked for: {body}")
        if asked:
            late_ns = world.clock.now_ns() - max(one.expires_at_ns for one in asked)
            late = f"a change of {tag} is sent {late_ns / NS_PER_S:.3f} s too late"
            self.check("I-4", late_ns < 0, lambda: late)
        enlarges = body.size is not None and body.size > order.size
        if enlarges and post.arrives:
            assert body.size is not None
            self.under_way.append(Enlarging(body.order_id, body.size, post.body))
        if enlarges and claim is not None and not claim[0].reduce_only:
            self._enlarging(post, body, sent)
        else:
            self.judge.requests.obeys(f"a change of {tag}", post.at_ns, self._stopped_ns())
            self.judge.requests.fresh(f"a change of {tag}")

    def _enlarging(self, post: Post, body: ModifyOrderRequest, sent: Sent) -> None:
        """A greater size is new exposure, and held to all that holds for an order."""
        self.reach("enlarging change sent")
        what = f"a change of {sent.tag} to {body.size}"
        self.judge.requests.obeys(what, post.at_ns, self.judge.halted_ns)
        self.judge.requests.obeys(what, post.at_ns, self.judge.guard.halted_ns, "of guard")
        self.judge.requests.fresh(what)
        self.judge.requests.unfrozen(what, sent.tag, post.incarnation)
        self.judge.liveness.exposed(what)
        self.judge.exposure.within_limit(f"{what} is sent", buys_only=sent.buys)

    def _stopped_ns(self) -> int | None:
        """Return since when nothing may be changed; a halt that only reduces leaves prices to a strategy.

        What stands in for a halt that Redis has lost is of that kind.
        """
        return None if self.judge.data_lost else self.judge.stopped_ns

    def arrived(self, body: bytes) -> None:
        """A change has come to the broker's door, whatever became of it there."""
        for one in self.under_way:
            if one.body == body:
                self.under_way.remove(one)
                return

    def most_qty(self, order_id: int, qty: int) -> int:
        """Return what the size `qty` of an order may become by what is under way."""
        return max([qty, *(one.qty for one in self.under_way if one.order_id == order_id)])


def _shrinks(body: ModifyOrderRequest, size: int) -> bool:
    prices = (body.limit_price, body.stop_price, body.trail_price)
    return body.size is not None and body.size <= size and prices == (None, None, None)


def _same(wish: ModifyOrder, body: ModifyOrderRequest) -> bool:
    # A trail is asked for in ticks and sent as a level.
    return (wish.order_qty, wish.limit_price, wish.stop_price, wish.trail_ticks is None) == (
        body.size,
        body.limit_price,
        body.stop_price,
        body.trail_price is None,
    )
