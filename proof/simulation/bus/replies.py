"""What a Redis server answers, as a client's parser gives it: bytes, numbers, lists, None, errors."""

from __future__ import annotations

from typing import Any

Reply = Any
"""bytes, int, None, `Status`, `ErrorReply` or a list of them."""


class Status(bytes):
    """A simple string; equal to its bytes."""


OK = Status(b"OK")


class ErrorReply(Exception):
    """A refusal; its text is what stands behind the `-` on the wire."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ErrorReply) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def wrong_type() -> ErrorReply:
    return ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value")


def syntax() -> ErrorReply:
    return ErrorReply("ERR syntax error")


INT_MAX = 2**63 - 1


def integer(word: bytes) -> int:
    """Read a number as Redis does: no blanks, no plus sign, no leading zeros, 64 bits."""
    try:
        number = int(word)
    except ValueError:
        number = None
    if number is None or b"%d" % number != word or not -INT_MAX - 1 <= number <= INT_MAX:
        raise ErrorReply("ERR value is not an integer or out of range")
    return number


def window(length: int, start: int, stop: int) -> slice:
    """Return the slice that Redis means by two inclusive indices, which may count from the end."""
    start = max(0, start + length) if start < 0 else start
    stop = stop + length if stop < 0 else stop
    return slice(start, max(start, stop + 1))
