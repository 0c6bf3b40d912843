"""Market hub payloads to domain events, on the path that every quote takes.

What a translator keeps are caches and nothing else: the same frames give the same
events whatever came before. A quote comes out as sparse as it went in, None meaning
"unchanged"; merging belongs to the reader, who knows when it reconnected.

Trades and depth arrive as an array (on the wire) or as one object (in the
documentation), and may hold nulls. One bad element of an array is refused alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from msgspec import Raw

from shared.broker.port import FrameRefused, MarketEvent
from shared.broker.projectx.enums import DomType, TradeLogType
from shared.broker.projectx.payloads import DepthData, QuoteData, TradeData
from shared.broker.projectx.records import EXCERPT_BYTES_MAX
from shared.broker.projectx.timestamps import parse_ns
from shared.domain.instrument import Instrument, OffTick
from shared.domain.market import Aggressor, BookSide, Depth, DepthKind, Quote, Trade

GRID_PRICES_MAX: Final = 16_384  # cached prices of one contract: far more than one session sees
PX_MAX: Final = 1e9  # beyond every price; keeps absurd numbers from looking "on the grid"

QUOTE_TARGET: Final = "GatewayQuote"
TRADE_TARGET: Final = "GatewayTrade"
DEPTH_TARGET: Final = "GatewayDepth"

_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_AGGRESSORS: Final = {
    None: Aggressor.NONE,
    int(TradeLogType.BUY): Aggressor.BUY,
    int(TradeLogType.SELL): Aggressor.SELL,
}
_DEPTHS: Final[dict[int, tuple[BookSide | None, DepthKind]]] = {
    DomType.ASK: (BookSide.ASK, DepthKind.LEVEL),
    DomType.BID: (BookSide.BID, DepthKind.LEVEL),
    DomType.BEST_ASK: (BookSide.ASK, DepthKind.BEST),
    DomType.BEST_BID: (BookSide.BID, DepthKind.BEST),
    DomType.NEW_BEST_ASK: (BookSide.ASK, DepthKind.NEW_BEST),
    DomType.NEW_BEST_BID: (BookSide.BID, DepthKind.NEW_BEST),
    DomType.RESET: (None, DepthKind.RESET),
}
_STATISTICS: Final = frozenset({DomType.TRADE, DomType.LOW, DomType.HIGH, DomType.FILL})
"""Depth records that say nothing about the book: trades have their own event."""

_decode_quote = msgspec.json.Decoder(tuple[str, QuoteData]).decode
_decode_trades = msgspec.json.Decoder(tuple[str, list[TradeData | None] | TradeData | None]).decode
_decode_depths = msgspec.json.Decoder(tuple[str, list[DepthData | None] | DepthData | None]).decode
_decode_elements = msgspec.json.Decoder(tuple[str, list[Raw]]).decode
_decode_trade = msgspec.json.Decoder(TradeData | None).decode
_decode_depth = msgspec.json.Decoder(DepthData | None).decode


class Untranslatable(ValueError):
    """A payload holds what we do not understand; `field` is its name on the wire."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class MarketTranslator:
    """Translate the market events of the contracts it was told of."""

    def __init__(self, instruments: Iterable[Instrument] = ()) -> None:
        self._grids: dict[str, _Grid] = {}
        for instrument in instruments:
            self.add(instrument)

    def add(self, instrument: Instrument) -> None:
        self._grids[instrument.contract_id] = _Grid(instrument)

    def discard(self, contract_id: str) -> None:
        self._grids.pop(contract_id, None)

    def events(self, target: str, arguments: Raw, ts_recv_ns: int) -> list[MarketEvent | FrameRefused]:
        """Return what one invocation of the market hub says, and what of it was refused."""
        try:
            if target == QUOTE_TARGET:
                contract_id, quote = _decode_quote(arguments)
                return [_quote(quote, self._grid(contract_id), ts_recv_ns)]
            if target == TRADE_TARGET:
                contract_id, trades = _decode_trades(arguments)
                return self._each(trades, _trade, contract_id, target, ts_recv_ns)
            if target == DEPTH_TARGET:
                contract_id, depths = _decode_depths(arguments)
                return self._each(depths, _depth, contract_id, target, ts_recv_ns)
        except Untranslatable as error:
            return [_refused(target, error.field, error.reason, bytes(arguments), ts_recv_ns)]
        except _UNREADABLE as error:
            return self._rescue(target, arguments, ts_recv_ns, error)
        return [_refused(target, "target", "is not an event of the market hub", bytes(arguments), ts_recv_ns)]

    def _grid(self, contract_id: str) -> _Grid:
        grid = self._grids.get(contract_id)
        if grid is None:
            raise Untranslatable("contractId", f"{contract_id!r} is not a contract that was subscribed")
        return grid

    def _each(
        self,
        data: Any,
        translate: Callable[[Any, _Grid, int], MarketEvent | None],
        contract_id: str,
        target: str,
        ts_recv_ns: int,
    ) -> list[MarketEvent | FrameRefused]:
        grid = self._grid(contract_id)
        elements = data if isinstance(data, list) else [data]
        events: list[MarketEvent | FrameRefused] = []
        for element in elements:
            if element is None:
                continue
            try:
                event = translate(element, grid, ts_recv_ns)
            except Untranslatable as error:
                raw = msgspec.json.encode(element)
                events.append(_refused(target, error.field, error.reason, raw, ts_recv_ns))
                continue
            if event is not None:
                events.append(event)
        return events

    def _rescue(
        self, target: str, arguments: Raw, ts_recv_ns: int, error: Exception
    ) -> list[MarketEvent | FrameRefused]:
        """Take the good elements of an array that holds an unreadable one."""
        whole = [_refused(target, "", str(error), bytes(arguments), ts_recv_ns)]
        if target == QUOTE_TARGET:
            return whole  # type: ignore[return-value]  # lists are invariant, this one is ours
        decode = _decode_trade if target == TRADE_TARGET else _decode_depth
        translate = _trade if target == TRADE_TARGET else _depth
        events: list[MarketEvent | FrameRefused] = []
        try:
            contract_id, elements = _decode_elements(arguments)
            self._grid(contract_id)
        except (*_UNREADABLE, Untranslatable):
            return whole  # type: ignore[return-value]
        for element in elements:
            try:
                data = decode(element)
            except _UNREADABLE as unreadable:
                events.append(_refused(target, "", str(unreadable), bytes(element), ts_recv_ns))
                continue
            events += self._each(data, translate, contract_id, target, ts_recv_ns)
        return events


class _Grid:
    """The tick grid of one contract, with the prices seen so far: they repeat all day."""

    __slots__ = ("_seen", "instrument", "seen", "symbol")

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.symbol = instrument.symbol
        self._seen: dict[float, float] = {}
        self.seen = self._seen.get

    def snap(self, px: float, field: str) -> float:
        snapped = self._seen.get(px)
        return self._snap_new(px, field) if snapped is None else snapped

    def _snap_new(self, px: float, field: str) -> float:
        if not 0.0 < px < PX_MAX:
            raise Untranslatable(field, f"{px} is not a possible price")
        try:
            snapped = self.instrument.snap(px)
        except OffTick as error:
            raise Untranslatable(field, str(error)) from None
        if snapped <= 0.0:
            raise Untranslatable(field, f"{px} is not a possible price")
        if len(self._seen) >= GRID_PRICES_MAX:
            self._seen.clear()
        self._seen[px] = snapped
        return snapped


def _quote(data: QuoteData, grid: _Grid, ts_recv_ns: int) -> Quote:
    # The hottest lines of the system: known prices are looked up in place, without a call.
    bid, ask, last, volume = data.best_bid, data.best_ask, data.last_price, data.volume
    bid_px = None if bid is None else grid.seen(bid) or grid.snap(bid, "bestBid")
    ask_px = None if ask is None else grid.seen(ask) or grid.snap(ask, "bestAsk")
    if type(volume) is float or (volume is not None and volume < 0):
        volume = _session_volume(volume)
    try:
        ts_event_ns = parse_ns(data.last_updated or data.timestamp or "")
    except ValueError as error:
        raise Untranslatable("lastUpdated", str(error)) from None
    return Quote(
        symbol=grid.symbol,
        ts_event_ns=ts_event_ns,
        ts_recv_ns=ts_recv_ns,
        bid_px=bid_px,
        ask_px=ask_px,
        last_px=None if last is None else grid.seen(last) or grid.snap(last, "lastPrice"),
        volume=volume,  # type: ignore[arg-type]  # floats were made whole above
        crossed=bid_px is not None and ask_px is not None and bid_px > ask_px,
    )


def _trade(data: TradeData, grid: _Grid, ts_recv_ns: int) -> Trade:
    aggressor = _AGGRESSORS.get(data.type)
    if aggressor is None:
        raise Untranslatable("type", f"{data.type} is not a side of a trade")
    if data.volume <= 0:
        raise Untranslatable("volume", f"a trade of {data.volume} contracts")
    return Trade(
        symbol=grid.symbol,
        ts_event_ns=_time_ns(data.timestamp, "timestamp"),
        ts_recv_ns=ts_recv_ns,
        px=grid.snap(data.price, "price"),
        qty=data.volume,
        aggressor=aggressor,
    )


def _depth(data: DepthData, grid: _Grid, ts_recv_ns: int) -> Depth | None:
    if data.type in _STATISTICS:
        return None
    meaning = _DEPTHS.get(data.type)
    if meaning is None:
        raise Untranslatable("type", f"{data.type} is not a known kind of depth record")
    side, kind = meaning
    if kind is DepthKind.RESET:
        px, resting_qty, change_qty = 0.0, 0, 0  # whatever else it carries has no meaning
    else:
        px, change_qty = grid.snap(data.price, "price"), data.volume
        if data.current_volume is None or data.current_volume < 0:
            raise Untranslatable("currentVolume", f"{data.current_volume} is not a resting size")
        resting_qty = data.current_volume
    return Depth(
        symbol=grid.symbol,
        ts_event_ns=_time_ns(data.timestamp, "timestamp"),
        ts_recv_ns=ts_recv_ns,
        side=side,
        kind=kind,
        px=px,
        resting_qty=resting_qty,
        change_qty=change_qty,
    )


def _session_volume(volume: float) -> int:
    if volume < 0 or volume != int(volume):
        raise Untranslatable("volume", f"{volume} is not a number of contracts")
    return int(volume)


def _time_ns(text: str, field: str) -> int:
    try:
        return parse_ns(text)
    except ValueError as error:
        raise Untranslatable(field, str(error)) from None


def _refused(origin: str, field: str, reason: str, raw: bytes, ts_recv_ns: int) -> FrameRefused:
    return FrameRefused(
        origin=origin, field=field, reason=reason, raw=raw[:EXCERPT_BYTES_MAX], ts_recv_ns=ts_recv_ns
    )
