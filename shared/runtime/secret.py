"""Secrets that cannot be printed by accident."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

KNOWN: set[str] = set()
"""Values that logs replace; filled whenever a secret is read or received."""

REDACTED = "[secret]"


class Secret:
    """A value that shows itself only to `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        if len(value) >= 4:
            KNOWN.add(value)

    @classmethod
    def from_file(cls, path: Path) -> Secret:
        """Read a secret file; surrounding white space is not part of it.

        Raises:
            OSError: If it cannot be read; the message names the path.
        """
        return cls(path.read_text(encoding="utf-8").strip())

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied into files or messages")


def redact(text: str) -> str:
    """Return `text` with every known secret replaced."""
    for value in KNOWN:
        if value in text:
            text = text.replace(value, REDACTED)
    return text
