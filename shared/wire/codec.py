"""Bytes <-> messages. Refuses, never guesses.

A stream entry carries the message's type as its field and the JSON as its value, so `redis-cli XREVRANGE`
reads like a log. The JSON itself has the tag too: each value is complete in an archive or a pub/sub
frame.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from shared.domain.messages import Message

RAW_EXCERPT_BYTES_MAX = 512
"""How much of a refused value an error keeps; the entry itself stays in its stream."""


class MessageRefused(ValueError):
    """A value on the bus that is not one of our messages.

    Attributes:
        kind: The entry's field, as found.
        raw: Start of the value.
    """

    def __init__(self, kind: str, raw: bytes, why: str) -> None:
        super().__init__(kind, raw, why)
        self.kind, self.raw, self.why = kind, raw[:RAW_EXCERPT_BYTES_MAX], why

    def __str__(self) -> str:
        return f"message of type {self.kind!r} refused: {self.why}; it begins {self.raw[:80]!r}"


_TYPES: dict[bytes, type[msgspec.Struct]] = {
    str(t.__struct_config__.tag).encode(): t for t in get_args(Message)
}
_encoder = msgspec.json.Encoder()
_DECODERS = {tag: msgspec.json.Decoder(t) for tag, t in _TYPES.items()}
_KINDS: dict[type[msgspec.Struct], bytes] = {t: tag for tag, t in _TYPES.items()}


def kind_of(message: msgspec.Struct) -> bytes:
    """Return the type tag that stands in the entry's field."""
    return _KINDS[type(message)]


def encode(message: msgspec.Struct) -> bytes:
    """Return the JSON of one message."""
    return _encoder.encode(message)


def decode(kind: bytes, value: bytes) -> Message:
    """Return the message in one stream entry.

    Raises:
        MessageRefused: If the type is unknown or the value is not valid for it.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise MessageRefused(
            kind.decode("utf-8", "replace"), value, "unknown type; is another build running?"
        )
    try:
        return decoder.decode(value)  # type: ignore[return-value]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageRefused(kind.decode(), value, str(error)) from error


def known_kinds() -> frozenset[str]:
    """Return every type tag there is."""
    return frozenset(tag.decode() for tag in _TYPES)
