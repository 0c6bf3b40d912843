"""What of a modelled server's data survives its faults, and what its clients see of them."""

from __future__ import annotations

import pytest

from proof.simulation.bus.link import encoded
from proof.simulation.bus.replies import ErrorReply, Reply
from proof.simulation.bus.server import ServerDown, SimServer
from proof.simulation.bus.session import Parked, Session
from shared.bus.functions import LIBRARY

Word = str | bytes | int


class Wall:
    """The server's wall clock, which a test sets."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.us


def do(server: SimServer, *words: Word, by: Session | None = None) -> Reply:
    return server.execute(by or server.attach(), encoded(words))


def loaded(*, fsync_always: bool = False, wall: Wall | None = None) -> SimServer:
    server = SimServer(wall or Wall(), fsync_always=fsync_always)
    assert do(server, "FUNCTION", "LOAD", LIBRARY) == b"julie"
    return server


def append(server: SimServer, seq: int, *entries: Word) -> Reply:
    return do(server, "FCALL", "julie_append", 2, "s", "s:head", 1, seq, 1000, 0, *entries)


def test_a_killed_server_keeps_what_it_wrote() -> None:
    server = loaded()
    append(server, 1, "a", 1, "b", 2)
    do(server, "SET", "k", "v", "PX", 5_000)
    before = do(server, "XRANGE", "s", "-", "+")
    server.crash()
    with pytest.raises(ServerDown):
        server.attach()
    server.start()
    assert do(server, "XRANGE", "s", "-", "+") == before
    assert do(server, "PTTL", "k") == 5_000
    assert append(server, 3, "c", 3) == [3, 0]


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_power_cut_takes_whole_groups_from_the_end(lost: int) -> None:
    """A function call is in the file as a whole or not at all: never entries without their head."""
    server = loaded()
    append(server, 1, "a", 1)
    server.fsync()
    for seq in (2, 4, 6):
        append(server, seq, "b", 1, "c", 2)
    assert len(server.log) - server.durable == 3
    server.crash()
    server.start(keep=len(server.log) - lost)
    seq = 7 - 2 * lost
    assert do(server, "XLEN", "s") == seq
    assert do(server, "HGET", "s:head", "seq") == b"%d" % seq
    refused = append(server, 9, "d", 1)
    assert isinstance(refused, ErrorReply)
    assert refused.text.startswith(f"ROLLEDBACK stream stands at {seq}, the writer at 8")


def test_with_fsync_always_nothing_acknowledged_is_lost() -> None:
    server = loaded(fsync_always=True)
    for seq in range(1, 4):
        append(server, seq, "a", seq)
        assert server.durable == len(server.log)
    server.crash()
    server.start(keep=server.durable)
    assert do(server, "XLEN", "s") == 3


def test_an_emptied_server_has_nothing_not_even_functions() -> None:
    server = loaded()
    append(server, 1, "a", 1)
    server.crash()
    server.start(keep=0)
    assert do(server, "DBSIZE") == 0
    refused = append(server, 2, "b", 1)
    assert isinstance(refused, ErrorReply)
    assert refused.text == "ERR Function not found"


def test_ends_and_leases_follow_the_wall_clock() -> None:
    wall = Wall()
    server = loaded(wall=wall)
    do(server, "SET", "k", "v", "PX", 1_000)
    assert do(server, "FCALL", "julie_lease", 1, "l", "me", 10_000) == [1, 1, b"me"]
    wall.us += 1_000_000
    assert do(server, "GET", "k") == b"v"
    wall.us += 1_000
    assert do(server, "GET", "k") is None
    assert do(server, "FCALL", "julie_lease", 1, "l", "you", 10_000) == [1, 0, b"me"]
    wall.us += 9_000_000
    assert do(server, "FCALL", "julie_lease", 1, "l", "you", 10_000) == [2, 1, b"you"]
    wall.us -= 3_600_000_000
    assert do(server, "FCALL", "julie_lease", 1, "l", "me", 10_000) == [3, 1, b"me"]


def test_an_end_passes_while_the_server_is_down() -> None:
    wall = Wall()
    server = loaded(wall=wall)
    do(server, "SET", "k", "v", "PX", 1_000)
    do(server, "HSET", "h", "a", 1)
    do(server, "EXPIRE", "h", 100)
    server.crash()
    wall.us += 2_000_000
    server.start()
    assert do(server, "KEYS", "*") == [b"h"]
    assert do(server, "TTL", "h") == 98


def test_a_full_disk_refuses_every_write_and_the_ping() -> None:
    server = loaded()
    append(server, 1, "a", 1)
    server.disk_full = True
    for words in (("SET", "k", "v"), ("DEL", "s"), ("PING",), ("FCALL", "julie_open", 1, "s:head")):
        refused = do(server, *words)
        assert isinstance(refused, ErrorReply), words
        assert refused.text.startswith("MISCONF "), words
    assert do(server, "XLEN", "s") == 1
    assert isinstance(do(server, "FCALL", "julie_version", 0), bytes)
    server.disk_full = False
    assert append(server, 2, "b", 1) == [2, 0]


def test_a_loading_server_tells_the_time_only() -> None:
    server = loaded()
    server.crash()
    server.start(loading=True)
    for words in (("PING",), ("GET", "k"), ("FCALL", "julie_version", 0)):
        refused = do(server, *words)
        assert isinstance(refused, ErrorReply), words
        assert refused.text.startswith("LOADING "), words
    assert len(do(server, "TIME")) == 2
    server.loading = False
    assert do(server, "PING") == b"PONG"


def test_a_frozen_server_carries_out_later_what_has_arrived() -> None:
    """Also for who has hung up: the bytes are in the socket."""
    server = loaded()
    stays, leaves = server.attach(), server.attach()
    server.freeze()
    answers: list[Reply] = []
    parked = do(server, "INFO", by=stays)
    late = do(server, "SET", "k", "v", by=leaves)
    assert isinstance(parked, Parked)
    assert isinstance(late, Parked)
    parked.answered = late.answered = answers.append
    leaves.close()
    assert answers == []
    server.thaw()
    assert len(answers) == 1
    assert do(server, "GET", "k") == b"v"


def test_a_frozen_server_does_not_end_a_wait() -> None:
    server = loaded()
    parked = do(server, "XREAD", "BLOCK", 100, "STREAMS", "s", "$")
    assert isinstance(parked, Parked)
    answers: list[Reply] = []
    parked.answered = answers.append
    server.freeze()
    parked.timeout()
    assert answers == []
    server.thaw()
    assert answers == [None]


def test_waiting_readers_are_woken_first_come_first_served() -> None:
    server = loaded()
    order: list[int] = []
    for number in (3, 1, 2):
        parked = do(server, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
        assert isinstance(parked, Parked)
        parked.answered = lambda _reply, number=number: order.append(number)
    append(server, 1, "a", 1)
    assert order == [3, 1, 2]


def test_a_crash_breaks_every_connection() -> None:
    server = loaded()
    broken: list[str] = []
    listener, reader = server.attach(), server.attach()
    listener.on_event = lambda: broken.append("listener")
    do(server, "SUBSCRIBE", "beats", by=listener)
    broken.clear()
    reader.on_event = lambda: broken.append("reader")
    do(server, "XREAD", "BLOCK", 0, "STREAMS", "s", "$", by=reader)
    server.crash()
    assert broken == ["listener", "reader"]
    server.start()
    assert not listener.open
    assert do(server, "PUBLISH", "beats", "x") == 0


def test_a_listener_that_does_not_read_is_cut_off() -> None:
    server = loaded()
    server.pushed_bytes_max = 1_000
    slow, quick = server.attach(), server.attach()
    for session in (slow, quick):
        do(server, "SUBSCRIBE", "beats", by=session)
    counts = []
    for _ in range(20):
        counts.append(do(server, "PUBLISH", "beats", b"x" * 100))
        quick.take()
    assert counts == [2] * 10 + [1] * 10
    assert quick.open
    assert not slow.open
