"""Planted bugs: each is put into the real code of one process of the simulator, and must be caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch as patched

Plant = Callable[[], object]
BUGS: dict[str, Callable[[], list[object]]] = {}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Have one bug, or none."""
    patches = BUGS[name]() if name is not None else []
    for one in patches:
        one.start()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for one in reversed(patches):
            one.stop()  # type: ignore[attr-defined]


_ = patched
