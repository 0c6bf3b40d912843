"""Marked points of the order path, where a test may kill or freeze the process. Nothing happens unless armed.

`JULIE_MARK=after_claim:kill` kills the process (SIGKILL) when it gets there; `after_claim:stop` freezes it
(SIGSTOP) until somebody sends SIGCONT; `after_claim:kill:3` waits for the third time. `JULIE_MARK=@FILE`
reads the same from a file at every mark and removes the file before it acts: so a process is armed while it
runs, and once.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple, get_args

VARIABLE = "JULIE_MARK"

Mark = Literal["before_claim", "after_claim", "after_post_sent", "after_reply", "before_publish"]
"""What is true there.

before_claim: decided, nothing is written.
after_claim: in the ledger, nothing is sent.
after_post_sent: the POST has left, no answer has been read.
after_reply: answered, the answer is not in the ledger.
before_publish: a step of an order is in the ledger and not on the bus.
"""
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Spec(NamedTuple):
    mark: str
    number: signal.Signals
    times: int


def parse(text: str) -> Spec:
    """Read `MARK:kill` or `MARK:stop`, with `:N` for the N-th time.

    Raises:
        ValueError: If it is neither, naming what there is.
    """
    mark, _, rest = text.strip().partition(":")
    action, _, times = rest.partition(":")
    times = times or "1"
    if mark not in get_args(Mark) or action not in SIGNALS or not times.isdecimal() or int(times) < 1:
        raise ValueError(
            f"{VARIABLE}={text!r}: write MARK:kill or MARK:stop, with :N for the N-th time; "
            f"marks are {', '.join(get_args(Mark))}"
        )
    return Spec(mark, SIGNALS[action], int(times))


_armed = os.environ.get(VARIABLE, "")
_file = Path(_armed[1:]) if _armed.startswith("@") else None
_spec = parse(_armed) if _armed and _file is None else None
_seen: Counter[str] = Counter()

ARMED = bool(_armed)
"""Read once: on the order path an unarmed mark costs one look at it."""


def reached(mark: Mark) -> None:
    """Say that the process is there; it ends or freezes here when that is what was asked for."""
    if not ARMED:
        return
    _seen[mark] += 1
    spec = _spec
    if _file is not None:
        try:
            spec = parse(_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
    if spec is None or spec.mark != mark or _seen[mark] < spec.times:
        return
    if _file is not None:
        _file.unlink()
    elif _seen[mark] > spec.times:
        return  # a process that was frozen goes on
    os.kill(os.getpid(), spec.number)
