"""Bars of an interval that a strategy asks for while the feed runs.

The interval is folded from the minutes that went out in this run, and what is older is asked of the broker's
history, so that the first bars are as complete as if the interval had been in the settings. Until they are
folded the interval waits; the bars of the others go on. Once begun it is published as long as the feed runs:
somebody may have begun to read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.feed.alarm import alarm
from services.feed.events import Alarm, BarsFetched, Command, FetchBars, IntervalWanted, Purpose, QueryFailed
from services.feed.history import span_from_ns
from services.feed.state import Market, State, Wish
from shared.domain.bars import (
    MINUTE_NS,
    MINUTE_S,
    NEVER_NS,
    NS_PER_S,
    Folder,
    interval_open_ns,
    last_over_ns,
    minute_open_ns,
)
from shared.domain.market import Bar, MarketMessage

INTERVAL_S_MAX = 86_400
INTERVALS_MAX = 32
"""Of one symbol, those of the settings included."""


def wanted(event: IntervalWanted, state: State) -> list[Command]:
    """Take a wish, or say why it cannot be met. Symbols of another feed are passed over."""
    interval_s = event.interval_s
    if interval_s < MINUTE_S or interval_s % MINUTE_S or interval_s > INTERVAL_S_MAX:
        why = (
            f"{event.who} asks for bars of {interval_s} s, which is not a whole number of minutes up to a "
            "day; correct its bar_interval_s"
        )
        return [Alarm(name="bars_refused", symbol=",".join(event.symbols)[:80], text=why)]
    commands: list[Command] = []
    for symbol in event.symbols:
        market = state.markets.get(symbol)
        if market is None or interval_s == MINUTE_S or interval_s in market.wishes:
            continue
        if any(folder.interval_s == interval_s for folder in market.folders):
            continue
        if len(market.folders) + len(market.wishes) + 1 >= INTERVALS_MAX:
            why = f"{event.who} asks for bars of {interval_s} s: there are {INTERVALS_MAX} intervals already"
            commands.append(Alarm(name="bars_refused", symbol=symbol, text=why))
            continue
        market.wishes[interval_s] = Wish(interval_s)
    return commands


def tick(
    market: Market, state: State, market_ns: int | None, mono_ns: int, messages: list[MarketMessage]
) -> list[Command]:
    """Begin what is wanted as soon as its minutes are here; one interval at a time."""
    if not market.wishes or market_ns is None or market.instrument is None or market.shedding:
        return []
    if market.backfill_wanted or market.need_from_ns is not None or market.recent.whole_from_ns == NEVER_NS:
        return []  # minutes are under way; they are folded when they are out
    wish = next(iter(market.wishes.values()))
    if wish.asking or mono_ns < wish.ask_at_mono_ns:
        return []
    until_ns = minute_open_ns(market_ns)
    plan = _plan(market, state, wish.interval_s, until_ns)
    older_until_ns = -(-market.recent.whole_from_ns // MINUTE_NS) * MINUTE_NS
    is_answered = wish.older is not None and wish.older_until_ns >= market.recent.whole_from_ns
    if not plan.needs_older or is_answered or wish.attempts >= state.settings.backfill_attempts_max:
        _begin(market, wish, plan, messages, is_answered=is_answered)
        return []
    if older_until_ns > minute_open_ns(
        market_ns - int(state.settings.backfill_delay_ns * state.settings.speed)
    ):
        return []  # history does not have the last of them yet
    wish.asking, wish.older_from_ns, wish.older_until_ns = True, plan.from_ns, older_until_ns
    return [
        FetchBars(
            symbol=market.symbol,
            purpose=Purpose.FOLD,
            instrument=market.instrument,
            start_ns=plan.from_ns,
            end_ns=older_until_ns,
        )
    ]


def fetched(event: BarsFetched, market: Market) -> None:
    """Keep history's answer for the next tick."""
    for wish in market.wishes.values():
        if wish.asking:
            wish.asking = False
            if market.instrument is not None and event.contract_id == market.instrument.contract_id:
                wish.older = [b for b in event.bars if event.start_ns <= b.ts_open_ns < event.end_ns]


def failed(event: QueryFailed, market: Market, state: State) -> list[Command]:
    """Ask again a few times; then begin with what there is, its first bar marked partial."""
    for wish in market.wishes.values():
        if wish.asking:
            wish.asking = False
            wish.attempts += 1
            wish.ask_at_mono_ns = event.mono_ns + state.settings.backfill_delay_ns * wish.attempts
    return [*alarm(state, "history_failed", market.symbol, event.reason, event.mono_ns, grave=False)]


@dataclass(slots=True)
class _Plan:
    """Attributes: from_ns: The first bar to publish. published_ns: What counts as out already."""

    from_ns: int
    open_ns: int
    published_ns: int
    needs_older: bool


def _plan(market: Market, state: State, interval_s: int, until_ns: int) -> _Plan:
    """Say from where to fold: the span that a first start fetches, and whole bars only."""
    symbol, interval_ns = market.symbol, interval_s * NS_PER_S
    published_ns = market.bars_out_ns.get(interval_s, -1)
    if market.read_from_ns is not None:
        published_ns = max(published_ns, last_over_ns(symbol, market.read_from_ns, interval_s))
    open_ns = interval_open_ns(symbol, until_ns, interval_s)
    from_ns = interval_open_ns(symbol, span_from_ns(market, state, until_ns), interval_s)
    whole_ns = market.recent.whole_from_ns
    if published_ns >= 0:
        from_ns = max(from_ns, published_ns + interval_ns)
    elif 0 < whole_ns - from_ns < interval_ns:
        from_ns += interval_ns  # one bar less, at the far end, is no reason to ask history
    from_ns = min(from_ns, open_ns)
    return _Plan(from_ns, open_ns, published_ns, needs_older=from_ns < whole_ns)


def _begin(
    market: Market, wish: Wish, plan: _Plan, messages: list[MarketMessage], *, is_answered: bool
) -> None:
    """Fold what is over, and let the interval in progress go on with the next minute.

    Bars that began before the minutes are whole are left out; only the one in progress goes out, as partial.
    """
    older: list[Bar] = []
    whole_from_ns = market.recent.whole_from_ns
    if is_answered and wish.older is not None:
        older = wish.older
        whole_from_ns = min(whole_from_ns, wish.older_from_ns)
    folder = Folder(market.symbol, wish.interval_s, published_ns=plan.published_ns)
    folder.starts_whole_at(whole_from_ns)
    for minute in market.recent.over(older):
        opened_ns = interval_open_ns(market.symbol, minute.ts_open_ns, wish.interval_s)
        if opened_ns >= whole_from_ns or opened_ns >= plan.open_ns:
            messages.extend(folder.add(minute))
    market.folders.append(folder)
    del market.wishes[wish.interval_s]
