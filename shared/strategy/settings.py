"""Settings of a strategy: its annotated class attributes that have a value.

    class Breakout(Strategy):
        lookback_bars: Annotated[int, Meta(ge=1, le=200)] = 3   # a setting with bounds
        highs: deque[float]                                      # no value: memory, not a setting

All problems are reported together, each with the setting's name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, get_origin, get_type_hints

import msgspec


class StrategySettingsRefused(ValueError):
    """The settings of one strategy instance cannot be used."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


def annotations_of(cls: type) -> Mapping[str, Any]:
    """Return the annotated attributes of a strategy class, class variables left out.

    Raises:
        StrategySettingsRefused: If an annotation names a type that does not exist.
    """
    kind: Any = cls  # the type checker doubts that classes can be hashed
    return _annotations_of(kind)


@cache
def _annotations_of(cls: Any) -> Mapping[str, Any]:
    """Every snapshot asks, and reading annotations that are text costs a compilation each."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise StrategySettingsRefused([f"{cls.__name__}: an annotation cannot be read: {error}"]) from error
    return MappingProxyType({name: kind for name, kind in hints.items() if get_origin(kind) is not ClassVar})


def setting_types(cls: type) -> dict[str, Any]:
    """Return setting -> type of a strategy class."""
    return {
        name: kind
        for name, kind in annotations_of(cls).items()
        if not name.startswith("_") and hasattr(cls, name)
    }


def read_settings(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting of `cls` with its checked value.

    Raises:
        StrategySettingsRefused: With every unknown, ill-typed and out-of-range setting.
    """
    types = setting_types(cls)
    problems = [f"{name}: no such setting{_hint(name, types)}" for name in given if name not in types]
    values: dict[str, Any] = {}
    for name, kind in types.items():
        value = given.get(name, getattr(cls, name))
        try:
            values[name] = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            problems.append(f"{name}: {error}, got {value!r}")
        except TypeError as error:
            problems.append(f"{name}: its type cannot be a setting: {error}")
    if problems:
        raise StrategySettingsRefused(problems)
    return values


def _hint(name: str, types: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(types), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(sorted(types)) or 'none'}"
