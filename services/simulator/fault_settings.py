"""What a fault may be told: the settings of `[simulator.faults]`, and the body of PUT `/simulator/faults`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from services.simulator.frames import Garbage
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
    "search_lag": "orders, positions or trades as they were `delay_s` (the greater) ago",
    # sessions: `only` holds beginnings of user names
    "short_tokens": "the token lives for `delay_s`, and says so",
    "early_expiry": "the token dies after `delay_s`, whatever it says",
    # orders: `only` holds beginnings of custom tags
    "tags_reusable": "the tag may have been used before, `delay_s` of venue time or longer ago",
    "partial_fills": "filled in 2 to `parts` parts, `delay_s` of venue time apart",
    "accept_late": "stays Pending for `delay_s`, then opens",
    "reject_late": "accepted and Pending; the exchange rejects it after `delay_s`",
    "reject_legs": "the exchange rejects its bracket `leg` when it would open",
    "hide_orders": "order searches do not show it for `delay_s`; trades and positions do",
    "cancel_late": "a cancel is accepted and takes effect after `delay_s`; until then it may be filled",
    "cancel_after_fill": "a cancel is accepted, but the fill was first",
    # user hub: `only` holds beginnings of event names
    "event_drop": "the event is never sent",
    "event_repeat": "the event is sent `copies` times",
    "event_delay": "the event is sent after `delay_s`, later ones overtake it",
    "event_shuffle": "the event changes places with `window` others",
    "fills_first": "fills are sent before the orders that they fill",
    # market hub: `only` holds symbols
    "market_freeze": "nothing is sent, the link stays up",
    "market_crossed": "the bid is above the ask",
    "market_spike": "prices are `percent` off",
    "market_zero": "prices are zero",
    "market_negative": "prices and traded sizes are negative",
    "market_stale": "an older event is sent again, with its old time",
    "market_after_hours": "trades while the market is closed",
    # bytes of the hubs: `only` holds `user` or `market`
    "frame_fragments": "a message travels in up to `parts` WebSocket frames",
    "frame_pieces": "records are cut over up to `parts` WebSocket messages",
    "frame_garbage": "a record that makes no sense follows, of the kind `what` or of any",
}
"""Kind of fault -> what happens to what it hits."""

ONLY_PLACE = ("/api/Order/place",)
DEFAULT_ONLY: dict[str, tuple[str, ...]] = {"late_landing": ONLY_PLACE, "wrong_code": ONLY_PLACE}
DEFAULT_STATUS = {"status": 500, "late_landing": 504, "wrong_status": 400}
NEEDS_DELAY = frozenset(
    {
        "stall",
        "late_landing",
        "slow",
        "search_lag",
        "short_tokens",
        "early_expiry",
        "accept_late",
        "reject_late",
        "hide_orders",
        "cancel_late",
        "event_delay",
    }
)


class Fault(Section):
    """One fault. Which of the things that pass it hits is decided by its own seeded chance."""

    kind: str = Field(description=f"One of {', '.join(KINDS)}.")
    name: str = Field(default="", description="What its hits are counted under. Default: its kind.")
    only: tuple[str, ...] = Field(
        default=(),
        description="What it may hit: beginnings of paths, tags, event names, symbols. Empty: all.",
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
    parts: int = Field(default=3, ge=2, description="Most parts of an order or a frame.")
    leg: Literal["both", "stop", "target"] = Field(default="both", description="Which leg reject_legs means.")
    copies: int = Field(default=2, ge=2, description="How often event_repeat sends it.")
    window: int = Field(default=20, ge=2, description="Among how many events event_shuffle draws.")
    percent: float = Field(default=5.0, description="How far market_spike is off; negative is down.")
    what: Garbage | None = Field(default=None, description="Kind of frame_garbage; default any.")

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
