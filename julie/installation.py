"""What the command line knows of an installation: its settings, its bus, its folders."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from shared.bus.bus import RedisBus
from shared.bus.client import Address
from shared.runtime.config import (
    SECTIONS,
    BrokerSection,
    JulieSection,
    RedisSection,
    Settings,
    SettingsRefused,
    run_dir,
)

ACTIVE_FILE = "active.json"

COMMON_SECTIONS: dict[str, type[BaseModel]] = {
    "julie": JulieSection,
    "redis": RedisSection,
    "broker": BrokerSection,
}


def section_models() -> dict[str, type[BaseModel]]:
    """Return the model of every section there is; each service names its own in `config.py`."""
    models = dict(COMMON_SECTIONS)
    for name in SECTIONS:
        if name not in models:
            models[name] = importlib.import_module(f"services.{name}.config").SECTION
    return models


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One installation, seen from outside its processes."""

    settings: Settings
    julie: JulieSection
    broker: BrokerSection
    address: Address

    @classmethod
    def find(cls, variables: Mapping[str, str] | None = None) -> Installation:
        """Read the settings of the installation that is running, or would be started.

        Args:
            variables: Set for this run only (a replay, another speed); None: those of the running one.

        Raises:
            SettingsRefused: If they cannot be used.
        """
        settings = read_settings(variables)
        parts = settings.sections(**COMMON_SECTIONS)
        julie, redis, broker = parts["julie"], parts["redis"], parts["broker"]
        assert isinstance(julie, JulieSection)
        assert isinstance(redis, RedisSection)
        assert isinstance(broker, BrokerSection)
        return cls(settings=settings, julie=julie, broker=broker, address=redis.address(julie.data_dir))

    def all_sections(self) -> dict[str, BaseModel]:
        """Check every section of every service.

        Raises:
            SettingsRefused: With every problem there is.
        """
        return self.settings.sections(**section_models())

    @property
    def run_dir(self) -> Path:
        return run_dir(self.julie.data_dir)

    def bus(self) -> RedisBus:
        return RedisBus(self.address, now_ns=time.time_ns, monotonic_ns=time.monotonic_ns)


def check_settings(variables: Mapping[str, str] | None = None) -> None:
    """Look at every section of every service before anything else is done.

    Raises:
        SettingsRefused: With every problem there is, not only those of the section first needed.
    """
    read_settings(variables).sections(**section_models())


def read_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """Return the raw settings of the installation that is running, or would be started."""
    if variables is None:
        variables = _active_variables()
    return Settings.read({**os.environ, **variables})


def base_run_dir() -> Path:
    """Return the run folder that the settings name without any run's own variables.

    Raises:
        SettingsRefused: If they cannot be used.
    """
    julie = Settings.read().section("julie", JulieSection)
    return run_dir(julie.data_dir)


def remember_active(variables: Mapping[str, str]) -> None:
    """Note the variables of the run that starts now, so that `julie status` looks at the same one."""
    folder = base_run_dir()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ACTIVE_FILE).write_text(json.dumps(dict(variables)), encoding="utf-8")


def _active_variables() -> dict[str, str]:
    try:
        found = json.loads((base_run_dir() / ACTIVE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


__all__ = [
    "Installation",
    "SettingsRefused",
    "base_run_dir",
    "check_settings",
    "read_settings",
    "remember_active",
    "section_models",
]
