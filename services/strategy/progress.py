"""A worker's progress, in memory that it shares with its host.

A worker whose strategy hangs cannot say so. It only counts: before each event it writes one number, and a
flag says whether it is inside a batch. The host looks every 50 ms; a count that stands still while the flag
is up is a hung callback, by the host's clock. While it is down the worker goes on counting its turns, each a
read of Redis that lasts no longer than a commit interval in a quiet market: a page on which nothing moves is
a worker that stands still. Writing costs the worker some 40 ns an event, no system call.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence

from services.strategy.spec import Seen
from shared.wire import topics

SIZE_BYTES = 4_096
_TEXT_AT = 256
_TEXT_BYTES_MAX = 3_000

BUSY, HANDLED, INTENTS, COMMITS, REFUSED, READY, LAST_MS, LAST_SEQ, SUPPRESSED, AWAY, TURNS, BEHIND = range(
    12
)
"""Words of the page: author's code may be running; events given to it; intents; commits; values
refused; started; newest id consumed (two words); suppressed actions; Redis away; pieces of work begun,
passes of the loop and questions to Redis among them; milliseconds behind the newest entry, as far as a full
read tells."""

SEQS = 12
"""From here on: the last entry consumed of each stream, in the order of `consumed_streams`; 0 for unknown."""

SEQS_MAX = 16
_TEXT_LENGTH = 31


def consumed_streams(account_id: int, symbols: Sequence[str]) -> list[str]:
    """Return the streams of an instance that have a word on its page."""
    return [topics.orders(account_id), *(topics.md(symbol) for symbol in symbols)][:SEQS_MAX]


def seen_of(w: memoryview | list[int], reason: str) -> Seen:
    """Return what the words of a page say."""
    return Seen(
        busy=bool(w[BUSY]),
        handled=w[HANDLED],
        intents=w[INTENTS],
        commits=w[COMMITS],
        refused=w[REFUSED],
        ready=bool(w[READY]),
        last_id=f"{w[LAST_MS]}-{w[LAST_SEQ]}",
        suppressed=w[SUPPRESSED],
        away=bool(w[AWAY]),
        turns=w[TURNS],
        behind_ms=w[BEHIND],
        seqs=tuple(w[SEQS : SEQS + SEQS_MAX]),
        reason=reason,
    )


class ProgressPage:
    """The shared page, at either end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, SIZE_BYTES)
        self.words = memoryview(self._map)[:_TEXT_AT].cast("Q")

    @classmethod
    def create(cls) -> ProgressPage:
        """Return a page in a file without a name, to be inherited by the worker."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("julie-progress")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, SIZE_BYTES)
        return cls(fd)

    def say(self, reason: str) -> None:
        """Leave the reason of the end for the host."""
        text = reason.encode()[:_TEXT_BYTES_MAX]
        self._map[_TEXT_AT : _TEXT_AT + len(text)] = text
        self.words[_TEXT_LENGTH] = len(text)

    def look(self) -> Seen:
        text = self._map[_TEXT_AT : _TEXT_AT + self.words[_TEXT_LENGTH]]
        return seen_of(self.words, text.decode("utf-8", "replace"))

    def close(self) -> None:
        self.words.release()
        self._map.close()
        os.close(self.fd)
