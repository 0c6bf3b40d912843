"""Break valid input a little: what is broken at one place goes deep into the code before it is refused."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

REPLACEMENTS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**40, 0.1, -0.25, 1e308, -1e308,
    5e-324, float("nan"), float("inf"), "", " ", "0", "-1", "NaN", "Infinity", "1e999999", "null", "\x00",
    "\x1e", "é\ud800", "9" * 400, "2025-13-45T99:99:99Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.9999999+14:00", [], {}, [[]], {"": None}, [None] * 50,
)  # fmt: skip
"""What takes the place of a value: the edges of numbers, of text and of time, and other types."""

DEPTHS = (1, 2, 60)
"""Far deeper nesting comes from `broken_bytes`: this tree is written by recursion."""
CHANGES = (1, 1, 1, 2, 4)
"""At once. Mostly one: two broken fields hide each other."""


def broken_json(data: bytes, rng: Random) -> bytes:
    """Return `data` with a few values of its JSON replaced, removed, doubled or moved; or broken bytes."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return broken_bytes(data, rng)
    if rng.random() < 0.15:
        return broken_bytes(data, rng)
    holder = [tree]
    for _ in range(rng.choice(CHANGES)):
        _change(holder, rng)
    text = json.dumps(holder[0], ensure_ascii=rng.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def _change(holder: list[Any], rng: Random) -> None:
    places = _places(holder)
    parent, key = rng.choice(places)
    choice = rng.random()
    if choice < 0.6:
        parent[key] = copy.deepcopy(rng.choice(REPLACEMENTS))
    elif choice < 0.75 and isinstance(parent, dict):
        del parent[key]
    elif choice < 0.85 and isinstance(parent, dict):
        name = rng.choice(("type", "id", "target", "data", "action", "success", key.upper()))
        parent[name] = copy.deepcopy(parent[key])
    elif choice < 0.95:
        other, name = rng.choice(places)
        parent[key] = copy.deepcopy(other[name])
    else:
        for _ in range(rng.choice(DEPTHS)):
            parent[key] = [parent[key]] if rng.random() < 0.9 else {"data": parent[key]}


def _places(holder: list[Any]) -> list[tuple[Any, Any]]:
    """Return (container, key) of every value in the tree."""
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [holder]
    while waiting and len(found) < 2_000:
        container = waiting.pop()
        keys = range(len(container)) if isinstance(container, list) else list(container)
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], list | dict):
                waiting.append(container[key])
    return found


def broken_bytes(data: bytes, rng: Random) -> bytes:
    """Return `data` cut, doubled, with bytes changed, or with foreign bytes in it."""
    at = rng.randrange(len(data) + 1)
    choice = rng.randrange(6)
    if choice == 0:
        return data[:at]
    if choice == 1:
        return data[at:]
    if choice == 2:
        return data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]
    if choice == 3 and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if choice == 4:
        return data[:at] + b"[" * rng.choice((1, 100, 2_000)) + data[at:]
    return data + data[:at]
