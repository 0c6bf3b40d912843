"""The path of every quote, trade and depth record: merge, mark, close bars, append.

Written for speed: one pass over a frame, no object besides the messages themselves and one `Append` for each
run of a symbol. What is rare is in functions of its own.

Values that are possible but strange pass, because the record of the market must be what the market said: a
crossed quote is marked in the quote itself; a price that jumped makes the symbol's health `stale` (nothing is
traded on it) until a normal price follows or the new one has stood for a while. Only a timestamp from the
future is refused, since it would close every bar for ever: one ahead of our clock and of the broker's, for
ours may be set wrong. What is refused vouches for nothing.
"""

from __future__ import annotations

from services.feed import history
from services.feed.alarm import alarm
from services.feed.events import Append, Command, MarketBatch
from services.feed.state import NEVER_NS, Market, State
from shared.domain.market import Depth, FeedGap, FeedHealth, FeedState, MarketMessage, Quote, Trade

TIME_BACK_NS = 600_000_000_000
"""The snapshot of a quiet market may be this much older than the last bar without meaning another day."""


def take(event: MarketBatch, state: State) -> list[Command]:
    """Apply one frame of market data."""
    commands: list[Command] = []
    markets = state.markets
    mono_ns = event.mono_ns
    market: Market | None = None
    messages: list[MarketMessage] = []
    symbol = ""
    ts_ns = 0
    limit_ns = NEVER_NS  # a venue of its own date may jump to the next session
    if not state.settings.venue_clock and event.events:
        limit_ns = event.events[0].ts_recv_ns
        if state.venue_offset_ns is not None:
            limit_ns = max(limit_ns, mono_ns + state.venue_offset_ns)
        limit_ns += state.settings.ts_ahead_max_ns
    for item in event.events:
        if item.symbol != symbol:
            symbol = item.symbol
            market = markets.get(symbol)
            messages = []
            if market is not None and mono_ns < market.contract_since_mono_ns:
                market = None  # of a contract that we left
            if market is not None:
                market.dirty = True
                if not market.shedding:
                    commands.append(Append(symbol, messages))
        if market is None:
            continue
        ts_ns = item.ts_event_ns
        if ts_ns > limit_ns:
            commands += _from_the_future(item, market, state, mono_ns, limit_ns)
            continue
        market.last_mono_ns = mono_ns
        if market.gap_open:
            commands += _end_gap(item, market, state, mono_ns, messages)
        if ts_ns > market.last_event_ns:
            market.last_event_ns = ts_ns
        if type(item) is Trade:
            px = item.px
            if not market.lo_px <= px <= market.hi_px:
                _jumped(market, px, item.ts_recv_ns, mono_ns, messages)
            elif px != market.band_px or market.jump_since_mono_ns:
                _move_band(market, px, state)
            market.trades += 1
            market.traded_mono_ns = mono_ns
            market.traded_px = px
            ended = market.builder.add(item)
            market.bar_due_ns = market.builder.end_ns
            if ended is not None:
                history.minute_closed(market, ended, messages)
            elif ts_ns < market.builder.closed_ns:
                commands += _late(item, market, state, mono_ns)
            messages.append(item)
        else:
            if ts_ns >= market.bar_due_ns and ts_ns >= market.bar_due_ns + state.settings.quote_margin_ns:
                close_minute(market, item.ts_recv_ns, messages)
            if type(item) is Quote:
                market.quoted_mono_ns = mono_ns
                _merge(item, market, messages, mono_ns)
            else:
                market.depths += 1
                messages.append(item)
    if ts_ns and ts_ns <= limit_ns:
        state.time.observe(ts_ns, mono_ns)
    return commands


def close_minute(market: Market, ts_recv_ns: int, messages: list[MarketMessage]) -> None:
    """End the minute under way because its time is over."""
    ended = market.builder.close(ts_recv_ns)
    market.bar_due_ns = NEVER_NS
    if ended is not None:
        history.minute_closed(market, ended, messages)


def _merge(item: Quote, market: Market, messages: list[MarketMessage], mono_ns: int) -> None:
    """Complete a sparse quote from what is known; append it when it changes anything."""
    bid, ask, last, volume = item.bid_px, item.ask_px, item.last_px, item.volume
    whole = True
    if bid is None:
        bid = market.bid_px
        whole = bid is None
    if ask is None:
        ask = market.ask_px
        whole = whole and ask is None
    if last is None:
        last = market.last_px
        whole = whole and last is None
    if volume is None:
        volume = market.volume
        whole = whole and volume is None
    if bid == market.bid_px and ask == market.ask_px and last == market.last_px and volume == market.volume:
        market.unchanged += 1
        return
    market.bid_px, market.ask_px, market.last_px, market.volume = bid, ask, last, volume
    if last is not None and item.last_px is not None:
        market.traded_px = last
    market.quotes += 1
    if (bid is not None and not market.lo_px <= bid <= market.hi_px) or (
        ask is not None and not market.lo_px <= ask <= market.hi_px
    ):
        outside = bid if bid is not None and not market.lo_px <= bid <= market.hi_px else ask
        assert outside is not None
        _jumped(market, outside, item.ts_recv_ns, mono_ns, messages)
    elif market.jump_since_mono_ns and bid is not None and ask is not None:
        market.jump_since_mono_ns = 0
    if whole:
        messages.append(item)
        return
    crossed = bid is not None and ask is not None and bid > ask
    messages.append(
        Quote(
            symbol=item.symbol,
            ts_event_ns=item.ts_event_ns,
            ts_recv_ns=item.ts_recv_ns,
            bid_px=bid,
            ask_px=ask,
            last_px=last,
            volume=volume,
            crossed=crossed,
        )
    )


def _from_the_future(
    item: Quote | Trade | Depth, market: Market, state: State, mono_ns: int, limit_ns: int
) -> list[Command]:
    market.refused += 1
    market.refused_mono_ns = mono_ns
    ahead_s = (item.ts_event_ns - limit_ns + state.settings.ts_ahead_max_ns) / 1e9
    why = f"event time {ahead_s:.0f} s ahead of every clock: {item!r}; check this machine's clock"
    return [*alarm(state, "event_from_the_future", market.symbol, why, mono_ns)]


def _late(item: Trade, market: Market, state: State, mono_ns: int) -> list[Command]:
    count = market.builder.late_trades
    text = f"trade of {item.qty} at {item.px} came after its bar was closed ({count} so far)"
    return [*alarm(state, "trade_late", market.symbol, text, mono_ns, grave=False)]


def _end_gap(
    item: Quote | Trade | Depth, market: Market, state: State, mono_ns: int, messages: list[MarketMessage]
) -> list[Command]:
    """The first event after the link came up ends the gap; from here on minutes are whole again."""
    market.gap_open = False
    ts_ns = item.ts_event_ns
    messages.append(
        FeedGap(
            symbol=market.symbol,
            reason=market.gap_reason,
            ts_from_ns=market.gap_from_ns,
            ts_to_ns=ts_ns,
            ts_recv_ns=item.ts_recv_ns,
        )
    )
    history.resume(market, state, ts_ns)
    if not state.settings.venue_clock or ts_ns >= market.minutes_out_ns - TIME_BACK_NS:
        return []
    text = (
        "the venue's time went back behind the bars that are already in the stream; bars are withheld until "
        "it has passed them. Use a fresh data directory for another replay"
    )
    return [*alarm(state, "venue_time_went_back", market.symbol, text, mono_ns)]


def _move_band(market: Market, px: float, state: State) -> None:
    share = state.settings.price_jump_max
    market.lo_px, market.hi_px, market.band_px = px * (1 - share), px * (1 + share), px
    market.jump_since_mono_ns = 0


def _jumped(market: Market, px: float, ts_recv_ns: int, mono_ns: int, messages: list[MarketMessage]) -> None:
    """Mark the jump, once, before the message that brings it."""
    if market.jump_since_mono_ns:
        return
    market.jump_since_mono_ns = mono_ns
    market.jump_reason = (
        f"price jumped to {px:g}, outside {market.lo_px:g} to {market.hi_px:g} around the last trade"
    )
    if market.health is not FeedHealth.LIVE:
        return
    market.health, market.health_reason = FeedHealth.STALE, market.jump_reason
    messages.append(
        FeedState(
            symbol=market.symbol,
            health=FeedHealth.STALE,
            reason=market.jump_reason,
            contract_id=market.instrument.contract_id if market.instrument else "",
            ts_recv_ns=ts_recv_ns,
        )
    )


def believe_jump(market: Market, state: State) -> None:
    """The new price has stood for long enough: it is the market's."""
    share = state.settings.price_jump_max
    prices = [px for px in (market.traded_px, market.bid_px, market.ask_px) if px is not None]
    market.lo_px, market.hi_px = min(prices) * (1 - share), max(prices) * (1 + share)
    market.jump_since_mono_ns = 0
