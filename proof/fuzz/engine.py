"""What is fuzzed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Target(NamedTuple):
    """One entrance of the system.

    Attributes:
        samples: Valid input to start from.
        check: Raises when a promise is broken: a crash, a trade, or raw bytes lost.
        share: Of all inputs, in parts of a hundred.
        head_bytes: Before the JSON of an input: which call, which kind.
    """

    name: str
    samples: list[bytes]
    check: Callable[[bytes], None]
    share: int
    head_bytes: int = 0


class PromiseBroken(AssertionError):
    """Input did what no input may do."""
