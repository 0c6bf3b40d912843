"""How far a symbol can be trusted: frozen feed, quiet market or closed session.

Silence alone proves nothing. A closed session is silent by right (the calendar knows), a quiet market is
silent by chance, a frozen feed is silent while the market moves. The last two are told apart by asking the
broker's history, which does not use the hub: when it has trades that the hub did not bring, the link is
frozen and is built anew; when it has none, the silence is the market's. So a probe comes before any action.
"""

from __future__ import annotations

from services.feed import stream
from services.feed.alarm import alarm
from services.feed.events import BarsFetched, Command, FetchBars, Purpose, QueryFailed, Reconnect
from services.feed.state import Market, State
from shared.domain.bars import MINUTE_NS, minute_open_ns
from shared.domain.calendar import Closed, Open, in_day_session, session_state
from shared.domain.market import FeedHealth, FeedState, MarketMessage

SILENCE_LEAST_NS = 2_000_000_000
"""However fast the venue's clock runs, a shorter real silence is not looked into."""

PROBE_MINUTES = 5
PROBE_FAILURES_MAX = 2
"""History fails this often while the hub is silent: the link is built anew without proof."""


def judge(market: Market, state: State, now_ns: int, mono_ns: int) -> tuple[FeedHealth, str]:
    """Return the verdict on a symbol at this moment."""
    if market.instrument is None:
        return FeedHealth.UNKNOWN, market.trouble
    if not state.link_up_mono_ns:
        return FeedHealth.DISCONNECTED, state.link_reason
    session = _session(market, state, now_ns, mono_ns)
    if isinstance(session, Closed):
        return FeedHealth.CLOSED, f"session closed; {session.next_date} opens next"
    if market.shedding:
        return FeedHealth.STALE, "the bus is away and the buffer is full"
    if market.denied:
        return FeedHealth.STALE, next(iter(market.denied.values()))
    if market.frozen_mono_ns:
        return FeedHealth.STALE, market.frozen_reason
    if market.refused_mono_ns > market.last_mono_ns:
        return FeedHealth.STALE, "what comes is refused as from the future; check this machine's clock"
    if market.bid_px is None or market.ask_px is None:
        return FeedHealth.UNKNOWN, "bid and ask are not known yet since the link came up"
    if market.last_mono_ns < market.opened_mono_ns:
        # The link may be up and silent: what is known are the prices of the last session.
        return FeedHealth.UNKNOWN, "nothing has come since the session opened"
    if market.traded_mono_ns - market.quoted_mono_ns > _threshold_ns(session, state, now_ns, mono_ns):
        # Every record makes the link alive, and only quotes make bid and ask so.
        return FeedHealth.STALE, "trades come and no quotes"
    if market.jump_since_mono_ns:
        return FeedHealth.STALE, market.jump_reason
    if market.probe_mono_ns and mono_ns - market.probe_due_mono_ns >= state.settings.probe_wait_ns:
        return FeedHealth.STALE, "silent, and the broker's history has not answered yet"
    return FeedHealth.LIVE, ""


def change_of(market: Market, state: State, now_ns: int, mono_ns: int, messages: list[MarketMessage]) -> bool:
    """Judge the symbol, append a `FeedState` when the verdict changed, and say whether it did."""
    health, reason = judge(market, state, now_ns, mono_ns)
    if health is market.health and reason == market.health_reason:
        return False
    market.health, market.health_reason = health, reason
    market.dirty = True
    messages.append(
        FeedState(
            symbol=market.symbol,
            health=health,
            reason=reason,
            contract_id=market.instrument.contract_id if market.instrument else "",
            ts_recv_ns=now_ns,
        )
    )
    return True


def watch(market: Market, state: State, now_ns: int, mono_ns: int) -> list[Command]:
    """Look into a silence that is longer than the hour of the day explains."""
    settings = state.settings
    if market.jump_since_mono_ns and mono_ns - market.jump_since_mono_ns >= settings.jump_confirm_ns:
        stream.believe_jump(market, state)
    if market.last_mono_ns > market.frozen_mono_ns:
        market.frozen_mono_ns = 0
    session = _session(market, state, now_ns, mono_ns)
    was_open, market.was_open = market.was_open, not isinstance(session, Closed)
    if market.was_open and was_open is False:
        market.opened_mono_ns = mono_ns
    if not market.was_open or market.instrument is None or not state.link_up_mono_ns:
        market.probe_mono_ns = 0
        return []
    if market.last_mono_ns > market.probe_mono_ns > 0:
        market.probe_mono_ns = 0  # data came while we asked: nothing to find out any more
    if market.probe_mono_ns:
        return _unanswered(market, state, mono_ns)
    since_ns = max(
        market.last_mono_ns, market.verified_mono_ns, market.opened_mono_ns, state.link_up_mono_ns,
        market.frozen_mono_ns,
    )  # fmt: skip
    market_ns = state.time.now(now_ns, mono_ns)
    due_ns = since_ns + _threshold_ns(session, state, now_ns, mono_ns)
    if mono_ns < due_ns or market_ns is None:
        return []
    market.probe_mono_ns, market.probe_due_mono_ns = mono_ns, due_ns
    return [_probe(market, market_ns)]


def probed(event: BarsFetched, market: Market, state: State) -> list[Command]:
    """History answered: compare it with what the hub brought."""
    asked_ns, market.probe_mono_ns = market.probe_mono_ns, 0
    market.probe_failures = 0
    if not asked_ns or market.last_mono_ns > asked_ns:
        return []
    missed = _missed(event, market, state)
    if missed is None:
        market.verified_mono_ns, market.verified_bar = event.mono_ns, _newest(event)
        return []
    silent_s = (event.mono_ns - max(market.last_mono_ns, state.link_up_mono_ns)) / 1e9
    reason = f"frozen: {missed}, and the hub is silent for {silent_s:.0f} s"
    return _freeze(market, state, reason, event.mono_ns)


def probe_failed(event: QueryFailed, market: Market, state: State) -> list[Command]:
    """Neither hub nor history say anything: stale, and asked again; in the end the link is built anew."""
    if not market.probe_mono_ns:
        return []
    market.probe_mono_ns = 0
    market.probe_failures += 1
    reason = f"silent, and the broker's history does not answer: {event.reason}"
    if market.probe_failures >= PROBE_FAILURES_MAX:
        market.probe_failures = 0
        return _freeze(market, state, reason, event.mono_ns)
    market.frozen_mono_ns, market.frozen_reason = event.mono_ns, reason
    return []


def _unanswered(market: Market, state: State, mono_ns: int) -> list[Command]:
    """Give a probe up that never came back (its query was lost with a task, or the broker hangs)."""
    if mono_ns - market.probe_mono_ns < 4 * state.settings.probe_wait_ns:
        return []
    market.probe_mono_ns = 0
    return _freeze(market, state, "silent, and a probe got no answer at all", mono_ns)


def _freeze(market: Market, state: State, reason: str, mono_ns: int) -> list[Command]:
    market.frozen_mono_ns, market.frozen_reason = mono_ns, reason
    commands: list[Command] = [*alarm(state, "feed_frozen", market.symbol, reason, mono_ns)]
    since_ns = mono_ns - state.reconnect_mono_ns
    if not state.reconnect_mono_ns or since_ns >= state.settings.reconnect_pause_ns:
        state.reconnect_mono_ns = mono_ns
        commands.append(Reconnect(f"{market.symbol} {reason}"))
    return commands


def _missed(event: BarsFetched, market: Market, state: State) -> str | None:
    """Return what history has that the hub did not bring; None when the hub missed nothing.

    Of a minute that was not seen from its beginning nobody knows how much of it was brought. Two looks into
    one silence tell, all the same: what was traded between them was not brought.
    """
    if not event.bars:
        return None
    newest = event.bars[-1]
    since_ns = max(market.last_event_ns, market.cover_from_ns or 0)
    if newest.ts_open_ns > minute_open_ns(since_ns):
        return "history has trades of a later minute"
    ours = market.builder.volume_of(newest.ts_open_ns)
    if ours is not None and newest.volume > ours:
        return f"history has {newest.volume} contracts of a minute of which the hub brought {ours}"
    if market.verified_mono_ns > max(market.last_mono_ns, state.link_up_mono_ns):
        opened_ns, volume = market.verified_bar
        if _newest(event) > market.verified_bar:
            more = newest.volume - (volume if newest.ts_open_ns == opened_ns else 0)
            return f"history has {more} contracts more than at the last look"
    return None


def _newest(event: BarsFetched) -> tuple[int, int]:
    return (event.bars[-1].ts_open_ns, event.bars[-1].volume) if event.bars else (0, 0)


def _probe(market: Market, market_ns: int) -> FetchBars:
    assert market.instrument is not None
    end_ns = minute_open_ns(market_ns) + 2 * MINUTE_NS  # the estimate may be behind; the future is empty
    return FetchBars(
        symbol=market.symbol,
        purpose=Purpose.PROBE,
        instrument=market.instrument,
        start_ns=end_ns - (PROBE_MINUTES + 2) * MINUTE_NS,
        end_ns=end_ns,
    )


def _session(market: Market, state: State, now_ns: int, mono_ns: int) -> object:
    """Return the calendar's word; unknown counts as open, since only a probe leads to anything."""
    if state.settings.always_open:
        return None
    calendar_ns = state.time.calendar(now_ns, mono_ns)
    return None if calendar_ns is None else session_state(market.symbol, calendar_ns)


def _threshold_ns(session: object, state: State, now_ns: int, mono_ns: int) -> int:
    settings = state.settings
    limit_ns = settings.stale_after_night_ns
    calendar_ns = state.time.calendar(now_ns, mono_ns)
    if isinstance(session, Open) and calendar_ns is not None and in_day_session(session.session, calendar_ns):
        limit_ns = settings.stale_after_ns
    if settings.always_open:
        limit_ns = settings.stale_after_ns
    return max(int(limit_ns / settings.speed), SILENCE_LEAST_NS)
