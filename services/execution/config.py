"""Settings of execution: `[execution]`, and its limits under `[execution.risk]`."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field, field_validator

from services.execution.state import Rules
from shared.domain.hours import ZONES, Blackout
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
    open_loss_max: Decimal = Field(
        Decimal(1_000),
        gt=0,
        description="The day's loss with open positions at the market, fees included, account currency.",
    )
    sessions: Literal["calendar", "always"] = Field(
        "calendar", description="`always`: the venue never closes (a synthetic market)."
    )
    no_entries_before_close_s: int = Field(
        60, ge=0, le=86_400, description="No new exposure so long before a session ends, in market seconds."
    )
    blackouts: tuple[str, ...] = Field(
        (),
        description="Windows of every day without new exposure, such as `08:25-08:35 America/Chicago`; "
        f"zones: {', '.join(ZONES)}.",
    )
    conduct_window_s: float = Field(
        300.0,
        ge=1,
        le=86_400,
        description="The window for entries_max, flips_max and intents_max, in market seconds.",
    )
    entries_max: int = Field(
        50, ge=1, le=1_000_000, description="Entries of one strategy in the window; one more latches it off."
    )
    flips_max: int = Field(
        20, ge=1, le=1_000_000, description="Changes of direction among them; one more latches it off."
    )
    intents_max: int = Field(
        600,
        ge=1,
        le=1_000_000,
        description="Intents of one strategy in the window, sent or not; one more latches it off.",
    )
    rejects_max: int = Field(
        5, ge=1, le=1_000, description="Rejections by the broker in a row that latch a strategy off."
    )
    denials_max: int = Field(
        20, ge=1, le=1_000, description="Denials in a row, by its own fault, that latch a strategy off."
    )
    exits_per_min_max: int = Field(
        10,
        ge=1,
        le=100_000,
        description="Exits in one contract in a market minute; one more halts trading until a person looks.",
    )
    clock_offset_ms_max: int = Field(
        2_000,
        ge=100,
        le=60_000,
        description="Only exits when our clock is further from the broker's, milliseconds.",
    )
    require_bracket: bool = Field(True, description="Deny an entry that brings no stop.")
    bracket_ticks_min: int = Field(
        4, ge=1, le=1_000, description="The gateway refuses anything nearer, ticks."
    )

    @field_validator("blackouts")
    @classmethod
    def _windows(cls, blackouts: tuple[str, ...]) -> tuple[str, ...]:
        for text in blackouts:
            Blackout.parse(text)
        return blackouts


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
    mismatch_after_s: float = Field(
        25.0,
        ge=0,
        le=600,
        description="A position that our fills do not explain reduces trading when it lasts that long.",
    )
    settle_after_s: float = Field(
        600.0,
        ge=1,
        le=86_400,
        description="What has ended stays in memory for so long at least; after that only the ledger has it.",
    )
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
    protect_after_s: float = Field(
        1.0,
        ge=0.2,
        le=10,
        description="Time the broker has to size its stops before execution mends what protects a position.",
    )
    protect_within_s: float = Field(
        4.5,
        ge=1,
        le=60,
        description="An alarm, when a position has no stop of its size for so long. Half a second of the "
        "promised five is left for hearing of the fill and for looking.",
    )
    plan_pause_s: float = Field(
        1.0, ge=0.2, le=60, description="Least time between two moves of one stop by its plan."
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
        own = {"day_starts_at_utc_h", "sessions", "blackouts", "clock_offset_ms_max"}
        limits = Limits(
            symbols=frozenset(julie.symbols),
            always_open=self.risk.sessions == "always",
            blackouts=tuple(Blackout.parse(text) for text in self.risk.blackouts),
            **self.risk.model_dump(exclude=own),
        )
        return Rules(
            account_id=julie.account_id,
            limits=limits,
            market_speed=julie.market_speed,
            venue_clock=julie.market_clock == "venue",
            quarantine_s=self.quarantine_s,
            searches_min=self.searches_min,
            mismatch_after_s=self.mismatch_after_s,
            settle_after_s=self.settle_after_s,
            day_starts_at_utc_h=self.risk.day_starts_at_utc_h,
            flatten_rounds_max=self.flatten_rounds_max,
            cancels_max=self.cancels_max,
            orphan_after_s=self.orphan_after_s,
            protect_after_s=self.protect_after_s,
            protect_within_s=self.protect_within_s,
            plan_pause_s=self.plan_pause_s,
            clock_offset_ms_max=self.risk.clock_offset_ms_max,
        )


SECTION = ExecutionConfig
