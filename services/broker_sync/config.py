"""Settings of broker_sync: how often the broker's truth is read, and how long it may be trusted."""

from __future__ import annotations

from pydantic import Field

from shared.runtime.config import Section


class BrokerSyncSection(Section):
    """Every duration in seconds, but for `history_hours`."""

    reconcile_interval_s: float = Field(
        30.0, ge=0.05, le=600, description="The account is read over REST this often, whatever happens."
    )
    reconcile_spacing_s: float = Field(
        5.0, ge=0.05, le=600, description="Shortest time between two reconciles that a doubt asked for."
    )
    reconcile_after_fill: bool = Field(
        False, description="Reconcile after every fill too, bundled and no closer than the spacing."
    )
    gather_within_s: float = Field(
        25.0, ge=0.1, le=600, description="A reconcile that takes longer is given up and counts as failed."
    )
    retry_first_s: float = Field(
        0.5, ge=0.01, le=60, description="First pause after a failed reconcile; pauses double."
    )
    retry_max_s: float = Field(10.0, ge=0.01, le=60, description="Longest pause after a failed reconcile.")
    doubt_after_s: float = Field(
        1.5, ge=0.05, le=60, description="Pushes that contradict each other for this long are a doubt."
    )
    push_trusted_s: float = Field(
        3.0,
        ge=0,
        le=60,
        description="A position push no older than this is believed over a REST answer that may lag.",
    )
    history_hours: float = Field(
        24.0, gt=0, le=720, description="How far back fills and orders are read at the first start."
    )
    history_margin_s: float = Field(
        300.0,
        ge=1,
        le=86_400,
        description="How far before the newest fill of the last complete read the next one begins.",
    )
    quote_fresh_s: float = Field(
        5.0, gt=0, le=600, description="Open P&L is unknown when the quote was vouched for longer ago."
    )
    view_interval_s: float = Field(
        0.25, ge=0.05, le=60, description="Shortest time between two writes of the account's picture."
    )


SECTION = BrokerSyncSection
