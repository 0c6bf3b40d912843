"""The class a strategy author writes a child of.

    class OpeningRange(Strategy):
        minutes: int = 15                      # annotated, with a value: a setting

        def on_bar(self, bar: Bar) -> None:
            if self.flat and bar.close > self.bars[-2].high:
                self.buy(1, stop=self.ticks(8), target=self.ticks(16))

It sees events and answers with orders. It reaches no clock, network or Redis: `now_ns` is the time of the
event, and the same events always give the same orders. docs/strategy.md is the guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, ClassVar, final

import msgspec

from shared.domain.execution import OrderFilled
from shared.domain.market import Bar, Depth, FeedGap, FeedState, Quote, Trade
from shared.domain.order import Side, StopPlan
from shared.strategy.desk import Desk
from shared.strategy.memory import load_attributes, save_attributes
from shared.strategy.view import Market, Order, Ticks
from shared.strategy.wishes import ActionRefused


class Strategy:
    """Base of every strategy. Override the callbacks you need; the others cost nothing."""

    bar_interval_s: Annotated[int, msgspec.Meta(ge=60, le=86_400, multiple_of=60)] = 60
    """Setting of every strategy: the bars `on_bar` gets."""

    bars_kept: ClassVar[int] = 30
    """How many bars `self.bars` holds; they are part of each snapshot, so keep it small."""

    @final
    def __init__(self, desk: Desk, settings: Mapping[str, Any]) -> None:
        self._desk = desk
        for name, value in settings.items():
            setattr(self, name, value)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            raise TypeError(f"{cls.__name__}: write on_start(self) instead of __init__")
        taken = sorted(set(vars(cls)) & _TAKEN)
        if taken:
            raise TypeError(f"{cls.__name__}: {', '.join(taken)} belongs to Strategy; choose another name")

    # Callbacks

    def on_start(self) -> None:
        """Make your attributes. Called once, before the first event, and again only when code or settings
        changed; after a restart the attributes come back from the snapshot instead."""

    def on_quote(self, quote: Quote) -> None: ...

    def on_trade(self, trade: Trade) -> None: ...

    def on_depth(self, depth: Depth) -> None: ...

    def on_bar(self, bar: Bar) -> None: ...

    def on_fill(self, fill: OrderFilled) -> None:
        """One of your orders was filled, in part or whole; `position` already contains it."""

    def on_order(self, order: Order) -> None:
        """One of your orders has a new status."""

    def on_gap(self, gap: FeedGap) -> None:
        """Market data is missing. Nothing can be bought or sold until the feed is live again."""

    def on_feed_state(self, state: FeedState) -> None: ...

    def on_stop(self) -> None:
        """The process is asked to stop. Orders are not possible here; brackets stay at the broker."""

    # Memory

    def save(self) -> Any:
        """Return plain data that `load` makes the memory from again."""
        return save_attributes(self)

    def load(self, saved: Any) -> None:
        """Take back what `save` returned."""
        load_attributes(self, saved)

    # What you see

    @property
    def now_ns(self) -> int:
        """Market time, UTC nanoseconds: the newest venue time seen. The only clock there is."""
        return self._desk.state.now_ns

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(self._desk.state.markets)

    @property
    def symbol(self) -> str:
        """The symbol of the event in hand; with one symbol, that one."""
        return self._desk.symbol

    def market(self, symbol: str | None = None) -> Market:
        """Return what is known of one symbol: position, avg_px, quote, bars, health."""
        return self._desk.market(symbol)

    @property
    def position(self) -> int:
        """This strategy's own position in `symbol`: signed contracts, long positive."""
        return self.market().position

    @property
    def flat(self) -> bool:
        return self.market().position == 0

    @property
    def avg_px(self) -> Decimal:
        return self.market().avg_px

    @property
    def quote(self) -> Quote | None:
        return self.market().quote

    @property
    def bars(self) -> list[Bar]:
        """The last bars of `symbol`, oldest first; inside `on_bar` the last one is that bar."""
        return self.market().bars

    @property
    def working_orders(self) -> list[Order]:
        """Own orders in `symbol` that may still fill, protective children included."""
        return self._desk.working(self._desk.symbol)

    @property
    def pending(self) -> bool:
        """An entry in `symbol` is on its way, working, or of unknown fate: buy and sell wait for it."""
        return self._desk.pending(self._desk.symbol)

    def ticks(self, count: int, symbol: str | None = None) -> Ticks:
        """Return a distance of `count` ticks, for `stop` and `target`; `.distance` in price units."""
        return self.market(symbol).ticks(count)

    def on_tick(self, px: float | Decimal, symbol: str | None = None) -> Decimal:
        """Return the order price nearest to `px`."""
        tick = self.market(symbol).tick_size
        if tick is None:
            raise ActionRefused("the contract is not known yet: check self.market().tick_size first")
        exact = px if isinstance(px, Decimal) else Decimal(str(px))
        return (exact / tick).to_integral_value(rounding=ROUND_HALF_EVEN) * tick

    # What you do

    def buy(
        self,
        qty: int,
        *,
        stop: Ticks | None = None,
        target: Ticks | None = None,
        limit: float | Decimal | None = None,
        trigger: float | Decimal | None = None,
        trail: Ticks | None = None,
        join: bool = False,
        plan: StopPlan | None = None,
        symbol: str | None = None,
        add: bool = False,
        reason: str = "",
    ) -> Order | None:
        """Ask for a buy order; None if it was suppressed (see docs/strategy.md, when nothing is sent).

        Args:
            qty: Contracts.
            stop: Loss at which the broker closes what this order opened; travels with the order.
            target: Profit at which it does; needs a stop.
            limit: Worst price; None for a market order.
            trigger: Price at which the order becomes active (a stop order; with a limit, a stop-limit one).
            trail: A trailing stop order instead: it is triggered so far from the best price since.
            join: A limit order at the best price of its own side.
            plan: How the stop moves later, done by execution also when this process is gone.
            add: Allow it while another entry of this symbol is still working.
            reason: For people: stands in the journal and in `julie tail`.
        """
        return self._desk.submit(
            Side.BUY, qty, symbol=symbol, stop=stop, target=target, limit=limit, trigger=trigger,
            trail=trail, join=join, plan=plan, add=add, reason=reason,
        )  # fmt: skip

    def sell(
        self,
        qty: int,
        *,
        stop: Ticks | None = None,
        target: Ticks | None = None,
        limit: float | Decimal | None = None,
        trigger: float | Decimal | None = None,
        trail: Ticks | None = None,
        join: bool = False,
        plan: StopPlan | None = None,
        symbol: str | None = None,
        add: bool = False,
        reason: str = "",
    ) -> Order | None:
        """Ask for a sell order; see `buy`."""
        return self._desk.submit(
            Side.SELL, qty, symbol=symbol, stop=stop, target=target, limit=limit, trigger=trigger,
            trail=trail, join=join, plan=plan, add=add, reason=reason,
        )  # fmt: skip

    def close(self, symbol: str | None = None, reason: str = "") -> Order | None:
        """Ask to bring the position to zero and to cancel what protected it."""
        return self._desk.close(symbol, reason)

    def cancel(self, order: Order, reason: str = "") -> bool:
        return self._desk.cancel(order, reason)

    def modify(
        self,
        order: Order,
        *,
        qty: int | None = None,
        limit: float | Decimal | None = None,
        trigger: float | Decimal | None = None,
        trail: Ticks | None = None,
        reason: str = "",
    ) -> bool:
        """Ask for new values of a working order; None leaves one as it is.

        Args:
            order: A working one, a stop or target of an entry included.
            qty: Contracts in all, filled ones included; a bracket's size follows its entry by itself.
        """
        return self._desk.modify(order, qty=qty, limit=limit, trigger=trigger, trail=trail, reason=reason)


_TAKEN = frozenset(
    name
    for name, item in vars(Strategy).items()
    if not name.startswith("__")
    and not name.startswith("on_")
    and name not in {"save", "load", "bar_interval_s", "bars_kept"}
) | {"on_tick"}
"""What a child must not replace: an attribute called `position` would hide the real one."""
