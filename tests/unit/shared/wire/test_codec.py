from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.market import Quote
from shared.wire.codec import RAW_EXCERPT_BYTES_MAX, MessageRefused, decode, encode, kind_of, known_kinds
from tests.support.messages import MESSAGE_TYPES, any_message, messages

QUOTE = b'{"type":"quote","symbol":"MES","ts_event_ns":1,"ts_recv_ns":2}'


@pytest.mark.parametrize("kind", MESSAGE_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_round_trip_of_every_type(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    assert decode(kind_of(message), encode(message)) == message


@given(any_message())
def test_value_is_complete_without_its_key(message: msgspec.Struct) -> None:
    """The JSON carries the type too, so an archive or a pub/sub frame needs nothing beside it."""
    assert json.loads(encode(message))["type"].encode() == kind_of(message)


def test_every_type_has_its_own_name() -> None:
    assert len(known_kinds()) == len(MESSAGE_TYPES)


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (b"qoute", QUOTE, "another build"),
        (b"\xff\xfe", QUOTE, "unknown type"),
        (b"trade", QUOTE, "Invalid value"),
        (b"quote", b"", "truncated"),
        (b"quote", QUOTE[:-1], "truncated"),
        (b"quote", b"<html>", "invalid character"),
        (b"quote", b"\xff\xfe\x00", "malformed"),
        (b"quote", b"null", "Expected `object`"),
        (b"quote", b"[" * 10_000, "Expected `object`"),
        (b"quote", QUOTE.replace(b"2}", b'"2"}'), "Expected `int`"),
        (b"quote", QUOTE.replace(b"2}", b'2,"bid_px":NaN}'), "invalid"),
        (b"quote", b'{"type":"quote","symbol":"MES","ts_event_ns":1}', "ts_recv_ns"),
        (b"quote", QUOTE.replace(b"MES", b"\xc3\x28"), "utf-8"),
    ],
)
def test_refusals_name_the_reason(kind: bytes, value: bytes, why: str) -> None:
    with pytest.raises(MessageRefused, match=why) as caught:
        decode(kind, value)
    assert value.startswith(caught.value.raw)


def test_refusal_keeps_a_bounded_excerpt() -> None:
    with pytest.raises(MessageRefused) as caught:
        decode(b"quote", b"x" * 10_000_000)
    assert len(caught.value.raw) == RAW_EXCERPT_BYTES_MAX
    assert len(str(caught.value)) < 500


def test_unknown_fields_of_a_newer_build_are_passed_over() -> None:
    value = QUOTE.replace(b"2}", b'2,"added_later":[1]}')
    assert decode(b"quote", value) == Quote(symbol="MES", ts_event_ns=1, ts_recv_ns=2)


@given(st.binary(max_size=200), st.sampled_from(sorted(known_kinds())))
def test_garbage_is_refused_or_a_message_never_a_crash(value: bytes, kind: str) -> None:
    try:
        decode(kind.encode(), value)
    except MessageRefused as refused:
        assert refused.kind == kind


FILL = (
    b'{"type":"fill_report","account_id":1,"fill_id":1,"broker_order_id":1,"contract_id":"c","side":"buy",'
    b'"last_qty":1,"last_px":"5000.25","fees":"0","ts_event_ns":1,"ts_recv_ns":1}'
)
STATE = (
    b'{"type":"market_state","symbol":"ES","contract_id":"c","health":"live","bid_px":1,"ask_px":2,"last_px":1,'
    b'"crossed":false,"tick_size":"0.25","tick_value":"1","ts_event_ns":1,"ts_asof_ns":1}'
)


@pytest.mark.parametrize(
    ("kind", "sound", "part", "bad"),
    [
        (b"fill_report", FILL, b"5000.25", b"NaN"),
        (b"fill_report", FILL, b'"last_qty":1', b'"last_qty":0'),
        (b"market_state", STATE, b"0.25", b"0"),
        (b"market_state", STATE, b"0.25", b"abc"),
    ],
)
def test_what_nothing_could_be_counted_with_is_refused(
    kind: bytes, sound: bytes, part: bytes, bad: bytes
) -> None:
    decode(kind, sound)
    with pytest.raises(MessageRefused):
        decode(kind, sound.replace(part, bad))


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(MessageRefused):
        decode(b"halt", b"[" * 100_000)
