"""Frames of the two hubs: from the bytes of a socket to events of ours, and what execution does on them."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path

import msgspec

from proof.fuzz.engine import PromiseBroken, Target
from proof.fuzz.floor import Floor
from shared.broker.port import FrameRefused
from shared.broker.projectx.market import MarketTranslator
from shared.broker.projectx.records import EXCERPT_BYTES_MAX
from shared.broker.projectx.signalr import (
    ClientConnection,
    Closed,
    HubEvent,
    Invocation,
    Malformed,
    encode_completion,
    encode_invocation,
)
from shared.broker.projectx.translate import user_events
from shared.domain.instrument import Instrument
from shared.domain.market import Depth
from shared.domain.report import FillReport, OrderReport, PositionReport

RECORDED = Path(__file__).resolve().parents[2] / "tests" / "data" / "projectx"
INSTRUMENT = Instrument(
    symbol="ES",
    contract_id="CON.F.US.EP.U25",
    contract_name="ESU5",
    tick_size=Decimal("0.25"),
    tick_value=Decimal("12.5"),
)
NOW_NS = 1_753_105_500_000_000_000
SOUND = encode_invocation("GatewayLogout", ["sound"])
HANDSHAKE = b"{}\x1e"


def _frames(name: str) -> list[bytes]:
    lines = (RECORDED / name).read_text(encoding="utf-8").splitlines()
    return [encode_invocation(one["target"], one["arguments"])[:-1] for one in map(json.loads, lines)]


def _open() -> ClientConnection:
    link = ClientConnection()
    link.start(NOW_NS)
    link.receive(HANDSHAKE, NOW_NS)
    return link


def _events(link: ClientConnection, data: bytes) -> list[HubEvent]:
    events = link.receive(data, NOW_NS)
    for event in events:
        if isinstance(event, Malformed) and event.raw_bytes and not (event.raw and event.raw in data):
            raise PromiseBroken(f"the raw bytes of a malformed record are not kept: {event}")
    return events


def _signalr(data: bytes) -> None:
    """The codec alone: the same whatever the pieces, and what is behind bad bytes is heard."""
    whole = _events(_open(), data + b"\x1e" + SOUND)
    pieces, link = [], _open()
    cut = len(data) // 2
    for part in (data[:cut], data[cut:] + b"\x1e", SOUND):
        pieces += link.receive(part, NOW_NS)
    if msgspec.to_builtins(whole, builtin_types=(msgspec.Raw,)) != msgspec.to_builtins(
        pieces, builtin_types=(msgspec.Raw,)
    ):
        raise PromiseBroken("a frame in pieces says something else than in one")
    if any(isinstance(event, Closed) for event in whole):
        return
    if not whole or not isinstance(whole[-1], Invocation) or whole[-1].target != "GatewayLogout":
        raise PromiseBroken("a sound record behind a bad one was not heard")
    unheard = ClientConnection()
    unheard.start(NOW_NS)
    unheard.receive(data + b"\x1e", NOW_NS)


def _invocations(data: bytes) -> list[Invocation]:
    return [event for event in _events(_open(), data + b"\x1e") if isinstance(event, Invocation)]


def _market(data: bytes) -> None:
    translator = MarketTranslator([INSTRUMENT])
    for invocation in _invocations(data):
        for event in translator.events(invocation.target, invocation.arguments, NOW_NS):
            if isinstance(event, FrameRefused):
                _kept(event)
                continue
            if isinstance(event, Depth) and event.side is None:
                continue  # a reset of the book has no price
            for name in ("bid_px", "ask_px", "last_px", "px"):
                px = getattr(event, name, None)
                if px is not None and (
                    not math.isfinite(px) or px <= 0 or Decimal(str(px)) % Decimal("0.25")
                ):
                    raise PromiseBroken(f"{name}={px} passed: {event}")
            for name in ("qty", "bid_qty", "ask_qty"):
                qty = getattr(event, name, None)
                if qty is not None and qty < 0:
                    raise PromiseBroken(f"{name}={qty} passed: {event}")


def _kept(refused: FrameRefused) -> None:
    if not refused.raw or len(refused.raw) > EXCERPT_BYTES_MAX or not refused.reason:
        raise PromiseBroken(f"a refused frame is not kept or not explained: {refused}")


_floor = Floor(contract_id=INSTRUMENT.contract_id)


def _user(data: bytes) -> None:
    for invocation in _invocations(data):
        instruments = {INSTRUMENT.contract_id: INSTRUMENT}
        for event in user_events(invocation.target, invocation.arguments, NOW_NS, instruments):
            if isinstance(event, FrameRefused):
                _kept(event)
                continue
            if isinstance(event, OrderReport) and (event.order_qty <= 0 or event.cum_qty < 0):
                raise PromiseBroken(f"a size passed: {event}")
            if isinstance(event, FillReport) and (
                event.last_qty <= 0 or not event.last_px.is_finite() or event.last_px <= 0
            ):
                raise PromiseBroken(f"a fill passed: {event}")
            if isinstance(event, PositionReport) and not event.avg_px.is_finite():
                raise PromiseBroken(f"a position passed: {event}")
            _floor.report(event)


TARGETS = (
    Target(
        "signalr",
        [
            *_frames("market_hub.jsonl"),
            b'{"type":6}',
            b'{"type":7,"error":"bye"}',
            b"{}",
            encode_completion("1", error="no")[:-1],
            encode_completion("2", {"a": 1})[:-1],
        ],
        _signalr,
        15,
    ),
    Target("market_hub", _frames("market_hub.jsonl"), _market, 15),
    Target("user_hub", _frames("user_hub.jsonl"), _user, 20),
)
