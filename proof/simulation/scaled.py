"""The settings and time constants of the simulated installation: a life of the house takes half a minute.

Quarantine, search pauses, polling and budgets are scaled with the faults (`swarm.SCALE`); what people were
promised (5 s to protection, 1 s to a halt) is not.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

import services.broker_sync.shell as broker_sync_shell
import services.execution.resolver as resolver
import services.feed.contract as feed_contract
import services.guard.core as guard_core
import services.guard.shell as guard_shell
import services.guard.truth as guard_truth
import services.strategy.shell as strategy_shell
import shared.broker.limiter as broker_limiter
import shared.broker.projectx.gateway as gateway
import shared.broker.projectx.tokens as tokens
import shared.runtime.broker as runtime_broker
import shared.runtime.fence as runtime_fence
import shared.runtime.limiter as runtime_limiter
import shared.runtime.session as runtime_session
from proof.simulation.loop import EPOCH_NS, NS_PER_S
from proof.simulation.plan import GuardPlan
from proof.simulation.session_plan import LIVES_S
from proof.simulation.swarm import ORDER_QTY_MAX, POSITION_MAX, QUARANTINE_S, SEARCH_LAG_S_MAX
from proof.simulation.venue import ACCOUNT_ID, SYMBOL, WINDOW_S
from services.broker_sync.config import BrokerSyncSection
from services.execution.config import ExecutionConfig, RiskSection
from services.feed.config import FeedConfig
from services.guard.config import GuardConfig
from services.heartbeat.config import HeartbeatSection
from services.recorder.config import RecorderConfig
from services.strategy.config import StrategySection
from shared.runtime.config import BrokerSection, JulieSection

INTENT_TTL_S = 2.0
REFERENCE_AGE_S = 2.0
HALT_WITHIN_S = 1.0
EXITS_PER_MIN_MAX = 10
SETTLE_AFTER_S = 2.0
"""Shorter than all that may still come, so that news of what has left memory is no rare thing here."""
SESSION_POLL_S = 2.0


def scale_constants() -> None:
    """Set the module constants that are no settings; once for each process of the simulator."""
    broker_sync_shell.TICK_S = 0.5
    broker_sync_shell.QUOTE_POLL_S = 5.0
    runtime_session.POLL_S = SESSION_POLL_S
    resolver.SEARCH_PAUSES_S = (0.5, 1.0, 1.5, 2.0, 2.0, 2.0)
    resolver.CHECK_PAUSES_S = (0.5, 1.0, 2.0, 2.0, 2.0)
    resolver.CANCELS_PAUSE_S = 5.0
    runtime_fence.CHECK_S = 0.5
    broker_limiter.GENERAL_WINDOW_S = runtime_limiter.GENERAL_WINDOW_S = WINDOW_S  # type: ignore[misc]
    gateway.WINDOW_S["general"] = WINDOW_S
    runtime_limiter.SPARE_KEPT_S = WINDOW_S / 3
    guard_shell.TICK_S = 0.25
    guard_shell.READ_BLOCK_MS = 500
    guard_shell.QUOTE_POLL_S = 2.0
    guard_shell.SHOW_S = 5.0
    guard_shell.CHECK_S = 1.0
    guard_core.PRICE_ASK_S = 2.0
    guard_truth.SEARCH_LAG_S = SEARCH_LAG_S_MAX
    runtime_broker.GUARD_SHARE = GUARD_SHARE
    strategy_shell.HOST_DEAD_AFTER_NS = round(HOST_DEAD_AFTER_S * NS_PER_S)
    strategy_shell.FIRST_SIGHT_AGE_MAX_NS = 5 * NS_PER_S
    feed_contract.RESUMED_NS = round(RESUMED_S * NS_PER_S)
    tokens.LONGEST_LIFE_NS = round((LIVES_S[-1] + 1) * NS_PER_S)  # type: ignore[misc]


@cache
def julie(beat_interval_s: float = 5.0) -> JulieSection:
    values = {"symbols": (SYMBOL,), "account_id": ACCOUNT_ID, "beat_interval_s": beat_interval_s}
    return JulieSection.model_validate(values)


@cache
def broker(requests_max: int) -> BrokerSection:
    places = {"requests_max_per_60s": requests_max - 4, "requests_reserved": 10, "requests_for_blind": 5}
    return BrokerSection.model_validate(places)


@cache
def execution() -> ExecutionConfig:
    risk = RiskSection.model_validate(
        {
            "position_max": POSITION_MAX,
            "order_qty_max": ORDER_QTY_MAX,
            "reference_age_ms_max": round(REFERENCE_AGE_S * 1000),
            "daily_loss_max": 100_000,
            "open_loss_max": 100_000,
            "exits_per_min_max": EXITS_PER_MIN_MAX,
            "entries_max": 15,
        }
    )
    return ExecutionConfig.model_validate(
        {
            "risk": risk,
            "quarantine_s": QUARANTINE_S,
            "mismatch_after_s": 2.0,
            "settle_after_s": SETTLE_AFTER_S,
            "tick_ms": 250,
            "read_block_ms": 1000,
            "discover_s": 2.0,
            "stop_wait_s": 1.0,
        }
    )


@cache
def broker_sync() -> BrokerSyncSection:
    return BrokerSyncSection.model_validate(
        {
            "reconcile_interval_s": 6.0,
            "reconcile_spacing_s": 2.5,
            "gather_within_s": 5.0,
            "push_trusted_s": 1.0,
            "retry_max_s": 2.0,
            "view_interval_s": 30.0,
        }
    )


LIVELY_BEATS_S = 0.5
"""How often processes beat where somebody judges them: as in production. Elsewhere nobody listens."""
VALIDATE_S = 4.0
ASK_WITHIN_S = 2.0
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 4.0
REFUSED_RETRY_S = 5.0
RESUME_AFTER_S = 2.0
VITAL = ("feed", "broker_sync", "execution")


@cache
def heartbeat() -> HeartbeatSection:
    return HeartbeatSection.model_validate(
        {
            "validate_interval_s": VALIDATE_S,
            "ask_within_s": ASK_WITHIN_S,
            "retry_first_s": RETRY_FIRST_S,
            "retry_max_s": RETRY_MAX_S,
            "refused_retry_s": REFUSED_RETRY_S,
            "resume_after_s": RESUME_AFTER_S,
            "vital": VITAL,
        }
    )


LEASE_TTL_S, PLACEMENT_S, HOST_DEAD_AFTER_S = 1.5, 0.5, 1.5
"""Half of what they are in production, so that a lease changes hands several times in a world."""
WATCH_S, EVENT_DEADLINE_S, START_DEADLINE_S = 0.1, 0.6, 5.0
FAILURES_MAX, FAILURE_WINDOW_S = 3, 8.0


@cache
def strategy(workers: int) -> StrategySection:
    """Return the settings of strategy hosts with so many instances."""
    names = [f"s{number}" for number in range(1, workers + 1)]
    return StrategySection.model_validate(
        {
            "instances": [
                {"id": name, "class": "proof.simulation.workload:Scripted", "symbols": (SYMBOL,)}
                for name in names
            ],
            "lease_ttl_s": LEASE_TTL_S,
            "placement_interval_s": PLACEMENT_S,
            "watch_interval_ms": round(WATCH_S * 1000),
            "event_deadline_ms": round(EVENT_DEADLINE_S * 1000),
            "start_deadline_s": START_DEADLINE_S,
            "failures_max": FAILURES_MAX,
            "failure_window_s": FAILURE_WINDOW_S,
            "intent_ttl_s": INTENT_TTL_S,
            "max_input_age_s": INTENT_TTL_S,
            "warmup_s": 2.0,
            "commit_interval_ms": 500,
        }
    )


STALE_AFTER_S, STALE_AFTER_NIGHT_S, PROBE_WAIT_S = 2.0, 4.0, 1.0
"""Least what the feed lets anybody set: it looks into no shorter silence."""
FEED_TURN_S = 0.2
RESUMED_S = 4.0


@cache
def feed() -> FeedConfig:
    return FeedConfig.model_validate(
        {
            "backfill_bars": 2,
            "backfill_attempts_max": 3,
            "backfill_hold_s": 2.0,
            "backfill_delay_s": 0.2,
            "bar_grace_ms": 300,
            "stale_after_s": STALE_AFTER_S,
            "stale_after_night_s": STALE_AFTER_NIGHT_S,
            "probe_wait_s": PROBE_WAIT_S,
            "reconnect_pause_s": 3.0,
            "jump_confirm_s": 0.5,
            "resolve_retry_s": 2.0,
            "state_publish_hz": 1 / FEED_TURN_S,
        }
    )


RECORDER_SCAN_S, RECORDER_FLUSH_S, RECORDER_RETRY_S = 0.5, 1.0, 1.0
KEPT_S, SESSION_KEPT = 6.0, 8
INTENTS_KEPT_S = ORDERS_KEPT_S = 3_600.0
"""Of what is archived: seconds in Redis, and entries of the session stream. No reader is away for longer than
intents and orders are kept: in production that is days."""


@cache
def recorder(ahead_s: float) -> RecorderConfig:
    """Return settings beyond what the recorder lets anybody set: a world lasts no hour.

    Args:
        ahead_s: So far the wall clock leaps ahead in all; a leap of days is no part of the simulation.
    """
    return RecorderConfig.model_construct(
        scan_interval_s=RECORDER_SCAN_S,
        flush_interval_s=RECORDER_FLUSH_S,
        rows_max=100,
        keep_s=KEPT_S,
        keep_intents_s=INTENTS_KEPT_S + ahead_s,
        keep_session_entries=SESSION_KEPT,
        trim_orders_after_s=ORDERS_KEPT_S + ahead_s,
        retry_s=RECORDER_RETRY_S,
        compact_bytes_max=65_536,
        compact_files_max=3,
    )


START_BALANCE = Decimal(50_000)
ZONE_BEHIND_UTC = timedelta(hours=6)
"""Chicago, in the winter week of the simulator."""
GUARD_LOOK_S, NEAR_S, LOOK_WITHIN_S = 3.0, 1.5, 4.0
TRUTH_AGE_S, PRICE_AGE_S = 6.0, 3.0
BLIND_S, WEDGE_S, SILENT_S, SHRINK_S, CALM_S = 5.0, 3.0, 2.5, 5.0, 1.0
FLAT_LEAD_S = 5.0
GUARD_SHARE = 30
"""Requests in a window of the broker that guard may send while Redis is away."""
GUARDED_BEATS_S = 1.0
"""Guard stops waiting for an execution whose beats are missing, so they come on guard's scale with it."""


def guard(plan: GuardPlan) -> GuardConfig:
    """Return the settings of a world's guard."""
    account = {
        "id": ACCOUNT_ID,
        "profile": "topstep_50k",
        "start_balance": START_BALANCE,
        "max_loss": plan.max_loss,
        "daily_loss": plan.daily_loss,
        "contracts_max": plan.contracts,
        "floor_stops_at_start": plan.floor_stops,
        "flat_by": _time_of_day(plan.flat_by_s) if plan.flat_by_s else "",
    }
    if plan.reopen_s:
        account["reopen"] = _time_of_day(plan.reopen_s)
    return GuardConfig.model_validate(
        {
            "accounts": (account,),
            "entries_end_s": FLAT_LEAD_S + 1.0,
            "flat_lead_s": FLAT_LEAD_S,
            "look_interval_s": GUARD_LOOK_S,
            "near_interval_s": NEAR_S,
            "look_within_s": LOOK_WITHIN_S,
            "truth_age_s_max": TRUTH_AGE_S,
            "price_age_s_max": PRICE_AGE_S,
            "blind_s": BLIND_S,
            "blind_action": "flatten" if plan.blind_flattens else "halt",
            "wedge_s": WEDGE_S,
            "silent_s": SILENT_S,
            "shrink_s": SHRINK_S,
            "resume_after_s": CALM_S,
            "history_days": 1,
        }
    )


def _time_of_day(after_start_s: int) -> str:
    begins = datetime.fromtimestamp(EPOCH_NS // NS_PER_S, UTC) - ZONE_BEHIND_UTC
    return (begins + timedelta(seconds=after_start_s)).strftime("%H:%M:%S")
