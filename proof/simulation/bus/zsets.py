"""Sorted sets, as far as the request budget uses them."""

from __future__ import annotations

import math

from proof.simulation.bus.replies import ErrorReply, Reply, integer, syntax, window
from proof.simulation.bus.store import GROWS, WRITE, Store, command


class SortedSet:
    """Members with a score; ordered by score, then by their bytes."""

    __slots__ = ("scores",)

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self.scores)

    def ordered(self) -> list[tuple[float, bytes]]:
        return sorted((score, member) for member, score in self.scores.items())


def _score(word: bytes) -> float:
    try:
        score = float(word)
    except ValueError:
        score = math.nan
    if math.isnan(score) or b"_" in word or word != word.strip():
        raise ErrorReply("ERR value is not a valid float")
    return score


def _told(score: float) -> bytes:
    """Print a score as Redis does: the shortest text that reads back the same."""
    if math.isinf(score):
        return b"inf" if score > 0 else b"-inf"
    if score == int(score) and abs(score) < 1e17:
        return b"%d" % int(score)
    return repr(score).encode()


def _bound(word: bytes) -> tuple[float, bool]:
    """Return a bound of a range of scores, and whether it is excluded."""
    excluded = word.startswith(b"(")
    try:
        return _score(word[1:] if excluded else word), excluded
    except ErrorReply:
        raise ErrorReply("ERR min or max is not a float") from None


@command("ZADD", -4, WRITE | GROWS)
def zadd(store: Store, args: list[bytes]) -> Reply:
    if len(args) % 2:
        raise syntax()
    scores = [_score(word) for word in args[2::2]]
    found = store.find_or_make(args[1], SortedSet)
    before = len(found)
    found.scores.update(zip(args[3::2], scores, strict=True))
    return len(found) - before


@command("ZSCORE", 3)
def zscore(store: Store, args: list[bytes]) -> Reply:
    found = store.find_as(args[1], SortedSet)
    score = found.scores.get(args[2]) if found is not None else None
    return None if score is None else _told(score)


@command("ZCARD", 2)
def zcard(store: Store, args: list[bytes]) -> Reply:
    return len(store.find_as(args[1], SortedSet) or ())


@command("ZREM", -3, WRITE)
def zrem(store: Store, args: list[bytes]) -> Reply:
    found = store.find_as(args[1], SortedSet)
    if found is None:
        return 0
    return _remove(store, args[1], found, [member for member in args[2:] if member in found.scores])


@command("ZREMRANGEBYSCORE", 4, WRITE)
def zremrangebyscore(store: Store, args: list[bytes]) -> Reply:
    (low, above), (high, below) = _bound(args[2]), _bound(args[3])
    found = store.find_as(args[1], SortedSet)
    if found is None:
        return 0
    gone = [
        member
        for member, score in found.scores.items()
        if (score > low if above else score >= low) and (score < high if below else score <= high)
    ]
    return _remove(store, args[1], found, gone)


def _remove(store: Store, key: bytes, found: SortedSet, members: list[bytes]) -> int:
    before = len(found)
    for member in members:
        found.scores.pop(member, None)
    count = before - len(found)
    store.drop_if_empty(key, found)
    return count


@command("ZRANGE", -4)
def zrange(store: Store, args: list[bytes]) -> Reply:
    """By rank only."""
    options = [word.upper() for word in args[4:]]
    if options not in ([], [b"WITHSCORES"]):
        raise syntax()
    start, stop = integer(args[2]), integer(args[3])
    found = store.find_as(args[1], SortedSet)
    if found is None:
        return []
    rows = found.ordered()[window(len(found), start, stop)]
    if not options:
        return [member for _, member in rows]
    return [word for score, member in rows for word in (member, _told(score))]
