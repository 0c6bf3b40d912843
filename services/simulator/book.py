"""Top of one contract's book and its last trade, in ticks."""

from __future__ import annotations

import msgspec


class Book(msgspec.Struct, kw_only=True):
    """What the market shows of one contract.

    Attributes:
        bid, ask: Best prices in ticks; None while that side is empty.
        bid_qty, ask_qty: Displayed contracts there.
        bid_taken, ask_taken: What our own orders have already taken out of the
            displayed size. The market does not know of it, so without this
            count one displayed contract would fill any number of orders.
        last: Last traded price in ticks; None before the first trade.
        working: How many orders work here; zero keeps the market's path short.
    """

    bid: int | None = None
    bid_qty: int = 0
    ask: int | None = None
    ask_qty: int = 0
    bid_taken: int = 0
    ask_taken: int = 0
    last: int | None = None
    working: int = 0

    @property
    def tradable(self) -> bool:
        """Whether orders may execute.

        Before the open bids and asks cross, and a side may be missing: nothing
        executes at such prices, the exchange matches them in its own auction.
        """
        return (
            self.bid is not None
            and self.ask is not None
            and self.bid < self.ask
            and self.bid_qty > 0
            and self.ask_qty > 0
        )

    def set_quote(self, bid: int | None, bid_qty: int, ask: int | None, ask_qty: int) -> None:
        """Take the market's new touch."""
        if bid != self.bid or bid_qty != self.bid_qty:
            self.bid, self.bid_qty, self.bid_taken = bid, bid_qty, 0
        if ask != self.ask or ask_qty != self.ask_qty:
            self.ask, self.ask_qty, self.ask_taken = ask, ask_qty, 0
