"""Transactions and server-side functions, our own above all."""

from __future__ import annotations

from shared.bus.functions import VERSION
from tests.support.redis_cases.words import (
    OK,
    WRONG_TYPE,
    Refused,
    Steps,
)

APPEND = "FCALL julie_append 2 s s:head"

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
        ("FCALL julie_open 1 s:head 1764520000000", [1764520000000, 0]),
        ("FCALL julie_open 1 s:head 1764510000000", [1764520000001, 0]),
        ("HGET s:head epoch", b"1764520000001"),
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
    "an epoch that was lost": [
        ("FCALL julie_open 1 s:head", [1, 0]),
        (f"{APPEND} 7 1 1000 0 a 1", Refused("ROLLEDBACK stream was opened with epoch 1, the writer has 7")),
        (f"{APPEND} 7 1 1000 0", Refused("ROLLEDBACK stream was opened with epoch 1, the writer has 7")),
        ("XLEN s", 0),
    ],
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
        ("FCALL julie_lease 1 l you 100000 1764520000000", [1764520000000, 1, b"you"]),
    ],
    "a lease from a later clock": [
        ("HSET l epoch 4 holder me until_ms 99999999999999", 3),
        ("FCALL julie_lease 1 l you 1000", [5, 1, b"you"]),
    ],
    "budget": [
        ("FCALL julie_budget 2 b p 3 100000 1 0 m1", 0),
        ("FCALL julie_budget 2 b p 3 100000 1 0 m2", 0),
        ("FCALL julie_budget 2 b p 3 100000 1 1 m3", 0),
        ("ZCARD b", 3),
        ("TTL b", 200),
    ],
    "a pause": [
        ("FCALL julie_budget_pause 1 p 300000", 1),
        ("TTL p", 300),
        ("FCALL julie_budget_pause 1 p 1000", 1),
        ("TTL p", 300),
        ("FCALL julie_budget 2 b p 3 10000 1 1 m1", 0),
        ("ZCARD b", 1),
        ("FCALL julie_budget_pause 1 p 9000000", 1),
        ("TTL p", 600),
    ],
    "a pause from before the clock fell back": [
        ("SET p '99999999900000 99999999930000'", OK),
        ("FCALL julie_budget_pause 1 p 1000", 1),
        ("TTL p", 30),
        ("SET p '99999999900000 99999999990000000'", OK),
        ("FCALL julie_budget_pause 1 p 1000", 1),
        ("TTL p", 600),
    ],
    "a pause that is none": [
        ("SET p 'by hand'", OK),
        ("FCALL julie_budget 2 b p 3 100000 1 0 m1", 0),
        ("SET p '1 2'", OK),
        ("FCALL julie_budget 2 b p 3 100000 1 0 m2", 0),
        ("FCALL julie_budget_pause 1 p 0", 1),
        ("GET p", b"1 2"),
    ],
    "places later than now": [
        ("ZADD b 99999999999999 m1 99999999999998 m0", 2),
        ("FCALL julie_budget 2 b p 3 100000 1 0 m2 m1", -1),
        ("EXISTS b", 0),
        ("FCALL julie_budget 2 b p 3 100000 1 0 m2", 0),
        ("ZCARD b", 1),
    ],
    "a budget that was lost": [
        ("FCALL julie_budget 2 b p 3 100000 1 0 m2 m1", -1),
        ("FCALL julie_budget_recall 1 b 100000 m0 50000 m1 40000", 1),
        ("FCALL julie_budget_recall 1 b 100000 m0 50000 m1 40000", 1),
        ("ZCARD b", 2),
        ("TTL b", 200),
        ("FCALL julie_budget 2 b p 4 100000 1 0 m2 m1", 0),
        ("ZCARD b", 3),
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
