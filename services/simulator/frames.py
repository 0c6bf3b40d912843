"""How a hub's bytes travel when a fault acts: in pieces, or with rubbish between them. No I/O here."""

from __future__ import annotations

import struct
from random import Random
from typing import Literal, assert_never, get_args

TEXT, CONTINUATION = 0x1, 0x0
OVERSIZED_BYTES = 10_000_000
DEPTH = 100_000
END = b"\x1e"
Garbage = Literal["truncated", "types", "enum", "numbers", "deep", "oversized", "utf8", "html", "unframed"]
GARBAGE: tuple[Garbage, ...] = get_args(Garbage)


def pieces(data: bytes, count: int, rng: Random) -> list[bytes]:
    """Cut `data` at random places into at most `count` pieces, none empty."""
    cuts = sorted(rng.sample(range(1, len(data)), min(count, len(data)) - 1)) if len(data) > 1 else []
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def fragments(data: bytes, count: int, rng: Random) -> bytes:
    """Return one WebSocket message of several frames, as a server sends them (unmasked)."""
    parts = pieces(data, count, rng)
    last = len(parts) - 1
    return b"".join(
        _frame(part, CONTINUATION if index else TEXT, index == last) for index, part in enumerate(parts)
    )


def _frame(payload: bytes, opcode: int, is_last: bool) -> bytes:
    first, size = opcode | (0x80 if is_last else 0), len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def _event(target: bytes, arguments: bytes) -> bytes:
    return b'{"type":1,"target":"%b","arguments":[%b]}' % (target, arguments) + END


def garbage(what: Garbage, *, contract_id: str, account_id: int) -> bytes:
    """Return a record that no client should act on.

    Args:
        what: One of `GARBAGE`.
        contract_id, account_id: What it pretends to be about.
    """
    contract, account = contract_id.encode(), b"%d" % account_id
    quote = b'"%b",{"symbol":"F.US.MES","lastUpdated":"2026-03-02T15:00:00Z",' % contract
    match what:
        case "truncated":
            return _event(b"GatewayQuote", quote)[:60] + END
        case "types":
            return _event(b"GatewayQuote", quote + b'"bestBid":"high","bestAsk":[6700]}')
        case "enum":
            order = b'{"action":1,"data":{"id":99,"accountId":%b,"contractId":"%b","status":99,' % (
                account,
                contract,
            )
            rest = b'"creationTimestamp":"2026-03-02T15:00:00Z","type":77,"side":5,"size":1,"fillVolume":0}}'
            return _event(b"GatewayUserOrder", order + rest)
        case "numbers":
            return _event(b"GatewayQuote", quote + b'"bestBid":NaN,"bestAsk":Infinity,"volume":-5}')
        case "deep":
            return _event(b"GatewayQuote", b"[" * DEPTH + b"]" * DEPTH)
        case "oversized":
            return _event(b"GatewayQuote", b'"' + b"x" * OVERSIZED_BYTES + b'"')
        case "utf8":
            return _event(b"GatewayQuote", b'"\xff\xfe\xc3"')
        case "html":
            return b"<html><body>502 Bad Gateway</body></html>" + END
        case "unframed":
            return b'{"type":6}\n{"type":6}' + END
        case _:
            assert_never(what)
