"""Active, reducing or halted: by kinds of halt, each held until the right one lifts it; see `HALTS`."""

from __future__ import annotations

from services.execution import conduct, flatten
from services.execution.events import ControlRead, StreamGap
from services.execution.halts import add, announce, halt, resume
from services.execution.orders import want_search
from services.execution.state import NS_PER_S
from services.execution.turn import Turn
from shared.domain.control import HALTS, Flatten, Halt, HaltKind, Lifter, Resume, untimely


def control(turn: Turn, read: ControlRead) -> None:
    """Obey. What tightens comes from anyone at any age; what loosens only from the right one, fresh, once."""
    match read.control:
        case Halt(kind=HaltKind.GUARD, reason=reason) if read.by_guard:
            standing = turn.state.change_standing()  # guard's newest reason counts
            standing.halts = {k: why for k, why in standing.halts.items() if k is not HaltKind.GUARD}
            halt(turn, HaltKind.GUARD, reason)
        case Halt(kind=kind, reason=reason, issuer=issuer):
            # What execution lifts by itself would not last: asked for by others it waits for a person.
            halt(turn, kind if HALTS[kind].latched else HaltKind.OPERATOR, f"{reason} ({issuer})")
        case Resume() as order:
            _resume(turn, order, _sender(read))
        case Flatten(reason=reason, issuer=issuer, symbol=symbol, ts_ns=ts_ns):
            if read.by_guard:
                flatten.closed_by_guard(turn)
            else:
                halt(turn, HaltKind.OPERATOR, f"flatten: {reason} ({issuer})")
            age_ns = turn.at.now_ns - ts_ns
            if age_ns > turn.state.rules.control_age_s_max * NS_PER_S:
                turn.alarm(
                    "flatten_too_old", f"a flatten of {age_ns // NS_PER_S} s ago only halts; send it again"
                )
            else:
                flatten.begin(turn, reason, symbol)


def _sender(read: ControlRead) -> Lifter:
    if read.by_guard:
        return Lifter.GUARD
    return Lifter.OPERATOR if read.by_operator else Lifter.HEARTBEAT


def _resume(turn: Turn, order: Resume, lifter: Lifter) -> None:
    """Lift what `lifter` may lift; a person's word only when it is fresh and new.

    Heartbeat's word needs neither: it lifts what ends by itself, and its stream is read once and in order.
    """
    if lifter is Lifter.OPERATOR:
        stale = _stale(turn, order)
        if stale:
            turn.alarm("resume_refused", f"{order.issuer}: {stale}; nothing is lifted, send it again")
            return
        if order.strategy_id is not None:
            conduct.arm(turn, order.strategy_id)
            return
    wanted = set(HaltKind) if order.kind is HaltKind.OPERATOR else {order.kind}
    kinds = {kind for kind in wanted if lifter in HALTS[kind].lifted_by}
    if lifter is not Lifter.OPERATOR and order.kind not in kinds:
        text = f"{order.issuer} may not lift a halt of kind {order.kind}; an operator may"
        turn.alarm("resume_refused", text)
        return
    resume(turn, kinds)


def _stale(turn: Turn, order: Resume) -> str:
    """Return why this resume may not loosen anything; remember it when it may."""
    age_s_max = turn.state.rules.control_age_s_max
    stale = untimely(order, turn.at.now_ns, age_s_max)
    if stale:
        return stale
    name = f"{order.issuer}@{order.ts_ns} {order.strategy_id or order.kind}"
    standing = turn.state.change_standing()
    if name in standing.resumes:
        return "a resume that was obeyed before"
    kept_ns = turn.at.now_ns - round(2 * age_s_max * NS_PER_S)
    kept = {one: ts_ns for one, ts_ns in standing.resumes.items() if ts_ns > kept_ns}
    standing.resumes = {**kept, name: order.ts_ns}
    return ""


def gap(turn: Turn, event: StreamGap) -> None:
    """Something that must not be missed is missing."""
    turn.alarm("stream_gap", f"{event.stream}: {event.missing}")
    if event.set_back:
        add(turn, HaltKind.INVARIANT, f"Redis has lost entries: {event.stream}: {event.missing}")
        announce(turn)
    match event.what:
        case "reports":
            turn.state.sync.complete = False  # until the next whole picture
            turn.state.sync.begun_ns = None
            # That picture holds positions. Fills that cancel out, or are from before it, only a search shows.
            if turn.state.unread_ns is None:
                want_search(turn, delay_s=0.0)
            turn.state.unread_ns = turn.at.mono_ns
        case "control":
            halt(turn, HaltKind.INVARIANT, f"control messages lost on {event.stream}")
        case _:
            pass  # an intent that is lost was not sent: its strategy will not hear of it
