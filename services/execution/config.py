"""Settings of execution: `[execution]`, and its limits under `[execution.risk]`."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from services.execution.state import Rules
from shared.domain.risk import Limits
from shared.runtime.config import JulieSection, Section


class RiskSection(Section):
    """Pre-trade limits. Whatever is missing, stale or unknown denies."""

    order_qty_max: int = Field(5, ge=1, le=1_000, description="Contracts of one order.")
    position_max: int = Field(
        5,
        ge=1,
        le=10_000,
        description="Contracts of one side per contract month, working and unknown included.",
    )
    working_orders_max: int = Field(20, ge=1, le=500, description="Orders at once, without bracket children.")
    collar_ticks: int = Field(
        100, ge=1, le=10_000, description="How far a price may be from the market, ticks."
    )
    reference_age_ms_max: int = Field(
        2_000,
        ge=50,
        le=60_000,
        description="Oldest market state that orders are checked against, milliseconds.",
    )
    heartbeat_silence_ms_max: int = Field(
        5_000,
        ge=500,
        le=60_000,
        description="No new exposure when heartbeat is silent for longer, milliseconds.",
    )
    daily_loss_max: Decimal = Field(
        Decimal(1_000), gt=0, description="Realized loss of a trading day after fees, account currency."
    )
    day_starts_at_utc_h: int = Field(22, ge=0, le=23, description="Hour at which a trading day begins, UTC.")
    messages_per_s_max: int = Field(
        10, ge=1, le=100, description="Orders, changes and cancels in one second."
    )
    messages_per_min_max: int = Field(100, ge=1, le=1_000, description="The same in one minute.")
    duplicate_window_ms: int = Field(
        500, ge=0, le=60_000, description="An order alike within this is denied, milliseconds; 0: never."
    )
    require_bracket: bool = Field(True, description="Deny an entry that brings no stop.")
    bracket_ticks_min: int = Field(
        4, ge=1, le=1_000, description="The gateway refuses anything nearer, ticks."
    )


class ExecutionConfig(Section):
    """How the sender of orders works."""

    risk: RiskSection = Field(RiskSection.model_validate({}), description="Pre-trade limits.")
    quarantine_s: float = Field(
        120.0,
        ge=1,
        le=3_600,
        description="An order not found is given up no sooner; late landings of 90 s are known.",
    )
    searches_min: int = Field(3, ge=1, le=100, description="Successful searches before an order is given up.")
    flatten_rounds_max: int = Field(
        20, ge=1, le=100, description="Rounds before a flatten calls for a person."
    )
    cancels_max: int = Field(3, ge=1, le=20, description="Cancels of one order, each after a fresh look.")
    orphan_after_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="Time the broker's OCO has before we cancel a stop or target left alone.",
    )
    tick_ms: int = Field(50, ge=5, le=1_000, description="How often timers are looked at, milliseconds.")
    read_block_ms: int = Field(100, ge=1, le=1_000, description="Longest wait of one read, milliseconds.")
    read_count_max: int = Field(256, ge=1, le=10_000, description="Entries of one read per stream.")
    discover_s: float = Field(
        1.0, ge=0.1, le=60, description="How often new strategy instances are looked for."
    )
    stop_wait_s: float = Field(
        3.0, ge=0, le=30, description="At a stop, how long answers to what was sent are awaited."
    )

    def rules(self, julie: JulieSection) -> Rules:
        """Return what the core decides by."""
        risk = self.risk.model_dump(exclude={"day_starts_at_utc_h"})
        return Rules(
            account_id=julie.account_id,
            limits=Limits(symbols=frozenset(julie.symbols), **risk),
            market_speed=julie.market_speed,
            venue_clock=julie.market_clock == "venue",
            quarantine_s=self.quarantine_s,
            searches_min=self.searches_min,
            day_starts_at_utc_h=self.risk.day_starts_at_utc_h,
            flatten_rounds_max=self.flatten_rounds_max,
            cancels_max=self.cancels_max,
            orphan_after_s=self.orphan_after_s,
        )


SECTION = ExecutionConfig
