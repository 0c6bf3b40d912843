"""A feed's core under test: builders, and a desk that keeps the clocks and what was appended."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from services.feed.core import decide
from services.feed.events import (
    Append,
    BarsFetched,
    Command,
    ContractsFound,
    Event,
    FetchBars,
    LinkChanged,
    MarketBatch,
    Purpose,
    QueryFailed,
    Tick,
)
from services.feed.state import Market, Settings, make_state
from shared.domain.instrument import Instrument
from shared.domain.market import Bar, BarSource, BookSide, Depth, DepthKind, MarketMessage, Quote, Trade

S = 1_000_000_000
MINUTE_NS = 60 * S
OPEN_NS = int(datetime(2026, 3, 3, 15, tzinfo=UTC).timestamp()) * S
"""A Tuesday, 09:00 Chicago: inside the day session."""

DEFAULTS = {"backfill_bars": 0, "bar_grace_ns": 250_000_000, "stall_ns": 10**18}
"""A desk's ticks are far apart; that is no pause of the process unless a test says so."""

C = TypeVar("C")


def make_instrument(month: str = "H26", *, symbol: str = "MES", active: bool = True) -> Instrument:
    return Instrument(
        symbol=symbol,
        contract_id=f"CON.F.US.{symbol}.{month}",
        contract_name=f"{symbol}{month[0]}{month[-1]}",
        tick_size=Decimal("0.25"),
        tick_value=Decimal("1.25"),
        active=active,
    )


class Desk:
    """A core whose link is up and whose symbols are resolved, unless told otherwise.

    Attributes:
        second: Seconds after 15:00 UTC; wall, monotonic and market clocks agree.
        ahead_s: How far our wall clock is ahead of the market's, for tests of a clock that is set wrong.
        messages: Everything appended, in order.
        commands: Everything else, in order.
    """

    def __init__(self, *symbols: str, up: bool = True, second: float = 0.0, **settings: Any) -> None:
        self.symbols = symbols or ("MES",)
        self.state = make_state(self.symbols, Settings(**{**DEFAULTS, **settings}))
        self.second = second
        self.ahead_s = 0.0
        self.messages: list[MarketMessage] = []
        self.commands: list[Command] = []
        if up:
            for symbol in self.symbols:
                self.find(make_instrument(symbol=symbol))
            self.link(True)

    @property
    def market_ns(self) -> int:
        return OPEN_NS + round(self.second * S)

    @property
    def now_ns(self) -> int:
        return self.market_ns + round(self.ahead_s * S)

    @property
    def mono_ns(self) -> int:
        return S * 1_000_000 + round(self.second * S)

    def market(self, symbol: str = "MES") -> Market:
        return self.state.markets[symbol]

    def decide(self, event: Event) -> list[Command]:
        commands = decide(event, self.state)
        for command in commands:
            if isinstance(command, Append):
                self.messages += command.messages
            else:
                self.commands.append(command)
        return commands

    # what happens

    def at(self) -> dict[str, int]:
        return {"now_ns": self.now_ns, "mono_ns": self.mono_ns}

    def tick(self, second: float | None = None, venue_now_ns: int | None = None) -> list[Command]:
        self.second = self.second if second is None else second
        return self.decide(Tick(**self.at(), venue_now_ns=venue_now_ns))

    def link(self, up: bool, reason: str = "cut", *, planned: bool = False) -> list[Command]:
        return self.decide(LinkChanged(up=up, reason=reason, planned=planned, **self.at()))

    def find(self, *found: Instrument, symbol: str | None = None) -> list[Command]:
        name = symbol or found[0].symbol
        return self.decide(ContractsFound(symbol=name, found=list(found), **self.at()))

    def frame(self, *events: Quote | Trade | Depth) -> list[Command]:
        return self.decide(MarketBatch(list(events), self.mono_ns))

    def quote(self, second: float | None = None, **fields: Any) -> list[Command]:
        return self.frame(self.make_quote(second, **fields))

    def trade(self, second: float | None = None, px: float = 100.0, qty: int = 1) -> list[Command]:
        return self.frame(self.make_trade(second, px, qty))

    def history(self, fetch: FetchBars, *bars: Bar) -> list[Command]:
        """Answer a query."""
        return self.decide(
            BarsFetched(
                symbol=fetch.symbol,
                purpose=fetch.purpose,
                contract_id=fetch.instrument.contract_id,
                start_ns=fetch.start_ns,
                end_ns=fetch.end_ns,
                bars=list(bars),
                **self.at(),
            )
        )

    def fail(self, purpose: Purpose, symbol: str = "MES") -> list[Command]:
        return self.decide(QueryFailed(symbol=symbol, purpose=purpose, reason="HTTP 503", **self.at()))

    # what it is made of

    def make_quote(self, second: float | None = None, symbol: str = "MES", **fields: Any) -> Quote:
        self.second = self.second if second is None else second
        return Quote(symbol=symbol, ts_event_ns=self.market_ns, ts_recv_ns=self.now_ns, **fields)

    def make_trade(self, second: float | None = None, px: float = 100.0, qty: int = 1) -> Trade:
        self.second = self.second if second is None else second
        return Trade(symbol="MES", ts_event_ns=self.market_ns, ts_recv_ns=self.now_ns, px=px, qty=qty)

    def make_depth(self, second: float | None = None, px: float = 100.0, qty: int = 5) -> Depth:
        self.second = self.second if second is None else second
        return Depth(
            symbol="MES",
            ts_event_ns=self.market_ns,
            ts_recv_ns=self.now_ns,
            side=BookSide.BID,
            kind=DepthKind.BEST,
            px=px,
            resting_qty=qty,
        )

    # what came of it

    def of(self, kind: type[C]) -> list[C]:
        """Return what was appended or commanded of one type."""
        return [item for item in [*self.messages, *self.commands] if isinstance(item, kind)]

    def fetches(self, purpose: Purpose) -> list[FetchBars]:
        return [fetch for fetch in self.of(FetchBars) if fetch.purpose is purpose]

    def bars(self) -> list[tuple[int, int, int, str]]:
        """Return (interval, minutes after 15:00, volume, how it was made) of every bar."""
        return [
            (
                bar.interval_s,
                (bar.ts_open_ns - OPEN_NS) // MINUTE_NS,
                bar.volume,
                "partial" if bar.partial else bar.source.value,
            )
            for bar in self.of(Bar)
        ]


def make_history_bar(minute: int, volume: int = 7, px: float = 100.0) -> Bar:
    """Return a bar of the broker's history, opened `minute` minutes after 15:00."""
    return Bar(
        symbol="MES",
        interval_s=60,
        ts_open_ns=OPEN_NS + minute * MINUTE_NS,
        open=px,
        high=px,
        low=px,
        close=px,
        volume=volume,
        ts_recv_ns=0,
        source=BarSource.BACKFILL,
    )
