"""Account payloads to reports, and our wishes to requests. Pure.

The gateway's truths that bite: a position's direction is in `type`, never in the sign
of `size`, and a closed one arrives as size 0; bracket ticks are signed on the wire; a
partly filled order has no status of its own; user events come bare, in an envelope
`{"action", "data"}`, or as a list of either.

An unknown enum value, an impossible price, a time that is none: the row is refused
with the name of its field. Nothing is guessed and nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from sys import intern
from typing import Any, Final

import msgspec
from msgspec import Raw

from shared.broker.port import AccountEvent, FrameRefused, OrderTicket
from shared.broker.projectx import enums
from shared.broker.projectx.market import PX_MAX, Untranslatable
from shared.broker.projectx.payloads import (
    AccountRow,
    BarRow,
    Bracket,
    ContractRow,
    OrderRow,
    Payload,
    PlaceOrderRequest,
    PositionRow,
    TradeRow,
)
from shared.broker.projectx.records import EXCERPT_BYTES_MAX
from shared.broker.projectx.timestamps import parse_ns
from shared.domain.instrument import Instrument, OffTick, symbol_of_root
from shared.domain.market import Bar, BarSource
from shared.domain.order import OrderStatus, OrderType, Side
from shared.domain.position import ZERO
from shared.domain.report import AccountReport, FillReport, OrderReport, PositionReport

Instruments = Mapping[str, Instrument]
"""contract_id -> instrument. A contract that is not in it gets no tick check: the broker's truth about a
foreign order must still be heard."""

AMOUNT_MAX: Final = Decimal(10) ** 12
NESTED_MAX: Final = 3  # a list of envelopes of objects, and not deeper
ROWS_MAX: Final = 10_000  # in one push

SIDES: Final = {enums.OrderSide.BID: Side.BUY, enums.OrderSide.ASK: Side.SELL}
ORDER_TYPES: Final = {
    enums.OrderType.LIMIT: OrderType.LIMIT,
    enums.OrderType.MARKET: OrderType.MARKET,
    enums.OrderType.STOP_LIMIT: OrderType.STOP_LIMIT,
    enums.OrderType.STOP: OrderType.STOP,
    enums.OrderType.TRAILING_STOP: OrderType.TRAILING_STOP,
    enums.OrderType.JOIN_BID: OrderType.JOIN_BID,
    enums.OrderType.JOIN_ASK: OrderType.JOIN_ASK,
}
STATUSES: Final = {
    enums.OrderStatus.NONE: OrderStatus.UNKNOWN,
    enums.OrderStatus.OPEN: OrderStatus.NEW,
    enums.OrderStatus.FILLED: OrderStatus.FILLED,
    enums.OrderStatus.CANCELLED: OrderStatus.CANCELED,
    enums.OrderStatus.EXPIRED: OrderStatus.EXPIRED,
    enums.OrderStatus.REJECTED: OrderStatus.REJECTED,
    enums.OrderStatus.PENDING: OrderStatus.PENDING_NEW,
    enums.OrderStatus.PENDING_CANCELLATION: OrderStatus.PENDING_CANCEL,
    enums.OrderStatus.SUSPENDED: OrderStatus.SUSPENDED,
}
_WIRE_SIDES: Final = {ours: int(wire) for wire, ours in SIDES.items()}
_WIRE_TYPES: Final = {ours: int(wire) for wire, ours in ORDER_TYPES.items()}
_PRICED_BY_LIMIT: Final = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_PRICED_BY_STOP: Final = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


# -- rows to reports --------------------------------------------------------------


def instrument(row: ContractRow) -> Instrument:
    """Return the contract in our words; its symbol is the exchange's ticker (EP -> ES)."""
    for field, value in (("tickSize", row.tick_size), ("tickValue", row.tick_value)):
        if not value.is_finite() or not 0 < value < AMOUNT_MAX:
            raise Untranslatable(field, f"{value} of contract {row.id!r} is not a possible value")
    # The id's grammar (CON.F.US.<root>.<month><yy>) is seen, not documented: only without symbolId.
    words = (row.symbol_id or row.id.removeprefix("CON.").rpartition(".")[0]).split(".")
    if not words[-1]:
        raise Untranslatable("symbolId", f"contract {row.id!r} names no root symbol")
    return Instrument(
        symbol=symbol_of_root(words[-1]),
        contract_id=row.id,
        contract_name=row.name,
        tick_size=_plain(row.tick_size),
        tick_value=_plain(row.tick_value),
        active=row.active_contract,
    )


def account_report(row: AccountRow, ts_recv_ns: int) -> AccountReport:
    return AccountReport(
        account_id=row.id,
        name=row.name,
        balance=_amount(row.balance, "balance"),
        can_trade=row.can_trade,
        simulated=row.simulated,
        ts_recv_ns=ts_recv_ns,
    )


def order_report(row: OrderRow, ts_recv_ns: int, instruments: Instruments) -> OrderReport:
    """Return one order as the broker sees it.

    `cum_qty` is a lower bound: rows of `Order/searchOpen` do not say how much was filled. A reader
    never lets it fall.
    """
    status = _member(enums.OrderStatus, row.status, "status", STATUSES)
    if row.type == enums.OrderType.UNKNOWN:
        order_type = None
    else:
        order_type = _member(enums.OrderType, row.type, "type", ORDER_TYPES)
    if row.size <= 0:
        raise Untranslatable("size", f"an order of {row.size} contracts")
    cum_qty = row.fill_volume or 0
    if not 0 <= cum_qty <= row.size:
        raise Untranslatable("fillVolume", f"{cum_qty} of {row.size} contracts are filled")
    if status is OrderStatus.FILLED:
        cum_qty = row.size
    elif status is OrderStatus.NEW and cum_qty:
        status = OrderStatus.PARTIALLY_FILLED
    known = instruments.get(row.contract_id)
    return OrderReport(
        account_id=row.account_id,
        broker_order_id=row.id,
        contract_id=intern(row.contract_id),
        status=status,
        order_type=order_type,
        side=_member(enums.OrderSide, row.side, "side", SIDES),
        order_qty=row.size,
        cum_qty=cum_qty,
        ts_event_ns=_time_ns(row.update_timestamp or row.creation_timestamp, "updateTimestamp"),
        ts_recv_ns=ts_recv_ns,
        limit_price=_order_price(row.limit_price, "limitPrice", known, order_type in _PRICED_BY_LIMIT),
        stop_price=_order_price(row.stop_price, "stopPrice", known, order_type in _PRICED_BY_STOP),
        # It reads back as the distance that the gateway made of the level.
        trail_distance=_order_price(row.trail_price, "trailPrice", None, False),
        # The average over several fills may lie between two ticks.
        avg_px=_order_price(row.filled_price, "filledPrice", None, cum_qty > 0),
        custom_tag=row.custom_tag or None,
        parent_order_id=row.parent_order_id,
        linked_order_id=row.linked_order_id,
    )


def position_report(row: PositionRow, ts_recv_ns: int) -> PositionReport:
    if row.size < 0:
        raise Untranslatable("size", f"{row.size} is negative; direction is in `type`")
    if row.size == 0:
        net_qty = 0  # closed, whatever the type says
    else:
        signs = {enums.PositionType.LONG: 1, enums.PositionType.SHORT: -1}
        net_qty = row.size * _member(enums.PositionType, row.type, "type", signs)
    created_ns = None
    if row.creation_timestamp is not None:
        created_ns = _time_ns(row.creation_timestamp, "creationTimestamp")
    return PositionReport(
        account_id=row.account_id,
        contract_id=intern(row.contract_id),
        net_qty=net_qty,
        avg_px=_amount(row.average_price, "averagePrice"),
        ts_event_ns=ts_recv_ns if created_ns is None else created_ns,
        ts_recv_ns=ts_recv_ns,
    )


def fill_report(row: TradeRow, ts_recv_ns: int, instruments: Instruments) -> FillReport:
    if row.size <= 0:
        raise Untranslatable("size", f"a fill of {row.size} contracts")
    pnl = row.profit_and_loss
    return FillReport(
        account_id=row.account_id,
        fill_id=row.id,
        broker_order_id=row.order_id,
        contract_id=intern(row.contract_id),
        side=_member(enums.OrderSide, row.side, "side", SIDES),
        last_qty=row.size,
        last_px=_price(row.price, "price", instruments.get(row.contract_id)),
        fees=_amount(row.fees, "fees") + _amount(row.commissions or Decimal(0), "commissions"),
        ts_event_ns=_time_ns(row.creation_timestamp, "creationTimestamp"),
        ts_recv_ns=ts_recv_ns,
        realized_pnl=None if pnl is None else _amount(pnl, "profitAndLoss"),
        voided=row.voided,
    )


def bar(row: BarRow, contract: Instrument, interval_s: int, ts_recv_ns: int) -> Bar:
    """Return one bar of the gateway's history."""
    prices = []
    for field, value in (("o", row.o), ("h", row.h), ("l", row.l), ("c", row.c)):
        if not 0 < value < PX_MAX:
            raise Untranslatable(field, f"{value} is not a possible price")
        try:
            px = contract.snap(value)
        except OffTick as error:
            raise Untranslatable(field, str(error)) from None
        if px <= 0:
            raise Untranslatable(field, f"{value} is not a possible price")
        prices.append(px)
    opened, high, low, close = prices
    if not low <= min(opened, close) <= max(opened, close) <= high:
        raise Untranslatable("h", f"open {opened}, high {high}, low {low}, close {close} make no bar")
    if row.v < 0:
        raise Untranslatable("v", f"{row.v} is not a number of contracts")
    return Bar(
        symbol=contract.symbol,
        interval_s=interval_s,
        ts_open_ns=_time_ns(row.t, "t"),
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=row.v,
        ts_recv_ns=ts_recv_ns,
        source=BarSource.BACKFILL,
    )


# -- user hub ---------------------------------------------------------------------


class _UserEnvelope(msgspec.Struct, frozen=True):
    """What live clients receive. `action` has no documented meaning and nothing depends on it."""

    data: Raw


def _account(row: Any, ts_recv_ns: int, instruments: Instruments) -> AccountEvent:
    return account_report(row, ts_recv_ns)


def _position(row: Any, ts_recv_ns: int, instruments: Instruments) -> AccountEvent:
    return position_report(row, ts_recv_ns)


_USER_EVENTS: Final[dict[str, tuple[type[Payload], Callable[[Any, int, Instruments], AccountEvent]]]] = {
    "GatewayUserAccount": (AccountRow, _account),
    "GatewayUserOrder": (OrderRow, order_report),
    "GatewayUserPosition": (PositionRow, _position),
    "GatewayUserTrade": (TradeRow, fill_report),
}
USER_TARGETS: Final = frozenset(_USER_EVENTS)


def user_events(
    target: str, arguments: Raw, ts_recv_ns: int, instruments: Instruments
) -> list[AccountEvent | FrameRefused]:
    """Return what one invocation of the user hub says, and what of it was refused."""
    known = _USER_EVENTS.get(target)
    if known is None:
        reason = "is not an event of the user hub"
        return [_refused(target, "target", reason, bytes(arguments), ts_recv_ns)]
    row_type, translate = known
    events: list[AccountEvent | FrameRefused] = []
    try:
        rows = _user_rows(arguments)
    except _UNREADABLE as error:
        return [_refused(target, "", str(error), bytes(arguments), ts_recv_ns)]
    for raw in rows:
        try:
            row = msgspec.json.decode(raw, type=row_type)
            events.append(translate(row, ts_recv_ns, instruments))
        except Untranslatable as error:
            events.append(_refused(target, error.field, error.reason, bytes(raw), ts_recv_ns))
        except _UNREADABLE as error:
            events.append(_refused(target, "", str(error), bytes(raw), ts_recv_ns))
    return events


def _user_rows(arguments: Raw) -> list[Raw]:
    """Unwrap lists and envelopes until only objects are left."""
    level = msgspec.json.decode(arguments, type=list[Raw])
    for _ in range(NESTED_MAX):
        unwrapped: list[Raw] = []
        changed = False
        for raw in level:
            body = bytes(raw).lstrip()
            if body.startswith(b"["):
                unwrapped += msgspec.json.decode(body, type=list[Raw])
                changed = True
            elif (data := _enveloped(body)) is not None:
                unwrapped.append(data)
                changed = True
            elif body != b"null":  # an array may hold nulls; they say nothing
                unwrapped.append(raw)
        level = unwrapped
        if len(level) > ROWS_MAX:
            raise msgspec.ValidationError(f"{len(level)} rows in one push; the limit is {ROWS_MAX}")
        if not changed:
            break
    return level


def _enveloped(body: bytes) -> Raw | None:
    try:
        return msgspec.json.decode(body, type=_UserEnvelope).data
    except _UNREADABLE:
        return None


# -- wishes to requests -----------------------------------------------------------


def place_request(ticket: OrderTicket) -> PlaceOrderRequest:
    """Return the request body of `ticket`. What cannot be placed is our bug, hence asserted."""
    assert ticket.order_qty > 0, f"an order of {ticket.order_qty} contracts"
    bracket = ticket.bracket
    stop_loss = take_profit = None
    if bracket is not None:
        assert bracket.stop_loss_ticks > 0, "a stop lies behind the entry"
        # Relative to the entry: a long stop is below it, a long target above; short the other way.
        sign = ticket.side.sign
        stop_loss = Bracket(ticks=-sign * bracket.stop_loss_ticks, type=int(enums.OrderType.STOP))
        if bracket.take_profit_ticks is not None:
            assert bracket.take_profit_ticks > 0, "a target lies ahead of the entry"
            take_profit = Bracket(ticks=sign * bracket.take_profit_ticks, type=int(enums.OrderType.LIMIT))
    return PlaceOrderRequest(
        account_id=ticket.account_id,
        contract_id=ticket.contract_id,
        type=_WIRE_TYPES[ticket.order_type],
        side=_WIRE_SIDES[ticket.side],
        size=ticket.order_qty,
        limit_price=ticket.limit_price,
        stop_price=ticket.stop_price,
        trail_price=ticket.trail_price,
        custom_tag=ticket.client_order_id,
        stop_loss_bracket=stop_loss,
        take_profit_bracket=take_profit,
    )


def bar_unit(interval_s: int) -> tuple[int, int]:
    """Return the gateway's (unit, unitNumber) for an interval.

    Raises:
        ValueError: If the interval is no whole number of seconds of at least one.
    """
    if interval_s < 1:
        raise ValueError(f"a bar of {interval_s} s; at least 1 s")
    # Days are left out: the gateway's do not begin with the session.
    for unit, seconds in ((enums.AggregateBarUnit.HOUR, 3_600), (enums.AggregateBarUnit.MINUTE, 60)):
        if interval_s % seconds == 0:
            return int(unit), interval_s // seconds
    return int(enums.AggregateBarUnit.SECOND), interval_s


# -- values -----------------------------------------------------------------------


def _member(kind: Any, value: int, field: str, meanings: Mapping[Any, Any]) -> Any:
    try:
        return meanings[kind(value)]
    except (ValueError, KeyError):
        raise Untranslatable(field, f"{value} has no meaning as {kind.__name__}") from None


def _time_ns(text: str, field: str) -> int:
    try:
        time_ns = parse_ns(text)
    except ValueError as error:
        raise Untranslatable(field, str(error)) from None
    if time_ns < 0:  # the zone can carry the first hours of 1970 there
        raise Untranslatable(field, f"{text!r} is before 1970")
    return time_ns


def _amount(value: Decimal, field: str) -> Decimal:
    if not value.is_finite() or value.copy_abs() > AMOUNT_MAX:  # `abs` overflows beyond 1E999999
        raise Untranslatable(field, f"{value} is not a possible amount")
    return _plain(value)


def _price(value: Decimal, field: str, known: Instrument | None) -> Decimal:
    amount = _amount(value, field)
    if amount <= 0:
        raise Untranslatable(field, f"{value} is not a possible price")
    if known is None:
        return amount
    # The gateway prints up to nine decimals of a binary number: near a tick means that tick.
    steps = amount / known.tick_size
    nearest = steps.to_integral_value()
    if not nearest or abs(steps - nearest) > Decimal("0.01"):
        raise Untranslatable(field, str(OffTick(known.symbol, value, known.tick_size)))
    return _plain(nearest * known.tick_size)


def _order_price(value: Decimal | None, field: str, known: Instrument | None, needed: bool) -> Decimal | None:
    """Return the price, or None where the order has none; 0 stands for "none" where none is needed."""
    if value is None or (not needed and value == 0):
        return None
    return _price(value, field, known)


def _plain(value: Decimal) -> Decimal:
    """Return `value` without trailing zeros, exponent or minus zero: 6335.250000000 -> 6335.25."""
    if not value:
        return ZERO
    if value == value.to_integral_value():
        return _shared(value.quantize(Decimal(1)))
    return _shared(value.normalize())


@lru_cache(maxsize=1_024)
def _shared(value: Decimal) -> Decimal:
    """Return the one object of equal values: a day's orders and fills are kept, and their prices repeat."""
    return value


def _refused(origin: str, field: str, reason: str, raw: bytes, ts_recv_ns: int) -> FrameRefused:
    return FrameRefused(
        origin=origin, field=field, reason=reason, raw=raw[:EXCERPT_BYTES_MAX], ts_recv_ns=ts_recv_ns
    )
