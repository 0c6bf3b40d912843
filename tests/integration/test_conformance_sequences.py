"""Random sequences of commands: the modelled server and a real one answer each of them the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proof.simulation.bus.replies import ErrorReply, Reply
from shared.bus.functions import LIBRARY
from tests.support.redis_wires import KINDS, ModelServer, RealServer, Wire, ask, running_server

pytestmark = pytest.mark.integration

EXAMPLES = 150
A_MOMENT = re.compile(rb"1[6-9]\d{11}")
Command = tuple[str | int, ...]

KEYS = st.sampled_from(["a", "b", "s", "s:head", "l"])
NAMES = st.sampled_from(["f", "g", "epoch", "seq"])
VALUES = st.sampled_from(["", "1", "2", "x", "holder"])
COUNTS = st.integers(-2, 4)
IDS = st.one_of(
    st.builds("{}-{}".format, st.integers(0, 4), st.integers(0, 4)),
    st.sampled_from(["0", "1", "3", "18446744073709551615-18446744073709551615", "2-*", "", "1-", "x"]),
)
PLACES = st.one_of(st.builds("{}-{}".format, st.integers(0, 4), st.integers(0, 4)), st.just("$"))
BOUNDS = st.one_of(IDS, st.sampled_from(["-", "+", "$"]), st.builds("({}".format, IDS))
SCORES = st.sampled_from(
    ["0", "1", "-1", "2.5", "(1", "inf", "-inf", "+inf", "1700000000123", "x", "1e20", "0.1"]
)
ENTRIES = st.lists(st.tuples(st.sampled_from(["quote", "bar"]), VALUES), min_size=1, max_size=3)


def words(*parts: object) -> st.SearchStrategy[Command]:
    """One command: fixed words and strategies; a list of pairs is flattened."""

    def flat(found: tuple[object, ...]) -> Command:
        out: list[str | int] = []
        for word in found:
            if isinstance(word, list):
                out += [one for pair in word for one in (pair if isinstance(pair, tuple) else (pair,))]
            else:
                assert isinstance(word, (str, int))
                out.append(word)
        return tuple(out)

    return st.tuples(*(p if isinstance(p, st.SearchStrategy) else st.just(p) for p in parts)).map(flat)


def several(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(strategy, min_size=1, max_size=3)


PLAIN = st.one_of(
    words("SET", KEYS, VALUES),
    words("SET", KEYS, VALUES, several(st.sampled_from(["NX", "XX", "KEEPTTL", "GETX"]))),
    words("SET", KEYS, VALUES, "PX", st.sampled_from([100_000, 0, "x"])),
    words("GET", KEYS),
    words("DEL", several(KEYS)),
    words("EXISTS", several(KEYS)),
    words("TYPE", KEYS),
    words("PERSIST", KEYS),
    words("EXPIRE", KEYS, st.sampled_from([100, -1, "x"])),
    words("TTL", KEYS),
    words("HSET", KEYS, st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=3)),
    words("HGET", KEYS, NAMES),
    words("HMGET", KEYS, several(NAMES)),
    words("HGETALL", KEYS),
    words("HDEL", KEYS, several(NAMES)),
    words("LPUSH", KEYS, several(VALUES)),
    words("LRANGE", KEYS, COUNTS, COUNTS),
    words("LTRIM", KEYS, COUNTS, COUNTS),
    words("ZADD", KEYS, st.lists(st.tuples(SCORES, VALUES), min_size=1, max_size=3)),
    words("ZSCORE", KEYS, VALUES),
    words("ZCARD", KEYS),
    words("ZREM", KEYS, several(VALUES)),
    words("ZRANGE", KEYS, COUNTS, COUNTS, "WITHSCORES"),
    words("ZREMRANGEBYSCORE", KEYS, SCORES, SCORES),
)
STREAMS = st.one_of(
    words("XADD", KEYS, IDS, ENTRIES),
    words("XRANGE", KEYS, BOUNDS, BOUNDS),
    words("XRANGE", KEYS, BOUNDS, BOUNDS, "COUNT", COUNTS),
    words("XREVRANGE", KEYS, BOUNDS, BOUNDS, "COUNT", COUNTS),
    words("XLEN", KEYS),
    words("XREAD", "COUNT", COUNTS, "STREAMS", KEYS, PLACES),
    words("XREAD", "STREAMS", KEYS, KEYS, PLACES, PLACES),
    words("XTRIM", KEYS, "MAXLEN", COUNTS),
    words("XTRIM", KEYS, "MINID", IDS),
    words("XDEL", KEYS, several(IDS)),
    words("XSETID", KEYS, IDS),
)
EPOCHS = st.integers(0, 3)
SEQS = st.integers(1, 6)
MS = st.integers(1, 5)
STEP_HEAD = ("FCALL", "julie_step")
FUNCTIONS = st.one_of(
    words("FCALL", "julie_open", 1, "s:head"),
    words("FCALL", "julie_open", 1, "s:head", EPOCHS),
    *[words("FCALL", "julie_append", 2, "s", "s:head", EPOCHS, SEQS, MS, st.sampled_from([0, 2]), ENTRIES)]
    * 3,
    words("FCALL", "julie_lease", 1, "l", st.sampled_from(["me", "you"]), 1_000_000),
    words("FCALL", "julie_renew", 1, "l", st.sampled_from(["me", "you"]), EPOCHS, 1_000_000),
    words("FCALL", "julie_release", 1, "l", st.sampled_from(["me", "you"]), EPOCHS),
    words("FCALL", "julie_step", 4, "l", "st", "s", "s:head", EPOCHS, VALUES, SEQS, MS, 1, "quote", VALUES),
    words(
        *("FCALL", "julie_step", 6, "l", "st", "s", "s:head", "b", "b:head", EPOCHS, VALUES),
        *(SEQS, MS, 2, "quote", VALUES, "bar", VALUES, SEQS, MS, st.sampled_from([0, 1]), "quote", VALUES),
    ),
    words("FCALL", "julie_budget", 2, "l", "m", 3, 1_000_000, 1, 1, "m"),
    words("FCALL", KEYS, 0),
)
CONTROL = st.sampled_from([("MULTI",), ("EXEC",), ("DISCARD",), ("NOSUCH", "x"), ("GET",)])


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind != "model"])
def real(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    with running_server(request.param) as server:
        assert isinstance(server, RealServer)
        yield server


def compared(reply: Reply) -> object:
    """Return what must be equal: of an error inside a function the place is the server's own."""
    if isinstance(reply, ErrorReply):
        return ErrorReply(re.sub(r",? script: .*|^(ERR Unknown Redis|ERR Wrong number).*", r"\1", reply.text))
    if isinstance(reply, bytes) and A_MOMENT.fullmatch(reply):
        return "about now"
    return [compared(item) for item in reply] if isinstance(reply, list) else reply


def run_both(real: RealServer, commands: list[Command]) -> None:
    real.clean()
    model = ModelServer()
    wires = real.wire(), model.wire()
    for wire in wires:
        ask(wire, "FUNCTION", "LOAD", LIBRARY)
    inside = False
    for number, command in enumerate(commands):
        if command == ("MULTI",) and inside:
            continue  # servers differ in how they refuse one in another
        inside = command == ("MULTI",) or (inside and command not in (("EXEC",), ("DISCARD",)))
        expected, found = (compared(ask(wire, *command)) for wire in wires)
        assert found == expected, (
            f"{commands[: number + 1]}: the model says {found!r}, {real.kind} {expected!r}"
        )
    expected, found = (everything(wire) for wire in wires)
    assert found == expected, f"after {commands}: the model holds {found!r}, {real.kind} {expected!r}"


DUMPS: dict[bytes, Command] = {
    b"string": ("GET",),
    b"hash": ("HGETALL",),
    b"list": ("LRANGE", 0, -1),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"stream": ("XRANGE", "-", "+"),
}


def everything(wire: Wire) -> dict[bytes, object]:
    ask(wire, "DISCARD")
    found: dict[bytes, object] = {}
    for key in sorted(ask(wire, "KEYS", "*")):
        name, *rest = DUMPS[ask(wire, "TYPE", key)]
        found[key] = compared(ask(wire, name, key, *rest))
    return found


SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SETTINGS
@given(commands=st.lists(PLAIN, min_size=5, max_size=40))
def test_keys(real: RealServer, commands: list[Command]) -> None:
    run_both(real, commands)


@SETTINGS
@given(commands=st.lists(STREAMS, min_size=5, max_size=40))
def test_streams(real: RealServer, commands: list[Command]) -> None:
    run_both(real, commands)


@SETTINGS
@given(commands=st.lists(FUNCTIONS, min_size=5, max_size=30))
def test_functions(real: RealServer, commands: list[Command]) -> None:
    run_both(real, commands)


@SETTINGS
@given(commands=st.lists(st.one_of(PLAIN, STREAMS, FUNCTIONS, CONTROL), min_size=5, max_size=40))
def test_everything(real: RealServer, commands: list[Command]) -> None:
    run_both(real, commands)
