"""`python -m services.recorder`: archive every stream, at low priority."""

from __future__ import annotations

import os

from services.recorder.config import RecorderConfig
from services.recorder.shell import run
from shared.runtime.service import serve

NICE = 5
"""Behind everything that trades, before the strategies (10)."""


def main() -> None:
    os.nice(NICE)
    # One thread for columns: a recorder that takes both cores would be felt by those who trade.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    serve("recorder", RecorderConfig, run)


if __name__ == "__main__":
    main()
