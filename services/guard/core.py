"""Judge the account by the firm's rules, and see to it that what must be closed is closed. Pure.

Three demands, one at a time: nothing (`clear`), no new exposure (`halt`), everything closed (`flat`). What is
unknown is never fine: an account that was not read, a position without a price, pushes that contradict each
other halt. A broken rule latches: it is written down, everything is closed, and it holds until a person
re-arms and the figures allow it. The closing hours demand `flat` too, and end by themselves.

Every breach has one remedy, everything closed, also too many contracts: stops and targets are of the whole
position's size, and which part of it would be the excess is nobody's to guess.

Parts: `truth` knows the account, `rules` and `hours` are the firm's, `enforce` closes.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from services.guard import enforce, truth
from services.guard.events import (
    AskLook,
    AskPrice,
    Command,
    Event,
    ExecutionBeat,
    ExecutionSaid,
    FlatLooked,
    Keep,
    Looked,
    LookFailed,
    Marked,
    Moment,
    Note,
    Priced,
    ReArmed,
    RecordUnwritten,
    RemedyAnswered,
    Reported,
    Say,
    Tick,
)
from services.guard.hours import Day, day_at, local_time
from services.guard.record import Breach
from services.guard.rules import broken, near
from services.guard.state import NS_PER_S, Demand, Level, Price, State
from shared.domain.control import Halt, HaltKind, Resume, untimely
from shared.domain.report import SyncHealth

ISSUER = "guard"
RELOOK_S = 1.0
"""Between two looks while the picture does not fit together."""
PRICE_ASK_S = 5.0
OWN_PAUSE_S = 1.0
"""No tick for longer than this: we did not run, and heard nobody meanwhile."""
HEARD_S = 5.0
"""Execution reads a word, obeys and shows it within this long."""
RESUMES_KEPT = 50
"""No person says so many within the minute in which one counts."""
CLEAR = Demand(level=Level.CLEAR)


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event to `state` and return what must now happen, in order."""
    at = event.at
    _note_own_pause(state, at)
    commands: list[Command] = []
    match event:
        case Looked():
            commands += truth.looked(state, event)
        case LookFailed(reason=reason):
            state.looking = False
            state.look_failure = reason
        case Reported():
            truth.reported(state, event)
        case Marked():
            truth.marked(state, event)
        case Priced(contract_id=contract_id):
            state.prices[contract_id] = Price(
                px=event.px, multiplier=event.multiplier, symbol=event.symbol, mono_ns=at.mono_ns
            )
        case ExecutionSaid(message=message):
            enforce.heard(state, message)
        case ExecutionBeat(held=held):
            state.execution_ns = at.mono_ns
            state.execution_holds = None if held is None else HaltKind.GUARD in held
        case FlatLooked(look=look):
            commands += enforce.looked(state, look, at)
        case RemedyAnswered():
            enforce.answered(state, event)
        case RecordUnwritten(reason=reason):
            state.record_failure = reason
        case ReArmed(order=order):
            commands += _re_arm(state, order, at)
        case Tick(bus_away=bus_away):
            state.bus_away, state.ticked_ns = bus_away, at.mono_ns
        case _:
            assert_never(event)
    commands += _judge(state, at)
    if isinstance(event, Tick):
        commands += _ask(state, at)
    return commands


def _note_own_pause(state: State, at: Moment) -> None:
    """Whatever comes first after a pause is judged by: it need not be the tick."""
    if state.ticked_ns is not None and at.mono_ns - state.ticked_ns > round(OWN_PAUSE_S * NS_PER_S):
        state.woke_ns = at.mono_ns


# -- judging ------------------------------------------------------------------------


def _judge(state: State, at: Moment) -> list[Command]:
    commands = _latch(state, at)
    state.demand = demand_of(state, at)
    commands += _announce(state, at)
    return commands + enforce.follow(state, at)


def _latch(state: State, at: Moment) -> list[Command]:
    """Latch a rule that the account as we know it breaks."""
    record, figures = state.record, truth.figures(state, at)
    if record is None or record.latch is not None or figures is None:
        return []
    if not truth.is_settled(state):
        return []  # `demand_of` halts, and a look is under way
    found = broken(figures, state.rules, record)
    if not found:
        return []
    breach = Breach(rule=found[0].rule, reason=found[0].reason, ts_breach_ns=at.now_ns)
    state.record = msgspec.structs.replace(record, latch=breach, last=breach)
    state.flat_seen, state.refusal = False, ""
    return [Keep(record=state.record), Note(name="breach", text=breach.reason, alarm=True)]


def demand_of(state: State, at: Moment) -> Demand:
    """Return what the account's state demands now."""
    if state.record is not None and state.record.latch is not None:
        refused = f"; re-arm refused: {state.refusal}" if state.refusal else ""
        return Demand(level=Level.FLAT, reason=state.record.latch.reason + refused)
    if not state.rules.any_rule and state.hours.flat_by is None:
        return CLEAR
    if at.market_ns is None:
        return Demand(level=Level.HALT, reason="nothing has told the market's time yet")
    day = day_at(at.market_ns, state.hours)
    closing = _closing(day, at.market_ns, state)
    if closing is not None and closing.level is Level.FLAT:
        return closing
    if state.demand.until_flat and state.enforcing is not None:
        return state.demand  # nothing is unknown without a position, but a stop may still work
    if closing is not None:
        return closing
    unknown = blindness(state, at)
    if unknown is None:
        state.blind_since_ns = None
        return CLEAR
    if state.blind_since_ns is None:
        state.blind_since_ns = at.mono_ns
    blind_s = (at.mono_ns - state.blind_since_ns) / NS_PER_S
    if state.limits.blind_flattens and blind_s >= state.limits.blind_s and truth.held(state):
        reason = f"blind for {state.limits.blind_s:g} s: {unknown}"
        return Demand(level=Level.FLAT, reason=reason, until_flat=True)
    return Demand(level=Level.HALT, reason=unknown)


def _closing(day: Day, market_ns: int, state: State) -> Demand | None:
    if day.flat_ns is None or day.flatten_ns is None or day.entries_end_ns is None:
        return None
    by = f"flat by {local_time(day.flat_ns, state.hours)}"
    if market_ns < day.start_ns:
        return Demand(level=Level.FLAT, reason="closed for the weekend")
    if market_ns >= day.flatten_ns:
        until = local_time(day.reopens_ns, state.hours)
        return Demand(level=Level.FLAT, reason=f"{by}: closed until {until}")
    if market_ns >= day.entries_end_ns:
        return Demand(level=Level.HALT, reason=f"{by}: no new exposure")
    return None


def blindness(state: State, at: Moment) -> str | None:
    """Return what is not known and would have to be, in words that stay the same while it lasts."""
    if state.record_failure is not None:
        return "the record of guard cannot be written"
    if state.truth is None:
        return "the account has not been read yet"
    if not truth.is_fresh(state, at):
        return f"the account was not read for {state.limits.truth_age_s_max:g} s"
    figures = truth.figures(state, at)
    assert figures is not None and state.record is not None
    if state.rules.scaling and figures.contracts is None:
        return "it is not known what the account holds"
    if not truth.is_settled(state):
        if broken(figures, state.rules, state.record):
            return "fills and positions do not fit together yet, and a limit may be reached"
        return None
    if state.rules.need_prices and figures.open_pnl is None:
        names = ", ".join(
            p.contract_id for p in truth.held(state) if isinstance(truth.open_pnl(state, p, at), str)
        )
        return f"no price of {names}, of which a position is open"
    return None


def _re_arm(state: State, order: Resume, at: Moment) -> list[Command]:
    """Lift the latch if the account is flat and the figures allow it; else say what does not.

    A person's word counts fresh and once, as for execution: what lies in a stream can be played again.
    """
    record, issuer = state.record, order.issuer
    if record is None:
        return []
    stale = untimely(order, at.now_ns)
    name = f"{issuer}@{order.ts_ns} {order.kind}"
    if not stale and name in record.resumes:
        stale = "a resume that was heard before"
    if stale:
        text = f"{issuer}: {stale}; send it again"
        return [] if record.latch is None else [Note(name="re_arm_refused", text=text, alarm=True)]
    state.record = record = msgspec.structs.replace(record, resumes=(*record.resumes, name)[-RESUMES_KEPT:])
    if record.latch is None:
        return [Keep(record=record)]
    why = _refusal(state, at)
    if why is not None:
        state.refusal = why
        return [Keep(record=record), Note(name="re_arm_refused", text=f"{issuer}: {why}", alarm=True)]
    state.record = msgspec.structs.replace(record, latch=None)
    state.refusal = ""
    return [Keep(record=state.record), Note(name="re_armed", text=f"{issuer}, after {record.latch.reason}")]


def _refusal(state: State, at: Moment) -> str | None:
    if not state.flat_seen:
        return "the broker has not shown the account flat twice"
    unknown = blindness(state, at)
    if unknown is not None:
        return unknown
    if not state.whole:
        return "the account has moved, and the broker's search does not show yet by what"
    figures = truth.figures(state, at)
    assert figures is not None and state.record is not None
    still = broken(figures, state.rules, state.record)
    return f"still broken, {still[0].reason}" if still else None


# -- saying it ------------------------------------------------------------------------


def _announce(state: State, at: Moment) -> list[Command]:
    """Say what is new, and again what execution does not show in its beats: it has never read it.

    A Redis that lost its newest entries gives their ids again while the clock is set back: who had read the
    old ones passes the new ones over.
    """
    words = _news(state, at)
    said, beat_ns = state.said, state.execution_ns
    silent = beat_ns is None or at.mono_ns - beat_ns > round(state.limits.silent_s * NS_PER_S)
    shown = None if silent else state.execution_holds
    if words or said is None or shown in (None, said.level is not Level.CLEAR):
        state.unheard_ns = None
    elif state.unheard_ns is None:
        state.unheard_ns = at.mono_ns
    elif at.mono_ns - state.unheard_ns >= round(HEARD_S * NS_PER_S):
        state.unheard_ns = at.mono_ns
        words = [_word(said, state, at)]
    return words


def _news(state: State, at: Moment) -> list[Command]:
    demand, said = state.demand, state.said
    if demand.level is Level.CLEAR:
        if said is not None and said.level is Level.CLEAR:
            return []
        if state.calm_ns is None:
            state.calm_ns = at.mono_ns
        if said is not None and at.mono_ns - state.calm_ns < round(state.limits.resume_after_s * NS_PER_S):
            return []
        state.said = demand
        return [_word(demand, state, at)]
    state.calm_ns = None
    if said is not None and said.level is not Level.CLEAR and said.reason == demand.reason:
        return []
    state.said = demand
    return [_word(demand, state, at)]


def _word(said: Demand, state: State, at: Moment) -> Say:
    if said.level is Level.CLEAR:
        reason = f"the account keeps the rules of {state.rules.profile}"
        return Say(control=Resume(kind=HaltKind.GUARD, reason=reason, issuer=ISSUER, ts_ns=at.now_ns))
    return Say(control=Halt(kind=HaltKind.GUARD, reason=said.reason, issuer=ISSUER, ts_ns=at.now_ns))


# -- asking ---------------------------------------------------------------------------


def _ask(state: State, at: Moment) -> list[Command]:
    commands: list[Command] = []
    asked_ns = state.look_asked_ns
    due = asked_ns is None or at.mono_ns - asked_ns >= round(_interval_s(state, at) * NS_PER_S)
    if due and not state.looking:
        state.looking, state.look_asked_ns = True, at.mono_ns
        working = state.demand.level is Level.FLAT
        commands.append(AskLook(fills_from_ns=truth.fills_from_ns(state), working=working))
    for position in truth.held(state) if state.rules.need_prices or state.rules.scaling else ():
        name = position.contract_id
        known = not isinstance(truth.open_pnl(state, position, at), str)
        price = state.prices.get(name)
        by_feed = known and (price is None or at.mono_ns - price.mono_ns > round(PRICE_ASK_S * NS_PER_S))
        last_ns = state.price_asked_ns.get(name)
        if not by_feed and (last_ns is None or at.mono_ns - last_ns >= round(PRICE_ASK_S * NS_PER_S)):
            state.price_asked_ns[name] = at.mono_ns
            commands.append(AskPrice(contract_id=name))
    return commands


def _interval_s(state: State, at: Moment) -> float:
    """Return how often the account is read: by how much hangs on it, and on it alone."""
    limits = state.limits
    if state.fingerprint_seen != state.fingerprint or not truth.is_settled(state):
        return RELOOK_S
    figures = truth.figures(state, at)
    pressed = state.bus_away or state.sync is not SyncHealth.IN_SYNC or bool(state.look_failure)
    if figures is not None and state.record is not None:
        pressed = pressed or near(figures, state.rules, state.record, limits.near_share)
    return limits.near_interval_s if pressed else limits.look_interval_s
