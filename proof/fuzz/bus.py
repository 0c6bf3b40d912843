"""Entries of the bus: refused with their bytes kept, or whole; and no order that the limits do not allow."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import msgspec

from proof.fuzz.engine import PromiseBroken, Target
from proof.fuzz.floor import ACCOUNT, NOW_NS, Floor
from proof.fuzz.hubs import INSTRUMENT
from shared.domain.control import Control, Flatten, Halt, HaltKind, Resume
from shared.domain.market import FeedHealth, MarketState
from shared.domain.order import (
    Bracket,
    CancelOrder,
    ClosePosition,
    Intent,
    ModifyOrder,
    OrderStatus,
    OrderType,
    Side,
    SubmitOrder,
)
from shared.domain.report import FillReport, OrderReport, PositionReport, Report, SyncHealth, SyncState
from shared.wire.codec import RAW_EXCERPT_BYTES_MAX, MessageRefused, decode, encode, kind_of, known_kinds

KINDS = sorted(kind.encode() for kind in known_kinds())
_floor = Floor(contract_id=INSTRUMENT.contract_id)
_common: dict[str, Any] = {"strategy_id": "s1", "symbol": "ES", "cause": "md:{ES}@1-1", "ts_cause_ns": NOW_NS}
_until = NOW_NS + 5_000_000_000
SOUND: list[msgspec.Struct] = [
    SubmitOrder(client_order_id="sim.s1.1", side=Side.BUY, order_qty=1, expires_at_ns=_until,
                bracket=Bracket(stop_loss_ticks=8, take_profit_ticks=16), **_common),
    SubmitOrder(client_order_id="sim.s1.2", side=Side.SELL, order_qty=2, expires_at_ns=_until,
                order_type=OrderType.LIMIT, limit_price=Decimal("6336.00"),
                bracket=Bracket(stop_loss_ticks=8), **_common),
    SubmitOrder(client_order_id="sim.s1.3", side=Side.BUY, order_qty=1, expires_at_ns=_until,
                order_type=OrderType.STOP, stop_price=Decimal("6340.00"),
                bracket=Bracket(stop_loss_ticks=8), **_common),
    CancelOrder(client_order_id="sim.s1.1", **_common),
    ModifyOrder(client_order_id="sim.s1.1", order_qty=2, limit_price=Decimal("6335.50"), **_common),
    ClosePosition(client_order_id="sim.s1.4", expires_at_ns=_until, **_common),
    OrderReport(account_id=ACCOUNT, broker_order_id=7, contract_id=INSTRUMENT.contract_id,
                status=OrderStatus.NEW, order_type=OrderType.LIMIT, side=Side.BUY, order_qty=1, cum_qty=0,
                ts_event_ns=NOW_NS, ts_recv_ns=NOW_NS, custom_tag="sim.s1.1"),
    FillReport(account_id=ACCOUNT, fill_id=9, broker_order_id=7, contract_id=INSTRUMENT.contract_id,
               side=Side.BUY, last_qty=1, last_px=Decimal("6335.25"), fees=Decimal("1.40"),
               ts_event_ns=NOW_NS, ts_recv_ns=NOW_NS),
    PositionReport(account_id=ACCOUNT, contract_id=INSTRUMENT.contract_id, net_qty=1,
                   avg_px=Decimal("6335.25"), ts_event_ns=NOW_NS, ts_recv_ns=NOW_NS),
    SyncState(account_id=ACCOUNT, health=SyncHealth.STALE, reason="", ts_recv_ns=NOW_NS),
    Halt(kind=HaltKind.LIVENESS, reason="x", issuer="heartbeat", ts_ns=NOW_NS),
    Resume(kind=HaltKind.LIVENESS, reason="x", issuer="heartbeat", ts_ns=NOW_NS),
    Flatten(reason="x", issuer="operator", ts_ns=NOW_NS),
    MarketState(symbol="ES", contract_id=INSTRUMENT.contract_id, health=FeedHealth.LIVE, bid_px=6335.0,
                ask_px=6335.25, last_px=6335.0, crossed=False, tick_size="0.25", tick_value="12.5",
                ts_event_ns=NOW_NS, ts_asof_ns=NOW_NS + 1),
]  # fmt: skip


def _check(data: bytes) -> None:
    """First byte: the kind, beyond the known ones an unknown one; then the value."""
    if not data:
        return
    number, value = data[0], data[1:]
    kind = KINDS[number] if number < len(KINDS) else value[:12]
    try:
        message = decode(kind, value)
    except MessageRefused as refused:
        if refused.raw != value[:RAW_EXCERPT_BYTES_MAX] or not refused.why:
            raise PromiseBroken(f"refused and not kept: {refused}") from refused
        return
    if encode(decode(kind_of(message), encode(message))) != encode(message):  # NaN is not equal to itself
        raise PromiseBroken(f"changed on its way: {message}")
    if isinstance(message, get_args(Intent)):
        _floor.intent(message)
    elif isinstance(message, get_args(Report)):
        _floor.report(message)
    elif isinstance(message, get_args(Control)):
        _floor.control(message)
    elif isinstance(message, MarketState):
        _floor.market(message)


TARGETS = (
    Target(
        "bus", [bytes([KINDS.index(kind_of(one))]) + encode(one) for one in SOUND], _check, 25, head_bytes=1
    ),
)
