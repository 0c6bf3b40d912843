"""Positions from fills, and the money they made. All `Decimal`: these figures meet the broker's."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from shared.domain.order import Side

ZERO = Decimal(0)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What is held and what was made.

    Attributes:
        net_qty: Signed contracts, long positive.
        avg_px: Entry price of what is open, 0 when flat.
    """

    net_qty: int = 0
    avg_px: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    fees: Decimal = ZERO


def apply_fill(
    position: Position, *, side: Side, qty: int, px: Decimal, multiplier: Decimal, fees: Decimal = ZERO
) -> Position:
    """Return `position` after one fill.

    A fill in the direction of the position moves the average price. A fill against it realizes P&L and
    leaves the average price alone; what exceeds the position opens the other side at the fill price.

    Args:
        position: Before the fill.
        qty: Contracts, positive.
        px: Fill price.
        multiplier: Account currency per point of one contract.
        fees: Of this fill; kept apart from P&L.
    """
    assert qty > 0, f"a fill of {qty} contracts"
    signed = side.sign * qty
    before, after = position.net_qty, position.net_qty + signed
    realized = position.realized_pnl
    if before == 0 or (before > 0) == (signed > 0):
        cost = position.avg_px * abs(before) + px * qty
        avg_px = cost / (abs(before) + qty)
    else:
        closed = min(abs(before), qty)
        direction = 1 if before > 0 else -1
        realized += (px - position.avg_px) * closed * direction * multiplier
        kept = ZERO if after == 0 else position.avg_px
        avg_px = kept if after == 0 or (after > 0) == (before > 0) else px
    return Position(net_qty=after, avg_px=avg_px, realized_pnl=realized, fees=position.fees + fees)


def unrealized_pnl(position: Position, *, mark_px: Decimal, multiplier: Decimal) -> Decimal:
    """Return what closing at `mark_px` would realize, gross of fees."""
    return (mark_px - position.avg_px) * position.net_qty * multiplier
