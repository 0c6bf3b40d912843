"""What the account is: looks at the broker, pushes in between, and the end-of-day balances. Pure.

A look is three questions (fills, account, positions), and a fill may fall between two of them. Money counted
twice in such a moment would be a breach that never was. Two figures must not move from look to look: the
position that the window's fills do not explain, and the balance before them. A look in which they moved
counts only when the next one says the same.

Pushes make the picture fast, and are believed while they fit together: a position that changed by exactly its
fills. While they do not, nothing is judged on them and the broker is asked again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec

from services.guard.events import Command, Keep, Looked, Marked, Moment, Note, Reported
from services.guard.hours import Day, day_at, day_of, next_day
from services.guard.record import Breach, Fingerprint, Record, Rule
from services.guard.rules import Figures, contracts_of
from services.guard.state import NS_PER_S, Mark, State, Truth
from shared.domain.market import FeedHealth
from shared.domain.position import Position, apply_fill, unrealized_pnl
from shared.domain.report import (
    AccountReport,
    FillReport,
    OrderReport,
    PositionReport,
    SyncState,
)

ZERO, ONE = Decimal(0), Decimal(1)
AVG_PX_OFF_MAX = Decimal("1e-6")
"""Of the price: so much the broker's average may be rounded."""
SEARCH_LAG_S = 30.0
"""So late the broker's search may show a fill that its balance and positions have already."""
AHEAD_NS_MAX = NS_PER_S
"""A price that the feed vouched for this much later than our wall clock is still one of now."""


def looked(state: State, event: Looked) -> list[Command]:
    """Take one look in, if it fits."""
    state.looking = False
    if event.at.market_ns is None:
        state.look_failure = "nothing has told the market's time yet"
        return []
    fills = {fill.fill_id: fill for fill in event.fills if not fill.voided}
    before, began_ns = state.truth, event.started.mono_ns
    heard = _not_shown(before, event)
    known = (
        fills if before is None else {n: before.fills[n] for n, ns in heard.items() if ns < began_ns} | fills
    )
    print_now = _fingerprint(event, known.values())
    expected = state.fingerprint
    if expected is not None and expected.fills_from_ns != print_now.fills_from_ns:
        expected = None
    if print_now not in (expected, state.fingerprint_seen):
        state.fingerprint_seen = print_now
        state.look_failure = "two looks at the account did not agree yet"
        return []
    shown = frozenset(fills)
    if state.moved_ns is None or (print_now, shown) != (state.fingerprint, state.shown):
        state.moved_ns = began_ns
    state.fingerprint = state.fingerprint_seen = print_now
    state.shown = shown
    state.look_failure = ""
    positions = {p.contract_id: p for p in event.positions if p.net_qty}
    state.truth = Truth(
        looked=event.started,
        balance=event.account.balance,
        can_trade=event.account.can_trade,
        base=positions,
        positions=dict(positions),
        fills=known,
        heard=heard,
    )
    if before is not None:
        state.truth.fills.update({n: before.fills[n] for n in heard})
        recent = {name: ns for name, ns in before.pushed_ns.items() if ns >= began_ns}
        state.truth.pushed_ns = recent
        state.truth.positions.update({name: before.positions[name] for name in recent})
    if event.working is not None:
        state.working = {o.broker_order_id: o for o in event.working if o.status.may_fill}
    state.whole = _ends_days(state, print_now, began_ns)
    if not state.whole:
        return []
    return _roll(state, _begun_ns(event, event.at.market_ns))


def _not_shown(before: Truth | None, event: Looked) -> dict[int, int]:
    """Return fill -> receipt of what was pushed and the search does not show, which may lag."""
    if before is None:
        return {}
    shown = {fill.fill_id for fill in event.fills}
    from_ns, oldest_ns = event.fills_from_ns or 0, event.started.mono_ns - _ns(SEARCH_LAG_S)
    return {
        number: heard_ns
        for number, heard_ns in before.heard.items()
        if number not in shown and heard_ns >= oldest_ns and before.fills[number].ts_event_ns >= from_ns
    }


def _ends_days(state: State, print_now: Fingerprint, mono_ns: int) -> bool:
    """May this look say how a day ended? What moved is believed when no search can lag so far behind.

    A fill of the new day that the search lacks would go into the balance at the end of the old one, and
    with it into the high-water mark, for good. One that appears may leave another like it behind, and
    nothing would seem to move: the wait begins again with each.
    """
    assert state.moved_ns is not None
    stayed = mono_ns - state.moved_ns >= _ns(SEARCH_LAG_S)
    if state.trusted is None or print_now == state.trusted or stayed:
        state.trusted = print_now
        return True
    return False


def _begun_ns(event: Looked, market_ns: int) -> int:
    """Return the market's time before the first question: what came later may be missing in the look.

    A day that ended while a question waited for its answer is closed by the next look. Where the broker had
    told nothing for long, the time of the question was our own clock's, which may be an hour ahead: the
    answers have told it since.
    """
    told_ns = market_ns - (event.at.mono_ns - event.started.mono_ns)
    return told_ns if event.started.market_ns is None else min(event.started.market_ns, told_ns)


def reported(state: State, event: Reported) -> None:
    """Take a push in; one that the last look has overtaken changes nothing.

    By our monotonic clock: by the wall clock one set back would overtake every push, for as long.
    """
    truth, report = state.truth, event.report
    match report:
        case SyncState(health=health):
            state.sync = health
        case FillReport() if truth is not None:
            if report.voided:
                truth.heard.pop(report.fill_id, None)
                state.look_asked_ns = None
            elif report.fill_id not in truth.fills and _is_news(state, truth, report, event.at):
                truth.fills[report.fill_id] = report
                truth.heard[report.fill_id] = _received_ns(report, event.at)
        case PositionReport() if truth is not None and _is_later(truth, report, event.at):
            truth.positions[report.contract_id] = report
            truth.pushed_ns[report.contract_id] = _received_ns(report, event.at)
        case OrderReport():
            if not report.status.may_fill:
                state.working.pop(report.broker_order_id, None)
            elif truth is None or _is_later(truth, report, event.at):
                state.working[report.broker_order_id] = report
        case AccountReport(can_trade=can_trade) if truth is not None:
            truth.can_trade = can_trade
        case _:
            pass


def _is_news(state: State, truth: Truth, fill: FillReport, at: Moment) -> bool:
    """Is it of the days we look at, and may the search lack it?

    An older one is told again when its fees change: the balance has it.
    """
    lags = _received_ns(fill, at) >= truth.looked.mono_ns - _ns(SEARCH_LAG_S)
    return fill.ts_event_ns >= (fills_from_ns(state) or 0) and lags


def _is_later(truth: Truth, report: FillReport | PositionReport | OrderReport, at: Moment) -> bool:
    return _received_ns(report, at) >= truth.looked.mono_ns


def _received_ns(report: FillReport | PositionReport | OrderReport, at: Moment) -> int:
    """Return when broker_sync had it, by our monotonic clock: what we hear may have waited for us."""
    return at.mono_ns - max(0, at.now_ns - report.ts_recv_ns)


def marked(state: State, event: Marked) -> None:
    """Take a price in: one that was just published always, one that lay under a key when it is newer.

    Newer is by the feed's wall clock. When that was set back nothing would be newer for as long, and a price
    that nobody moves would be judged by: what has grown old by our own clock gives way to any other. Since
    when the first one has lain there, nobody knows: it is heard when it changes.
    """
    market, mono_ns, age_s_max = event.market, event.at.mono_ns, state.limits.price_age_s_max
    known = state.marks.get(market.contract_id)
    if known is not None and event.polled:
        since_ns = market.ts_asof_ns - known.market.ts_asof_ns
        if since_ns == 0 or (since_ns < 0 and _was_heard_within(known, age_s_max, mono_ns)):
            return
    if market.contract_id:
        heard = known is not None or not event.polled
        state.marks[market.contract_id] = Mark(market=market, mono_ns=mono_ns if heard else None)


def _was_heard_within(mark: Mark, seconds: float, mono_ns: int) -> bool:
    return mark.mono_ns is not None and mono_ns - mark.mono_ns <= _ns(seconds)


def fills_from_ns(state: State) -> int | None:
    """Return from when fills are wanted: the newest day whose end is not recorded; None: from far back."""
    return day_of(_date(state.record), state.hours).start_ns if state.record is not None else None


def is_settled(state: State) -> bool:
    """Do the pushes since the last look explain each other, in quantity and average price?

    A push of an older position that comes late may have the right quantity. Its loss is realized by now, and
    would count once more as open.
    """
    truth = state.truth
    if truth is None:
        return False
    expected = {name: Position(net_qty=p.net_qty, avg_px=p.avg_px) for name, p in truth.base.items()}
    for number in truth.later:
        fill = truth.fills[number]
        before = expected.get(fill.contract_id, Position())
        expected[fill.contract_id] = apply_fill(
            before, side=fill.side, qty=fill.last_qty, px=fill.last_px, multiplier=ONE
        )
    names = expected.keys() | truth.positions.keys()
    return all(_fits(expected.get(name), truth.positions.get(name)) for name in names)


def _fits(expected: Position | None, held: PositionReport | None) -> bool:
    qty, held_qty = expected.net_qty if expected else 0, held.net_qty if held else 0
    if qty != held_qty or expected is None or held is None or not qty:
        return qty == held_qty
    return abs(expected.avg_px - held.avg_px) <= abs(held.avg_px) * AVG_PX_OFF_MAX


def is_fresh(state: State, at: Moment) -> bool:
    truth = state.truth
    return truth is not None and at.mono_ns - truth.looked.mono_ns <= _ns(state.limits.truth_age_s_max)


def held(state: State) -> list[PositionReport]:
    """Return open positions as far as they are known."""
    return [] if state.truth is None else [p for _, p in sorted(state.truth.positions.items()) if p.net_qty]


def figures(state: State, at: Moment) -> Figures | None:
    """Return the account's figures now; None before the first look."""
    truth = state.truth
    if truth is None or at.market_ns is None:
        return None
    pnls = [open_pnl(state, position, at) for position in held(state)]
    known = [pnl for pnl in pnls if isinstance(pnl, Decimal)]
    return Figures(
        balance=_balance(truth),
        open_pnl=sum(known, ZERO) if len(known) == len(pnls) else None,
        day_realized=_day_realized(state, truth, day_at(at.market_ns, state.hours)),
        contracts=contracts_of((symbol_of(state, p.contract_id), p.net_qty) for p in held(state)),
    )


def open_pnl(state: State, position: PositionReport, at: Moment) -> Decimal | str:
    """Return what closing now would realize, gross of fees, or why that is unknown."""
    heard = state.marks.get(position.contract_id)
    own = Position(net_qty=position.net_qty, avg_px=position.avg_px)
    why = "no price of this contract was heard"
    if heard is not None:
        mark = heard.market
        px = mark.bid_px if position.net_qty > 0 else mark.ask_px
        closed = mark.health is FeedHealth.CLOSED  # nothing trades: the last price stands
        if closed and px is None:
            px = mark.last_px
        if px is None or mark.crossed:
            why = "there is no price to close at"
        elif not closed and mark.health is not FeedHealth.LIVE:
            why = f"the feed is {mark.health}"
        elif not closed and not _is_young(heard, at, state.limits.price_age_s_max):
            why = "the price is too old"
        else:
            multiplier = Decimal(mark.tick_value) / Decimal(mark.tick_size)
            return unrealized_pnl(own, mark_px=Decimal(str(px)), multiplier=multiplier)
    price = state.prices.get(position.contract_id)
    if price is not None and at.mono_ns - price.mono_ns <= _ns(state.limits.price_age_s_max):
        return unrealized_pnl(own, mark_px=price.px, multiplier=price.multiplier)
    return why


def _is_young(heard: Mark, at: Moment, age_s_max: float) -> bool:
    """Is a price young by the worse of two clocks: the feed's word, and when we heard it?"""
    vouched_ns = at.now_ns - heard.market.ts_asof_ns
    if vouched_ns < -AHEAD_NS_MAX:
        return False  # written in our future: clocks disagree, and its age is not known
    return vouched_ns <= _ns(age_s_max) and _was_heard_within(heard, age_s_max, at.mono_ns)


def symbol_of(state: State, contract_id: str) -> str | None:
    if contract_id in state.marks:
        return state.marks[contract_id].market.symbol
    price = state.prices.get(contract_id)
    return price.symbol if price is not None else None


def _balance(truth: Truth) -> Decimal:
    """Return the balance with every fill that is known: the look's lacks what was pushed after it."""
    return truth.balance + net_of(truth.fills[number] for number in truth.later)


def _day_realized(state: State, truth: Truth, day: Day) -> Decimal:
    """Return the day's realized result: by its fills, or by the balance since it began if that says more.

    The search may lack a gain that the balance has, and after a restart nobody has heard its push: without
    it the day's limit would seem broken. A payout lowers the balance, and no fill. Both agree once a look
    is trusted.
    """
    by_fills, trusted = _realized(truth, day), state.trusted
    if trusted is None or trusted.fills_from_ns != day.start_ns:
        return by_fills
    return max(by_fills, _balance(truth) - trusted.balance_before)


def _realized(truth: Truth, day: Day) -> Decimal:
    """Return the day's realized result; added up again only when a fill came: prices come far more often."""
    key = (day.start_ns, len(truth.fills))
    if truth.realized is None or truth.realized[0] != key:
        total = net_of(f for f in truth.fills.values() if f.ts_event_ns >= day.start_ns)
        truth.realized = (key, total)
    return truth.realized[1]


def net_of(fills: Iterable[FillReport]) -> Decimal:
    """Return what fills added to the balance: realized P&L without fees."""
    return sum(((fill.realized_pnl or ZERO) - fill.fees for fill in fills), ZERO)


# -- ends of days -------------------------------------------------------------------


def _fingerprint(event: Looked, fills: Iterable[FillReport]) -> Fingerprint:
    held = {p.contract_id: p.net_qty for p in event.positions}
    return _before(held, event.account.balance, list(fills), event.fills_from_ns)


def _before(
    held: dict[str, int], balance: Decimal, fills: list[FillReport], fills_from_ns: int | None
) -> Fingerprint:
    carried = dict(held)
    for fill in fills:
        carried[fill.contract_id] = carried.get(fill.contract_id, 0) - fill.side.sign * fill.last_qty
    return Fingerprint(
        fills_from_ns=fills_from_ns,
        carried={name: qty for name, qty in sorted(carried.items()) if qty},
        balance_before=balance - net_of(fills),
    )


def _roll(state: State, market_ns: int) -> list[Command]:
    """Bring the record up to the present day: each end of day that has passed moves the high-water mark."""
    truth = state.truth
    assert truth is not None
    commands: list[Command] = []
    record = state.record
    if record is None:
        record = _first(state, truth, market_ns)
    day = day_of(_date(record), state.hours)
    while market_ns >= day.end_ns:
        balance = _balance(truth) - net_of(f for f in truth.fills.values() if f.ts_event_ns >= day.end_ns)
        following = next_day(day, state.hours)
        record = msgspec.structs.replace(
            record,
            day=following.trading_date.isoformat(),
            eod_balance=balance,
            high_balance=max(record.high_balance, balance),
        )
        text = f"{day.trading_date}: balance {balance:.2f}, highest {record.high_balance:.2f}"
        commands.append(Note(name="end_of_day", text=text))
        day = following
    # As the next look will have it, which asks for the fills of this day only.
    later = truth.later
    seen = [f for n, f in truth.fills.items() if n not in later and f.ts_event_ns >= day.start_ns]
    held = {name: p.net_qty for name, p in truth.base.items()}
    state.trusted = _before(held, truth.balance, seen, day.start_ns)
    record = msgspec.structs.replace(record, fingerprint=state.trusted)
    if record != state.record:
        state.record = record
        commands.append(Keep(record=record))
    return commands


def _first(state: State, truth: Truth, market_ns: int) -> Record:
    """Begin a record with what the broker's fills tell of earlier days."""
    today = day_at(market_ns, state.hours)
    first = min([f.ts_event_ns for f in truth.fills.values()], default=market_ns)
    day = min(today, day_at(first, state.hours), key=_start)
    if state.since:
        chosen = day_at(_noon_ns(state.since), state.hours)
        day = max(day, chosen, key=_start)
        day = min(day, today, key=_start)
    before = truth.balance - net_of(f for f in truth.fills.values() if f.ts_event_ns >= day.start_ns)
    start = state.rules.start_balance if state.rules.start_balance is not None else before
    # What held trading before this process was is not known: an unreadable record latches.
    latch = None
    if state.record_lost:
        latch = Breach(rule=Rule.RECORD, reason=state.record_lost, ts_breach_ns=truth.looked.now_ns)
    return Record(
        account_id=state.account_id,
        since=state.since,
        day=day.trading_date.isoformat(),
        start_balance=start,
        eod_balance=before,
        high_balance=max(start, before),
        latch=latch,
        last=latch,
    )


def _start(day: Day) -> int:
    return day.start_ns


def _noon_ns(iso: str) -> int:
    return round(datetime.fromisoformat(f"{iso}T12:00:00").replace(tzinfo=UTC).timestamp()) * NS_PER_S


def _date(record: Record) -> date:
    return date.fromisoformat(record.day)


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
