"""Commands on keys, strings, hashes and lists."""

from __future__ import annotations

from proof.simulation.bus.replies import OK, ErrorReply, Reply, Status, integer, syntax, window
from proof.simulation.bus.store import ADMIN, GROWS, WRITE, Store, command, glob
from proof.simulation.bus.streams import Stream
from proof.simulation.bus.zsets import SortedSet

NAMES = {
    bytes: b"string", dict: b"hash", list: b"list", Stream: b"stream", SortedSet: b"zset",
}  # fmt: skip
SET_ENDS = {b"EX": (1000, False), b"PX": (1, False), b"EXAT": (1000, True), b"PXAT": (1, True)}
"""Milliseconds a unit, and whether it is a moment or a duration."""


@command("PING", -1)
def ping(store: Store, args: list[bytes]) -> Reply:
    return args[1] if len(args) > 1 else Status(b"PONG")


@command("TIME", 1, ADMIN)
def time(store: Store, args: list[bytes]) -> Reply:
    seconds, micros = divmod(store.wall_us(), 1_000_000)
    return [b"%d" % seconds, b"%d" % micros]


@command("GET", 2)
def get(store: Store, args: list[bytes]) -> Reply:
    return store.find_as(args[1], bytes)


@command("SET", -3, WRITE | GROWS)
def set_(store: Store, args: list[bytes]) -> Reply:
    key, value = args[1], args[2]
    if len(args) > 3:
        return _set_with_options(store, args)
    store.keys[key] = value
    store.ends_ms.pop(key, None)
    return OK


def _set_with_options(store: Store, args: list[bytes]) -> Reply:
    key, value = args[1], args[2]
    end_ms: int | None = None
    found: list[bytes] = []
    at = 3
    while at < len(args):
        option = args[at].upper()
        if option in SET_ENDS and end_ms is None and b"KEEPTTL" not in found and at + 1 < len(args):
            unit, absolute = SET_ENDS[option]
            number = integer(args[at + 1])
            if number <= 0:
                raise ErrorReply("ERR invalid expire time in 'set' command")
            end_ms = number * unit if absolute else store.now_ms() + number * unit
            at += 1
        elif (option == b"KEEPTTL" and end_ms is None) or option in (b"NX", b"XX"):
            found.append(option)
        else:
            raise syntax()
        at += 1
    if b"NX" in found and b"XX" in found:
        raise syntax()
    exists = store.find(key) is not None
    if (b"NX" in found and exists) or (b"XX" in found and not exists):
        return None
    store.keys[key] = value
    if end_ms is not None:
        store.ends_ms[key] = end_ms
        store.effect = [b"SET", key, value, b"PXAT", b"%d" % end_ms]
    elif b"KEEPTTL" not in found:
        store.ends_ms.pop(key, None)
    return OK


@command("DEL", -2, WRITE)
def delete(store: Store, args: list[bytes]) -> Reply:
    count = 0
    for key in args[1:]:
        if store.find(key) is not None:
            store.drop(key)
            count += 1
    return count


@command("EXISTS", -2)
def exists(store: Store, args: list[bytes]) -> Reply:
    return sum(store.find(key) is not None for key in args[1:])


@command("TYPE", 2)
def type_(store: Store, args: list[bytes]) -> Reply:
    value = store.find(args[1])
    return Status(b"none" if value is None else NAMES[type(value)])


@command("KEYS", 2)
def keys(store: Store, args: list[bytes]) -> Reply:
    matches = glob(args[1]).fullmatch
    return [key for key in store.living() if matches(key)]


@command("SCAN", -2)
def scan(store: Store, args: list[bytes]) -> Reply:
    """All keys in one page, which a real server may do as well."""
    if not args[1].isdigit():
        raise ErrorReply("ERR invalid cursor")
    found = store.living() if args[1] == b"0" else []
    for at in range(2, len(args) - 1, 2):
        option = args[at].upper()
        if option == b"MATCH":
            matches = glob(args[at + 1]).fullmatch
            found = [key for key in found if matches(key)]
        elif option == b"TYPE":
            found = [key for key in found if NAMES[type(store.keys[key])] == args[at + 1].lower()]
        elif option != b"COUNT" or integer(args[at + 1]) < 1:
            raise syntax()
    return [b"0", found]


@command("DBSIZE", 1)
def dbsize(store: Store, args: list[bytes]) -> Reply:
    return len(store.living())


@command("FLUSHALL", -1, WRITE)
def flushall(store: Store, args: list[bytes]) -> Reply:
    store.keys.clear()
    store.ends_ms.clear()
    return OK


def _end_at(store: Store, key: bytes, end_ms: int) -> int:
    if store.find(key) is None:
        return 0
    if end_ms <= store.now_ms() and not store.loading:
        store.drop(key)
        store.effect = [b"DEL", key]
    else:
        store.ends_ms[key] = end_ms
        store.effect = [b"PEXPIREAT", key, b"%d" % end_ms]
    return 1


@command("EXPIRE", 3, WRITE)
def expire(store: Store, args: list[bytes]) -> Reply:
    return _end_at(store, args[1], store.now_ms() + 1000 * integer(args[2]))


@command("PEXPIRE", 3, WRITE)
def pexpire(store: Store, args: list[bytes]) -> Reply:
    return _end_at(store, args[1], store.now_ms() + integer(args[2]))


@command("PEXPIREAT", 3, WRITE)
def pexpireat(store: Store, args: list[bytes]) -> Reply:
    return _end_at(store, args[1], integer(args[2]))


@command("PERSIST", 2, WRITE)
def persist(store: Store, args: list[bytes]) -> Reply:
    return int(store.find(args[1]) is not None and store.ends_ms.pop(args[1], None) is not None)


@command("PTTL", 2)
def pttl(store: Store, args: list[bytes]) -> Reply:
    if store.find(args[1]) is None:
        return -2
    end_ms = store.ends_ms.get(args[1])
    return -1 if end_ms is None else max(0, end_ms - store.now_ms())


@command("TTL", 2)
def ttl(store: Store, args: list[bytes]) -> Reply:
    left_ms = pttl(store, args)
    return left_ms if left_ms < 0 else (left_ms + 500) // 1000


@command("HSET", -4, WRITE | GROWS)
def hset(store: Store, args: list[bytes]) -> Reply:
    if len(args) % 2:
        raise ErrorReply("ERR wrong number of arguments for 'hset' command")
    fields = store.find_or_make(args[1], dict)
    before = len(fields)
    for at in range(2, len(args), 2):
        fields[args[at]] = args[at + 1]
    return len(fields) - before


@command("HGET", 3)
def hget(store: Store, args: list[bytes]) -> Reply:
    fields = store.find_as(args[1], dict)
    return fields.get(args[2]) if fields is not None else None


@command("HMGET", -3)
def hmget(store: Store, args: list[bytes]) -> Reply:
    fields = store.find_as(args[1], dict)
    if fields is None:
        return [None] * (len(args) - 2)
    return [fields.get(name) for name in args[2:]]


@command("HGETALL", 2)
def hgetall(store: Store, args: list[bytes]) -> Reply:
    fields = store.find_as(args[1], dict)
    return [word for pair in fields.items() for word in pair] if fields is not None else []


@command("HLEN", 2)
def hlen(store: Store, args: list[bytes]) -> Reply:
    return len(store.find_as(args[1], dict) or ())


@command("HDEL", -3, WRITE)
def hdel(store: Store, args: list[bytes]) -> Reply:
    fields = store.find_as(args[1], dict)
    if fields is None:
        return 0
    before = len(fields)
    for name in args[2:]:
        fields.pop(name, None)
    count = before - len(fields)
    store.drop_if_empty(args[1], fields)
    return count


@command("LPUSH", -3, WRITE | GROWS)
def lpush(store: Store, args: list[bytes]) -> Reply:
    items = store.find_or_make(args[1], list)
    items[:0] = reversed(args[2:])
    return len(items)


@command("LLEN", 2)
def llen(store: Store, args: list[bytes]) -> Reply:
    return len(store.find_as(args[1], list) or ())


@command("LRANGE", 4)
def lrange(store: Store, args: list[bytes]) -> Reply:
    start, stop = integer(args[2]), integer(args[3])
    items = store.find_as(args[1], list)
    return items[window(len(items), start, stop)] if items is not None else []


@command("LTRIM", 4, WRITE)
def ltrim(store: Store, args: list[bytes]) -> Reply:
    start, stop = integer(args[2]), integer(args[3])
    items = store.find_as(args[1], list)
    if items is not None:
        items[:] = items[window(len(items), start, stop)]
        store.drop_if_empty(args[1], items)
    return OK
