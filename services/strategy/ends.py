"""How a worker ends before it is asked to."""

from __future__ import annotations

import traceback

ERROR_CHARS_MAX = 2_000


class StrategyRaised(Exception):
    """The author's code raised; carries what to journal."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(error, cause)
        self.error, self.cause = error, cause


class Stopped(Exception):
    """The host asked to stop while Redis was away: nothing more can be committed."""


def told(error: BaseException) -> str:
    """Return an error of the author's code with its place, for journal and page."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"[:ERROR_CHARS_MAX]
