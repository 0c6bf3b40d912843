"""Market data as the hub sends it: bytes made by formatting, for speed.

A quote carries only what changed (plus symbol and timestamps) and never a size;
sizes travel as depth records, trades and depth as arrays. Timestamps have seven
fraction digits, as seen at the gateway; order is the order on the wire.

A trade whose aggressor the source does not know is sent as type 0: the gateway's
enum has no "none", and 0 (Buy) is what an unset value of it looks like.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal

from services.simulator.contracts import Contract
from services.simulator.core import MarketTraded
from shared.broker.projectx.enums import DomType

SECOND_NS = 1_000_000_000


class IsoClock:
    """Format UTC nanoseconds; neighbors share the second, so its text is kept."""

    __slots__ = ("_prefix", "_second", "_text", "_ts_ns")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = b""
        self._ts_ns = -1
        self._text = b""

    def text(self, ts_ns: int) -> bytes:
        if ts_ns == self._ts_ns:
            return self._text
        second, rest_ns = divmod(ts_ns, SECOND_NS)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        self._ts_ns, self._text = ts_ns, b"%b.%07d+00:00" % (self._prefix, rest_ns // 100)
        return self._text


class PriceText(dict[int, bytes]):
    """Prices as JSON numbers by ticks; exact decimals, made once each."""

    def __init__(self, tick_size: Decimal) -> None:
        super().__init__()
        self._tick_size = tick_size

    def __missing__(self, ticks: int) -> bytes:
        text = self[ticks] = f"{ticks * self._tick_size:f}".encode()
        return text


class ContractWire:
    """Encode one contract's market data; remembers what clients have been told."""

    __slots__ = (
        "_arrays",
        "_depth_head",
        "_iso",
        "_price",
        "_quote_head",
        "_tail",
        "_trade_head",
        "ask",
        "ask_qty",
        "bid",
        "bid_qty",
        "high",
        "last",
        "low",
        "open",
        "volume",
    )

    def __init__(self, contract: Contract, iso: IsoClock, *, arrays: bool = True) -> None:
        """Args:
        arrays: Trades and depth as arrays, as on the wire; False as documented: objects.
        """
        left, right = (b"[", b"]") if arrays else (b"", b"")
        self._arrays = arrays
        names = (contract.id.encode(), contract.symbol_id.encode(), contract.product.symbol.encode())
        self._quote_head = (
            b'{"type":1,"target":"GatewayQuote","arguments":["%b",{"symbol":"%b","symbolName":"/%b",' % names
        )
        self._trade_head = (
            b'{"type":1,"target":"GatewayTrade","arguments":["%b",%b{"symbolId":"%b","price":'
            % (names[0], left, names[1])
        )
        self._tail = right + b"]}\x1e"
        self._depth_head = b'{"type":1,"target":"GatewayDepth","arguments":["%b",%b' % (names[0], left)
        self._iso = iso
        self._price = PriceText(contract.tick_size)
        self.bid: int | None = None
        self.ask: int | None = None
        self.bid_qty = self.ask_qty = 0
        self.last: int | None = None
        self.open: int | None = None
        self.high: int | None = None
        self.low: int | None = None
        self.volume = 0

    @contextmanager
    def unimpressed(self) -> Iterator[None]:
        """Forget afterwards what trades told meanwhile did to the day's figures: they never happened."""
        figures = self.last, self.open, self.high, self.low, self.volume
        try:
            yield
        finally:
            self.last, self.open, self.high, self.low, self.volume = figures

    def quote(self, bid: int | None, ask: int | None, ts_ns: int) -> bytes | None:
        """Return the quote of a touch, None when neither price changed."""
        if bid != self.bid and bid is not None:
            fields = b'"bestBid":%b,' % self._price[bid]
            if ask != self.ask and ask is not None:
                fields += b'"bestAsk":%b,' % self._price[ask]
        elif ask != self.ask and ask is not None:
            fields = b'"bestAsk":%b,' % self._price[ask]
        else:
            return None
        stamp = self._iso.text(ts_ns)
        return b'%b%b"lastUpdated":"%b","timestamp":"%b"}]}\x1e' % (self._quote_head, fields, stamp, stamp)

    def depth(self, bid: int | None, bid_qty: int, ask: int | None, ask_qty: int, ts_ns: int) -> bytes | None:
        """Return the depth records of a touch, None when no size changed."""
        stamp = self._iso.text(ts_ns)
        levels = []
        if bid != self.bid or bid_qty != self.bid_qty:
            levels.append(self._level(stamp, bid, self.bid, bid_qty, self.bid_qty, True))
        if ask != self.ask or ask_qty != self.ask_qty:
            levels.append(self._level(stamp, ask, self.ask, ask_qty, self.ask_qty, False))
        return self._depth_of(levels)

    def _depth_of(self, levels: list[bytes]) -> bytes | None:
        if not levels:
            return None
        if self._arrays:
            return self._depth_head + b",".join(levels) + self._tail
        return b"".join([self._depth_head + level + self._tail for level in levels])

    def keep(self, bid: int | None, bid_qty: int, ask: int | None, ask_qty: int) -> None:
        """Remember the touch as told; whoever sends in bulk sets the four itself."""
        self.bid, self.bid_qty, self.ask, self.ask_qty = bid, bid_qty, ask, ask_qty

    def _level(
        self, stamp: bytes, ticks: int | None, was: int | None, qty: int, was_qty: int, is_bid: bool
    ) -> bytes:
        """Return one depth record; a side that emptied is its old price with nothing left."""
        if ticks is None:
            ticks, qty = (was if was is not None else 0), 0
        if ticks == was:
            kind, change = (DomType.BEST_BID if is_bid else DomType.BEST_ASK), qty - was_qty
        else:
            kind, change = (DomType.NEW_BEST_BID if is_bid else DomType.NEW_BEST_ASK), qty
        return b'{"timestamp":"%b","type":%d,"price":%b,"volume":%d,"currentVolume":%d}' % (
            stamp,
            kind,
            self._price[ticks],
            change,
            qty,
        )

    def trade(self, event: MarketTraded) -> bytes:
        """Return the trade's message and count it into the session's figures."""
        price = event.price
        self.last = price
        self.volume += event.qty
        if self.open is None:
            self.open = self.high = self.low = price
        elif self.high is None or price > self.high:
            self.high = price
        elif self.low is None or price < self.low:
            self.low = price
        return b'%b%b,"timestamp":"%b","type":%d,"volume":%d}%b' % (
            self._trade_head,
            self._price[price],
            self._iso.text(event.now_ns),
            event.aggressor or 0,
            event.qty,
            self._tail,
        )

    def last_quote(self, ts_ns: int) -> bytes:
        """Return the quote that follows a trade: last price and session volume."""
        stamp = self._iso.text(ts_ns)
        return b'%b"lastPrice":%b,"volume":%d,"lastUpdated":"%b","timestamp":"%b"}]}\x1e' % (
            self._quote_head,
            self._price[self.last or 0],
            self.volume,
            stamp,
            stamp,
        )

    def quote_snapshot(self, ts_ns: int) -> bytes | None:
        """Return all that is known as one quote, or None when nothing is."""
        named = (
            (b"lastPrice", self.last),
            (b"bestBid", self.bid),
            (b"bestAsk", self.ask),
            (b"open", self.open),
            (b"high", self.high),
            (b"low", self.low),
        )
        fields = b"".join(
            b'"%b":%b,' % (name, self._price[ticks]) for name, ticks in named if ticks is not None
        )
        if not fields:
            return None
        if self.last is not None and self.open is not None:
            change = self.last - self.open
            fields += b'"change":%b,"changePercent":%b,"volume":%d,' % (
                self._price[change],
                b"%.4f" % (100 * change / self.open),
                self.volume,
            )
        stamp = self._iso.text(ts_ns)
        return b'%b%b"lastUpdated":"%b","timestamp":"%b"}]}\x1e' % (self._quote_head, fields, stamp, stamp)

    def depth_snapshot(self, ts_ns: int) -> bytes | None:
        """Return the present touch with its sizes, or None when there is none."""
        stamp = self._iso.text(ts_ns)
        levels = [
            self._level(stamp, ticks, None, qty, 0, is_bid)
            for ticks, qty, is_bid in ((self.bid, self.bid_qty, True), (self.ask, self.ask_qty, False))
            if ticks is not None
        ]
        return self._depth_of(levels)
