"""Decide what the feed appends, publishes and asks.

Market data in the order of the wire is the one path that must be fast (`stream.py`). Beside it stand four
slow ones, each in a file that says why it exists: which contract a symbol means (`contract.py`), the order of
bars and their history (`history.py`; `wanted.py` for intervals asked for meanwhile), how far a symbol can be
trusted (`staleness.py`), and what time it is in the market (`market_time.py`).
"""

from __future__ import annotations

from typing import assert_never

from services.feed import contract, history, staleness, stream, wanted
from services.feed.alarm import alarm
from services.feed.events import (
    Append,
    BarsFetched,
    Command,
    ContractDoubted,
    ContractsFound,
    ContractTaken,
    Drained,
    Event,
    InputRefused,
    IntervalWanted,
    LinkChanged,
    MarketBatch,
    PublishState,
    Purpose,
    QueryFailed,
    Resumed,
    Shed,
    Tick,
)
from services.feed.state import Market, State
from shared.domain.market import Bar, MarketMessage, MarketState

DEPTH = "MarketDepth"
"""Not every account is entitled to it, and no price, bar or order hangs on it."""


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event to `state` and return what must now happen."""
    if type(event) is MarketBatch:
        return stream.take(event, state)
    match event:
        case Tick():
            return _tick(event, state)
        case LinkChanged():
            return _link(event, state)
        case Resumed():
            return _resume(event, state)
        case IntervalWanted():
            return wanted.wanted(event, state)
        case ContractsFound():
            return _found(event, state)
        case ContractDoubted():
            return _doubt(event, state)
        case ContractTaken():
            return _taken(event, state)
        case BarsFetched():
            return _fetched(event, state)
        case QueryFailed():
            return _failed(event, state)
        case InputRefused():
            state.refused += 1
            text = f"{event.origin} {event.field}: {event.reason} ({state.refused} refused so far)"
            return [*alarm(state, "input_refused", "", text, event.mono_ns, grave=False)]
        case Shed():
            return _shed(event, state)
        case Drained():
            return _drained(event, state)
        case MarketBatch():
            return stream.take(event, state)
        case _:
            assert_never(event)


def market_state(market: Market, now_ns: int) -> MarketState | None:
    """Return the conflated view of a symbol; None before its contract is known."""
    instrument = market.instrument
    if instrument is None:
        return None
    bid, ask = market.bid_px, market.ask_px
    return MarketState(
        symbol=market.symbol,
        contract_id=instrument.contract_id,
        health=market.health,
        bid_px=bid,
        ask_px=ask,
        last_px=market.traded_px,
        crossed=bid is not None and ask is not None and bid > ask,
        tick_size=str(instrument.tick_size),
        tick_value=str(instrument.tick_value),
        ts_event_ns=market.last_event_ns,
        ts_asof_ns=now_ns,
        contract_name=instrument.contract_name,
    )


def _tick(event: Tick, state: State) -> list[Command]:
    now_ns, mono_ns = event.now_ns, event.mono_ns
    state.time.tell(event.venue_now_ns, mono_ns)
    if event.venue_now_ns is not None:
        state.venue_offset_ns = event.venue_now_ns - mono_ns
    market_ns = state.time.now(now_ns, mono_ns)
    woke = mono_ns - state.ticked_mono_ns > state.settings.stall_ns
    if woke:
        state.stalled_mono_ns = mono_ns
    state.ticked_mono_ns = mono_ns
    awake = mono_ns - state.stalled_mono_ns >= state.settings.bar_grace_ns
    grace_ns = int(state.settings.bar_grace_ns * state.settings.speed)
    commands: list[Command] = []
    for market in state.markets.values():
        messages: list[MarketMessage] = []
        if awake and market_ns is not None and market.bar_due_ns <= market_ns - grace_ns:
            stream.close_minute(market, now_ns, messages)
        commands += contract.tick(market, state, now_ns, mono_ns)
        if market.backfill_wanted and state.link_up_mono_ns and market.instrument and market_ns is not None:
            history.want_since_last(market, state, market_ns)
        commands += history.tick(market, state, market_ns, now_ns, mono_ns, messages)
        commands += wanted.tick(market, state, market_ns, mono_ns, messages)
        commands += staleness.watch(market, state, now_ns, mono_ns)
        staleness.change_of(market, state, now_ns, mono_ns, messages)
        _append(market, messages, commands)
        # After a pause of our own the newest prices still lie in the socket: these are vouched for no more.
        if not woke and (market.dirty or mono_ns - market.published_mono_ns >= state.settings.vouch_ns):
            _publish(market, now_ns, mono_ns, commands)
    return commands


def _link(event: LinkChanged, state: State) -> list[Command]:
    commands: list[Command] = []
    if event.up:
        state.link_up_mono_ns = event.mono_ns
        state.time.restart()
    else:
        state.link_up_mono_ns = 0
        state.link_reason = event.reason
    market_ns = state.time.now(event.now_ns, event.mono_ns)
    for market in state.markets.values():
        messages: list[MarketMessage] = []
        if event.up:
            market.frozen_mono_ns = market.probe_mono_ns = 0
            market.quoted_mono_ns = event.mono_ns
            _cover_again(market, state, market_ns)
        else:
            market.denied.clear()
            contract.forget_quote(market)
            _cut(market, event.reason, event.now_ns, messages)
        if staleness.change_of(market, state, event.now_ns, event.mono_ns, messages):
            _publish(market, event.now_ns, event.mono_ns, commands)
        _append(market, messages, commands)
    state.link_was_up = state.link_was_up or event.up
    if not event.up and not event.planned:
        commands += alarm(state, "link_down", "", event.reason, event.mono_ns, grave=False)
    return commands


def _cut(market: Market, reason: str, now_ns: int, messages: list[MarketMessage]) -> None:
    contract.open_gap(market, reason, now_ns, messages)
    market.builder.cut()


def _cover_again(market: Market, state: State, market_ns: int | None) -> None:
    """Minutes are live from here on; what was missed before comes from history."""
    market.cover_from_ns = market_ns
    if state.link_was_up and market.instrument is not None and market_ns is not None:
        history.want_since_last(market, state, market_ns)


def _resume(event: Resumed, state: State) -> list[Command]:
    market = state.markets[event.symbol]
    market.last_event_ns = event.last_event_ns or 0
    market.minutes_out_ns = event.bars_out_ns.get(60, -1)
    market.bars_out_ns, market.read_from_ns = event.bars_out_ns, event.read_from_ns
    for folder in market.folders:
        folder.published_ns = event.bars_out_ns.get(folder.interval_s, -1)
    messages: list[MarketMessage] = []
    told: list[Command] = []
    commands = contract.resume(event, market, state, messages)
    _append(market, messages, told)
    return [*told, *commands]


def _doubt(event: ContractDoubted, state: State) -> list[Command]:
    market = _with_contract(event.contract_id, state)
    if market is None:
        return []
    if event.target.endswith(DEPTH):
        return [*alarm(state, "no_depth", market.symbol, event.reason, event.mono_ns, grave=False)]
    commands: list[Command] = []
    messages: list[MarketMessage] = []
    market.denied[event.target] = event.reason
    if staleness.change_of(market, state, event.now_ns, event.mono_ns, messages):
        _publish(market, event.now_ns, event.mono_ns, commands)
    _append(market, messages, commands)
    return commands + contract.doubt(market, state, event.reason, event.mono_ns)


def _taken(event: ContractTaken, state: State) -> list[Command]:
    """The market is whole again: what the subscription would have brought before was missed."""
    market = _with_contract(event.contract_id, state)
    if market is None or market.denied.pop(event.target, None) is None or market.denied:
        return []
    commands: list[Command] = []
    messages: list[MarketMessage] = []
    _cut(market, f"the hub has refused {event.target} until now", event.now_ns, messages)
    _cover_again(market, state, state.time.now(event.now_ns, event.mono_ns))
    # Good news waits for the next tick: newer prices may still lie in the socket.
    staleness.change_of(market, state, event.now_ns, event.mono_ns, messages)
    _append(market, messages, commands)
    return commands


def _with_contract(contract_id: str, state: State) -> Market | None:
    for market in state.markets.values():
        if market.instrument is not None and market.instrument.contract_id == contract_id:
            return market
    return None


def _fetched(event: BarsFetched, state: State) -> list[Command]:
    market = state.markets[event.symbol]
    if event.purpose is Purpose.PROBE:
        return staleness.probed(event, market, state)
    if event.purpose is Purpose.FOLD:
        wanted.fetched(event, market)
        return []
    messages: list[MarketMessage] = []
    history.fetched(event, market, state, messages)
    commands: list[Command] = []
    _append(market, messages, commands)
    return commands


def _failed(event: QueryFailed, state: State) -> list[Command]:
    market = state.markets[event.symbol]
    match event.purpose:
        case Purpose.RESOLVE:
            return contract.failed(event, market, state)
        case Purpose.PROBE:
            return staleness.probe_failed(event, market, state)
        case Purpose.FOLD:
            return wanted.failed(event, market, state)
        case _:
            history.failed(event, market, state)
            return [*alarm(state, "history_failed", market.symbol, event.reason, event.mono_ns, grave=False)]


def _shed(event: Shed, state: State) -> list[Command]:
    """The buffer is full: what was to be appended is lost, and bars among it are not out after all."""
    market = state.markets[event.symbol]
    for message in event.messages:
        if isinstance(message, Bar):
            _take_back(market, message)
    if market.shedding:
        return []
    market.shedding = True
    market.gap_open = False
    market.shed_from_ns = market.last_event_ns or None
    market.builder.cut()
    text = "the bus is away for longer than the buffer lasts: market data is being shed"
    return [*alarm(state, "shedding", market.symbol, text, event.mono_ns)]


def _take_back(market: Market, bar: Bar) -> None:
    if bar.interval_s == 60:
        market.minutes_out_ns = min(market.minutes_out_ns, bar.ts_open_ns - 1)
    for folder in market.folders:
        if folder.interval_s == bar.interval_s:
            folder.unpublish(bar.ts_open_ns)


def _drained(event: Drained, state: State) -> list[Command]:
    """The bus takes messages again: mark the hole, and get its bars from history."""
    market = state.markets[event.symbol]
    market.shedding = False
    messages: list[MarketMessage] = []
    contract.open_gap(market, "the bus was away; market data was shed", event.now_ns, messages)
    market.gap_from_ns = market.shed_from_ns
    market_ns = state.time.now(event.now_ns, event.mono_ns)
    market.cover_from_ns = market_ns
    market.backfill_wanted = True
    market.need_tried_mono_ns = 0  # waiting for the bus was not waiting for history
    commands: list[Command] = []
    _append(market, messages, commands)
    return commands


def _found(event: ContractsFound, state: State) -> list[Command]:
    market = state.markets[event.symbol]
    messages: list[MarketMessage] = []
    then = contract.found(event, market, state, messages)
    commands: list[Command] = []
    _append(market, messages, commands)  # what the stream says of the contract stands before anything of it
    return [*commands, *then]


def _append(market: Market, messages: list[MarketMessage], commands: list[Command]) -> None:
    if messages and not market.shedding:
        commands.append(Append(market.symbol, messages))


def _publish(market: Market, now_ns: int, mono_ns: int, commands: list[Command]) -> None:
    view = market_state(market, now_ns)
    market.dirty = False
    market.published_mono_ns = mono_ns
    if view is not None:
        commands.append(PublishState(view))
