"""From the words in the settings to a class with checked settings; every refusal names its remedy."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shared.strategy.settings import StrategySettingsRefused, read_settings
from shared.strategy.strategy import Strategy


class InstanceRefused(ValueError):
    """One strategy instance cannot be started as it is written."""

    def __init__(self, strategy_id: str, why: str, remedy: str) -> None:
        super().__init__(strategy_id, why, remedy)
        self.strategy_id, self.why, self.remedy = strategy_id, why, remedy

    def __str__(self) -> str:
        return f"strategy {self.strategy_id}: {self.why}; {self.remedy}"


class Loaded(NamedTuple):
    """Attributes: settings_hash: changes with the class, its file and its settings."""

    cls: type[Strategy]
    settings: dict[str, Any]
    settings_hash: str


def load(strategy_id: str, path: str, given: Mapping[str, Any]) -> Loaded:
    """Import `module:Class` and check its settings.

    Raises:
        InstanceRefused: If there is no such module or class, or a setting does not fit.
        Exception: Whatever the author's module raises while it is imported.
    """
    module_name, _, class_name = path.partition(":")
    if not class_name:
        raise InstanceRefused(strategy_id, f"class = {path!r}", 'write "package.module:Class"')
    try:
        found = importlib.util.find_spec(module_name)
    except (ModuleNotFoundError, ValueError):
        found = None
    if found is None:
        raise InstanceRefused(
            strategy_id, f"there is no module {module_name!r}", "correct `class`, or put the file on the path"
        )
    cls = getattr(importlib.import_module(module_name), class_name, None)
    if not (inspect.isclass(cls) and issubclass(cls, Strategy)):
        raise InstanceRefused(
            strategy_id,
            f"{module_name} has no strategy class {class_name!r}",
            f"there are {', '.join(_classes(module_name)) or 'none'}",
        )
    try:
        settings = read_settings(cls, given)
    except StrategySettingsRefused as refused:
        raise InstanceRefused(strategy_id, f"settings of {path}: {refused}", "correct them") from refused
    return Loaded(cls, settings, _hash(cls, path, given))


def _classes(module_name: str) -> list[str]:
    found = vars(importlib.import_module(module_name))
    return sorted(
        name
        for name, item in found.items()
        if inspect.isclass(item) and issubclass(item, Strategy) and item is not Strategy
    )


def _hash(cls: type, path: str, given: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(path.encode())
    digest.update(json.dumps(given, sort_keys=True, default=str).encode())
    source = inspect.getsourcefile(cls)
    if source is not None:
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:12]
