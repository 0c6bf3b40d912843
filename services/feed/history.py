"""The order in which bars go out: history first, each interval once, never changed afterwards.

Live minutes are published as they close. While older minutes are wanted from the broker's history (at start,
after a gap, for a minute that was seen in part) the later ones are held, for a bounded time, so that a reader
sees bars in the order of their time. A minute that was seen whole is published as seen; one that was seen in
part is replaced by history's. Larger intervals are folded from the minutes on their way out.
"""

from __future__ import annotations

from services.feed.alarm import alarm
from services.feed.events import BarsFetched, Command, FetchBars, Purpose, QueryFailed
from services.feed.state import Market, State
from shared.domain.bars import MINUTE_NS, NEVER_NS, NS_PER_S, interval_open_ns, minute_open_ns
from shared.domain.calendar import back_by_open_time
from shared.domain.market import Bar, MarketMessage

HELD_MAX = 2_000
"""Minutes held at most; a hold is bounded in time, this only bounds a fast replay."""

WINDOW_MAX_NS = 14 * 24 * 3600 * NS_PER_S
"""History further back is not asked for: a stream that was away for so long begins anew."""


def minute_closed(market: Market, minute: Bar, messages: list[MarketMessage]) -> None:
    """Publish a minute that ended, or hold it when an older or better one is still to come."""
    if minute.partial:
        want(market, minute.ts_open_ns, minute.ts_open_ns + MINUTE_NS)
    if market.need_from_ns is None:
        _publish(market, minute, messages)
        return
    market.held.append(minute)
    if len(market.held) > HELD_MAX:
        give_up(market, messages)


def want(market: Market, from_ns: int, until_ns: int) -> None:
    """Want the minutes of [from, until) from history."""
    if market.need_from_ns is None:
        market.need_from_ns = from_ns
        market.need_tried_mono_ns = 0
        market.fetch_attempts = 0
        market.fetch_at_mono_ns = 0
    else:
        market.need_from_ns = min(market.need_from_ns, from_ns)
    market.need_until_ns = max(market.need_until_ns, until_ns)


def want_since_last(market: Market, state: State, market_ns: int) -> None:
    """Want everything between the last published minute and now: at start, and after a gap."""
    until_ns = minute_open_ns(market_ns)
    if market.backfill_wanted:
        from_ns = _first_wanted_ns(market, state, until_ns)
        market.backfill_wanted = False
        _starts_whole_at(market, from_ns)
    else:
        from_ns = market.minutes_out_ns + MINUTE_NS
    from_ns = max(from_ns, until_ns - WINDOW_MAX_NS)
    if from_ns < until_ns:
        want(market, from_ns, until_ns)


def span_from_ns(market: Market, state: State, until_ns: int) -> int:
    """Return from where history is asked for by whoever knows nothing yet."""
    span_s = state.settings.backfill_bars * 60
    if state.settings.always_open:
        return until_ns - span_s * NS_PER_S
    return back_by_open_time(market.symbol, until_ns, span_s)


def _starts_whole_at(market: Market, ts_ns: int) -> None:
    market.recent.starts_whole_at(ts_ns)
    for folder in market.folders:
        folder.starts_whole_at(ts_ns)


def _first_wanted_ns(market: Market, state: State, until_ns: int) -> int:
    if market.minutes_out_ns < 0:
        from_ns = span_from_ns(market, state, until_ns)
    else:
        from_ns = market.minutes_out_ns + MINUTE_NS
    # A larger bar in progress is folded again from its first minute; minutes that are out stay out.
    return min([from_ns, *(interval_open_ns(f.symbol, from_ns, f.interval_s) for f in market.folders)])


def resume(market: Market, state: State, ts_event_ns: int) -> None:
    """The first event after a gap is here: what was missed of its minute comes from history."""
    since_ns = ts_event_ns if market.cover_from_ns is None else max(ts_event_ns, market.cover_from_ns)
    market.builder.resume(since_ns)
    first_ns = since_ns if market.cover_from_ns is None else min(since_ns, market.cover_from_ns)
    if market.backfill_wanted:
        want_since_last(market, state, since_ns)
    _starts_whole_at(market, since_ns)
    opened_ns = max(minute_open_ns(first_ns), market.minutes_out_ns + MINUTE_NS)
    until_ns = minute_open_ns(since_ns - 1) + MINUTE_NS
    if opened_ns < until_ns and since_ns % MINUTE_NS:
        want(market, opened_ns, until_ns)


def tick(
    market: Market,
    state: State,
    market_ns: int | None,
    now_ns: int,
    mono_ns: int,
    messages: list[MarketMessage],
) -> list[Command]:
    """Ask history for what is wanted, stop waiting for it in time, close larger bars."""
    if market_ns is None or market.shedding:
        return []  # what went out now would be lost
    commands: list[Command] = []
    if market.need_from_ns is not None:
        commands += _ask(market, state, market_ns, now_ns, mono_ns, messages)
    if market.need_from_ns is None and state.link_up_mono_ns and not market.denied:
        # While the link is down or trades are denied, minutes are missed that will come from history: nothing
        # is over yet.
        grace_ns = int(state.settings.bar_grace_ns * state.settings.speed)
        done_ns = min(market_ns - grace_ns, market.builder.end_ns - MINUTE_NS)
        for folder in market.folders:
            if folder.end_ns <= done_ns:
                bar = folder.close(now_ns)
                if bar is not None:
                    messages.append(bar)
    return commands


def _ask(
    market: Market, state: State, market_ns: int, now_ns: int, mono_ns: int, messages: list[MarketMessage]
) -> list[Command]:
    settings = state.settings
    assert market.need_from_ns is not None
    tried_ns = market.need_tried_mono_ns
    if tried_ns and mono_ns - tried_ns >= settings.backfill_hold_ns:
        text = f"history did not answer within {settings.backfill_hold_ns / 1e9:g} s: bars may be missing"
        give_up(market, messages)
        return [*alarm(state, "backfill_given_up", market.symbol, text, mono_ns)]
    if market.instrument is None:
        return []
    end_ns = _end_ns(market, market_ns - int(settings.backfill_delay_ns * settings.speed))
    if end_ns <= market.need_from_ns:
        if market.need_from_ns >= market.need_until_ns:
            _release(market, messages)
        return []
    if not tried_ns:
        # From when history can have it, asked or not: an older question may hang for as long as a budget is
        # paused, and the bars that wait behind it may not.
        market.need_tried_mono_ns = mono_ns
    if market.fetching or mono_ns < market.fetch_at_mono_ns:
        return []
    market.fetching = True
    return [
        FetchBars(
            symbol=market.symbol,
            purpose=Purpose.BACKFILL,
            instrument=market.instrument,
            start_ns=market.need_from_ns,
            end_ns=end_ns,
        )
    ]


def _end_ns(market: Market, market_ns: int) -> int:
    """Return up to where history is complete and the live builder is not at work."""
    end_ns = minute_open_ns(market_ns)
    if market.builder.end_ns != NEVER_NS:
        end_ns = min(end_ns, market.builder.end_ns - MINUTE_NS)
    return min(end_ns, max(market.need_until_ns, market.need_from_ns or 0))


def fetched(event: BarsFetched, market: Market, state: State, messages: list[MarketMessage]) -> None:
    """Take history's answer; publish what it completes."""
    market.fetching = False
    if market.need_from_ns is None:
        return  # given up in the meantime
    if market.shedding:
        return  # what went out now would be lost; it is asked for again
    if market.instrument is None or event.contract_id != market.instrument.contract_id:
        return  # of the month before the roll
    for bar in event.bars:
        if event.start_ns <= bar.ts_open_ns < event.end_ns:
            market.fetched[bar.ts_open_ns] = bar
    missing = [
        b
        for b in market.held
        if b.partial and b.ts_open_ns < event.end_ns and b.ts_open_ns not in market.fetched
    ]
    market.fetch_attempts += 1
    if missing and market.fetch_attempts < state.settings.backfill_attempts_max:
        # Trades were seen, so history must have this minute; it is only not there yet.
        market.fetch_at_mono_ns = event.mono_ns + state.settings.backfill_delay_ns
        market.need_from_ns = missing[0].ts_open_ns
        return
    market.fetch_attempts = 0
    market.need_tried_mono_ns = 0
    market.need_from_ns = max(event.end_ns, market.need_from_ns)
    if market.need_from_ns >= market.need_until_ns:
        _release(market, messages)
    else:
        _publish_until(market, event.end_ns, messages)


def failed(event: QueryFailed, market: Market, state: State) -> None:
    """No answer: ask again, until the wait is over."""
    market.fetching = False
    market.fetch_attempts += 1
    pause_ns = state.settings.backfill_delay_ns * min(market.fetch_attempts, 5)
    market.fetch_at_mono_ns = event.mono_ns + pause_ns


def give_up(market: Market, messages: list[MarketMessage]) -> None:
    """Stop waiting: publish what there is, and know that larger bars have a hole."""
    since_ns = market.builder.seen_since_ns
    market.recent.has_hole_before(since_ns)
    for folder in market.folders:
        folder.has_hole_before(since_ns)
    _release(market, messages)


def _release(market: Market, messages: list[MarketMessage]) -> None:
    market.need_from_ns = None
    market.need_until_ns = 0
    market.fetch_attempts = 0
    _publish_until(market, NEVER_NS, messages)


def _publish_until(market: Market, end_ns: int, messages: list[MarketMessage]) -> None:
    """Publish fetched and held minutes before `end_ns` in order; a whole live minute beats history's."""
    best = {ts: bar for ts, bar in market.fetched.items() if ts < end_ns}
    for bar in market.held:
        if bar.ts_open_ns < end_ns and not (bar.partial and bar.ts_open_ns in best):
            best[bar.ts_open_ns] = bar
    market.fetched = {ts: bar for ts, bar in market.fetched.items() if ts >= end_ns}
    market.held = [bar for bar in market.held if bar.ts_open_ns >= end_ns]
    for ts in sorted(best):
        _publish(market, best[ts], messages)


def _publish(market: Market, minute: Bar, messages: list[MarketMessage]) -> None:
    if minute.ts_open_ns > market.minutes_out_ns:
        market.minutes_out_ns = minute.ts_open_ns
        messages.append(minute)
        market.recent.put(minute)
    else:
        market.recent.put_missing(minute)
    for folder in market.folders:
        messages.extend(folder.add(minute))
