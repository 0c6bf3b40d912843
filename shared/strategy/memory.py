"""What a strategy remembers across a restart: its attributes, when they are plain data.

Numbers, text, tuples, lists, sets, dicts, deques, `Decimal`, enums, msgspec structs and the indicators save
themselves. JSON alone cannot tell a tuple from a list, so anything but a number, text or None needs its type:
annotate the attribute in the class. What cannot be saved is an error when the strategy starts, not after the
first crash.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, get_args, get_origin

import msgspec

from shared.strategy.settings import annotations_of, setting_types

_SELF_TYPED = (bool, int, float, str, type(None))
_NON_FINITE = "julie:float"


class MemoryRefused(TypeError):
    """An attribute cannot be saved or does not fit what was saved."""

    def __init__(self, strategy: str, attribute: str, why: str, remedy: str) -> None:
        super().__init__(strategy, attribute, why, remedy)
        self.strategy, self.attribute, self.why, self.remedy = strategy, attribute, why, remedy

    def __str__(self) -> str:
        return f"{self.strategy}.{self.attribute}: {self.why}; {self.remedy}"


def save_attributes(strategy: object) -> dict[str, Any]:
    """Return the attributes that make up the memory, by name.

    Raises:
        MemoryRefused: If one of them is not plain data, or its type cannot be known when it comes back.
    """
    cls = type(strategy)
    settings = setting_types(cls)
    types = annotations_of(cls)
    saved: dict[str, Any] = {}
    for name in sorted(vars(strategy)):
        if name in settings or name.startswith("_desk"):
            continue
        value = vars(strategy)[name]
        if name not in types and not _knows_itself(value):
            raise MemoryRefused(
                cls.__name__,
                name,
                f"the type {type(value).__name__} does not come back from a snapshot by itself",
                f"annotate it in the class (`{name}: {type(value).__name__}`) or write save() and load()",
            )
        if isinstance(value, float) and not math.isfinite(value):
            saved[name] = {_NON_FINITE: repr(value)}  # JSON has no word for it
            continue
        try:
            saved[name] = _plain(value)
        except TypeError as error:
            raise MemoryRefused(
                cls.__name__, name, str(error), "keep plain data, or write save() and load()"
            ) from None
    return saved


def load_attributes(strategy: object, saved: dict[str, Any]) -> None:
    """Set the saved attributes, each as its annotated type.

    Raises:
        MemoryRefused: If one does not fit its annotation.
    """
    cls = type(strategy)
    types = annotations_of(cls)
    for name, value in saved.items():
        if isinstance(value, dict) and value.keys() == {_NON_FINITE}:
            setattr(strategy, name, float(value[_NON_FINITE]))
            continue
        kind = types.get(name, type(value))
        try:
            restored = _restored(value, kind)
        except (msgspec.ValidationError, TypeError) as error:
            raise MemoryRefused(
                cls.__name__, name, f"what was saved does not fit: {error}", "see docs/strategy.md, snapshots"
            ) from error
        setattr(strategy, name, restored)


def _knows_itself(value: object) -> bool:
    if isinstance(value, _SELF_TYPED):
        return type(value) in _SELF_TYPED
    if type(value) is list:
        return all(_knows_itself(item) for item in value)
    if type(value) is dict:
        return all(type(key) is str and _knows_itself(item) for key, item in value.items())
    return False


def _plain(value: object) -> Any:
    """Return `value` as something JSON holds; a deque carries its length limit along."""
    if isinstance(value, deque):
        return {"maxlen": value.maxlen, "items": [_plain(item) for item in value]}
    if isinstance(value, dict):
        # Struct keys and int keys become text; the annotation brings them back.
        return {msgspec.to_builtins(key, str_keys=True): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    plain = msgspec.to_builtins(value)
    _check_finite(plain)
    return plain


def _check_finite(plain: Any) -> None:
    if isinstance(plain, float) and not math.isfinite(plain):
        raise TypeError(f"it holds {plain}, which JSON cannot; use None")
    for item in plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else ():
        _check_finite(item)


def _restored(value: Any, kind: Any) -> Any:
    origin = get_origin(kind) or kind
    arguments = get_args(kind)
    if isinstance(origin, type) and issubclass(origin, deque):
        items = [_restored(item, arguments[0]) if arguments else item for item in value["items"]]
        return deque(items, maxlen=value["maxlen"])
    if origin is dict and len(arguments) == 2:
        return {
            msgspec.convert(key, arguments[0], strict=False): _restored(item, arguments[1])
            for key, item in value.items()
        }
    if origin is list and arguments:
        return [_restored(item, arguments[0]) for item in value]
    return msgspec.convert(value, kind)
