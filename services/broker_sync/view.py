"""The account as people and late joiners read it: a hash of readable JSON fields. Pure.

Open P&L is in no field of the gateway, so it is computed: what closing would realize now, at the bid for a
long and the ask for a short, gross of fees. Without a fresh, uncrossed quote of that very contract it is
unknown (`null`, with the reason), never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from services.broker_sync.picture import Picture, trading_day
from shared.domain.market import FeedHealth, MarketState
from shared.domain.position import Position, unrealized_pnl
from shared.domain.report import OrderReport, PositionReport

AHEAD_NS_MAX = 1_000_000_000
"""A quote vouched for later than this after our present: a clock was set, and its age is not known."""

Marks = Mapping[str, MarketState]
"""contract_id -> newest MarketState of that contract."""


def open_pnl(
    position: PositionReport, marks: Marks, *, now_ns: int, fresh_within_ns: int
) -> tuple[Decimal | None, str]:
    """Return the open P&L and an empty reason, or None and why it is unknown."""
    mark = marks.get(position.contract_id)
    if mark is None:
        return None, "no quote of this contract"
    if mark.health is not FeedHealth.LIVE:
        return None, f"the feed is {mark.health}"
    age_ns = now_ns - mark.ts_asof_ns
    if age_ns > fresh_within_ns:
        return None, "the quote is too old"
    if age_ns < -AHEAD_NS_MAX:
        return None, "the quote is of a later time than this machine's clock tells"
    px = mark.bid_px if position.net_qty > 0 else mark.ask_px
    if px is None or mark.crossed:
        return None, "no price to close at"
    held = Position(net_qty=position.net_qty, avg_px=position.avg_px)
    multiplier = Decimal(mark.tick_value) / Decimal(mark.tick_size)
    return unrealized_pnl(held, mark_px=Decimal(str(px)), multiplier=multiplier), ""


def fields(
    picture: Picture, marks: Marks, *, account_id: int, now_ns: int, venue_now_ns: int, fresh_within_ns: int
) -> dict[str, bytes]:
    """Return the fields of `account:{acct}`."""
    positions = [
        _position(p, marks, now_ns=now_ns, fresh_within_ns=fresh_within_ns) for p in picture.open_positions
    ]
    pnls = [p["open_pnl"] for p in positions]
    unknown = [f"{p['contract_id']}: {p['open_pnl_unknown']}" for p in positions if p["open_pnl"] is None]
    day = _day(picture, venue_now_ns)
    realized, fees = picture.realized_on(day)
    sync = picture.sync
    known = sync is not None and picture.account is not None
    values: dict[str, Any] = {
        "account": picture.account,
        "positions": positions if known else None,
        "working_orders": [_order(o) for o in picture.working_orders] if known else None,
        "open_pnl": None if unknown or not known else sum(pnls, Decimal(0)),
        "open_pnl_unknown": "; ".join(unknown) if known else "the account has not been read yet",
        "realized_today": {
            "trading_day": day.isoformat(),
            "gross": realized,
            "fees": fees,
            "net": realized - fees,
            "fills": len(picture.day_fills) if day == picture.day else 0,
        },
        "sync": sync,
        "account_id": account_id,
    }
    return {name: msgspec.json.encode(value) for name, value in values.items()}


def _day(picture: Picture, venue_now_ns: int) -> date:
    today = trading_day(venue_now_ns)
    return today if picture.day is None else max(picture.day, today)


def _position(position: PositionReport, marks: Marks, *, now_ns: int, fresh_within_ns: int) -> dict[str, Any]:
    pnl, unknown = open_pnl(position, marks, now_ns=now_ns, fresh_within_ns=fresh_within_ns)
    mark = marks.get(position.contract_id)
    return {
        "contract_id": position.contract_id,
        "symbol": mark.symbol if mark is not None else None,
        "net_qty": position.net_qty,
        "avg_px": position.avg_px,
        "open_pnl": pnl,
        "open_pnl_unknown": unknown,
    }


def _order(order: OrderReport) -> dict[str, Any]:
    return {
        "broker_order_id": order.broker_order_id,
        "custom_tag": order.custom_tag,
        "contract_id": order.contract_id,
        "status": order.status,
        "side": order.side,
        "order_type": order.order_type,
        "order_qty": order.order_qty,
        "cum_qty": order.cum_qty,
        "limit_price": order.limit_price,
        "stop_price": order.stop_price,
        "parent_order_id": order.parent_order_id,
    }
