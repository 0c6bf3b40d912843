"""Settings of the feed, section `[feed]`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from services.feed.state import Settings
from shared.runtime.config import JulieSection, Section


class FeedConfig(Section):
    """Market data: what is asked for, how long to wait, when to doubt."""

    bar_intervals_s: tuple[int, ...] = Field(
        (60,),
        min_length=1,
        max_length=16,
        description="Bar lengths that are always published, in seconds: whole minutes up to a day. Others "
        "begin when a strategy asks for them.",
    )
    backfill_bars: int = Field(
        120, ge=0, le=10_000, description="One-minute bars of history to fetch at the first start."
    )
    backfill_attempts_max: int = Field(
        5, ge=1, le=50, description="Tries to get a bar from history before it is published as it is."
    )
    backfill_hold_s: float = Field(
        15.0, ge=1, le=300, description="How long live bars wait for older ones from history, in seconds."
    )
    backfill_delay_s: float = Field(
        1.0, ge=0.1, le=60, description="How long after a minute's end history is asked for it, in seconds."
    )
    bar_grace_ms: int = Field(
        1_000,
        ge=0,
        le=10_000,
        description="How long the clock waits for trades after a bar's end, in real milliseconds; the next "
        "trade or quote ends it sooner.",
    )
    quote_closes_bar_after_ms: int = Field(
        20, ge=0, le=5_000, description="A quote this far past a bar's end closes it, by event time."
    )
    stale_after_s: float = Field(
        10.0,
        ge=1,
        le=600,
        description="Silence that makes a probe while the stock market is open, in seconds.",
    )
    stale_after_night_s: float = Field(
        60.0, ge=1, le=3_600, description="The same for the rest of the session."
    )
    sessions: Literal["calendar", "always"] = Field(
        "calendar", description="`always`: the venue never closes (a synthetic market)."
    )
    probe_wait_s: float = Field(
        5.0, ge=0.5, le=60, description="A probe without answer for this long: stale."
    )
    reconnect_pause_s: float = Field(
        30.0, ge=1, le=600, description="Least time between reconnects for silence, in seconds."
    )
    price_jump_max_pct: float = Field(
        10.0,
        gt=0,
        le=100,
        description="A price further from the last trade, in percent, makes the feed stale.",
    )
    jump_confirm_s: float = Field(
        5.0, ge=0, le=600, description="A jump that stands for this long is believed, in seconds."
    )
    ts_ahead_max_s: float = Field(
        60.0, ge=1, le=86_400, description="An event time further ahead of the market's clock is refused."
    )
    state_publish_hz: float = Field(
        20.0, ge=1, le=100, description="MarketState at most this often a symbol."
    )
    vouch_interval_s: float = Field(
        0.5, ge=0.1, le=5, description="MarketState at least this often, in seconds."
    )
    resolve_retry_s: float = Field(
        60.0, ge=1, le=3_600, description="Between tries to find a symbol that the broker does not have."
    )
    resolve_before_open_s: float = Field(
        600.0, ge=0, le=3_600, description="The front month is resolved again this long before each open."
    )
    md_entries_max: int = Field(
        2_000_000,
        ge=1_000,
        le=100_000_000,
        description="Hard cap of md:{SYM}; the recorder trims long before.",
    )
    pending_max: int = Field(
        200_000, ge=1_000, le=5_000_000, description="Entries held a symbol while Redis is away; then shed."
    )
    tail_entries_max: int = Field(
        20_000, ge=100, le=500_000, description="Newest entries of md:{SYM} read at start."
    )

    @field_validator("bar_intervals_s")
    @classmethod
    def _minutes(cls, intervals: tuple[int, ...]) -> tuple[int, ...]:
        for interval_s in intervals:
            if interval_s < 60 or interval_s % 60 or interval_s > 86_400:
                raise ValueError(f"{interval_s} is not a whole number of minutes, in seconds, up to a day")
        return tuple(sorted({60, *intervals}))

    def settings(self, julie: JulieSection) -> Settings:
        """Return what the core needs of this and of the common section."""
        return Settings(
            intervals_s=self.bar_intervals_s,
            venue_clock=julie.market_clock == "venue",
            speed=julie.market_speed,
            always_open=self.sessions == "always",
            backfill_bars=self.backfill_bars,
            backfill_attempts_max=self.backfill_attempts_max,
            backfill_hold_ns=_ns(self.backfill_hold_s),
            backfill_delay_ns=_ns(self.backfill_delay_s),
            bar_grace_ns=self.bar_grace_ms * 1_000_000,
            quote_margin_ns=self.quote_closes_bar_after_ms * 1_000_000,
            stale_after_ns=_ns(self.stale_after_s),
            stale_after_night_ns=_ns(self.stale_after_night_s),
            probe_wait_ns=_ns(self.probe_wait_s),
            reconnect_pause_ns=_ns(self.reconnect_pause_s),
            price_jump_max=self.price_jump_max_pct / 100,
            jump_confirm_ns=_ns(self.jump_confirm_s),
            ts_ahead_max_ns=_ns(self.ts_ahead_max_s),
            vouch_ns=_ns(self.vouch_interval_s),
            resolve_retry_ns=_ns(self.resolve_retry_s),
            resolve_before_open_ns=_ns(self.resolve_before_open_s),
        )


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)


SECTION = FeedConfig
