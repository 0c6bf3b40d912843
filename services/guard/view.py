"""What people see of guard: the hash `guard:{acct}`, readable fields, all that a limit hangs on. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from services.guard import truth
from services.guard.events import Moment
from services.guard.hours import day_at, local_time
from services.guard.record import Breach, Rule
from services.guard.rules import contracts_allowed, floor, left
from services.guard.state import NS_PER_S, State


def fields(state: State, at: Moment) -> dict[str, bytes]:
    """Return the fields of the hash; null: unknown, or there is no such rule."""
    figures, record, rules = truth.figures(state, at), state.record, state.rules
    away = left(figures, rules, record) if figures is not None and record is not None else {}
    enforcing = state.enforcing
    values: dict[str, Any] = {
        "profile": rules.profile,
        "demand": state.demand.level.name.lower(),
        "reason": state.demand.reason,
        "balance": figures.balance if figures is not None else None,
        "equity": figures.equity if figures is not None else None,
        "day_pnl": figures.day_pnl if figures is not None else None,
        "day_realized": figures.day_realized if figures is not None else None,
        "open_pnl": figures.open_pnl if figures is not None else None,
        "daily_loss": rules.daily_loss,
        "daily_loss_left": away.get(Rule.DAILY_LOSS),
        "floor": floor(rules, record) if record is not None else None,
        "floor_left": away.get(Rule.MAX_LOSS),
        "high_balance": record.high_balance if record is not None else None,
        "eod_balance": record.eod_balance if record is not None else None,
        "contracts": figures.contracts if figures is not None else None,
        "contracts_allowed": contracts_allowed(rules, record) if record is not None else None,
        **_hours(state, at),
        "closing": None
        if enforcing is None
        else (f"by guard: {enforcing.own_why}" if enforcing.own_why else "by execution"),
        "latch": _breach(record.latch) if record is not None else None,
        "last_breach": _breach(record.last) if record is not None else None,
        "refusal": state.refusal,
        "look_failure": state.look_failure,
    }
    return {name: msgspec.json.encode(value) for name, value in values.items()}


def _hours(state: State, at: Moment) -> dict[str, Any]:
    if at.market_ns is None:
        return {"trading_day": None, "flat_by": None, "flat_in_s": None}
    day = day_at(at.market_ns, state.hours)
    flat_ns = day.flat_ns
    ahead = flat_ns is not None and day.start_ns <= at.market_ns < flat_ns
    return {
        "trading_day": day.trading_date.isoformat(),
        "flat_by": local_time(flat_ns, state.hours) if flat_ns is not None else None,
        # Market time, whole minutes: the hash is written only when something changes.
        "flat_in_s": (flat_ns - at.market_ns) // (60 * NS_PER_S) * 60 if ahead and flat_ns else None,
    }


def _breach(breach: Breach | None) -> dict[str, Any] | None:
    if breach is None:
        return None
    found: dict[str, Any] = msgspec.to_builtins(breach, builtin_types=(Decimal,))
    if breach.ts_flat_ns:
        found["flat_after_ms"] = round((breach.ts_flat_ns - breach.ts_breach_ns) / 1e6, 1)
    return found


def sentence(state: State, at: Moment) -> str:
    """Return guard in one line: what it demands, and how far each limit is away."""
    parts = [state.demand.level.name.lower() + (f": {state.demand.reason}" if state.demand.reason else "")]
    figures, record = truth.figures(state, at), state.record
    if figures is None or record is None:
        return parts[0]
    away = left(figures, state.rules, record)
    equity = "unknown" if figures.equity is None else f"{figures.equity:.2f}"
    parts.append(f"equity {equity}")
    if Rule.DAILY_LOSS in away:
        parts.append(f"day {figures.day_pnl:+.2f}, {away[Rule.DAILY_LOSS]:.2f} to the daily loss")
    if Rule.MAX_LOSS in away:
        parts.append(f"{away[Rule.MAX_LOSS]:.2f} to the floor {floor(state.rules, record):.2f}")
    allowed = contracts_allowed(state.rules, record)
    if allowed is not None and figures.contracts is not None:
        parts.append(f"{figures.contracts.normalize():f} of {allowed:f} contracts")
    if (flat_by := _hours(state, at)["flat_by"]) is not None:
        parts.append(f"flat by {flat_by}")
    return ", ".join(parts)
