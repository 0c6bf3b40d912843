"""What a fault may be told: the settings of `[simulator.faults]`, and the body of PUT `/simulator/faults`."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from shared.runtime.config import Section

KINDS: dict[str, str] = {
    # requests: `only` holds beginnings of paths
    "status": "answered with `status` (and Retry-After) without being processed",
    "cut_before": "connection closed without being processed",
    "stall": "processed only after `delay_s`, and answered then, whether the client waits or not",
    "late_landing": "answered with `status` at once (default 504; 0: cut), processed after `delay_s`",
    "cut_after": "processed, then the connection is closed without a reply",
    "slow": "processed at once, answered after `delay_s`",
    "empty_body": "processed, answered 200 with nothing",
    "html_body": "processed, answered 200 with a page of HTML",
    "truncated_json": "processed, answered 200 with half of the JSON",
    "null_lists": "processed, answered with null instead of every list and of a new token",
    "wrong_code": "processed, answered success false with `code` (default 7)",
    "wrong_status": "processed, answered with `status` (default 400)",
}
"""Kind of fault -> what happens to what it hits."""

ONLY_PLACE = ("/api/Order/place",)
DEFAULT_ONLY: dict[str, tuple[str, ...]] = {"late_landing": ONLY_PLACE, "wrong_code": ONLY_PLACE}
DEFAULT_STATUS = {"status": 500, "late_landing": 504, "wrong_status": 400}
NEEDS_DELAY = frozenset({"stall", "late_landing", "slow"})


class Fault(Section):
    """One fault. Which of the things that pass it hits is decided by its own seeded chance."""

    kind: str = Field(description=f"One of {', '.join(KINDS)}.")
    name: str = Field(default="", description="What its hits are counted under. Default: its kind.")
    only: tuple[str, ...] = Field(
        default=(), description="What it may hit: beginnings of paths, event names or hub names. Empty: all."
    )
    rate: float = Field(default=1.0, gt=0, le=1, description="Chance to hit what may be hit.")
    skip: int = Field(default=0, ge=0, description="So many that may be hit pass first.")
    count: int | None = Field(default=None, gt=0, description="Hits after which it is over.")
    for_s: float | None = Field(default=None, gt=0, description="Seconds after which it is over.")
    delay_s: tuple[float, float] = Field(
        default=(0.0, 0.0), description="Seconds, drawn between the two; one number stands for both."
    )
    status: int | None = Field(default=None, ge=0, le=599, description="HTTP status; 0 cuts the connection.")
    code: int = Field(default=7, ge=1, description="errorCode of a wrong_code.")
    retry_after_s: int | None = Field(default=None, ge=0, description="Retry-After of a status.")

    @field_validator("delay_s", mode="before")
    @classmethod
    def _both(cls, given: object) -> object:
        return (given, given) if isinstance(given, int | float) else given

    @model_validator(mode="after")
    def _check(self) -> Fault:
        if self.kind not in KINDS:
            raise ValueError(f"there is no fault {self.kind!r}; there are {', '.join(KINDS)}")
        low, high = self.delay_s
        if not 0 <= low <= high:
            raise ValueError(f"delay_s of {self.kind} must rise from 0 or more, as in [0.5, 2]")
        if high == 0 and self.kind in NEEDS_DELAY:
            raise ValueError(f"{self.kind} needs delay_s")
        return self

    @property
    def label(self) -> str:
        return self.name or self.kind

    @property
    def targets(self) -> tuple[str, ...]:
        return self.only or DEFAULT_ONLY.get(self.kind, ())

    @property
    def http_status(self) -> int:
        return DEFAULT_STATUS.get(self.kind, 200) if self.status is None else self.status


class FaultsConfig(Section):
    """Faults on demand; see the runbook, "The simulator with faults"."""

    seed: int = Field(default=1, description="Seed of every fault's chance.")
    active: tuple[Fault, ...] = Field(default=(), description="Faults in force from the start.")
