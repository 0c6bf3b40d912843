from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from shared.broker.projectx.signalr import (
    HANDSHAKE_REQUEST,
    PING_RECORD,
    ClientConnection,
    Closed,
    CloseReason,
    Completion,
    HandshakeAccepted,
    HubEvent,
    Invocation,
    Malformed,
    ServerConnection,
    encode_close,
    encode_completion,
    encode_invocation,
)
from tests.support.faulty_link import FaultyLink

SECOND = 1_000_000_000


def open_client(now_ns: int = 0) -> ClientConnection:
    client = ClientConnection()
    client.start(now_ns)
    assert client.take_output() == HANDSHAKE_REQUEST
    assert client.receive(b"{}\x1e", now_ns) == [HandshakeAccepted()]
    return client


def open_server(now_ns: int = 0) -> ServerConnection:
    server = ServerConnection()
    server.start(now_ns)
    assert server.receive(HANDSHAKE_REQUEST, now_ns) == [HandshakeAccepted()]
    assert server.take_output() == b"{}\x1e"
    return server


def only(events: list[HubEvent]) -> HubEvent:
    assert len(events) == 1, events
    return events[0]


# -- handshake


def test_records_glued_behind_the_handshake_answer() -> None:
    client = ClientConnection()
    client.start(0)
    quote = encode_invocation("GatewayQuote", ["A", {}])
    events = client.receive(b"{}\x1e" + quote + quote[:5], 0) + client.receive(quote[5:], 0)
    assert [type(event) for event in events] == [HandshakeAccepted, Invocation, Invocation]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"error":"no version 0"}\x1e', "no version 0"),
        (b"<html>502</html>\x1e", "not a handshake"),
        (b'{"type":7,"error":"go away"}\x1e', "go away"),
        (b'{"type":6}\x1e', "type 6 came before the handshake"),
        (b"[]\x1e", "not a handshake"),
    ],
)
def test_handshake_answers_that_are_none(answer: bytes, said: str) -> None:
    client = ClientConnection()
    client.start(0)
    event = only(client.receive(answer, 0))
    assert isinstance(event, Closed)
    assert event.reason is CloseReason.HANDSHAKE_REFUSED
    assert said in event.detail
    assert client.receive(b"{}\x1e", 0) == []


@pytest.mark.parametrize(
    "request_record",
    [
        b'{"protocol":"json","version":0}\x1e',
        b'{"protocol":"json","version":2}\x1e',
        b'{"protocol":"messagepack","version":1}\x1e',
        b"{}\x1e",
        b"\xff\xfe\x1e",
    ],
)
def test_server_refuses_a_wrong_handshake_with_an_error(request_record: bytes) -> None:
    server = ServerConnection()
    server.start(0)
    event = only(server.receive(request_record, 0))
    assert isinstance(event, Closed)
    assert json.loads(server.take_output().rstrip(b"\x1e")).keys() == {"error"}


@pytest.mark.parametrize("end", [ClientConnection, ServerConnection])
@pytest.mark.parametrize(("seconds", "closed"), [(14.9, False), (15.0, True)])
def test_handshake_timeout(
    end: type[ClientConnection] | type[ServerConnection], seconds: float, closed: bool
) -> None:
    connection = end()
    connection.start(0)
    events = connection.on_time(int(seconds * SECOND))
    assert [type(event) for event in events] == ([Closed] if closed else [])
    assert connection.is_closed is closed


# -- records


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"type":1}', "target"),
        (b'{"type":"1","target":"x"}', "type"),
        (b'{"type":1,"target":5}', "target"),
        (b'{"type":3}', "invocationId"),
        (b'{"type":1,"target":"\xff"}', "utf-8"),
        (b'{"type":1,"target":"x","arguments":' + b"[" * 100_000, "recursion"),
    ],
)
def test_malformed_record_is_kept_and_the_link_goes_on(record: bytes, reason: str) -> None:
    client = open_client()
    events = client.receive(record + b"\x1e" + encode_invocation("X", []), 0)
    refused, call = events
    assert isinstance(refused, Malformed)
    assert reason in refused.reason
    assert refused.raw == record[:2_048]
    assert refused.raw_bytes == len(record)
    assert isinstance(call, Invocation)


@pytest.mark.parametrize("kind", [2, 4, 5, 8, 9, 99])
def test_types_that_we_do_not_speak_are_ignored_and_counted(kind: int) -> None:
    client = open_client()
    assert client.receive(b'{"type":%d,"invocationId":"1","sequenceId":3}\x1e' % kind, 0) == []
    assert client.ignored_records == 1


def test_record_beyond_the_limit_ends_the_link() -> None:
    server = open_server()
    events = server.receive(b"x" * 40_000, 0)
    assert [type(event) for event in events] == [Malformed, Closed]
    assert server.is_closed


def test_close_record_ends_the_link_and_what_is_behind_it_is_not_read() -> None:
    client = open_client()
    data = encode_close("bye", allow_reconnect=True) + encode_invocation("X", [])
    closed = Closed(reason=CloseReason.BY_PEER, detail="bye", allow_reconnect=True)
    assert client.receive(data, 0) == [closed]
    assert client.receive(encode_invocation("X", []), 0) == []


def test_arguments_are_handed_over_undecoded() -> None:
    call = only(open_client().receive(encode_invocation("T", Raw(b'["A",{"p":1.50}]')), 0))
    assert isinstance(call, Invocation)
    assert bytes(call.arguments) == b'["A",{"p":1.50}]'


# -- keep-alive


def test_ping_after_quiet_time_only() -> None:
    client = open_client()
    assert client.next_time_ns == 15 * SECOND
    client.on_time(14 * SECOND)
    assert client.take_output() == b""
    client.invoke("X", [], 14 * SECOND)
    client.take_output()
    client.on_time(20 * SECOND)
    assert client.take_output() == b""
    client.on_time(29 * SECOND)
    assert client.take_output() == PING_RECORD


def test_peer_silence_ends_the_link_and_any_bytes_reset_it() -> None:
    client = open_client()
    client.receive(PING_RECORD, 10 * SECOND)
    assert client.on_time(39 * SECOND) == []
    closed = only(client.on_time(40 * SECOND))
    assert isinstance(closed, Closed)
    assert closed.reason is CloseReason.PEER_SILENT
    assert client.on_time(41 * SECOND) == []


def test_close_from_this_side_tells_the_other() -> None:
    client, server = open_client(), open_server()
    assert isinstance(only(client.close(0, error="done")), Closed)
    closed = only(server.receive(client.take_output(), 0))
    assert closed == Closed(reason=CloseReason.BY_PEER, detail="done", allow_reconnect=False)
    assert client.close(0) == []


# -- encoding

texts = st.text(st.characters(codec="utf-8"), max_size=12)
values = st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.none(), st.lists(texts, max_size=3))


@given(target=texts, arguments=st.lists(values, max_size=4), invocation_id=st.none() | texts)
def test_invocation_comes_back_as_it_was(
    target: str, arguments: list[object], invocation_id: str | None
) -> None:
    call = only(open_client().receive(encode_invocation(target, arguments, invocation_id), 0))
    assert isinstance(call, Invocation)
    assert (call.target, call.invocation_id) == (target, invocation_id)
    assert msgspec.json.decode(call.arguments) == arguments


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (encode_completion("1"), Completion("1")),
        (encode_completion("1", error="no"), Completion("1", error="no")),
        (encode_completion("1", {"a": 1}), Completion("1", result=Raw(b'{"a":1}'))),
    ],
)
def test_completion(record: bytes, expected: Completion) -> None:
    found = only(open_client().receive(record, 0))
    assert isinstance(found, Completion)
    assert (found.invocation_id, found.error) == (expected.invocation_id, expected.error)
    assert bytes(found.result) == bytes(expected.result)


# -- both ends over a bad link


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), calls=st.lists(texts, max_size=12), pushes=st.lists(texts, max_size=12))
def test_both_ends_agree_over_a_link_that_cuts_and_glues(
    seed: int, calls: list[str], pushes: list[str]
) -> None:
    client, server = ClientConnection(), ServerConnection()
    client.start(0)
    server.start(0)
    link = FaultyLink(client, server, seed=seed)
    link.carry()
    ids = [client.invoke(target, [], 0) for target in calls]
    for target in pushes:
        server.send(target, [target], 0)
    link.carry()
    heard = [event for event in link.heard["server"] if isinstance(event, Invocation)]
    assert [(event.target, event.invocation_id) for event in heard] == list(zip(calls, ids, strict=True))
    for event in heard:
        assert event.invocation_id is not None
        server.complete(event.invocation_id, 0)
    link.carry()
    told = link.heard["client"]
    assert [event.target for event in told if isinstance(event, Invocation)] == pushes
    assert [event.invocation_id for event in told if isinstance(event, Completion)] == ids
    assert not any(isinstance(event, Malformed) for event in told + link.heard["server"])


def test_repeated_records_arrive_repeated_and_whole() -> None:
    client, server = open_client(), open_server()
    link = FaultyLink(client, server, seed=7, repeat_share=1.0)
    server.send("GatewayUserTrade", [{"id": 1}], 0)
    link.carry()
    assert [type(event) for event in link.heard["client"]] == [Invocation, Invocation]
