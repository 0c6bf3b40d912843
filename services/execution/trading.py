"""Active, reducing or halted: by kinds of halt, each latched in the ledger until the right one lifts it."""

from __future__ import annotations

from services.execution import flatten
from services.execution.events import ControlRead, StreamGap
from services.execution.state import NS_PER_S
from services.execution.turn import Turn
from shared.domain.control import Flatten, Halt, HaltKind, Resume
from shared.domain.execution import TradingStateChanged


def control(turn: Turn, read: ControlRead) -> None:
    """Obey. What tightens comes from anyone; what loosens a halt only from the one who may lift it."""
    match read.control:
        case Halt(kind=HaltKind.GUARD, reason=reason) if read.by_guard:
            standing = turn.state.change_standing()  # guard's newest reason counts
            standing.halts = {k: why for k, why in standing.halts.items() if k is not HaltKind.GUARD}
            halt(turn, HaltKind.GUARD, reason)
        case Halt(kind=kind, reason=reason, issuer=issuer):
            halt(turn, kind, f"{reason} ({issuer})")
        case Resume(kind=HaltKind.GUARD) if read.by_guard:
            resume(turn, {HaltKind.GUARD})
        case Resume(kind=HaltKind.GUARD) if read.by_operator:
            pass  # guard hears it too, and lifts its halt when the account allows it
        case Resume(kind=kind) if read.by_operator:
            resume(turn, set(HaltKind) - {HaltKind.GUARD} if kind is HaltKind.OPERATOR else {kind})
        case Resume(kind=HaltKind.LIVENESS):
            resume(turn, {HaltKind.LIVENESS})
        case Resume(kind=kind, issuer=issuer):
            turn.alarm("resume_refused", f"{issuer} may not lift a halt of kind {kind}; an operator may")
        case Flatten(reason=reason, issuer=issuer, symbol=symbol, ts_ns=ts_ns):
            if read.by_guard:
                flatten.closed_by_guard(turn)
            else:
                halt(turn, HaltKind.OPERATOR, f"flatten: {reason} ({issuer})")
            age_s = (turn.at.now_ns - ts_ns) / NS_PER_S
            if age_s > turn.state.rules.control_age_s_max:
                turn.alarm("flatten_too_old", f"a flatten of {age_s:.0f} s ago only halts; send it again")
            else:
                flatten.begin(turn, reason, symbol)


def halt(turn: Turn, kind: HaltKind, reason: str) -> None:
    """Latch one kind of halt; the first reason of a kind stays."""
    state = turn.state
    if kind in state.standing.halts:
        return
    standing = state.change_standing()
    standing.halts = {**standing.halts, kind: reason}
    announce(turn)


def resume(turn: Turn, kinds: set[HaltKind]) -> None:
    """Lift halts. Lifting `invariant` accepts what the broker holds: a person has looked at it."""
    state = turn.state
    lifted = sorted(kinds & set(state.standing.halts))
    if not lifted:
        return
    standing = state.change_standing()
    standing.halts = {kind: why for kind, why in standing.halts.items() if kind not in lifted}
    if HaltKind.INVARIANT in lifted:
        for contract_id, difference in sorted(standing.mismatches.items()):
            standing.baselines = {
                **standing.baselines,
                contract_id: standing.baselines.get(contract_id, 0) + difference,
            }
            turn.alarm(
                "baseline_moved", f"{contract_id}: {difference:+d} contracts accepted as held by others"
            )
        standing.mismatches = {}
        state.sync.differences.clear()
    announce(turn)


def gap(turn: Turn, event: StreamGap) -> None:
    """Something that must not be missed is missing."""
    turn.alarm("stream_gap", f"{event.stream}: {event.missing}")
    match event.what:
        case "reports":
            turn.state.sync.complete = False  # until the next whole picture
            turn.state.sync.begun_ns = None
        case "control":
            halt(turn, HaltKind.INVARIANT, f"control messages lost on {event.stream}")
        case _:
            pass  # an intent that is lost was not sent: its strategy will not hear of it


def announce(turn: Turn) -> None:
    """Publish where trading stands: at every change and at every start."""
    state = turn.state
    turn.publish(
        TradingStateChanged(state=state.trading_state, halts=dict(state.standing.halts), ts_ns=turn.at.now_ns)
    )
