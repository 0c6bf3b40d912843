"""The halts that hold trading, each until the right one lifts it."""

from __future__ import annotations

from services.execution.turn import Turn
from shared.domain.control import HaltKind
from shared.domain.execution import TradingStateChanged


def halt(turn: Turn, kind: HaltKind, reason: str) -> None:
    """Latch one kind of halt; the first reason of a kind stays."""
    state = turn.state
    if kind in state.standing.halts:
        return
    standing = state.change_standing()
    standing.halts = {**standing.halts, kind: reason}
    announce(turn)


def add(turn: Turn, kind: HaltKind, reason: str) -> None:
    """Latch one kind of halt; where it holds already, whoever lifts it is told of this reason, too."""
    standing = turn.state.change_standing()
    first = standing.halts.get(kind, "")
    if reason not in first:
        standing.halts = {**standing.halts, kind: f"{first}; {reason}" if first else reason}


def resume(turn: Turn, kinds: set[HaltKind]) -> None:
    """Lift halts. Lifting `invariant` accepts what the broker holds: a person has looked at it."""
    state = turn.state
    lifted = sorted(kinds & set(state.standing.halts))
    if not lifted:
        return
    standing = state.change_standing()
    standing.halts = {kind: why for kind, why in standing.halts.items() if kind not in lifted}
    if HaltKind.RUNAWAY in lifted:
        standing.exits_since = state.stamp(turn.at)
        state.exits.clear()
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


def measure(turn: Turn, clock_offset_ms: int | None = None) -> None:
    """Begin and end the halts that execution holds by itself."""
    state = turn.state
    before = dict(state.own_halts)
    if state.ready:
        state.own_halts.pop(HaltKind.STARTING, None)
    most_ms = state.rules.clock_offset_ms_max
    if clock_offset_ms is not None:
        # Lifted at half the limit: near it the halt would come and go with every reading.
        if abs(clock_offset_ms) > most_ms:
            text = f"this machine's clock is {clock_offset_ms / 1000:+.1f} s off the broker's; correct it"
            state.own_halts.setdefault(HaltKind.CLOCK, text)
        elif abs(clock_offset_ms) <= most_ms // 2:
            state.own_halts.pop(HaltKind.CLOCK, None)
    if state.own_halts != before:
        announce(turn)


def announce(turn: Turn) -> None:
    """Publish where trading stands: at every change and at every start."""
    state = turn.state
    turn.publish(
        TradingStateChanged(
            state=state.trading_state, halts=state.halts, ts_ns=turn.at.now_ns, latched=state.latched()
        )
    )
