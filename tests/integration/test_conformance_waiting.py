"""The modelled server and real ones treat several connections alike: waiting, telling, refusing."""

from __future__ import annotations

import time

import pytest

from proof.simulation.bus.replies import ErrorReply
from shared.bus.functions import LIBRARY
from tests.support.redis_wires import AnyServer, Wire, ask

pytestmark = pytest.mark.integration

FOREVER = ("XREAD", "COUNT", 10, "BLOCK", 0, "STREAMS")
APPEND = ("FCALL", "julie_append", 2, "s", "s:head", 1)


def reading(redis: AnyServer, *words: str | int) -> Wire:
    """A connection that waits."""
    wire = redis.wire()
    wire.send(*FOREVER, *words)
    assert wire.silent()
    return wire


def loaded(redis: AnyServer) -> Wire:
    wire = redis.wire()
    assert ask(wire, "FUNCTION", "LOAD", LIBRARY) == b"julie"
    return wire


def test_an_entry_wakes_all_who_wait_for_it(redis: AnyServer) -> None:
    readers = [reading(redis, "s", "$") for _ in range(3)]
    assert ask(redis.wire(), "XADD", "s", "1-1", "a", 1) == b"1-1"
    for reader in readers:
        assert reader.receive() == [[b"s", [[b"1-1", [b"a", b"1"]]]]]


def test_an_entry_wakes_nobody_else(redis: AnyServer) -> None:
    other = reading(redis, "t", "$")
    late = reading(redis, "s", "5-0")
    wire = redis.wire()
    ask(wire, "XADD", "s", "1-1", "a", 1)
    assert other.silent()
    assert late.silent()
    ask(wire, "XADD", "s", "5-1", "a", 1)
    assert late.receive() == [[b"s", [[b"5-1", [b"a", b"1"]]]]]


def test_a_read_waits_its_time(redis: AnyServer) -> None:
    wire = redis.wire()
    wire.send("XREAD", "BLOCK", 120, "STREAMS", "s", "$")
    assert wire.silent()
    assert wire.receive() is None
    assert ask(wire, "PING") == b"PONG"


def test_commands_behind_a_waiting_read_wait_too(redis: AnyServer) -> None:
    """One connection answers in order; the model asks one after the other anyway."""
    reader, wire = reading(redis, "s", "$"), redis.wire()
    ask(wire, "XADD", "s", "1-1", "a", 1)
    assert reader.receive() == [[b"s", [[b"1-1", [b"a", b"1"]]]]]
    assert ask(reader, "GET", "k") is None


def test_a_batch_wakes_once_with_all_of_it(redis: AnyServer) -> None:
    wire = loaded(redis)
    reader = reading(redis, "s", "$")
    assert ask(wire, *APPEND, 1, 1000, 0, "a", 1, "b", 2) == [2, 0]
    assert reader.receive() == [[b"s", [[b"1000-1", [b"a", b"1"]], [b"1000-2", [b"b", b"2"]]]]]


def test_a_transaction_wakes_with_all_of_it(redis: AnyServer) -> None:
    """Both streams of it are in one answer, in the order of the question."""
    reader, wire = reading(redis, "t", "s", "0", "0"), redis.wire()
    ask(wire, "MULTI")
    ask(wire, "XADD", "s", "1-1", "a", 1)
    ask(wire, "XADD", "t", "1-1", "b", 2)
    ask(wire, "XADD", "s", "1-2", "a", 3)
    assert reader.silent()
    assert len(ask(wire, "EXEC")) == 3
    assert reader.receive() == [
        [b"t", [[b"1-1", [b"b", b"2"]]]],
        [b"s", [[b"1-1", [b"a", b"1"]], [b"1-2", [b"a", b"3"]]]],
    ]


def test_a_refused_append_wakes_nobody(redis: AnyServer) -> None:
    wire = loaded(redis)
    reader = reading(redis, "s", "$")
    assert isinstance(ask(wire, *APPEND, 7, 1000, 0, "a", 1), ErrorReply)
    assert reader.silent()


def test_an_entry_that_is_trimmed_at_once_wakes_nobody(redis: AnyServer) -> None:
    reader, wire = reading(redis, "s", "$"), redis.wire()
    ask(wire, "MULTI")
    ask(wire, "XADD", "s", "1-1", "a", 1)
    ask(wire, "XTRIM", "s", "MAXLEN", 0)
    ask(wire, "EXEC")
    assert reader.silent()
    ask(wire, "XADD", "s", "1-2", "a", 2)
    assert reader.receive() == [[b"s", [[b"1-2", [b"a", b"2"]]]]]


def test_a_stream_that_is_deleted_leaves_its_readers_waiting(redis: AnyServer) -> None:
    wire = redis.wire()
    ask(wire, "XADD", "s", "9-1", "a", 1)
    reader = reading(redis, "s", "$")
    ask(wire, "DEL", "s")
    assert reader.silent()
    ask(wire, "XADD", "s", "5-1", "a", 1)
    assert reader.silent()
    ask(wire, "XADD", "s", "9-2", "a", 1)
    assert reader.receive() == [[b"s", [[b"9-2", [b"a", b"1"]]]]]


def test_the_count_holds_for_a_woken_read(redis: AnyServer) -> None:
    reader, wire = redis.wire(), redis.wire()
    reader.send("XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", "$")
    assert reader.silent()
    ask(wire, "MULTI")
    ask(wire, "XADD", "s", "1-1", "a", 1)
    ask(wire, "XADD", "s", "1-2", "a", 2)
    ask(wire, "EXEC")
    assert reader.receive() == [[b"s", [[b"1-1", [b"a", b"1"]]]]]


def test_a_reader_that_hung_up_is_forgotten(redis: AnyServer) -> None:
    gone = reading(redis, "s", "$")
    reader, wire = reading(redis, "s", "$"), redis.wire()
    gone.close()
    ask(wire, "XADD", "s", "1-1", "a", 1)
    assert reader.receive() == [[b"s", [[b"1-1", [b"a", b"1"]]]]]


# Publishing


def test_who_listens_hears(redis: AnyServer) -> None:
    listener, other, wire = redis.wire(), redis.wire(), redis.wire()
    listener.send("SUBSCRIBE", "beats", "quotes:{MES}")
    assert [listener.receive(), listener.receive()] == [
        [b"subscribe", b"beats", 1],
        [b"subscribe", b"quotes:{MES}", 2],
    ]
    assert ask(other, "SUBSCRIBE", "beats") == [b"subscribe", b"beats", 1]
    assert ask(wire, "PUBLISH", "beats", "x") == 2
    assert ask(wire, "PUBLISH", "quotes:{MES}", "y") == 1
    assert ask(wire, "PUBLISH", "quotes:{MNQ}", "z") == 0
    assert listener.receive() == [b"message", b"beats", b"x"]
    assert listener.receive() == [b"message", b"quotes:{MES}", b"y"]
    assert other.receive() == [b"message", b"beats", b"x"]
    assert other.silent()


def test_what_was_published_before_is_not_heard(redis: AnyServer) -> None:
    wire, listener = redis.wire(), redis.wire()
    assert ask(wire, "PUBLISH", "beats", "early") == 0
    assert ask(listener, "SUBSCRIBE", "beats") == [b"subscribe", b"beats", 1]
    assert listener.silent()


def test_who_hung_up_is_not_counted(redis: AnyServer) -> None:
    wire, listener = redis.wire(), redis.wire()
    ask(listener, "SUBSCRIBE", "beats")
    assert ask(wire, "PUBLISH", "beats", "x") == 1
    listener.close()
    deadline = time.monotonic() + 10
    while ask(wire, "PUBLISH", "beats", "x") and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ask(wire, "PUBLISH", "beats", "x") == 0


def test_a_listener_may_only_listen(redis: AnyServer) -> None:
    listener = redis.wire()
    ask(listener, "SUBSCRIBE", "beats")
    refusal = ask(listener, "GET", "k")
    assert isinstance(refusal, ErrorReply)
    assert refusal.text.startswith("ERR Can't execute 'get'")
    assert ask(listener, "PING") == [b"pong", b""]
    assert ask(listener, "UNSUBSCRIBE") == [b"unsubscribe", b"beats", 0]
    assert ask(listener, "GET", "k") is None
    assert ask(listener, "UNSUBSCRIBE") == [b"unsubscribe", None, 0]


def test_subscribing_twice_is_hearing_once(redis: AnyServer) -> None:
    listener, wire = redis.wire(), redis.wire()
    ask(listener, "SUBSCRIBE", "beats")
    assert ask(listener, "SUBSCRIBE", "beats") == [b"subscribe", b"beats", 1]
    assert ask(wire, "PUBLISH", "beats", "x") == 1
    assert listener.receive() == [b"message", b"beats", b"x"]
    assert listener.silent()


# Time


def wait_until_gone(wire: Wire, key: str) -> None:
    deadline = time.monotonic() + 10
    while ask(wire, "EXISTS", key) and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.parametrize("made", [("SET", "k", "v"), ("HSET", "k", "f", "v"), ("XADD", "k", "1-1", "a", "1")])
def test_keys_end(redis: AnyServer, made: tuple[str, ...]) -> None:
    wire = redis.wire()
    ask(wire, *made)
    assert ask(wire, "PEXPIRE", "k", 30) == 1
    assert 0 < ask(wire, "PTTL", "k") <= 30
    wait_until_gone(wire, "k")
    assert ask(wire, "TYPE", "k") == b"none"
    assert ask(wire, "PTTL", "k") == -2
    assert ask(wire, "KEYS", "*") == []
    assert ask(wire, "DEL", "k") == 0


def test_a_key_that_ended_is_made_anew(redis: AnyServer) -> None:
    wire = redis.wire()
    ask(wire, "HSET", "h", "a", 1)
    ask(wire, "PEXPIRE", "h", 1)
    wait_until_gone(wire, "h")
    assert ask(wire, "HSET", "h", "b", 2) == 1
    assert ask(wire, "HGETALL", "h") == [b"b", b"2"]
    assert ask(wire, "PTTL", "h") == -1


def test_the_time_is_the_walls(redis: AnyServer) -> None:
    seconds, micros = ask(redis.wire(), "TIME")
    assert abs(int(seconds) + int(micros) / 1e6 - time.time()) < 10


def test_a_lease_ends(redis: AnyServer) -> None:
    wire = loaded(redis)
    assert ask(wire, "FCALL", "julie_lease", 1, "l", "me", 20) == [1, 1, b"me"]
    assert ask(wire, "FCALL", "julie_lease", 1, "l", "you", 20) == [1, 0, b"me"]
    deadline = time.monotonic() + 10
    while not (taken := ask(wire, "FCALL", "julie_lease", 1, "l", "you", 20))[1]:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert taken == [2, 1, b"you"]


def test_a_budget_says_how_long_to_wait(redis: AnyServer) -> None:
    wire = loaded(redis)
    budget = ("FCALL", "julie_budget", 2, "b", "p", 2, 100_000, 1)
    assert ask(wire, *budget, 0, "m1") == 0
    assert 90_000 < ask(wire, *budget, 0, "m2") <= 100_000
    assert ask(wire, *budget, 1, "m3") == 0
    ask(wire, "FCALL", "julie_budget_pause", 1, "p", 50_000)
    assert 40_000 < ask(wire, *budget, 0, "m4") <= 50_000
    assert 90_000 < ask(wire, *budget, 1, "m5") <= 100_000


# Trouble


def test_out_of_memory_refuses_what_grows(redis: AnyServer) -> None:
    wire = loaded(redis)
    ask(wire, "SET", "k", "v")
    ask(wire, "XADD", "s", "1-1", "a", 1)
    ask(wire, "LPUSH", "l", "a")
    assert ask(wire, "CONFIG", "SET", "maxmemory", 1) == b"OK"
    refused: list[tuple[str | int, ...]] = [
        ("SET", "k", "w"),
        ("HSET", "h", "a", 1),
        ("LPUSH", "l", "b"),
        ("ZADD", "z", 1, "m"),
        ("XADD", "s", "1-2", "a", 1),
        ("FCALL", "julie_open", 1, "s:head"),
        (*APPEND, 1, 1000, 0, "a", 1),
    ]
    for words in refused:
        refusal = ask(wire, *words)
        assert isinstance(refusal, ErrorReply), words
        assert refusal.text.startswith("OOM "), words
    assert ask(wire, "GET", "k") == b"v"
    assert ask(wire, "PING") == b"PONG"
    assert ask(wire, "XREAD", "STREAMS", "s", "0") == [[b"s", [[b"1-1", [b"a", b"1"]]]]]
    assert isinstance(ask(wire, "FCALL", "julie_version", 0), bytes)
    assert ask(wire, "PUBLISH", "beats", "x") == 0
    for words, answer in ((("LTRIM", "l", 1, 0), b"OK"), (("XTRIM", "s", "MAXLEN", 0), 1), (("DEL", "k"), 1)):
        assert ask(wire, *words) == answer, words
    ask(wire, "CONFIG", "SET", "maxmemory", 0)
    assert ask(wire, "SET", "k", "w") == b"OK"
    assert ask(wire, "EXISTS", "h", "z", "s:head") == 0


def test_out_of_memory_stops_a_transaction_whole(redis: AnyServer) -> None:
    wire = redis.wire()
    ask(wire, "CONFIG", "SET", "maxmemory", 1)
    ask(wire, "MULTI")
    assert ask(wire, "DEL", "h") == b"QUEUED"
    assert ask(wire, "HSET", "h", "a", 1).text.startswith("OOM ")
    assert ask(wire, "EXEC").text.startswith("EXECABORT")


def test_a_long_stream_is_trimmed_about(redis: AnyServer) -> None:
    """Whole nodes only: at least what was asked for stays, and not much more."""
    wire = loaded(redis)
    ask(wire, "FCALL", "julie_open", 1, "s:head")
    cut = 0
    for first in range(1, 5_001, 250):
        words = [word for n in range(250) for word in ("quote", f"{first + n:0100d}")]
        seq, trimmed = ask(wire, *APPEND, first, 1000, 1_000, *words)
        cut += trimmed
        assert seq == first + 249
    length = ask(wire, "XLEN", "s")
    assert 1_000 <= length <= 1_400
    assert length + cut == 5_000
    assert ask(wire, "XRANGE", "s", "-", "+", "COUNT", 1)[0][0] == b"1000-%d" % (cut + 1)


def test_about_a_stream(redis: AnyServer) -> None:
    wire = redis.wire()
    for n in range(1, 6):
        ask(wire, "XADD", "s", f"1-{n}", "a", n)
    ask(wire, "XTRIM", "s", "MAXLEN", 3)
    ask(wire, "XDEL", "s", "1-4")
    told = ask(wire, "XINFO", "STREAM", "s")
    facts = dict(zip(told[::2], told[1::2], strict=True))
    # How its tree looks is the server's own business.
    facts = {name: fact for name, fact in facts.items() if not name.startswith(b"radix")}
    assert facts == {
        b"length": 2,
        b"last-generated-id": b"1-5",
        b"max-deleted-entry-id": b"1-4",
        b"entries-added": 5,
        b"recorded-first-entry-id": b"1-3",
        b"groups": 0,
        b"first-entry": [b"1-3", [b"a", b"3"]],
        b"last-entry": [b"1-5", [b"a", b"5"]],
    }


def test_what_it_tells_about_itself(redis: AnyServer) -> None:
    lines = ask(redis.wire(), "INFO").decode().split("\r\n")
    names = {line.partition(":")[0] for line in lines}
    assert {"redis_version", "used_memory", "maxmemory", "loading", "aof_enabled", "role"} <= names
    assert "# Server" in names
