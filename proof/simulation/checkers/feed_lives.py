"""What one life of the feed has taken from its hub, and what its stream must hold of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shared.domain.market import Quote, Trade


@dataclass(slots=True)
class Told:
    """One message that the stream must hold. Attributes: after_gap: A gap must be marked before it."""

    message: Quote | Trade
    after_gap: bool

    @property
    def key(self) -> tuple[type, int]:
        """Return what no other message has: each has a time of its own."""
        return type(self.message), self.message.ts_event_ns


@dataclass(slots=True)
class Life:
    """See the module.

    Attributes:
        told: Every message that follows from what it has taken.
        at: The next of them that the stream must hold.
        gap: A gap was marked since the last message in the stream.
        cut: Something may have been missed since the last message: the next one needs a gap before it.
        up: The link is, as far as it has heard.
        denied: Subscriptions that are refused.
        view: Bid, ask, last price and volume since the link came up; None: not told yet.
        views: When which bid and ask came, read or not.
        unsure: It could not know the market's time, and may have refused what came.
        heard_s: When it took a price last.
        held: From when to when it stood still, each time.
        answered: It has heard an answer of the broker.
        knows_s: For how long it has run since then.
        waits_s: For how long the next message is not in the stream.
        comes_s: For how long prices have come without making the market live.
    """

    told: list[Told] = field(default_factory=list)
    at: int = 0
    gap: bool = False
    cut: bool = True
    up: bool = False
    denied: set[str] = field(default_factory=set)
    view: list[Any] = field(default_factory=lambda: [None] * 4)
    views: deque[tuple[float, Any, Any]] = field(default_factory=lambda: deque(maxlen=40))
    unsure: bool = False
    heard_s: float = 0.0
    held: list[tuple[float, float]] = field(default_factory=list)
    answered: bool = False
    knows_s: float = 0.0
    waits_s: float = 0.0
    comes_s: float = 0.0

    def stands_still(self, now_s: float, every_s: float) -> None:
        """Note that it did nothing at this look; looks come each `every_s`."""
        since_s = now_s - every_s
        if self.held and self.held[-1][1] >= since_s:
            since_s = self.held.pop()[0]
        self.held.append((since_s, now_s + every_s))

    def awake_s(self, due_s: float) -> float:
        """Return when it could do what was due at `due_s`."""
        for since_s, until_s in self.held:
            if since_s <= due_s < until_s:
                due_s = until_s
        return due_s

    def fell(self, now_s: float) -> None:
        """The link is down: what was known is not known any more."""
        self.cut, self.up, self.view = True, False, [None] * 4
        self.denied.clear()
        self.views.append((now_s, None, None))

    def take(self, event: Quote | Trade, came_s: float) -> None:
        """Note the message that follows from an event: a quote that changes nothing is none."""
        message: Quote | Trade = event
        if isinstance(event, Quote):
            told = [event.bid_px, event.ask_px, event.last_px, event.volume]
            merged = [old if new is None else new for old, new in zip(self.view, told, strict=True)]
            if merged == self.view:
                return
            self.view = merged
            self.views.append((came_s, merged[0], merged[1]))
            message = self._quote(event)
        self.told.append(Told(message, self.cut))
        self.cut = False

    def _quote(self, event: Quote) -> Quote:
        bid, ask, last, volume = self.view
        return Quote(
            symbol=event.symbol, ts_event_ns=event.ts_event_ns, ts_recv_ns=event.ts_recv_ns, bid_px=bid,
            ask_px=ask, last_px=last, volume=volume,
            crossed=bid is not None and ask is not None and bid > ask,
        )  # fmt: skip

    def place(self, message: Quote | Trade) -> int | None:
        """Return where a message is among those that are still to come."""
        for place in range(self.at, len(self.told)):
            if self.told[place].key == (type(message), message.ts_event_ns):
                return place
        return None

    def after(self, messages: Iterable[object]) -> int:
        """Return the place after the last one that is among these."""
        times = {(type(one), one.ts_event_ns) for one in messages if isinstance(one, Quote | Trade)}
        places = (place for place, one in enumerate(self.told, 1) if one.key in times)
        return max(places, default=0)

    def shown_since(self, from_s: float) -> list[tuple[Any, Any]]:
        """Return each bid and ask that held at any time from then on."""
        before = [one for one in self.views if one[0] <= from_s]
        return [one[1:] for one in (*before[-1:], *(one for one in self.views if one[0] > from_s))]

    @property
    def whole(self) -> bool:
        """Whether it has all that makes a market live, as long as prices come."""
        return self.up and not self.denied and None not in self.view[:2] and not self.unsure
