"""Which contract a symbol means, from start to roll.

Resolved at start (a minute later, where the last feed has just ended), before each open, at the roll, and
whenever hub or broker doubts the contract. A symbol that the broker does not have is a clear error and is
asked for again, slowly; the others go on.

At a roll the old contract is left first and the new one is subscribed a little later: events carry the
symbol, not the month, and what is still under way belongs to the old one.
"""

from __future__ import annotations

from decimal import Decimal

from services.feed import history
from services.feed.alarm import alarm
from services.feed.events import (
    Command,
    ContractsFound,
    QueryFailed,
    ResolveContract,
    Resumed,
    Subscribe,
    Unsubscribe,
)
from services.feed.state import FOREVER, NEVER_NS, Market, State
from shared.domain import calendar, front_month
from shared.domain.instrument import Instrument
from shared.domain.market import ContractResolved, FeedGap, MarketMessage

QUARANTINE_NS = 2_000_000_000
SUBSCRIBED_NS = 500_000_000
RETRY_FIRST_NS = 2_000_000_000
RESUMED_NS = 60_000_000_000
"""A feed that starts so soon after the last one ended goes on with its contract, and verifies it as late."""
HOUR_NS = 3_600_000_000_000


def tick(market: Market, state: State, now_ns: int, mono_ns: int) -> list[Command]:
    """Ask for the contract when it is due, and subscribe the one that waits out its quarantine."""
    commands: list[Command] = []
    if market.subscribe_at_mono_ns and mono_ns >= market.subscribe_at_mono_ns:
        assert market.instrument is not None
        market.subscribe_at_mono_ns = 0
        market.contract_since_mono_ns = mono_ns
        _cover(market, state, now_ns, mono_ns)
        commands.append(Subscribe(market.instrument))
    if market.resolving or mono_ns < market.resolve_retry_mono_ns:
        return commands
    calendar_ns = state.time.calendar(now_ns, mono_ns)
    if market.instrument is not None and market.resolve_at_ns is None and not market.resumed:
        _plan(market, state, market.instrument, calendar_ns)  # the market's time was not known before
    due = market.resolve_at_ns is not None and calendar_ns is not None and calendar_ns >= market.resolve_at_ns
    if market.instrument is None or due or (market.resumed and mono_ns >= market.verify_at_mono_ns):
        market.resolving = True
        commands.append(ResolveContract(market.symbol))
    return commands


def resume(event: Resumed, market: Market, state: State, messages: list[MarketMessage]) -> list[Command]:
    """Go on with the contract of a feed that ended a moment ago: the broker may be slow to tell it."""
    view = event.view
    if view is None or not view.contract_name or not 0 <= event.now_ns - view.ts_asof_ns <= RESUMED_NS:
        return []
    market.resumed = True
    market.verify_at_mono_ns = event.mono_ns + RESUMED_NS
    known = Instrument(
        symbol=market.symbol,
        contract_id=view.contract_id,
        contract_name=view.contract_name,
        tick_size=Decimal(view.tick_size),
        tick_value=Decimal(view.tick_value),
    )
    return _adopt(known, market, state, event.now_ns, event.mono_ns, messages)


def doubt(market: Market, state: State, reason: str, mono_ns: int) -> list[Command]:
    """Resolve again, now: the hub refuses the contract, and may know another month."""
    said: list[Command] = [*alarm(state, "contract_refused", market.symbol, reason, mono_ns)]
    if market.resolving or mono_ns < market.resolve_retry_mono_ns:
        return said
    market.resolving = True
    market.resolve_retry_mono_ns = mono_ns + RETRY_FIRST_NS
    return [*said, ResolveContract(market.symbol)]


def failed(event: QueryFailed, market: Market, state: State) -> list[Command]:
    """No answer is not "no such symbol": ask again soon."""
    market.resolving = False
    market.resolve_retry_mono_ns = event.mono_ns + RETRY_FIRST_NS
    if market.instrument is None:
        market.trouble = f"the broker does not answer: {event.reason}"
    return [*alarm(state, "contract_query_failed", market.symbol, event.reason, event.mono_ns, grave=False)]


def found(
    event: ContractsFound, market: Market, state: State, messages: list[MarketMessage]
) -> list[Command]:
    """Take the broker's list; adopt the front month when it is another than ours."""
    market.resolving = False
    calendar_ns = state.time.calendar(event.now_ns, event.mono_ns)
    today = None if calendar_ns is None else calendar.trading_date(market.symbol, calendar_ns)
    try:
        chosen = front_month.choose(market.symbol, event.found, today)
    except front_month.NoFrontMonth as error:
        market.resolve_retry_mono_ns = event.mono_ns + state.settings.resolve_retry_ns
        if market.instrument is None:
            market.trouble = str(error)
        return [*alarm(state, "no_contract", market.symbol, str(error), event.mono_ns)]
    market.resumed = False
    _plan(market, state, chosen, calendar_ns)
    if market.instrument is not None and chosen.contract_id == market.instrument.contract_id:
        return []
    return _adopt(chosen, market, state, event.now_ns, event.mono_ns, messages)


def _plan(market: Market, state: State, chosen: Instrument, calendar_ns: int | None) -> None:
    """Say when to resolve again: before the next open, or at the roll if that comes first."""
    if calendar_ns is None:
        market.resolve_at_ns = None
        return
    opens_ns = calendar.next_open_ns(market.symbol, calendar_ns)
    before_ns = (
        24 * HOUR_NS if opens_ns is None else opens_ns - state.settings.resolve_before_open_ns - calendar_ns
    )
    if before_ns <= 0:  # already inside the last minutes before the open: the next time is the open itself
        before_ns = max(opens_ns - calendar_ns, 1) if opens_ns is not None else HOUR_NS
    at_ns = calendar_ns + before_ns
    roll_ns = front_month.roll_at_ns(chosen)
    if roll_ns is not None and roll_ns <= calendar_ns:
        at_ns = min(at_ns, calendar_ns + HOUR_NS)  # rolled by rule, and the broker has not followed yet
    elif roll_ns is not None:
        at_ns = min(at_ns, roll_ns)
    market.resolve_at_ns = at_ns


def _adopt(
    chosen: Instrument,
    market: Market,
    state: State,
    now_ns: int,
    mono_ns: int,
    messages: list[MarketMessage],
) -> list[Command]:
    commands: list[Command] = []
    old, market.instrument = market.instrument, chosen
    if old is not None:
        commands.append(Unsubscribe(old.contract_id))
        _leave(market, now_ns, messages)
        messages.append(_gap(market, f"roll from {old.contract_name} to {chosen.contract_name}", now_ns))
        market.subscribe_at_mono_ns = mono_ns + QUARANTINE_NS
        market.contract_since_mono_ns = NEVER_NS
    else:
        messages.append(_gap(market, "start", now_ns))
        market.contract_since_mono_ns = mono_ns
        _cover(market, state, now_ns, mono_ns)
        commands.append(Subscribe(chosen))
    roll_ns = front_month.roll_at_ns(chosen)
    messages.append(
        ContractResolved(
            symbol=market.symbol,
            contract_id=chosen.contract_id,
            contract_name=chosen.contract_name,
            tick_size=str(chosen.tick_size),
            tick_value=str(chosen.tick_value),
            roll_at_ns=roll_ns or market.resolve_at_ns or 0,
            ts_recv_ns=now_ns,
        )
    )
    return commands


def _cover(market: Market, state: State, now_ns: int, mono_ns: int) -> None:
    """Live minutes begin once the hub has taken the subscription, which takes a moment."""
    market_ns = state.time.now(now_ns, mono_ns)
    market.cover_from_ns = (
        None if market_ns is None else market_ns + int(SUBSCRIBED_NS * state.settings.speed)
    )


def _leave(market: Market, now_ns: int, messages: list[MarketMessage]) -> None:
    """Finish what was built from the old month; nothing of it goes into the new one's bars."""
    market.builder.cut()
    if market.need_from_ns is not None:
        history.give_up(market, messages)
    ended = market.builder.close(now_ns)
    market.bar_due_ns = NEVER_NS
    if ended is not None:
        market.held.append(ended)
        history.give_up(market, messages)
    for folder in market.folders:
        bar = folder.close(now_ns)
        if bar is not None:
            messages.append(bar)
        folder.has_hole_before(NEVER_NS)
    market.recent.forget()
    for wish in market.wishes.values():
        wish.older = None
    forget_quote(market)
    market.denied.clear()
    market.traded_px = None
    market.lo_px, market.hi_px, market.band_px, market.jump_since_mono_ns = 0.0, FOREVER, 0.0, 0
    market.frozen_mono_ns = 0


def forget_quote(market: Market) -> None:
    """What the gateway leaves out means "unchanged" only as long as nothing was missed."""
    market.bid_px = market.ask_px = market.last_px = None
    market.volume = None


def _gap(market: Market, reason: str, now_ns: int) -> FeedGap:
    market.gap_open = True
    market.gap_reason = reason
    market.gap_from_ns = market.last_event_ns or None
    return FeedGap(
        symbol=market.symbol, reason=reason, ts_from_ns=market.gap_from_ns, ts_to_ns=None, ts_recv_ns=now_ns
    )


def open_gap(market: Market, reason: str, now_ns: int, messages: list[MarketMessage]) -> None:
    """Mark that something may be missing from here on; one gap lasts until the next event."""
    if not market.gap_open and market.instrument is not None:
        messages.append(_gap(market, reason, now_ns))
