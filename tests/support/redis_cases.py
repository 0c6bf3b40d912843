"""What a Redis server answers to the commands that the bus uses: each case begins with an empty server."""

from __future__ import annotations

from typing import NamedTuple

from shared.bus.functions import VERSION


class Refused(NamedTuple):
    """An error whose text begins so; what stands behind it differs between servers and versions."""

    start: str


Steps = list[tuple[str, object]]

OK = b"OK"
WRONG_TYPE = Refused("WRONGTYPE Operation against a key holding the wrong kind of value")
NOT_A_NUMBER = Refused("ERR value is not an integer or out of range")
SYNTAX = Refused("ERR syntax error")
BAD_ID = Refused("ERR Invalid stream ID specified as stream command argument")
TOO_SMALL = Refused("ERR The ID specified in XADD is equal or smaller than the target stream top item")
APPEND = "FCALL julie_append 2 s s:head"
BIG = 18446744073709551615
FIVE: Steps = [
    ("XADD s 1-1 a 1", b"1-1"),
    ("XADD s 1-2 b 2", b"1-2"),
    ("XADD s 2-1 c 3", b"2-1"),
    ("XADD s 3-4 d 4", b"3-4"),
    ("XADD s 5-0 e 5", b"5-0"),
]
A, B, C, D, E = (
    [b"1-1", [b"a", b"1"]],
    [b"1-2", [b"b", b"2"]],
    [b"2-1", [b"c", b"3"]],
    [b"3-4", [b"d", b"4"]],
    [b"5-0", [b"e", b"5"]],
)

STRINGS: dict[str, Steps] = {
    "ping": [("PING", b"PONG"), ("PING hello", b"hello"), ("ping", b"PONG")],
    "unknown command": [("NOSUCH a b", Refused("ERR unknown command 'NOSUCH'"))],
    "wrong number of words": [
        ("GET", Refused("ERR wrong number of arguments for 'get' command")),
        ("GET a b", Refused("ERR wrong number of arguments for 'get' command")),
        ("SET a", Refused("ERR wrong number of arguments for 'set' command")),
        ("HSET h f", Refused("ERR wrong number of arguments for 'hset' command")),
        ("HSET h f 1 g", Refused("ERR wrong number of arguments for 'hset' command")),
        ("XADD s 1-1 a", Refused("ERR wrong number of arguments for 'xadd' command")),
        ("XADD s 1-1 a 1 b", Refused("ERR wrong number of arguments for 'xadd' command")),
        ("DEL", Refused("ERR wrong number of arguments for 'del' command")),
    ],
    "a string": [("GET k", None), ("SET k v", OK), ("GET k", b"v"), ("SET k ''", OK), ("GET k", b"")],
    "a string replaces anything": [("LPUSH k a", 1), ("SET k v", OK), ("TYPE k", b"string")],
    "set where there is none": [("SET k v NX", OK), ("SET k w NX", None), ("GET k", b"v")],
    "set where there is one": [("SET k v XX", None), ("SET k v", OK), ("SET k w XX", OK), ("GET k", b"w")],
    "set refuses what it does not know": [
        ("SET k v FOO", SYNTAX),
        ("SET k v PX", SYNTAX),
        ("SET k v NX XX", SYNTAX),
        ("SET k v PX 1 EX 1", SYNTAX),
        ("SET k v PX 0", Refused("ERR invalid expire time in 'set' command")),
        ("SET k v PX -5", Refused("ERR invalid expire time in 'set' command")),
        ("SET k v PX 1.5", NOT_A_NUMBER),
        ("GET k", None),
    ],
    "a string's end is forgotten by the next": [
        ("SET k v PX 100000", OK),
        ("SET k w", OK),
        ("PTTL k", -1),
        ("SET k v EX 100", OK),
        ("TTL k", 100),
        ("SET k w KEEPTTL", OK),
        ("TTL k", 100),
        ("PERSIST k", 1),
        ("PERSIST k", 0),
        ("TTL k", -1),
        ("TTL none", -2),
    ],
    "delete": [("SET a 1", OK), ("LPUSH b 1", 1), ("DEL a b c a", 2), ("EXISTS a b", 0)],
    "exists counts each time": [("SET a 1", OK), ("EXISTS a a b", 2)],
    "types": [
        ("SET a 1", OK),
        ("HSET b f 1", 1),
        ("LPUSH c 1", 1),
        ("ZADD d 1 m", 1),
        ("XADD e 1-1 f v", b"1-1"),
        ("TYPE a", b"string"),
        ("TYPE b", b"hash"),
        ("TYPE c", b"list"),
        ("TYPE d", b"zset"),
        ("TYPE e", b"stream"),
        ("TYPE f", b"none"),
    ],
    "wrong type of a string": [
        ("LPUSH k a", 1),
        ("GET k", WRONG_TYPE),
        ("SET k v", OK),
        ("HGET k f", WRONG_TYPE),
    ],
    "wrong type for each kind": [
        ("SET k v", OK),
        ("HSET k f 1", WRONG_TYPE),
        ("HGETALL k", WRONG_TYPE),
        ("HMGET k a b", WRONG_TYPE),
        ("HDEL k a", WRONG_TYPE),
        ("LPUSH k a", WRONG_TYPE),
        ("LRANGE k 0 -1", WRONG_TYPE),
        ("LTRIM k 0 1", WRONG_TYPE),
        ("ZADD k 1 m", WRONG_TYPE),
        ("ZCARD k", WRONG_TYPE),
        ("ZRANGE k 0 0", WRONG_TYPE),
        ("XADD k 1-1 a 1", WRONG_TYPE),
        ("XLEN k", WRONG_TYPE),
        ("XRANGE k - +", WRONG_TYPE),
        ("XTRIM k MAXLEN 1", WRONG_TYPE),
        ("XREAD STREAMS k 0", WRONG_TYPE),
        ("XINFO STREAM k", WRONG_TYPE),
        ("GET k", b"v"),
    ],
    "an end in the past deletes": [
        ("SET k v", OK),
        ("PEXPIRE k -1", 1),
        ("GET k", None),
        ("PEXPIRE k 10", 0),
    ],
    "ends": [("SET k v", OK), ("EXPIRE k 100", 1), ("TTL k", 100), ("PEXPIRE k 50000", 1), ("TTL k", 50)],
    "an end is a number": [("SET k v", OK), ("PEXPIRE k x", NOT_A_NUMBER), ("PEXPIRE k ' 1'", NOT_A_NUMBER)],
    "keys by pattern": [
        ("SET beat:feed 1", OK),
        ("KEYS beat:*", [b"beat:feed"]),
        ("KEYS beat:f[e-f]ed", [b"beat:feed"]),
        ("KEYS beat:f[^e]ed", []),
        ("KEYS beat:????", [b"beat:feed"]),
        ("KEYS beat:???", []),
        ("KEYS beat", []),
        ("KEYS *fee*", [b"beat:feed"]),
        ("KEYS b\\\\eat:feed", [b"beat:feed"]),
    ],
    "keys with braces": [
        ("SET md:{MES} 1", OK),
        ("KEYS md:{*}", [b"md:{MES}"]),
        ("KEYS md:{MES}", [b"md:{MES}"]),
        ("KEYS *:head", []),
    ],
    "keys with special characters": [("SET 'a*b' 1", OK), ("KEYS 'a\\*b'", [b"a*b"]), ("KEYS 'a\\*c'", [])],
    "scan": [
        ("SET a 1", OK),
        ("SCAN 0 MATCH a COUNT 500", [b"0", [b"a"]]),
        ("SCAN 0 MATCH b", [b"0", []]),
        ("SCAN 0 TYPE hash", [b"0", []]),
        ("SCAN x", Refused("ERR invalid cursor")),
        ("SCAN 0 COUNT 0", SYNTAX),
    ],
    "everything goes": [("SET a 1", OK), ("HSET b f 1", 1), ("DBSIZE", 2), ("FLUSHALL", OK), ("DBSIZE", 0)],
}

HASHES: dict[str, Steps] = {
    "fields": [
        ("HSET h a 1 b 2", 2),
        ("HSET h a 3 c 4", 1),
        ("HGET h a", b"3"),
        ("HGET h z", None),
        ("HGET none a", None),
        ("HLEN h", 3),
        ("HMGET h a z c", [b"3", None, b"4"]),
        ("HMGET none a b", [None, None]),
    ],
    "all fields in their order": [
        ("HSET h b 2 a 1", 2),
        ("HGETALL h", [b"b", b"2", b"a", b"1"]),
        ("HGETALL none", []),
    ],
    "a field twice": [("HSET h a 1 a 2", 1), ("HGET h a", b"2")],
    "the last field takes the hash with it": [
        ("HSET h a 1", 1),
        ("HDEL h a b", 1),
        ("EXISTS h", 0),
        ("HDEL h a", 0),
    ],
    "an end outlives a new field": [
        ("HSET h a 1", 1),
        ("EXPIRE h 100", 1),
        ("HSET h b 1", 1),
        ("TTL h", 100),
    ],
}

LISTS: dict[str, Steps] = {
    "pushed at the head": [
        ("LPUSH l a b", 2),
        ("LPUSH l c", 3),
        ("LRANGE l 0 -1", [b"c", b"b", b"a"]),
        ("LLEN l", 3),
    ],
    "ranges": [
        ("LPUSH l e d c b a", 5),
        ("LRANGE l 1 2", [b"b", b"c"]),
        ("LRANGE l -2 -1", [b"d", b"e"]),
        ("LRANGE l -100 1", [b"a", b"b"]),
        ("LRANGE l 3 100", [b"d", b"e"]),
        ("LRANGE l 3 1", []),
        ("LRANGE l 9 12", []),
        ("LRANGE l 0 -9", []),
        ("LRANGE none 0 -1", []),
        ("LRANGE l a 1", NOT_A_NUMBER),
    ],
    "trimmed": [("LPUSH l c b a", 3), ("LTRIM l 0 1", OK), ("LRANGE l 0 -1", [b"a", b"b"])],
    "trimmed to nothing": [("LPUSH l a", 1), ("LTRIM l 5 9", OK), ("EXISTS l", 0), ("LTRIM none 0 1", OK)],
}

SETS: dict[str, Steps] = {
    "scores": [
        ("ZADD z 1 a 2 b", 2),
        ("ZADD z 3 a", 0),
        ("ZSCORE z a", b"3"),
        ("ZSCORE z none", None),
        ("ZSCORE none a", None),
        ("ZCARD z", 2),
        ("ZCARD none", 0),
        ("ZADD z 1.5 c", 1),
        ("ZSCORE z c", b"1.5"),
        ("ZADD z 1700000000123 d", 1),
        ("ZSCORE z d", b"1700000000123"),
        ("ZADD z -0.25 e", 1),
        ("ZSCORE z e", b"-0.25"),
    ],
    "ordered by score, then by name": [
        ("ZADD z 2 b 2 a 1 c", 3),
        ("ZRANGE z 0 -1", [b"c", b"a", b"b"]),
        ("ZRANGE z 0 0 WITHSCORES", [b"c", b"1"]),
        ("ZRANGE z 1 -1 WITHSCORES", [b"a", b"2", b"b", b"2"]),
        ("ZRANGE none 0 -1", []),
        ("ZRANGE z 5 9", []),
    ],
    "removed by score": [
        ("ZADD z 1 a 2 b 3 c 4 d", 4),
        ("ZREMRANGEBYSCORE z -inf (2", 1),
        ("ZREMRANGEBYSCORE z (3 +inf", 1),
        ("ZRANGE z 0 -1", [b"b", b"c"]),
        ("ZREMRANGEBYSCORE z 2 3", 2),
        ("EXISTS z", 0),
        ("ZREMRANGEBYSCORE z x 3", Refused("ERR min or max is not a float")),
    ],
    "removed by name": [("ZADD z 1 a 2 b", 2), ("ZREM z a c", 1), ("ZREM z b", 1), ("EXISTS z", 0)],
    "scores are numbers": [
        ("ZADD z x a", Refused("ERR value is not a valid float")),
        ("ZADD z nan a", Refused("ERR value is not a valid float")),
        ("ZADD z 1 a 2", SYNTAX),
        ("ZADD z inf a", 1),
        ("ZSCORE z a", b"inf"),
    ],
}

STREAMS: dict[str, Steps] = {
    "ids rise": [
        ("XADD s 5-1 a 1", b"5-1"),
        ("XADD s 5-1 a 1", TOO_SMALL),
        ("XADD s 5-0 a 1", TOO_SMALL),
        ("XADD s 4-9 a 1", TOO_SMALL),
        ("XADD s 5-2 a 1", b"5-2"),
        ("XADD s 6 a 1", b"6-0"),
        ("XLEN s", 3),
    ],
    "ids that the server completes": [
        ("XADD s 7-* a 1", b"7-0"),
        ("XADD s 7-* a 1", b"7-1"),
        ("XADD s 6-* a 1", TOO_SMALL),
        ("XADD s 8-* a 1", b"8-0"),
    ],
    "the first id": [
        ("XADD s 0-0 a 1", Refused("ERR The ID specified in XADD must be greater than 0-0")),
        ("EXISTS s", 0),
        ("XADD s 0-1 a 1", b"0-1"),
    ],
    "the last id": [
        (f"XADD s {BIG}-{BIG} a 1", b"%d-%d" % (BIG, BIG)),
        ("XADD s * a 1", Refused("ERR The stream has exhausted the last possible ID")),
        ("XADD s 5-1 a 1", Refused("ERR The")),
        ("XLEN s", 1),
    ],
    "no ids": [
        ("XADD s x a 1", BAD_ID),
        ("XADD s 1-x a 1", BAD_ID),
        ("XADD s -1 a 1", BAD_ID),
        ("XADD s 1--1 a 1", BAD_ID),
        ("XADD s '' a 1", BAD_ID),
        (f"XADD s {BIG + 1}-1 a 1", BAD_ID),
        ("XRANGE s x +", BAD_ID),
        ("XREAD STREAMS s x", BAD_ID),
        ("XREAD STREAMS s -", BAD_ID),
    ],
    "an entry may have fields twice": [
        ("XADD s 1-1 a 1 a 2 b ''", b"1-1"),
        ("XRANGE s - +", [[b"1-1", [b"a", b"1", b"a", b"2", b"b", b""]]]),
    ],
    "ranges": [
        *FIVE,
        ("XRANGE s - +", [A, B, C, D, E]),
        ("XRANGE s 1 2", [A, B, C]),
        ("XRANGE s 1-2 3-4", [B, C, D]),
        ("XRANGE s (1-2 3-4", [C, D]),
        ("XRANGE s (1-2 (3-4", [C]),
        ("XRANGE s 1-2 + COUNT 2", [B, C]),
        ("XRANGE s 6 +", []),
        ("XRANGE s 3 1", []),
        ("XRANGE none - +", []),
    ],
    "ranges from the end": [
        *FIVE,
        ("XREVRANGE s + -", [E, D, C, B, A]),
        ("XREVRANGE s + - COUNT 1", [E]),
        ("XREVRANGE s 3 1-2", [D, C, B]),
        ("XREVRANGE s (3-4 -", [C, B, A]),
        ("XREVRANGE s 1-1 - COUNT 3", [A]),
        ("XREVRANGE none + - COUNT 1", []),
    ],
    "counts of ranges": [
        *FIVE,
        ("XRANGE s - + COUNT x", NOT_A_NUMBER),
        ("XRANGE s - + COUNT", SYNTAX),
        ("XRANGE s - + FOO 1", SYNTAX),
        ("XRANGE s - + COUNT 100", [A, B, C, D, E]),
        ("XRANGE s - + COUNT 0", None),
        ("XRANGE s - + COUNT -3", None),
    ],
    "an id without its second half": [
        *FIVE,
        ("XRANGE s 1 1", [A, B]),
        ("XRANGE s (1 2", [A, B, C]),
        ("XRANGE s 1 (1", [A, B]),
        ("XREVRANGE s 1 1", [B, A]),
    ],
    "reading on": [
        *FIVE,
        ("XREAD STREAMS s 0-0", [[b"s", [A, B, C, D, E]]]),
        ("XREAD COUNT 2 STREAMS s 1-1", [[b"s", [B, C]]]),
        ("XREAD STREAMS s 1", [[b"s", [A, B, C, D, E]]]),
        ("XREAD STREAMS s 5-0", None),
        ("XREAD STREAMS s $", None),
        ("XREAD STREAMS none 0", None),
        ("XREAD COUNT 0 STREAMS s 3-4", [[b"s", [E]]]),
        ("XREAD COUNT -1 STREAMS s 2-1", [[b"s", [D, E]]]),
        ("xread streams s 3-4", [[b"s", [E]]]),
    ],
    "reading several": [
        *FIVE,
        ("XADD t 9-1 x y", b"9-1"),
        ("XREAD COUNT 1 STREAMS t s u 0 0 0", [[b"t", [[b"9-1", [b"x", b"y"]]]], [b"s", [A]]]),
        ("XREAD STREAMS s t 5-0 0", [[b"t", [[b"9-1", [b"x", b"y"]]]]]),
        ("XREAD STREAMS s s 3-4 3-4", [[b"s", [E]], [b"s", [E]]]),
        ("XREAD STREAMS s t 0", Refused("ERR Unbalanced 'xread' list of streams")),
        ("XREAD STREAMS s", Refused("ERR")),
        ("XREAD COUNT 1 FOO s 0", SYNTAX),
    ],
    "blocking words": [
        *FIVE,
        ("XREAD BLOCK 10 STREAMS s 3-4", [[b"s", [E]]]),
        ("XREAD BLOCK -1 STREAMS s 0", Refused("ERR timeout is negative")),
        ("XREAD BLOCK x STREAMS s 0", Refused("ERR timeout is not an integer or out of range")),
        ("XREAD BLOCK 1 STREAMS s 5-0", None),
        ("XREAD BLOCK 1 STREAMS none $", None),
    ],
    "trimmed by length": [
        *FIVE,
        ("XTRIM s MAXLEN 3", 2),
        ("XTRIM s MAXLEN = 3", 0),
        ("XRANGE s - +", [C, D, E]),
        ("XTRIM none MAXLEN 3", 0),
        ("XTRIM s MAXLEN x", NOT_A_NUMBER),
        ("XTRIM s MAXLEN -1", Refused("ERR The MAXLEN argument must be >= 0.")),
        ("XTRIM s FOO 1", SYNTAX),
    ],
    "trimmed by id": [
        *FIVE,
        ("XTRIM s MINID 2-1", 2),
        ("XTRIM s MINID 2", 0),
        ("XTRIM s MINID = 4", 2),
        ("XRANGE s - +", [E]),
        ("XTRIM s MINID x", BAD_ID),
    ],
    "an approximate trim of few entries does nothing": [
        *FIVE,
        ("XTRIM s MAXLEN ~ 1", 0),
        ("XTRIM s MINID ~ 5", 0),
        ("XLEN s", 5),
    ],
    "a stream without entries stays, with its last id": [
        *FIVE,
        ("XTRIM s MAXLEN 0", 5),
        ("XLEN s", 0),
        ("EXISTS s", 1),
        ("TYPE s", b"stream"),
        ("XADD s 5-0 a 1", TOO_SMALL),
        ("XRANGE s - +", []),
        ("XREAD STREAMS s 0", None),
        ("XADD s 5-1 a 1", b"5-1"),
    ],
    "deleted entries": [
        *FIVE,
        ("XDEL s 5-0 2-1 9-9", 2),
        ("XRANGE s - +", [A, B, D]),
        ("XADD s 5-0 a 1", TOO_SMALL),
        ("XDEL none 1-1", 0),
        ("XDEL s x", BAD_ID),
    ],
    "the last id set by hand": [
        *FIVE,
        ("XSETID s 9-9", OK),
        ("XADD s 9-9 a 1", TOO_SMALL),
        (
            "XSETID s 1-1",
            Refused("ERR The ID specified in XSETID is smaller than the target stream top item"),
        ),
        ("XSETID none 1-1", Refused("ERR no such key")),
    ],
    "a deleted stream begins anew": [*FIVE, ("DEL s", 1), ("XADD s 1-1 a 1", b"1-1")],
    "about a stream that is not there": [("XINFO STREAM s", Refused("ERR no such key"))],
}

TRANSACTIONS: dict[str, Steps] = {
    "all at once": [
        ("MULTI", OK),
        ("DEL h", b"QUEUED"),
        ("HSET h a 1", b"QUEUED"),
        ("HGETALL h", b"QUEUED"),
        ("EXEC", [0, 1, [b"a", b"1"]]),
    ],
    "nothing at once": [("MULTI", OK), ("EXEC", [])],
    "a refusal in between stops nothing": [
        ("SET k v", OK),
        ("MULTI", OK),
        ("HSET k a 1", b"QUEUED"),
        ("SET k w", b"QUEUED"),
        ("EXEC", [WRONG_TYPE, OK]),
        ("GET k", b"w"),
    ],
    "a word that is not known stops all": [
        ("MULTI", OK),
        ("SET k v", b"QUEUED"),
        ("NOSUCH", Refused("ERR unknown command")),
        ("SET k", Refused("ERR wrong number of arguments")),
        ("EXEC", Refused("EXECABORT Transaction discarded because of previous errors.")),
        ("GET k", None),
    ],
    "given up": [("MULTI", OK), ("SET k v", b"QUEUED"), ("DISCARD", OK), ("GET k", None)],
    "out of order": [
        ("EXEC", Refused("ERR EXEC without MULTI")),
        ("DISCARD", Refused("ERR DISCARD without MULTI")),
        ("MULTI", OK),
        ("MULTI", Refused("ERR")),
    ],
    "a blocking read does not wait there": [
        ("MULTI", OK),
        ("XREAD BLOCK 0 STREAMS s 0", b"QUEUED"),
        ("EXEC", [None]),
    ],
    "published to nobody": [("PUBLISH beats x", 0)],
}

FUNCTIONS: dict[str, Steps] = {
    "our library": [("FCALL julie_version 0", VERSION), ("fcall julie_version 0", VERSION)],
    "no such function": [("FCALL nosuch 0", Refused("ERR Function not found"))],
    "numbers of keys": [
        ("FCALL julie_version x", Refused("ERR Bad number of keys provided")),
        ("FCALL julie_version 1", Refused("ERR Number of keys can't be greater than number of args")),
        ("FCALL julie_version -1", Refused("ERR Number of keys can't be negative")),
    ],
    "flushed": [("FUNCTION FLUSH", OK), ("FCALL julie_version 0", Refused("ERR Function not found"))],
    "opening": [
        ("FCALL julie_open 1 s:head", [1, 0]),
        ("FCALL julie_open 1 s:head", [2, 0]),
        ("HGETALL s:head", [b"epoch", b"2", b"seq", b"0"]),
    ],
    "appending": [
        ("FCALL julie_open 1 s:head", [1, 0]),
        (f"{APPEND} 1 1 1000 0 quote v", [1, 0]),
        (f"{APPEND} 1 2 1001 0 quote w trade x", [3, 0]),
        (
            "XRANGE s - +",
            [[b"1000-1", [b"quote", b"v"]], [b"1001-2", [b"quote", b"w"]], [b"1001-3", [b"trade", b"x"]]],
        ),
        ("HGETALL s:head", [b"epoch", b"1", b"seq", b"3"]),
    ],
    "appending again": [
        ("FCALL julie_open 1 s:head", [1, 0]),
        (f"{APPEND} 1 1 1000 0 a 1 b 2", [2, 0]),
        (f"{APPEND} 1 1 1000 0 a 1 b 2", [2, 0]),
        (f"{APPEND} 1 2 1000 0 b 2 c 3", [3, 0]),
        ("XLEN s", 3),
    ],
    "fenced": [
        ("FCALL julie_open 1 s:head", [1, 0]),
        ("FCALL julie_open 1 s:head", [2, 0]),
        (f"{APPEND} 1 1 1000 0 a 1", Refused("FENCED epoch 1 is older than 2")),
        ("XLEN s", 0),
    ],
    "rolled back": [
        (f"{APPEND} 1 8 1000 0 a 1", Refused("ROLLEDBACK stream stands at 0, the writer at 7")),
        ("EXISTS s s:head", 0),
    ],
    "an epoch that was lost": [(f"{APPEND} 7 1 1000 0 a 1", [1, 0]), ("HGET s:head epoch", b"7")],
    "a clock that fell back": [
        (f"{APPEND} 1 1 2000 0 a 1", [1, 0]),
        (f"{APPEND} 1 2 1000 0 b 2", [2, 0]),
        ("XRANGE s - +", [[b"2000-1", [b"a", b"1"]], [b"2000-2", [b"b", b"2"]]]),
    ],
    "behind what was added by hand": [
        ("XADD s 3000-9 foo bar", b"3000-9"),
        (f"{APPEND} 1 1 1000 0 a 1 b 2", [2, 0]),
        ("XREVRANGE s + - COUNT 2", [[b"3001-2", [b"b", b"2"]], [b"3001-1", [b"a", b"1"]]]),
    ],
    "behind nothing": [
        (f"XADD s {2**63}-0 foo bar", b"%d-0" % 2**63),
        (f"{APPEND} 1 1 1000 0 a 1", Refused("ERR stream s ends with the foreign id")),
        ("XLEN s", 1),
    ],
    "appending to no stream": [("SET s v", OK), (f"{APPEND} 1 1 1000 0 a 1", WRONG_TYPE)],
    "a step": [
        ("FCALL julie_lease 1 l me 100000", [1, 1, b"me"]),
        ("FCALL julie_step 4 l st s s:head 1 snap 1 1000 2 a 1 b 2", OK),
        ("FCALL julie_step 4 l st s s:head 1 again 1 1000 2 a 1 b 2", OK),
        ("FCALL julie_step 6 l st s s:head t t:head 1 both 3 1000 1 c 3 1 1000 0", OK),
        ("GET st", b"both"),
        ("XLEN s", 3),
        ("EXISTS t", 0),
        ("FCALL julie_step 2 l st 2 x", Refused("FENCED epoch 2, the lease is at 1")),
        ("FCALL julie_step 4 l st t t:head 1 x 5 1000 1 a 1", Refused("ROLLEDBACK stream stands at 0")),
        ("GET st", b"both"),
    ],
    "leases": [
        ("FCALL julie_lease 1 l me 100000", [1, 1, b"me"]),
        ("FCALL julie_lease 1 l you 100000", [1, 0, b"me"]),
        ("FCALL julie_lease 1 l me 100000", [2, 1, b"me"]),
        ("FCALL julie_renew 1 l me 1 100000", 0),
        ("FCALL julie_renew 1 l me 2 100000", 1),
        ("FCALL julie_release 1 l you 2", 0),
        ("FCALL julie_release 1 l me 2", 1),
        ("FCALL julie_lease 1 l you 100000", [3, 1, b"you"]),
    ],
    "a lease from a later clock": [
        ("HSET l epoch 4 holder me until_ms 99999999999999", 3),
        ("FCALL julie_lease 1 l you 1000", [5, 1, b"you"]),
    ],
    "budget": [
        ("FCALL julie_budget 1 b 3 100000 1 0 m1", 0),
        ("FCALL julie_budget 1 b 3 100000 1 0 m2", 0),
        ("FCALL julie_budget 1 b 3 100000 1 1 m3", 0),
        ("ZCARD b", 3),
        ("FCALL julie_pause 1 b 100000", 1),
        ("ZCARD b", 4),
        ("TTL b", 200),
    ],
    "a wrong type inside": [("LPUSH l a", 1), ("FCALL julie_lease 1 l me 1000", WRONG_TYPE)],
    "arguments that are missing": [("FCALL julie_lease 1 l", Refused("ERR"))],
    "loading twice": [("FUNCTION LOAD '#!lua name=julie\n'", Refused("ERR"))],
    "a library without a name": [("FUNCTION LOAD 'return 1'", Refused("ERR Missing library metadata"))],
    "a library that does not compile": [
        ("FUNCTION LOAD '#!lua name=other\nnonsense here'", Refused("ERR Error compiling function"))
    ],
    "another library": [
        (
            "FUNCTION LOAD \"#!lua name=other\nredis.register_function('f', function(k, a)"
            " return {1, 2.9, 'x', true, false, {a[1], {k[1]}}, redis.status_reply('Fine'), nil, 5} end)\"",
            b"other",
        ),
        ("FCALL f 1 key arg", [1, 2, b"x", 1, None, [b"arg", [b"key"]], b"Fine"]),
        ("FCALL julie_version 0", VERSION),
    ],
    "errors of functions": [
        (
            'FUNCTION LOAD "#!lua name=other\n'
            "redis.register_function('one', function() return redis.error_reply('MINE said so') end)\n"
            "redis.register_function('two', function() error('raised') end)\n"
            "redis.register_function('three', function() return redis.pcall('GET') end)\n"
            "redis.register_function('four', function() return redis.call('NOSUCH') end)\n"
            "redis.register_function('five', function() return redis.call('SET', 'k', 1.5) end)\"",
            b"other",
        ),
        ("FCALL one 0", Refused("MINE said so")),
        ("FCALL two 0", Refused("ERR")),
        ("FCALL three 0", Refused("ERR Wrong number of args calling")),
        ("FCALL four 0", Refused("ERR Unknown")),
        ("FCALL five 0", OK),
        ("GET k", b"1.5"),
    ],
}

CASES: dict[str, Steps] = {
    f"{kind}: {name}": steps
    for kind, cases in {
        "strings": STRINGS,
        "hashes": HASHES,
        "lists": LISTS,
        "sorted sets": SETS,
        "streams": STREAMS,
        "transactions": TRANSACTIONS,
        "functions": FUNCTIONS,
    }.items()
    for name, steps in cases.items()
}
