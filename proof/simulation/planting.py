"""Planted bugs: each is put into the real code of one process of the simulator, and must be caught.

All are bugs that people have had in systems like this one. They are patches in memory; no file changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SEEDS_MAX = 500
"""Each bug must be caught by one of the first so many seeds: what needs a rarer one is as good as missed."""
Patches = list[Any]
BUGS: dict[str, Callable[[], Patches]] = {}
CAUGHT: dict[str, int] = {}


def bug(*, caught_in: int) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
    """Take a bug into the list.

    Args:
        caught_in: A seed below `SEEDS_MAX` that has caught it. It is played first, so that a run over all
            bugs is short; if it no longer catches the bug, the others are played, and another seed belongs
            here.
    """

    assert 0 <= caught_in < SEEDS_MAX, f"a bug that only seed {caught_in} shows is not caught"

    def listed(make: Callable[[], Patches]) -> Callable[[], Patches]:
        name = make.__name__.replace("_", " ")
        BUGS[name] = make
        CAUGHT[name] = caught_in
        return make

    return listed


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Have one bug, or none."""
    patches = BUGS[name]() if name is not None else []
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in reversed(patches):
            one.stop()
