"""What a symbol's stream already holds, read from its newest entries at start.

A bar that is not among the newest entries may still be out. But a bar goes out after its interval is over,
so every bar that ended before the oldest entry that we read counts as published, and every bar that ended
after it and was published is among them: nothing is published twice, and nothing needs to be remembered
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.feed.events import Resumed
from shared.bus.port import Entry
from shared.domain.bars import last_over_ns
from shared.domain.market import Bar, Depth, MarketState, Quote, Trade
from shared.wire.codec import MessageRefused, decode

_TIMED = (b"quote", b"trade", b"depth")


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """See `Resumed`."""

    bars_out_ns: dict[int, int]
    last_event_ns: int | None
    read_from_ns: int | None = None
    view: MarketState | None = None

    def resumed(self, symbol: str, now_ns: int, mono_ns: int) -> Resumed:
        return Resumed(
            symbol=symbol,
            bars_out_ns=self.bars_out_ns,
            last_event_ns=self.last_event_ns,
            read_from_ns=self.read_from_ns,
            view=self.view,
            now_ns=now_ns,
            mono_ns=mono_ns,
        )


def read_tail(
    symbol: str, entries: Sequence[Entry], intervals_s: Sequence[int], *, written: int, latest: bytes | None
) -> Tail:
    """Return which bars are out, the newest event time, and what the last feed said.

    Args:
        entries: The newest entries of the stream, oldest first.
        intervals_s: Those to tell of even when no bar of them is among the entries.
        written: Sequence number of the last entry ever written; 0 for a new stream.
        latest: The stored `MarketState`, for a stream whose entries are all archived and gone.
    """
    first_ns, last_ns = _edge_ns(entries), _edge_ns(reversed(entries))
    view = _view(latest)
    if last_ns is None and written and view is not None:
        first_ns = last_ns = view.ts_event_ns or None
    bars = {
        (bar.interval_s, bar.ts_open_ns)
        for bar in (_message(entry) for entry in entries if entry.kind == b"bar")
        if isinstance(bar, Bar)
    }
    whole = bool(entries) and entries[0].seq == 1
    read_from_ns = None if whole else first_ns
    bars_out_ns: dict[int, int] = {}
    for interval_s in sorted({*intervals_s, *(length for length, _ in bars)}):
        found = [ts for length, ts in bars if length == interval_s]
        if read_from_ns is not None:
            # The last interval that was over when the oldest entry we know was written.
            found.append(last_over_ns(symbol, read_from_ns, interval_s))
        if found:
            bars_out_ns[interval_s] = max(found)
    return Tail(bars_out_ns=bars_out_ns, last_event_ns=last_ns, read_from_ns=read_from_ns, view=view)


def _edge_ns(entries: object) -> int | None:
    for entry in entries:  # type: ignore[attr-defined]
        if entry.kind in _TIMED:
            message = _message(entry)
            if isinstance(message, Quote | Trade | Depth):
                return message.ts_event_ns
    return None


def _message(entry: Entry) -> object:
    try:
        return decode(entry.kind, entry.value)
    except MessageRefused:
        return None  # of another build; it tells nothing here


def _view(latest: bytes | None) -> MarketState | None:
    if latest is None:
        return None
    try:
        state = decode(b"market_state", latest)
    except MessageRefused:
        return None
    return state if isinstance(state, MarketState) else None
