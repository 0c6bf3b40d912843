"""Streams: entries in the order of their ids, read by ranges of ids."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from proof.simulation.bus.replies import OK, ErrorReply, Reply, integer, syntax
from proof.simulation.bus.store import GROWS, WRITE, Store, command

PART_MAX = 2**64 - 1
LAST_ID = (PART_MAX, PART_MAX)
NODE_ENTRIES = 100
"""An approximate trim of a real server removes whole nodes of up to so many entries."""

Id = tuple[int, int]
Row = list[object]
"""An entry as it is answered: [id, [field, value, ...]]."""


class Stream:
    """Kept also when it is empty: its last id must not be used again."""

    __slots__ = ("added", "deleted_max", "ids", "last", "rows")

    def __init__(self) -> None:
        self.ids: list[Id] = []
        self.rows: list[Row] = []
        self.last: Id = (0, 0)
        self.deleted_max: Id = (0, 0)
        self.added = 0

    def drop_first(self, count: int) -> int:
        if count > 0:
            self.deleted_max = max(self.deleted_max, self.ids[count - 1])
            del self.ids[:count], self.rows[:count]
        return max(0, count)


def told(entry_id: Id) -> bytes:
    return b"%d-%d" % entry_id


def bad_id() -> ErrorReply:
    return ErrorReply("ERR Invalid stream ID specified as stream command argument")


def _part(word: bytes) -> int:
    if not word.isdigit() or len(word) > 20 or (number := int(word)) > PART_MAX:
        raise bad_id()
    return number


def parse_id(word: bytes, missing: int = 0) -> Id:
    """Read `ms-seq`; `missing` is the sequence number of one that has none."""
    ms, dash, seq = word.partition(b"-")
    return _part(ms), _part(seq) if dash else missing


# Adding


@command("XADD", -5, WRITE | GROWS)
def xadd(store: Store, args: list[bytes]) -> Reply:
    """Without its trimming options."""
    if not len(args) % 2:
        raise ErrorReply("ERR wrong number of arguments for 'xadd' command")
    key, word = args[1], args[2]
    if word[-1:] == b"*":
        return _add_next(store, args)
    ms, dash, seq = word.partition(b"-")
    if dash and ms.isdigit() and seq.isdigit() and len(word) < 36:
        entry_id = (int(ms), int(seq))
    else:
        entry_id = parse_id(word)
    if entry_id == (0, 0):
        raise ErrorReply("ERR The ID specified in XADD must be greater than 0-0")
    if entry_id[0] > PART_MAX or entry_id[1] > PART_MAX:
        raise bad_id()
    stream = store.keys.get(key)
    if type(stream) is not Stream or store.ends_ms:
        stream = store.find_as(key, Stream) or Stream()
    return _add(store, key, stream, entry_id, args)


def _add_next(store: Store, args: list[bytes]) -> Reply:
    key, word = args[1], args[2]
    stream = store.find_as(key, Stream) or Stream()
    last_ms, last_seq = stream.last
    if word == b"*":
        ms = store.now_ms()
        entry_id = (ms, 0) if ms > last_ms else _after(stream.last)
    else:
        if word[-2:] != b"-*":
            raise bad_id()
        ms = _part(word[:-2])
        if ms < last_ms or (ms == last_ms and last_seq == PART_MAX):
            raise _behind(stream.last)
        entry_id = (ms, last_seq + 1 if ms == last_ms else 0)
    args = [*args[:2], told(entry_id), *args[3:]]
    store.effect = args
    return _add(store, key, stream, entry_id, args)


def _after(last: Id) -> Id:
    if last == LAST_ID:
        raise _behind(last)
    return (last[0], last[1] + 1) if last[1] < PART_MAX else (last[0] + 1, 0)


def _behind(last: Id) -> ErrorReply:
    if last == LAST_ID:
        return ErrorReply("ERR The stream has exhausted the last possible ID, unable to add more items")
    return ErrorReply("ERR The ID specified in XADD is equal or smaller than the target stream top item")


def _add(store: Store, key: bytes, stream: Stream, entry_id: Id, args: list[bytes]) -> bytes:
    if entry_id <= stream.last:
        raise _behind(stream.last)
    if not stream.added:
        store.keys.setdefault(key, stream)
    word = told(entry_id)
    stream.last = entry_id
    stream.added += 1
    stream.ids.append(entry_id)
    stream.rows.append([word, args[3:]])
    store.appended.append(key)
    return word


# Reading


class _Bound(NamedTuple):
    id: Id
    excluded: bool


def _bound(word: bytes, *, upper: bool) -> _Bound:
    if word == b"-":
        return _Bound((0, 0), False)
    if word == b"+":
        return _Bound(LAST_ID, False)
    excluded = word[:1] == b"("
    if excluded and word in (b"(-", b"(+"):
        raise bad_id()
    return _Bound(parse_id(word[1:] if excluded else word, PART_MAX if upper else 0), excluded)


def _range(store: Store, key: bytes, first: bytes, last: bytes, rest: list[bytes], newest: bool) -> Reply:
    low = _bound(first, upper=False)
    if low == (LAST_ID, True):
        raise ErrorReply("ERR invalid start ID for the interval")
    high = _bound(last, upper=True)
    if high == ((0, 0), True):
        raise ErrorReply("ERR invalid end ID for the interval")
    count: int | None = None
    if rest:
        if len(rest) != 2 or rest[0].upper() != b"COUNT":
            raise syntax()
        count = max(0, integer(rest[1]))
    stream = store.find_as(key, Stream)
    if stream is None:
        return []
    if count == 0:
        return None
    ids = stream.ids
    begin = bisect_right(ids, low.id) if low.excluded else bisect_left(ids, low.id)
    end = bisect_left(ids, high.id) if high.excluded else bisect_right(ids, high.id)
    if newest:
        if count is not None:
            begin = max(begin, end - count)
        return stream.rows[begin:end][::-1]
    if count is not None:
        end = min(end, begin + count)
    return stream.rows[begin:end]


@command("XRANGE", -4)
def xrange(store: Store, args: list[bytes]) -> Reply:
    return _range(store, args[1], args[2], args[3], args[4:], newest=False)


@command("XREVRANGE", -4)
def xrevrange(store: Store, args: list[bytes]) -> Reply:
    return _range(store, args[1], args[3], args[2], args[4:], newest=True)


@command("XLEN", 2)
def xlen(store: Store, args: list[bytes]) -> Reply:
    stream = store.find_as(args[1], Stream)
    return 0 if stream is None else len(stream.ids)


# Trimming and repair


@command("XTRIM", -4, WRITE)
def xtrim(store: Store, args: list[bytes]) -> Reply:
    """By MAXLEN or MINID, exact or approximate."""
    how = args[2].upper()
    approximate = args[3] == b"~"
    rest = args[4:] if args[3] in (b"~", b"=") else args[3:]
    if how not in (b"MAXLEN", b"MINID") or len(rest) != 1:
        raise syntax()
    if how == b"MAXLEN":
        most = integer(rest[0])
        if most < 0:
            raise ErrorReply("ERR The MAXLEN argument must be >= 0.")
    else:
        first_kept = parse_id(rest[0])
    stream = store.find_as(args[1], Stream)
    if stream is None:
        return 0
    excess = len(stream.ids) - most if how == b"MAXLEN" else bisect_left(stream.ids, first_kept)
    if approximate:
        excess = max(0, excess) // NODE_ENTRIES * NODE_ENTRIES
    if excess > 0 and not store.loading:
        store.trimmed(args[1], stream.rows[:excess])
    return stream.drop_first(excess)


@command("XDEL", -3, WRITE)
def xdel(store: Store, args: list[bytes]) -> Reply:
    stream = store.find_as(args[1], Stream)
    if stream is None:
        return 0
    count = 0
    for entry_id in [parse_id(word) for word in args[2:]]:
        at = bisect_left(stream.ids, entry_id)
        if at < len(stream.ids) and stream.ids[at] == entry_id:
            del stream.ids[at], stream.rows[at]
            stream.deleted_max = max(stream.deleted_max, entry_id)
            count += 1
    return count


@command("XSETID", 3, WRITE)
def xsetid(store: Store, args: list[bytes]) -> Reply:
    entry_id = parse_id(args[2])
    stream = store.find_as(args[1], Stream)
    if stream is None:
        raise ErrorReply("ERR no such key")
    if stream.ids and entry_id < stream.ids[-1]:
        raise ErrorReply("ERR The ID specified in XSETID is smaller than the target stream top item")
    stream.last = entry_id
    return OK


@command("XINFO", -2)
def xinfo(store: Store, args: list[bytes]) -> Reply:
    """`XINFO STREAM key`; the two numbers about its tree are a guess."""
    if args[1].upper() != b"STREAM" or len(args) != 3:
        raise syntax()
    stream = store.find_as(args[2], Stream)
    if stream is None:
        raise ErrorReply("ERR no such key")
    nodes = -(-len(stream.ids) // NODE_ENTRIES)
    first = stream.ids[0] if stream.ids else (0, 0)
    return [
        b"length",
        len(stream.ids),
        b"radix-tree-keys",
        nodes,
        b"radix-tree-nodes",
        nodes + 1,
        b"last-generated-id",
        told(stream.last),
        b"max-deleted-entry-id",
        told(stream.deleted_max),
        b"entries-added",
        stream.added,
        b"recorded-first-entry-id",
        told(first),
        b"groups",
        0,
        b"first-entry",
        stream.rows[0] if stream.rows else None,
        b"last-entry",
        stream.rows[-1] if stream.rows else None,
    ]
