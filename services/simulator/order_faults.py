"""Faults of orders: what the venue, or the exchange behind it, does to one after it was taken."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from services.simulator.core import CancelOrder, ExchangeAnswered
from services.simulator.faults import Faults
from services.simulator.orders import Fate
from services.simulator.placing import PlaceOrder
from services.simulator.state import Reply
from services.simulator.timers import After
from services.simulator.venue import Venue
from shared.broker.projectx.enums import OrderStatus

LEGS = {"both": ("SL", "TP"), "stop": ("SL",), "target": ("TP",)}
CANCELABLE = frozenset({OrderStatus.OPEN, OrderStatus.PENDING, OrderStatus.SUSPENDED})


class OrderFaults:
    """Place and cancel at a venue, as the faults in force have it. They pick orders by the custom tag."""

    def __init__(
        self, *, venue: Venue, faults: Faults, after: After, monotonic_ns: Callable[[], int]
    ) -> None:
        self._venue = venue
        self._faults = faults
        self._after = after
        self._monotonic_ns = monotonic_ns
        self._hidden: dict[int, int] = {}  # order id -> monotonic time until which searches miss it

    def place(self, event: PlaceOrder) -> Reply:
        """Submit a new order with the fate that is drawn for it."""
        tag = event.custom_tag or ""
        late = self._faults.draw("accept_late", tag)
        rejected = None if late else self._faults.draw("reject_late", tag)
        held = late or rejected
        reply = self._venue.submit(msgspec.structs.replace(event, fate=self._fate(event, held is not None)))
        order_id = reply.order_id
        if reply.code != 0 or order_id is None:
            return reply
        if held is not None:
            self._after(held.delay_s, lambda: self._answer(order_id, rejected is not None))
        if hidden := self._faults.draw("hide_orders", tag):
            self._hidden[order_id] = self._monotonic_ns() + int(hidden.delay_s * 1e9)
        return reply

    def _fate(self, event: PlaceOrder, held: bool) -> Fate:
        tag = event.custom_tag or ""
        window = self._faults.draw("tags_reusable", tag)
        parts = self._faults.draw("partial_fills", tag) if event.size > 1 else None
        legs = self._faults.draw("reject_legs", tag) if event.stop_loss or event.take_profit else None
        part_qty = None
        if parts is not None:
            count = parts.rng.randint(2, min(event.size, max(2, parts.fault.parts)))
            part_qty = -(-event.size // count)
        return Fate(
            tag_window_ns=None if window is None else int(window.delay_s * 1e9),
            part_qty=part_qty,
            part_gap_ns=0 if parts is None else int(parts.delay_s * 1e9),
            held=held,
            rejected_legs=() if legs is None else LEGS[legs.fault.leg],
        )

    def _answer(self, order_id: int, rejected: bool) -> None:
        now_ns = self._venue.now_ns()
        self._venue.apply(ExchangeAnswered(now_ns=now_ns, order_id=order_id, rejected=rejected))

    def answer_held(self) -> None:
        """Let every order that waits for the exchange be rejected: a restart has forgotten its fate."""
        for order in list(self._venue.state.orders.values()):
            if order.status is OrderStatus.PENDING:
                self._answer(order.id, True)

    def cancel(self, event: CancelOrder) -> Reply:
        """Cancel at once, later, or after a fill that wins the race."""
        order = self._venue.state.orders.get(event.order_id)
        if order is None or order.account_id != event.account_id or order.status not in CANCELABLE:
            return self._venue.submit(event)
        tag = order.custom_tag or ""
        if late := self._faults.draw("cancel_late", tag):
            self._after(late.delay_s, lambda: self._cancel_now(event))
            return Reply(code=0)
        filled_first = self._faults.draw("cancel_after_fill", tag) is not None
        return self._venue.submit(msgspec.structs.replace(event, filled_first=filled_first))

    def _cancel_now(self, event: CancelOrder) -> None:
        self._venue.submit(msgspec.structs.replace(event, now_ns=self._venue.now_ns()))

    def is_hidden(self, order_id: int) -> bool:
        """Return whether order searches do not tell of this order yet."""
        until_ns = self._hidden.get(order_id)
        if until_ns is None:
            return False
        if self._monotonic_ns() < until_ns:
            return True
        del self._hidden[order_id]
        return False
