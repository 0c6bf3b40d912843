"""Closing everything: execution is told first; when it does not obey, guard does it by itself. Pure.

Guard looks at the broker all the while: only the broker's word ends it, nothing there in two looks running.
It stops waiting for execution when the bus is away, when execution's beats are missing, when no sign of
obedience comes, or when nothing gets less. Both closing at once is harmless: a cancel of a dead order and a
close of a flat contract do nothing, and each further round needs a fresh look.
"""

from __future__ import annotations

import msgspec

from services.guard.events import AskFlatLook, Command, Keep, Moment, Note, RemedyAnswered, Say, Send
from services.guard.record import Breach
from services.guard.state import NS_PER_S, Enforcing, Level, State
from services.guard.truth import held
from shared.domain import flat
from shared.domain.control import Flatten, HaltKind
from shared.domain.execution import FlattenFinished, FlattenProgressed, OrderMessage, TradingStateChanged
from shared.domain.flat import Look

ISSUER = "guard"
WATCH_S = 1.0
"""Between two looks while execution closes."""
OWN_LOOK_S = 0.5
"""Between two looks while guard closes."""
PATIENT_S = 2.0
"""Between two looks after many rounds: a closed market must not cost the request budget."""
PATIENT_AFTER_ROUNDS = 10


def follow(state: State, at: Moment) -> list[Command]:
    """Begin, go on with, or end making the account flat, as the demand says."""
    if state.demand.level is not Level.FLAT:
        state.enforcing, state.flat_seen = None, False
        return []
    if state.flat_seen and (held(state) or state.working):
        state.flat_seen = False  # something landed, or was opened past us
    if state.flat_seen:
        return []
    commands: list[Command] = []
    if state.enforcing is None:
        commands += _begin(state, at)
    enforcing = state.enforcing
    assert enforcing is not None
    if not enforcing.own_why and (why := _why_alone(state, enforcing, at)):
        commands += _take_over(state, enforcing, why, at)
    if not enforcing.looking and at.mono_ns >= enforcing.look_due_ns:
        enforcing.looking = True
        commands.append(AskFlatLook())
    return commands


def heard(state: State, message: OrderMessage) -> None:
    """Take what execution says of the halt and of its flatten."""
    enforcing = state.enforcing
    if enforcing is None:
        return
    match message:
        case TradingStateChanged(halts=halts, ts_ns=ts_ns) if HaltKind.GUARD in halts:
            enforcing.acked = True
            enforcing.ts_halt_ns = enforcing.ts_halt_ns or ts_ns
        case FlattenProgressed(cancels=cancels, closes=closes, ts_ns=ts_ns):
            enforcing.acked = True
            if cancels or closes:
                enforcing.ts_cancel_ns = enforcing.ts_cancel_ns or ts_ns
        case FlattenFinished(flat=False):
            enforcing.gave_up = True
        case _:
            pass


def looked(state: State, look: Look, at: Moment) -> list[Command]:
    """Take a look at orders and positions in; act on it when it is on us to act."""
    if state.truth is not None and look.positions is not None:
        state.truth.positions = {p.contract_id: p for p in look.positions if p.net_qty}
        state.truth.pushed_ns = dict.fromkeys(state.truth.positions, at.mono_ns)
    if look.working is not None:
        state.working = {o.broker_order_id: o for o in look.working if o.status.may_fill}
    enforcing = state.enforcing
    if enforcing is None:
        return []
    enforcing.looking = False
    pause_s = OWN_LOOK_S if enforcing.own_why else WATCH_S
    if enforcing.making.rounds > PATIENT_AFTER_ROUNDS:
        pause_s = PATIENT_S
    enforcing.look_due_ns = at.mono_ns + round(pause_s * NS_PER_S)
    before = enforcing.making.flat_looks
    commands: list[Command] = []
    if enforcing.own_why or _is_empty(look):
        commands += _remedies(enforcing, look, at)
    else:
        enforcing.making.flat_looks = 0
    _note_progress(enforcing, look, at)
    if before == 0 and enforcing.making.flat_looks:
        enforcing.ts_flat_ns = at.now_ns - (at.mono_ns - look.started_ns)
    if enforcing.making.is_flat:
        commands += _finished(state, enforcing, at)
    return commands


def answered(state: State, event: RemedyAnswered) -> None:
    """Take the answer to one cancel or close of ours; the next look is what counts."""
    enforcing = state.enforcing
    if enforcing is None:
        return
    flat.answered(event.remedy, enforcing.making, event.at.mono_ns, event.sent_ns)
    if not enforcing.making.waits(event.at.mono_ns):
        after_ns = event.at.mono_ns + round(flat.LOOK_AFTER_S * NS_PER_S)
        enforcing.look_due_ns = min(enforcing.look_due_ns, after_ns)


def _begin(state: State, at: Moment) -> list[Command]:
    reason = state.demand.reason
    enforcing = Enforcing(reason=reason, since=at, shrunk_ns=at.mono_ns)
    enforcing.look_due_ns = at.mono_ns + round(WATCH_S / 2 * NS_PER_S)
    state.enforcing = enforcing
    return [
        Say(control=Flatten(reason=reason, issuer=ISSUER, ts_ns=at.now_ns)),
        Note(name="flatten", text=reason, alarm=bool(held(state))),
    ]


def _why_alone(state: State, enforcing: Enforcing, at: Moment) -> str:
    """Return why guard does not wait for execution any longer; empty while it does."""
    limits = state.limits
    woke_ns = state.woke_ns or 0  # what was said and done while we did not run, we have not heard yet
    heard_ns = state.execution_ns if state.execution_ns is not None else state.began_ns
    silent_s = (at.mono_ns - max(heard_ns, woke_ns)) / NS_PER_S
    waited_s = (at.mono_ns - max(enforcing.since.mono_ns, woke_ns)) / NS_PER_S
    unshrunk_s = (at.mono_ns - max(enforcing.shrunk_ns, woke_ns)) / NS_PER_S
    if state.bus_away:
        return "Redis is away"
    if silent_s > limits.silent_s:
        return f"execution is silent for {silent_s:.1f} s"
    if not enforcing.acked and waited_s > limits.wedge_s:
        return f"no sign that execution obeys within {limits.wedge_s:g} s"
    if enforcing.gave_up:
        return "execution gave up"
    if enforcing.exposure != (0, 0) and unshrunk_s > limits.shrink_s:
        return f"nothing was closed or cancelled for {limits.shrink_s:g} s"
    return ""


def _take_over(state: State, enforcing: Enforcing, why: str, at: Moment) -> list[Command]:
    """Begin to close by ourselves, at once with what is known."""
    enforcing.own_why = why
    enforcing.ts_halt_ns = enforcing.ts_halt_ns or at.now_ns
    enforcing.look_due_ns = at.mono_ns
    known = Look(started_ns=at.mono_ns, working=list(state.working.values()), positions=held(state))
    commands: list[Command] = [Note(name="closing_by_itself", text=why, alarm=True)]
    return commands if _is_empty(known) else commands + _remedies(enforcing, known, at)


def _remedies(enforcing: Enforcing, look: Look, at: Moment) -> list[Command]:
    remedies = flat.decide(look, enforcing.making, at.mono_ns)
    if remedies:
        enforcing.ts_cancel_ns = enforcing.ts_cancel_ns or at.now_ns
        enforcing.acted = True
    return [Send(remedy=remedy, sent_ns=at.mono_ns) for remedy in remedies]


def _is_empty(look: Look) -> bool:
    return not any(p.net_qty for p in look.positions or ()) and not any(
        o.status.may_fill for o in look.working or ()
    )


def _note_progress(enforcing: Enforcing, look: Look, at: Moment) -> None:
    if look.positions is None or look.working is None:
        return
    exposure = (
        sum(abs(p.net_qty) for p in look.positions),
        sum(o.status.may_fill for o in look.working),
    )
    before = enforcing.exposure
    if before is None or exposure[0] < before[0] or exposure[1] < before[1]:
        enforcing.shrunk_ns = at.mono_ns
    enforcing.exposure = exposure


def _finished(state: State, enforcing: Enforcing, at: Moment) -> list[Command]:
    state.enforcing, state.flat_seen = None, True
    by = "guard" if enforcing.acted else "execution" if enforcing.ts_cancel_ns else "nobody"
    took_ms = (enforcing.ts_flat_ns - enforcing.since.now_ns) / 1e6
    text = f"{enforcing.reason}: flat {took_ms:.0f} ms after it was demanded, closed by {by}"
    commands: list[Command] = [Note(name="flat", text=text)]
    record = state.record
    if record is None or record.latch is None or record.latch.ts_flat_ns:
        return commands
    breach: Breach = msgspec.structs.replace(
        record.latch,
        ts_halt_ns=enforcing.ts_halt_ns,
        ts_cancel_ns=enforcing.ts_cancel_ns,
        ts_flat_ns=enforcing.ts_flat_ns,
        closed_by=by,
    )
    state.record = msgspec.structs.replace(record, latch=breach, last=breach)
    return [Keep(record=state.record), *commands]
