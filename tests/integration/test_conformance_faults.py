"""The modelled server and a real one come back from a kill with the same data, and refuse alike."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from proof.simulation.bus.replies import ErrorReply
from proof.simulation.bus.server import SimServer
from shared.bus.functions import LIBRARY
from tests.support.redis_wires import ModelWire, RealWire, Wire, ask
from tests.support.valkey import ValkeyServer, running_valkey

pytestmark = pytest.mark.integration

APPEND = ("FCALL", "julie_append", 2, "s", "s:head", 1)


class Faulty:
    """A server that can be killed and whose disk can fail."""

    def __init__(self, server: SimServer | ValkeyServer) -> None:
        self._server = server
        self._wires: list[Wire] = []

    def wire(self) -> Wire:
        server = self._server
        wire = ModelWire(server) if isinstance(server, SimServer) else RealWire(str(server.socket))
        self._wires.append(wire)
        return wire

    def restart(self) -> None:
        self.close()
        if isinstance(self._server, SimServer):
            self._server.crash()
        else:
            self._server.kill()
        self._server.start()

    def fail_disk(self) -> None:
        """Make the last write to the disk one that failed."""
        if isinstance(self._server, SimServer):
            self._server.disk_full = True
            return
        wire = self.wire()
        ask(wire, "CONFIG", "SET", "save", "3600 1")
        ask(wire, "CONFIG", "SET", "dbfilename", "dump.rdb")
        (self._server.folder / "dump.rdb").mkdir()
        deadline = time.monotonic() + 20
        ask(wire, "BGSAVE")
        while b"rdb_last_bgsave_status:err" not in ask(wire, "INFO", "persistence"):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def close(self) -> None:
        while self._wires:
            self._wires.pop().close()


@pytest.fixture(params=["model", "valkey"])
def faulty(request: pytest.FixtureRequest) -> Iterator[Faulty]:
    if request.param == "model":
        yield Faulty(SimServer(lambda: time.time_ns() // 1000))
        return
    with running_valkey(survives_kills=True) as valkey:
        server = Faulty(valkey)
        yield server
        server.close()


def test_a_kill_loses_nothing(faulty: Faulty) -> None:
    wire = faulty.wire()
    ask(wire, "FUNCTION", "LOAD", LIBRARY)
    ask(wire, "FCALL", "julie_open", 1, "s:head")
    for words in (
        (*APPEND, 1, 1000, 0, "a", 1, "b", 2),
        ("XADD", "t", "*", "a", 1),
        ("XTRIM", "s", "MAXLEN", 1),
        ("XADD", "gone", "5-5", "a", 1),
        ("XTRIM", "gone", "MAXLEN", 0),
        ("SET", "k", "v", "PX", 100_000),
        ("SET", "short", "v", "PX", 1),
        ("HSET", "h", "a", 1, "b", 2),
        ("EXPIRE", "h", 100),
        ("LPUSH", "l", "a", "b"),
        ("LTRIM", "l", 0, 0),
        ("FCALL", "julie_lease", 1, "lease", "me", 100_000),
        ("FCALL", "julie_budget", 2, "budget", "pause", 5, 100_000, 1, 0, "m"),
        ("MULTI",),
        ("DEL", "h2"),
        ("HSET", "h2", "a", 1),
        ("EXEC",),
    ):
        assert not isinstance(ask(wire, *words), ErrorReply), words
    time.sleep(0.002)
    looks: list[tuple[str | int, ...]] = [
        ("XRANGE", "s", "-", "+"),
        ("XRANGE", "t", "-", "+"),
        ("GET", "k"),
        ("GET", "short"),
        ("HGETALL", "h"),
        ("HGETALL", "h2"),
        ("LRANGE", "l", 0, -1),
        ("HGETALL", "lease"),
        ("ZRANGE", "budget", 0, -1, "WITHSCORES"),
        ("HGETALL", "s:head"),
    ]
    before = [ask(wire, *look) for look in looks]
    faulty.restart()
    wire = faulty.wire()
    assert [ask(wire, *look) for look in looks] == before
    assert 0 < ask(wire, "PTTL", "k") <= 100_000
    assert 0 < ask(wire, "PTTL", "h") <= 100_000
    assert 0 < ask(wire, "PTTL", "budget") <= 200_000
    assert ask(wire, *APPEND, 3, 1000, 0, "c", 3) == [3, 0]
    assert ask(wire, "XADD", "gone", "5-5", "a", 1).text.startswith("ERR The ID specified in XADD")


def test_a_bad_disk_refuses_every_write(faulty: Faulty) -> None:
    wire = faulty.wire()
    ask(wire, "FUNCTION", "LOAD", LIBRARY)
    ask(wire, *APPEND, 1, 1000, 0, "a", 1)
    ask(wire, "SET", "k", "v")
    faulty.fail_disk()
    refused: list[tuple[str | int, ...]] = [
        ("SET", "k", "w"),
        ("DEL", "k"),
        ("XTRIM", "s", "MAXLEN", 0),
        ("PING",),
        ("FCALL", "julie_open", 1, "s:head"),
        (*APPEND, 2, 1000, 0, "b", 1),
        ("FUNCTION", "LOAD", "REPLACE", LIBRARY),
    ]
    for words in refused:
        refusal = ask(wire, *words)
        assert isinstance(refusal, ErrorReply), words
        assert refusal.text.startswith("MISCONF "), words
    assert ask(wire, "GET", "k") == b"v"
    assert ask(wire, "XLEN", "s") == 1
    assert isinstance(ask(wire, "FCALL", "julie_version", 0), bytes)
    assert ask(wire, "PUBLISH", "beats", "x") == 0
    ask(wire, "MULTI")
    assert ask(wire, "SET", "k", "w").text.startswith("MISCONF ")
    assert ask(wire, "EXEC").text.startswith("EXECABORT")
