"""Timestamps of the gateway to UTC nanoseconds and back.

One API mixes `+00:00` with six or seven digits of fraction, `Z` with milliseconds,
and no zone at all, which means UTC. `datetime` would cut the seventh digit and cost
more than the rest of a quote; since most timestamps share their second with the
one before, the second is looked up and only the fraction is read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

SECOND_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", re.ASCII)
_REST: Final = re.compile(r"(?:\.(\d+))?(?:([+-])(\d\d):?(\d\d))?", re.ASCII)
_SCALE: Final = tuple(int(10 ** (9 - digits)) for digits in range(10))


def parse_ns(text: str) -> int:
    """Return UTC nanoseconds; digits beyond the ninth are dropped.

    Raises:
        ValueError: If `text` is no timestamp, or one before 1970.
    """
    if text[27:] == "+00:00" and text[19:20] == ".":  # the form of nearly all
        digits = text[20:27]
        if digits.isdigit() and digits.isascii():
            return _second_ns(text[:19]) + int(digits) * 100
    base_ns = _second_ns(text[:19])
    rest = text[19:]
    if rest[-6:] == "+00:00":
        rest = rest[:-6]
    elif rest[-1:] in ("Z", "z"):
        rest = rest[:-1]
    if not rest:
        return base_ns
    digits = rest[1:]
    if rest[0] == "." and len(digits) <= 9 and digits.isdecimal() and digits.isascii():
        return base_ns + int(digits) * _SCALE[len(digits)]
    return base_ns + _rest_ns(rest, text)


def format_ns(time_ns: int) -> str:
    """Return the form that requests carry: UTC, seven digits (what .NET keeps), `Z`."""
    seconds, fraction_ns = divmod(time_ns, SECOND_NS)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction_ns // 100:07d}Z"


@lru_cache(maxsize=512)
def _second_ns(text: str) -> int:
    if _SECOND.fullmatch(text) is None:
        raise ValueError(f"{text!r} does not begin like 2025-07-21T13:45:00")
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    elapsed = moment - _EPOCH
    if elapsed.days < 0:
        # .NET's "no time": taking it for a time would put an event before everything.
        raise ValueError(f"{text!r} is before 1970")
    return (elapsed.days * 86_400 + elapsed.seconds) * SECOND_NS


def _rest_ns(rest: str, text: str) -> int:
    match = _REST.fullmatch(rest)
    if match is None:
        raise ValueError(f"{text!r} ends with neither a fraction nor a zone")
    fraction, sign, hours, minutes = match.groups()
    fraction_ns = int(fraction[:9].ljust(9, "0")) if fraction else 0
    if sign is None:
        return fraction_ns
    offset_s = int(hours) * 3_600 + int(minutes) * 60
    return fraction_ns - offset_s * SECOND_NS * (1 if sign == "+" else -1)
