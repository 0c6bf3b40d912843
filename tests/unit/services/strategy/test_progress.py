"""One page, two ends: what the worker writes is what the host sees."""

from __future__ import annotations

import os

from services.strategy.progress import (
    BUSY,
    HANDLED,
    LAST_MS,
    LAST_SEQ,
    SEQS,
    SEQS_MAX,
    TURNS,
    ProgressPage,
    consumed_streams,
)


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


def test_each_stream_of_an_instance_has_a_word() -> None:
    names = consumed_streams(1001, [f"S{n}" for n in range(40)])
    assert names[:2] == ["orders:{1001}", "md:{S0}"]
    assert len(names) == SEQS_MAX
    page = ProgressPage.create()
    page.words[SEQS], page.words[SEQS + SEQS_MAX - 1] = 7, 9
    page.say("x")
    seen = page.look()
    assert (seen.seqs[0], seen.seqs[-1], len(seen.seqs), seen.reason) == (7, 9, SEQS_MAX, "x")
    page.close()
