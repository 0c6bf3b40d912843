"""XREAD: what is asked for, and what there is of it now."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from proof.simulation.bus.replies import ErrorReply, Reply, integer, syntax
from proof.simulation.bus.store import Store
from proof.simulation.bus.streams import Id, Stream, parse_id


class Reading(NamedTuple):
    """One XREAD: what comes after which id of which stream."""

    places: tuple[tuple[bytes, Id], ...]
    most: int | None
    block_ms: int | None
    """None: answer at once; 0: wait for ever."""

    def answer(self, store: Store) -> Reply:
        """Return the streams that have something, None if none has."""
        found: list[Reply] = []
        for key, after in self.places:
            stream = store.keys.get(key)
            if type(stream) is not Stream or store.ends_ms:
                stream = store.find_as(key, Stream)
            if stream is not None and stream.last > after:
                begin = bisect_right(stream.ids, after)
                if begin < len(stream.ids):
                    end = len(stream.ids) if self.most is None else begin + self.most
                    found.append([key, stream.rows[begin:end]])
        return found or None


def reading(store: Store, args: list[bytes]) -> Reading:
    count: int | None = None
    block_ms: int | None = None
    at = 1
    while at < len(args):
        option = args[at].upper()
        if option == b"STREAMS":
            break
        if at + 1 >= len(args) or option not in (b"COUNT", b"BLOCK"):
            raise syntax()
        if option == b"COUNT":
            count = integer(args[at + 1])
            count = None if count <= 0 else count
        else:
            block_ms = _timeout_ms(args[at + 1])
        at += 2
    words = args[at + 1 :]
    if not words:
        raise syntax()
    if len(words) % 2:
        raise ErrorReply(
            "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified."
        )
    half = len(words) // 2
    places = tuple((key, _place(store, key, word)) for key, word in zip(words, words[half:], strict=False))
    return Reading(places, count, block_ms)


def _place(store: Store, key: bytes, word: bytes) -> Id:
    if word == b"$":
        stream = store.find_as(key, Stream)
        return (0, 0) if stream is None else stream.last
    return parse_id(word)


def _timeout_ms(word: bytes) -> int:
    try:
        block_ms = integer(word)
    except ErrorReply:
        raise ErrorReply("ERR timeout is not an integer or out of range") from None
    if block_ms < 0:
        raise ErrorReply("ERR timeout is negative")
    return block_ms
