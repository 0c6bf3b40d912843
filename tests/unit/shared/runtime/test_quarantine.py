from __future__ import annotations

import base64

import msgspec

from shared.runtime.quarantine import ENTRIES_MAX, RAW_BYTES_MAX, Quarantine, RefusedInput, refused_input
from shared.runtime.secret import Secret


def keep(quarantine: Quarantine, raw: bytes = b"raw") -> None:
    quarantine.keep(ts_ns=1, origin="GatewayQuote bestBid", why="off the tick grid", raw=raw)


def test_nothing_refused_says_nothing() -> None:
    assert Quarantine("feed").words() == ""


def test_count_and_newest_are_told() -> None:
    quarantine = Quarantine("feed")
    keep(quarantine)
    keep(quarantine, b'{"bestBid": 1.1}')
    words = "2; newest GatewayQuote bestBid: off the tick grid in '{\"bestBid\": 1.1}'"
    assert quarantine.words() == words


def test_what_is_kept_is_bounded_and_its_size_is_told() -> None:
    found = refused_input(ts_ns=1, origin="market", why="x" * 10_000, raw=b"y" * 10_000)
    assert found.size_bytes == 10_000
    assert found.raw == "y" * RAW_BYTES_MAX
    assert len(found.why) == 500
    quarantine = Quarantine("feed")
    for _ in range(3 * ENTRIES_MAX):
        keep(quarantine)
    assert quarantine.count == 3 * ENTRIES_MAX
    assert len(quarantine._unstored) == ENTRIES_MAX


def test_bytes_that_are_no_text_are_kept_as_they_were() -> None:
    found = refused_input(ts_ns=1, origin="market", why="not UTF-8", raw=b"\xff\xfe\x00")
    assert found.raw == ""
    assert base64.b64decode(found.raw_base64) == b"\xff\xfe\x00"
    assert msgspec.json.decode(msgspec.json.encode(found), type=RefusedInput) == found


def test_secrets_are_not_kept() -> None:
    secret = Secret("a-key-of-somebody")
    found = refused_input(ts_ns=1, origin="x", why=f"has {secret.reveal()}", raw=secret.reveal().encode())
    assert "a-key-of-somebody" not in msgspec.json.encode(found).decode()
