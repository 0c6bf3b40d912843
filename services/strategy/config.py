"""Settings of the strategy hosts and their instances."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from shared.runtime.config import Section, check_strategy_id


class InstanceSection(Section):
    """One strategy instance: a class, its symbols, its settings."""

    id: str = Field(description="Name of the instance in keys, order tags and `julie status`.")
    strategy_class: str = Field(
        alias="class",
        pattern=r"^[\w.]+:\w+$",
        description='Where the class is: "strategies.breakout:Breakout".',
    )
    symbols: tuple[str, ...] = Field(min_length=1, description="Exchange tickers; each among julie.symbols.")
    settings: dict[str, Any] = Field({}, description="The strategy's own settings; checked by its class.")

    _id = field_validator("id")(check_strategy_id)


class StrategySection(Section):
    """`[strategy]` in the settings file."""

    instances: tuple[InstanceSection, ...] = Field((), max_length=256, description="What runs.")
    lease_ttl_s: float = Field(3.0, ge=1, le=30, description="An instance of a dead host is free after this.")
    placement_interval_s: float = Field(1.0, ge=0.1, le=5, description="How often leases are renewed.")
    watch_interval_ms: int = Field(50, ge=5, le=500, description="How often each worker is looked at.")
    event_deadline_ms: int = Field(
        1_000, ge=50, le=60_000, description="A callback that takes longer is killed with its process."
    )
    start_deadline_s: float = Field(15.0, ge=1, le=300, description="Time to import, load and begin.")
    memory_max_mb: int = Field(512, ge=64, le=65_536, description="Resident memory of one worker.")
    failures_max: int = Field(5, ge=1, le=100, description="So many failures in the window switch it off.")
    failure_window_s: float = Field(600.0, ge=1, le=86_400, description="The window for failures_max.")
    intent_ttl_s: float = Field(5.0, gt=0, le=60, description="An intent is never sent later than this.")
    max_input_age_s: float = Field(
        5.0, gt=0, le=60, description="Older events reach the strategy but lead to no orders."
    )
    warmup_s: float = Field(
        3_600.0, ge=0, le=86_400, description="How far back a fresh instance begins to read the market."
    )
    skip_behind_s: float = Field(
        30.0,
        ge=6,
        le=3_600,
        description="A strategy this far behind skips to the newest entry; it sees a gap.",
    )
    commit_interval_ms: int = Field(
        250, ge=10, le=1_000, description="At most this is read again after a crash."
    )
    commit_entries_max: int = Field(4_096, ge=1, le=100_000, description="Entries between two commits.")
    nice: int = Field(10, ge=0, le=19, description="Priority of the workers, below everything else.")

    @field_validator("instances")
    @classmethod
    def _unique(cls, instances: tuple[InstanceSection, ...]) -> tuple[InstanceSection, ...]:
        names = [instance.id for instance in instances]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the id {name!r} is used twice; every instance needs its own")
        return instances


SECTION = StrategySection
