"""Settings of heartbeat: how the session is kept, and how every other process is judged."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from shared.runtime.config import Section


class HeartbeatSection(Section):
    """Every duration in seconds."""

    validate_interval_s: float = Field(
        60.0, ge=0.05, le=600, description="The session is validated this often, on an absolute schedule."
    )
    renew_at_life_share: float = Field(
        0.8, ge=0.1, le=0.95, description="Share of a token's life after which a new one is asked for."
    )
    ask_within_s: float = Field(
        20.0, ge=0.1, le=120, description="A login or validation without an answer is given up after this."
    )
    retry_first_s: float = Field(
        1.0, ge=0.01, le=60, description="First pause after a login or validation without an answer."
    )
    retry_max_s: float = Field(
        60.0, ge=0.01, le=600, description="Longest such pause; pauses double up to it."
    )
    refused_retry_s: float = Field(
        900.0,
        ge=1,
        le=86_400,
        description="Refused credentials are tried again after this, or as soon as their file has changed.",
    )
    logout_on_stop: bool = Field(
        False, description="End the session at the broker when stopped; other processes lose it too."
    )
    vital: tuple[str, ...] = Field(
        ("feed", "broker_sync", "execution", "guard"),
        description="Processes without which no new exposure is taken.",
    )
    judge_interval_s: float = Field(0.25, ge=0.01, le=0.5, description="How often everyone is judged.")
    late_after_s: float = Field(1.5, gt=0, le=60, description="Silence after which a process is late.")
    dead_after_s: float = Field(
        3.0, gt=0, le=60, description="Silence after which it is dead; trading halts when it is vital."
    )
    stuck_after_s: float = Field(
        3.0, gt=0, le=600, description="Work of one duty that waits longer than this is stuck."
    )
    overdue_factor: float = Field(
        2.5, gt=1, le=10, description="A duty is overdue after this many of its own intervals."
    )
    start_grace_s: float = Field(
        20.0, gt=0, le=600, description="How long a process may take to become ready."
    )
    resume_after_s: float = Field(
        2.0, ge=0, le=600, description="How long all vital processes must be back before trading resumes."
    )
    forget_after_s: float = Field(
        3_600.0, gt=0, le=86_400, description="A process that is not vital is forgotten after this silence."
    )
    processes_max: int = Field(256, ge=4, le=4_096, description="How many processes are judged at most.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.late_after_s >= self.dead_after_s:
            raise ValueError("late_after_s must be below dead_after_s")
        if self.retry_first_s > self.retry_max_s:
            raise ValueError("retry_first_s must not exceed retry_max_s")
        return self


SECTION = HeartbeatSection
