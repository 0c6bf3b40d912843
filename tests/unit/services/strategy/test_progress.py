"""One page, two ends: what the worker writes is what the host sees."""

from __future__ import annotations

import os

from services.strategy.progress import BUSY, HANDLED, LAST_MS, LAST_SEQ, TURNS, ProgressPage


def test_both_ends_see_the_same() -> None:
    host = ProgressPage.create()
    worker = ProgressPage(os.dup(host.fd))
    assert (host.look().ready, host.look().reason, host.look().last_id) == (False, "", "0-0")
    worker.words[BUSY], worker.words[HANDLED], worker.words[TURNS] = 1, 12, 3
    worker.words[LAST_MS], worker.words[LAST_SEQ] = 1_700_000_000_000, 42
    worker.say("ZeroDivisionError: " + "x" * 10_000)
    seen = host.look()
    assert (seen.busy, seen.handled, seen.turns, seen.last_id) == (True, 12, 3, "1700000000000-42")
    assert seen.reason.startswith("ZeroDivisionError: xxx") and len(seen.reason) == 3_000
    worker.close()
    host.close()
