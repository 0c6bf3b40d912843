"""Settings of the recorder."""

from __future__ import annotations

from pydantic import Field

from shared.runtime.config import Section

HOUR_S = 3_600.0
DAY_S = 86_400.0


class RecorderConfig(Section):
    """What is written when, and how long Redis keeps what is written."""

    scan_interval_s: float = Field(
        2.0, ge=0.05, le=60, description="Seconds between two looks for new streams and new entries."
    )
    flush_interval_s: float = Field(
        10.0, ge=0.1, le=600, description="Seconds after which new entries of a stream become a file."
    )
    rows_max: int = Field(
        100_000, ge=100, le=1_000_000, description="Entries in one file; so many are written at once."
    )
    keep_s: float = Field(
        HOUR_S, ge=60, description="Seconds for which market data and journals stay in Redis once archived."
    )
    keep_intents_s: float = Field(
        DAY_S,
        ge=HOUR_S,
        description="Seconds for which intents stay in Redis; execution has passed them long before.",
    )
    keep_session_entries: int = Field(
        10_000, ge=100, description="Entries of the session stream that stay in Redis."
    )
    trim_orders_after_s: float = Field(
        7 * DAY_S,
        ge=2 * DAY_S,
        description="Seconds for which orders, reports and control stay in Redis; never less than a session.",
    )
    retry_s: float = Field(
        5.0,
        ge=0.05,
        le=600,
        description="Seconds between two attempts at a stream that could not be written.",
    )
    compact_bytes_max: int = Field(
        8 * 1024 * 1024, ge=65_536, description="Bytes up to which small files of a day are merged into one."
    )
    compact_files_max: int = Field(
        400,
        ge=2,
        description="Files of the running day beyond which they are merged without waiting for its end.",
    )


SECTION = RecorderConfig
