"""How strategies behave: what they did lately, and who is latched off until a person has looked.

A strategy that enters, turns or asks more often than its limits allow, or that is refused time and again,
takes no new exposure any more; its exits still pass. The latch is in the ledger: no restart lifts it.
"""

from __future__ import annotations

from collections import deque

import msgspec

from services.execution.halts import announce, halt
from services.execution.records import ENTRY, EXIT, NOT_SENT, Conduct, OrderRecord
from services.execution.state import NS_PER_S, Pace, State
from services.execution.turn import Turn
from shared.domain.control import HaltKind
from shared.domain.denials import CODES, Denied
from shared.domain.order import OrderStatus

EXITS_WINDOW_S = 60.0
_TAKEN = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED})


def intended(turn: Turn, strategy_id: str) -> None:
    """Count one intent, whatever becomes of it."""
    _pace(turn.state, strategy_id).intents.append(turn.at.mono_ns)


def claimed(turn: Turn, order: OrderRecord) -> None:
    """Count an order that is about to be sent."""
    _count(turn.state, order, turn.at.mono_ns)
    _change(turn, order.strategy_id, denials=0)


def unsent(turn: Turn, order: OrderRecord) -> None:
    """Take back an exit that provably never left: ten of those are no liquidation loop."""
    exits = turn.state.exits.get(order.contract_id)
    if order.role == EXIT and exits:
        exits.pop()


def moved(turn: Turn, order: OrderRecord) -> None:
    """Note a new status: several rejections of the broker in a row latch the strategy off."""
    if order.parent is not None:
        return  # sent by the broker or by execution itself
    if order.reason.startswith(NOT_SENT):
        return  # the broker has not seen it
    if order.status in _TAKEN:
        _change(turn, order.strategy_id, rejects=0)
    elif order.status is OrderStatus.REJECTED:
        rejects = _conduct(turn.state, order.strategy_id).rejects + 1
        _change(turn, order.strategy_id, rejects=rejects)
        if rejects >= turn.state.rules.limits.rejects_max:
            text = f"rejects_max: {rejects} orders in a row rejected by the broker, last: {order.reason}"
            latch(turn, order.strategy_id, text)


def denied(turn: Turn, strategy_id: str, why: Denied) -> None:
    """Judge a refusal of ours: some latch at once, those a strategy is to blame for when they repeat."""
    code = CODES.get(why.code)
    if why.code == "exits_per_min_max":
        text = f"{why.numbers['exits']} exits in {why.numbers['contract_id']} within a minute ({strategy_id})"
        halt(turn, HaltKind.RUNAWAY, text)
    elif code is not None and code.latches:
        figures = ", ".join(f"{name} {value}" for name, value in why.numbers.items())
        latch(turn, strategy_id, f"{why.code}: {figures}")
    elif code is not None and code.blames:
        denials = _conduct(turn.state, strategy_id).denials + 1
        _change(turn, strategy_id, denials=denials)
        if denials >= turn.state.rules.limits.denials_max:
            latch(turn, strategy_id, f"denials_max: {denials} intents in a row were denied, last {why.code}")


def latch(turn: Turn, strategy_id: str, why: str) -> None:
    """Let a strategy take no new exposure until a person arms it again; the first reason stays."""
    if _conduct(turn.state, strategy_id).latch:
        return
    _change(turn, strategy_id, latch=why)
    turn.alarm(
        "strategy_latched", f"{strategy_id}: {why}; `julie resume --strategy {strategy_id}` arms it again"
    )
    announce(turn)


def arm(turn: Turn, strategy_id: str) -> None:
    """Let a strategy that was latched off trade again; its counters start afresh."""
    state = turn.state
    if strategy_id not in state.latched():
        turn.alarm("resume_refused", f"strategy {strategy_id!r} is not latched off")
        return
    standing = state.change_standing()
    standing.conduct = {**standing.conduct, strategy_id: Conduct(armed=state.stamp(turn.at))}
    state.paces.pop(strategy_id, None)
    announce(turn)


def remember(turn: Turn) -> None:
    """Count again what was sent before a restart: restarting is no way around limits."""
    state, at = turn.state, turn.at
    for age_ns, order in claimed_before(turn):
        exits = order.role == EXIT
        if exits and order.reason.startswith(NOT_SENT):
            continue
        since = state.standing.exits_since if exits else _conduct(state, order.strategy_id).armed
        if age_ns <= since.age_ns(state.stamp(at)):
            _count(state, order, at.mono_ns - age_ns)


def claimed_before(turn: Turn) -> list[tuple[int, OrderRecord]]:
    """Return what was sent before a restart with its age in nanoseconds, the oldest first."""
    now = turn.state.stamp(turn.at)
    sent = [order for order in turn.state.orders.values() if order.attempts and not order.native]
    aged = [(order.age_ns(now), order) for order in sent]
    return sorted(aged, key=lambda one: (-one[0], one[1].client_order_id))


class Figures(msgspec.Struct, frozen=True):
    intents: int
    entries: int
    flips: int


def figures(turn_ns: int, state: State, strategy_id: str, sign: int) -> Figures:
    """Return what a strategy did in the window that ends now.

    Args:
        turn_ns: Our monotonic clock.
        state: Of execution.
        strategy_id: Whose.
        sign: Of the entry that is asked for; when it turns against the last one it counts as a flip.
    """
    window_ns = _ns(state, state.rules.limits.conduct_window_s)
    pace = _pace(state, strategy_id)
    _trim(pace.intents, turn_ns - window_ns)
    while pace.entries and pace.entries[0][0] <= turn_ns - window_ns:
        pace.entries.popleft()
    signs = [one for _, one in pace.entries] + [sign]
    flips = sum(1 for n in range(1, len(signs)) if signs[n] != signs[n - 1])
    return Figures(intents=len(pace.intents), entries=len(pace.entries), flips=flips)


def exits_last_min(turn_ns: int, state: State, contract_id: str) -> int:
    exits = state.exits.get(contract_id)
    if exits is None:
        return 0
    _trim(exits, turn_ns - _ns(state, EXITS_WINDOW_S))
    return len(exits)


def _ns(state: State, window_s: float) -> int:
    """Windows are the venue's: a day played at sixty times its speed is not a runaway."""
    return round(window_s / state.rules.market_speed * NS_PER_S)


def _trim(times: deque[int], until_ns: int) -> None:
    while times and times[0] <= until_ns:
        times.popleft()


def _count(state: State, order: OrderRecord, mono_ns: int) -> None:
    if order.role == ENTRY:
        _pace(state, order.strategy_id).entries.append((mono_ns, order.side.sign))
    elif order.role == EXIT:
        state.exits.setdefault(order.contract_id, deque()).append(mono_ns)


def _pace(state: State, strategy_id: str) -> Pace:
    return state.paces.setdefault(strategy_id, Pace())


def _conduct(state: State, strategy_id: str) -> Conduct:
    return state.standing.conduct.get(strategy_id, Conduct())


def _change(turn: Turn, strategy_id: str, **changes: int | str) -> None:
    before = _conduct(turn.state, strategy_id)
    after = msgspec.structs.replace(before, **changes)
    if after != before:
        standing = turn.state.change_standing()
        standing.conduct = {**standing.conduct, strategy_id: after}
