"""The keys of one server, their ends, and the table of commands that work on them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from proof.simulation.bus.replies import Reply, wrong_type

V = TypeVar("V")

WRITE, GROWS, ADMIN = 1, 2, 4
"""What a command does: changes keys; may need memory for it; may be asked of a server that is loading."""


class Store:
    """All keys. A value is bytes (string), dict (hash), list, or a class of its own (stream, sorted set)."""

    __slots__ = ("appended", "effect", "ends_ms", "keys", "loading", "trimmed", "wall_us")

    def __init__(self, wall_us: Callable[[], int]) -> None:
        self.wall_us = wall_us
        self.keys: dict[bytes, Any] = {}
        self.ends_ms: dict[bytes, int] = {}
        self.appended: list[bytes] = []
        """Streams that got entries since the server last looked who waits for them."""
        self.effect: list[bytes] | None = None
        """How the running command is written to the append-only file, where not as it was sent."""
        self.loading = False
        self.trimmed: Callable[[bytes, list[Any]], None] = lambda key, rows: None
        """Hears of each trim, before it: the stream, and the rows that go."""

    def now_ms(self) -> int:
        return self.wall_us() // 1000

    def find(self, key: bytes) -> Any:
        """Return the value, None if there is none or its time is over."""
        value = self.keys.get(key)
        if value is not None and self.ends_ms and not self.loading:
            end_ms = self.ends_ms.get(key)
            if end_ms is not None and end_ms < self.now_ms():
                self.drop(key)
                return None
        return value

    def find_as(self, key: bytes, kind: type[V]) -> V | None:
        """Return the value if it is of this kind, None if there is none."""
        value = self.find(key)
        if value is not None and type(value) is not kind:
            raise wrong_type()
        return value

    def find_or_make(self, key: bytes, kind: type[V]) -> V:
        value = self.find(key)
        if value is None:
            value = self.keys[key] = kind()
        elif type(value) is not kind:
            raise wrong_type()
        return value

    def drop(self, key: bytes) -> None:
        self.keys.pop(key, None)
        self.ends_ms.pop(key, None)

    def drop_if_empty(self, key: bytes, value: Any) -> None:
        if not value:
            self.drop(key)

    def living(self) -> list[bytes]:
        """Return the keys whose time is not over, oldest first."""
        return [key for key in list(self.keys) if self.find(key) is not None]


class Command(NamedTuple):
    """One command: `run(store, args)`, `args[0]` is its name."""

    run: Callable[[Store, list[bytes]], Reply]
    words_min: int
    words_max: int | None
    flags: int
    name: str


COMMANDS: dict[bytes, Command] = {}
Run = Callable[[Store, list[bytes]], Reply]


def command(name: str, words: int, flags: int = 0) -> Callable[[Run], Run]:
    """Enter a command into the table; `words` as Redis counts them: with its name, -n for at least n."""

    def enter(run: Run) -> Run:
        COMMANDS[name.encode()] = Command(run, abs(words), words if words > 0 else None, flags, name.lower())
        return run

    return enter


@lru_cache(maxsize=256)
def glob(pattern: bytes) -> re.Pattern[bytes]:
    """Return what matches the same keys as a Redis pattern does."""
    out, at = b"", 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        end = pattern.find(b"]", at + 2) if char == b"[" else -1
        if char == b"*":
            out += b".*"
        elif char == b"?":
            out += b"."
        elif char == b"\\" and at + 1 < len(pattern):
            at += 1
            out += re.escape(pattern[at : at + 1])
        elif end > 0:
            inside = pattern[at + 1 : end]
            negated = b"^" if inside.startswith(b"^") else b""
            inside = inside.removeprefix(b"^").replace(b"\\", b"\\\\").replace(b"[", b"\\[")
            out += b"[" + negated + inside + b"]"
            at = end
        else:
            out += re.escape(char)
        at += 1
    return re.compile(out, re.DOTALL)
