"""Orders: what is asked for, and the one table of what may become of it.

`unknown` is a status, not an error. A timeout, a reset connection or an unreadable answer does not tell
whether the broker has the order; reading that silence as "rejected" is how people end up with
positions nobody watches.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"
    JOIN_BID = "join_bid"
    JOIN_ASK = "join_ask"


class OrderStatus(StrEnum):
    """FIX order status, and two of our own: `denied` (we refused) and `unknown`."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    SUSPENDED = "suspended"  # a bracket child that waits for its entry to fill
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    PENDING_CANCEL = "pending_cancel"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    DENIED = "denied"
    UNKNOWN = "unknown"
    ABSENT = "absent"  # was unknown; enough evidence that the broker never had it

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL

    @property
    def may_fill(self) -> bool:
        """Could it still execute before we hear? The question every risk figure asks."""
        return not self.is_terminal


_TERMINAL = frozenset(
    {
        OrderStatus.FILLED,
        OrderStatus.CANCELED,
        OrderStatus.REJECTED,
        OrderStatus.EXPIRED,
        OrderStatus.DENIED,
        OrderStatus.ABSENT,
    }
)


class StopPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How execution moves an entry's stop once the position earns something: toward the market only.

    All in ticks of profit from the entry's average price, counted on the side of the market at which the
    position could be closed.

    Attributes:
        break_even_after_ticks: Profit at which the stop goes to the entry price; None: never.
        break_even_offset_ticks: So much better than the entry price.
        trail_after_ticks: Profit at which the stop begins to follow; None: never.
        trail_ticks: Distance at which it follows the best price seen.
        trail_step_ticks: It is not moved for less than this.
    """

    break_even_after_ticks: int | None = None
    break_even_offset_ticks: int = 0
    trail_after_ticks: int | None = None
    trail_ticks: int = 0
    trail_step_ticks: int = 1

    @property
    def problem(self) -> str:
        """Why no stop can be moved by this; empty when one can."""
        after, offset = self.break_even_after_ticks, self.break_even_offset_ticks
        if after is None and self.trail_after_ticks is None:
            return "it says neither when to break even nor when to trail"
        if after is not None and not 0 <= offset < after:
            return f"break_even_offset_ticks {offset} is not below break_even_after_ticks {after}"
        if self.trail_after_ticks is not None and (self.trail_after_ticks < 0 or self.trail_ticks < 1):
            return (
                f"trail_ticks {self.trail_ticks} after {self.trail_after_ticks}: at least 1 after at least 0"
            )
        if self.trail_step_ticks < 1:
            return f"trail_step_ticks {self.trail_step_ticks}: at least 1"
        return ""


class Bracket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Stop and target that travel with the entry, in ticks from the fill, both positive here.

    The gateway wants signed ticks (long stop negative, long target positive); the sign follows from the
    side and is added at the border, so that nobody can get it wrong.

    Attributes:
        plan: How the stop moves later; execution does that, the broker never hears of it.
    """

    stop_loss_ticks: int
    take_profit_ticks: int | None = None
    plan: StopPlan | None = None


class SubmitOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="submit_order"):
    """A strategy's wish for one order.

    Attributes:
        client_order_id: Derived from what caused it, so the same input gives the same id.
        cause: Stream entry that led to it, `stream@id`.
        ts_cause_ns: Our receive time of that entry; latency and expiry count from here.
        expires_at_ns: Never sent after this.
        trail_ticks: Distance of a trailing stop from the last trade; the broker keeps it.
        reduce_only: May only shrink the strategy's position.
    """

    client_order_id: str
    strategy_id: str
    symbol: str
    side: Side
    order_qty: int
    cause: str
    ts_cause_ns: int
    expires_at_ns: int
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_ticks: int | None = None
    bracket: Bracket | None = None
    reduce_only: bool = False
    reason: str = ""


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="cancel_order"):
    client_order_id: str
    strategy_id: str
    symbol: str
    cause: str
    ts_cause_ns: int
    reason: str = ""


class ModifyOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="modify_order"):
    """New absolute values for a working order; None leaves a value as it is.

    Attributes:
        expires_at_ns: From then on nothing is changed; 0: whenever it comes.
    """

    client_order_id: str
    strategy_id: str
    symbol: str
    cause: str
    ts_cause_ns: int
    order_qty: int | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_ticks: int | None = None
    expires_at_ns: int = 0
    reason: str = ""


class ClosePosition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="close_position"):
    """Bring the strategy's own position in `symbol` to zero and cancel what protected it."""

    client_order_id: str
    strategy_id: str
    symbol: str
    cause: str
    ts_cause_ns: int
    expires_at_ns: int
    reason: str = ""


Intent = SubmitOrder | CancelOrder | ModifyOrder | ClosePosition


class OrderFact(StrEnum):
    """What can be said of one order. Each is one message type on `orders:{acct}`."""

    CLAIMED = "claimed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    UNANSWERED = "unanswered"
    FOUND = "found"
    PROVEN_ABSENT = "proven_absent"
    PARTLY_FILLED = "partly_filled"
    FULLY_FILLED = "fully_filled"
    CANCEL_SENT = "cancel_sent"
    CANCEL_REFUSED = "cancel_refused"
    CANCELED = "canceled"
    EXPIRED = "expired"
    ACTIVATED = "activated"
    SUSPENDED = "suspended"
    ENLARGED = "enlarged"
    VANISHED = "vanished"


_S, _F = OrderStatus, OrderFact

TRANSITIONS: dict[tuple[OrderStatus, OrderFact], OrderStatus] = {
    # -- sent, not yet answered
    (_S.PENDING_NEW, _F.ACCEPTED): _S.NEW,
    (_S.PENDING_NEW, _F.REJECTED): _S.REJECTED,
    (_S.PENDING_NEW, _F.NOT_SENT): _S.REJECTED,
    (_S.PENDING_NEW, _F.UNANSWERED): _S.UNKNOWN,  # the broker may well have it
    (_S.PENDING_NEW, _F.FOUND): _S.NEW,  # the user hub can overtake the REST answer
    (_S.PENDING_NEW, _F.ACTIVATED): _S.NEW,  # a child whose waiting nobody has shown
    (_S.PENDING_NEW, _F.SUSPENDED): _S.SUSPENDED,  # bracket children are born waiting
    (_S.PENDING_NEW, _F.PARTLY_FILLED): _S.PARTIALLY_FILLED,  # a fill can overtake its acknowledgement
    (_S.PENDING_NEW, _F.FULLY_FILLED): _S.FILLED,
    (_S.PENDING_NEW, _F.CANCELED): _S.CANCELED,  # a search shows it ended before the answer is there
    (_S.PENDING_NEW, _F.EXPIRED): _S.EXPIRED,
    # -- of unknown fate: only evidence of the broker ends it
    (_S.UNKNOWN, _F.ACCEPTED): _S.NEW,  # the answer came after we had stopped waiting
    (_S.UNKNOWN, _F.REJECTED): _S.REJECTED,
    (_S.UNKNOWN, _F.FOUND): _S.NEW,
    (_S.UNKNOWN, _F.ACTIVATED): _S.NEW,
    (_S.UNKNOWN, _F.SUSPENDED): _S.SUSPENDED,
    (_S.UNKNOWN, _F.UNANSWERED): _S.UNKNOWN,  # a restart asks again
    (_S.UNKNOWN, _F.PROVEN_ABSENT): _S.ABSENT,  # only after queries that also see closed orders
    (_S.UNKNOWN, _F.PARTLY_FILLED): _S.PARTIALLY_FILLED,
    (_S.UNKNOWN, _F.FULLY_FILLED): _S.FILLED,
    (_S.UNKNOWN, _F.CANCELED): _S.CANCELED,
    (_S.UNKNOWN, _F.EXPIRED): _S.EXPIRED,
    # -- the broker says there is none, and had it: one look may lag, so it is in doubt as an unanswered one
    (_S.NEW, _F.VANISHED): _S.UNKNOWN,
    (_S.PARTIALLY_FILLED, _F.VANISHED): _S.UNKNOWN,
    (_S.SUSPENDED, _F.VANISHED): _S.UNKNOWN,
    (_S.PENDING_CANCEL, _F.VANISHED): _S.UNKNOWN,
    (_S.UNKNOWN, _F.VANISHED): _S.UNKNOWN,
    # -- a bracket child that waits for its entry
    (_S.SUSPENDED, _F.ACTIVATED): _S.NEW,
    (_S.SUSPENDED, _F.FOUND): _S.NEW,
    (_S.SUSPENDED, _F.SUSPENDED): _S.SUSPENDED,
    (_S.SUSPENDED, _F.ACCEPTED): _S.SUSPENDED,  # taken is not awake
    (_S.SUSPENDED, _F.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.SUSPENDED, _F.CANCELED): _S.CANCELED,  # with its entry
    (_S.SUSPENDED, _F.REJECTED): _S.REJECTED,  # its price was passed before it woke up
    (_S.SUSPENDED, _F.EXPIRED): _S.EXPIRED,
    (_S.SUSPENDED, _F.PARTLY_FILLED): _S.PARTIALLY_FILLED,  # woken and hit between two reports
    (_S.SUSPENDED, _F.FULLY_FILLED): _S.FILLED,
    # -- working
    (_S.NEW, _F.ACCEPTED): _S.NEW,  # the answer of a POST whose order the hub showed first
    (_S.NEW, _F.FOUND): _S.NEW,
    (_S.NEW, _F.ACTIVATED): _S.NEW,
    (_S.NEW, _F.REJECTED): _S.REJECTED,  # accepted by the gateway, refused by the exchange
    (_S.NEW, _F.PARTLY_FILLED): _S.PARTIALLY_FILLED,
    (_S.NEW, _F.FULLY_FILLED): _S.FILLED,
    (_S.NEW, _F.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.NEW, _F.CANCELED): _S.CANCELED,
    (_S.NEW, _F.EXPIRED): _S.EXPIRED,
    (_S.PARTIALLY_FILLED, _F.ACCEPTED): _S.PARTIALLY_FILLED,  # the fill had overtaken the answer
    (_S.PARTIALLY_FILLED, _F.FOUND): _S.PARTIALLY_FILLED,
    (_S.PARTIALLY_FILLED, _F.ACTIVATED): _S.PARTIALLY_FILLED,  # heard late
    (_S.PARTIALLY_FILLED, _F.PARTLY_FILLED): _S.PARTIALLY_FILLED,
    (_S.PARTIALLY_FILLED, _F.FULLY_FILLED): _S.FILLED,
    (_S.PARTIALLY_FILLED, _F.CANCEL_SENT): _S.PENDING_CANCEL,
    (_S.PARTIALLY_FILLED, _F.CANCELED): _S.CANCELED,
    (_S.PARTIALLY_FILLED, _F.EXPIRED): _S.EXPIRED,
    (_S.PARTIALLY_FILLED, _F.REJECTED): _S.REJECTED,  # the exchange refuses what is left; fills stay
    # -- a cancel was sent
    (_S.PENDING_CANCEL, _F.CANCEL_REFUSED): _S.NEW,
    (_S.PENDING_CANCEL, _F.ACCEPTED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _F.FOUND): _S.PENDING_CANCEL,  # still working says nothing of the cancel
    (_S.PENDING_CANCEL, _F.ACTIVATED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _F.SUSPENDED): _S.PENDING_CANCEL,
    (_S.PENDING_CANCEL, _F.CANCEL_SENT): _S.PENDING_CANCEL,  # once more, after a fresh look
    (_S.PENDING_CANCEL, _F.CANCELED): _S.CANCELED,
    (_S.PENDING_CANCEL, _F.PARTLY_FILLED): _S.PENDING_CANCEL,  # it races the cancel
    (_S.PENDING_CANCEL, _F.FULLY_FILLED): _S.FILLED,  # and has won
    (_S.PENDING_CANCEL, _F.EXPIRED): _S.EXPIRED,
    (_S.PENDING_CANCEL, _F.REJECTED): _S.REJECTED,
    # -- whole by a size that was the order's no more
    (_S.FILLED, _F.ENLARGED): _S.PARTIALLY_FILLED,  # the broker had made the child larger before it filled
    # -- ends that fills correct: a fill is a fact, whatever was said before
    (_S.CANCELED, _F.PARTLY_FILLED): _S.CANCELED,  # a fill in flight beat our cancel, in part
    (_S.CANCELED, _F.FULLY_FILLED): _S.FILLED,  # a fill in flight beat our cancel
    (_S.EXPIRED, _F.PARTLY_FILLED): _S.EXPIRED,
    (_S.EXPIRED, _F.FULLY_FILLED): _S.FILLED,
    (_S.REJECTED, _F.PARTLY_FILLED): _S.PARTIALLY_FILLED,  # refused in words, and filled
    (_S.REJECTED, _F.FULLY_FILLED): _S.FILLED,
    # -- landed after it had been given up: adopted with an alarm, then ended
    (_S.REJECTED, _F.FOUND): _S.NEW,  # refused in words and there all the same
    (_S.ABSENT, _F.FOUND): _S.NEW,
    (_S.ABSENT, _F.ACTIVATED): _S.NEW,
    (_S.ABSENT, _F.SUSPENDED): _S.SUSPENDED,
    (_S.ABSENT, _F.PARTLY_FILLED): _S.PARTIALLY_FILLED,
    (_S.ABSENT, _F.FULLY_FILLED): _S.FILLED,
    (_S.ABSENT, _F.CANCELED): _S.CANCELED,  # landed late and is gone already
    (_S.ABSENT, _F.REJECTED): _S.REJECTED,  # arrived late, and was refused then
    (_S.ABSENT, _F.EXPIRED): _S.EXPIRED,
}
"""(status, fact) -> status. What an end hears without changing is in `REPEATED`. A pair that is in neither
is a broken invariant: our model of the broker is wrong, or we are."""

_HEARD_LATE = frozenset({_F.ACCEPTED, _F.FOUND, _F.ACTIVATED, _F.SUSPENDED, _F.CANCEL_REFUSED})
"""Reports and answers of before the end, which come after it: events arrive late and in any order."""

REPEATED: dict[OrderStatus, frozenset[OrderFact]] = {
    # Our fills make it whole, whatever else is said of it.
    _S.FILLED: _HEARD_LATE
    | {_F.FULLY_FILLED, _F.PARTLY_FILLED, _F.CANCELED, _F.EXPIRED, _F.REJECTED, _F.UNANSWERED, _F.VANISHED},
    _S.CANCELED: _HEARD_LATE | {_F.CANCELED, _F.EXPIRED, _F.REJECTED, _F.UNANSWERED, _F.VANISHED},
    _S.EXPIRED: _HEARD_LATE | {_F.EXPIRED, _F.CANCELED, _F.REJECTED, _F.UNANSWERED, _F.VANISHED},
    # That it is found again is no repetition: see the table.
    _S.REJECTED: (_HEARD_LATE - {_F.FOUND})
    | {_F.REJECTED, _F.CANCELED, _F.EXPIRED, _F.NOT_SENT, _F.UNANSWERED, _F.VANISHED},
    _S.ABSENT: frozenset({_F.PROVEN_ABSENT, _F.UNANSWERED, _F.VANISHED, _F.CANCEL_REFUSED}),
    _S.DENIED: frozenset[OrderFact](),  # it never left, so nothing can be said of it
}
"""What an end hears again, or late, and stays what it is."""


class ImpossibleTransition(AssertionError):
    """A fact that cannot follow a status: our model of the broker is wrong, or we are."""

    def __init__(self, status: OrderStatus, fact: OrderFact) -> None:
        super().__init__(status, fact)
        self.status, self.fact = status, fact

    def __str__(self) -> str:
        return f"an order that is {self.status} cannot become {self.fact}"


def next_status(status: OrderStatus, fact: OrderFact) -> OrderStatus:
    """Return the status after `fact`; late and repeated facts never leave a terminal status.

    Raises:
        ImpossibleTransition: If the pair is neither in the table nor a harmless repetition.
    """
    following = TRANSITIONS.get((status, fact))
    if following is not None:
        return following
    if fact in REPEATED.get(status, ()):
        return status
    raise ImpossibleTransition(status, fact)
