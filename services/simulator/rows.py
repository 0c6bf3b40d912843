"""The venue's objects as JSON rows of REST answers and user-hub events.

Built from the gateway's published models, apart from the client's decoder on
purpose: two readings of the same page are a test of each other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from services.simulator.bars import Bar
from services.simulator.contracts import Contract, is_active
from services.simulator.orders import Account, Fill, Order, Position
from services.simulator.state import State
from shared.broker.projectx.enums import OrderType, PositionType

Row = dict[str, Any]
_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(body: object) -> bytes:
    """Return JSON with decimals as numbers."""
    return _encoder.encode(body)


def iso(ts_ns: int) -> str:
    """Return UTC nanoseconds as the gateway writes them, with six fraction digits and an offset."""
    seconds, rest_ns = divmod(ts_ns, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{rest_ns // 1000:06d}+00:00"


def parse_iso(text: str) -> int:
    """Return UTC nanoseconds of an ISO-8601 text; without a zone it is UTC.

    Raises:
        ValueError: If it is not a date and time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _price(ticks: int | Decimal | None, contract: Contract) -> Decimal | None:
    if ticks is None:
        return None
    return (Decimal(ticks) * contract.tick_size).quantize(Decimal("0.000000001")).normalize() + Decimal(0)


def account_row(account: Account) -> Row:
    return {
        "id": account.id,
        "name": account.name,
        "balance": account.balance,
        "canTrade": account.can_trade,
        "isVisible": account.is_visible,
        "simulated": account.simulated,
    }


def contract_row(contract: Contract, now_ns: int) -> Row:
    return {
        "id": contract.id,
        "name": contract.name,
        "description": contract.description,
        "tickSize": contract.tick_size,
        "tickValue": contract.tick_value,
        "activeContract": is_active(contract, now_ns),
        "symbolId": contract.symbol_id,
    }


def hub_order_row(state: State, order: Order) -> Row:
    """Return an order as the user hub shows it: without trail, parent and linked fields."""
    contract = state.known_contract(order.contract_id)
    triggered_by = order.stop_ticks if order.type in (OrderType.STOP, OrderType.TRAILING_STOP) else None
    return {
        "id": order.id,
        "accountId": order.account_id,
        "contractId": order.contract_id,
        "symbolId": contract.symbol_id,
        "creationTimestamp": iso(order.created_ns),
        "updateTimestamp": iso(order.updated_ns),
        "status": int(order.status),
        "type": int(order.type),
        "side": int(order.side),
        "size": order.size,
        "limitPrice": _price(order.limit_ticks, contract),
        "stopPrice": _price(triggered_by, contract),
        "fillVolume": order.fill_volume,
        "filledPrice": _price(order.avg_ticks, contract),
        "customTag": order.custom_tag,
    }


def order_row(state: State, order: Order) -> Row:
    """Return an order as the searches show it. `trailPrice` reads back as a distance."""
    contract = state.known_contract(order.contract_id)
    row = hub_order_row(state, order)
    row["trailDistance"] = order.trail_ticks
    row["trailPrice"] = _price(order.trail_ticks, contract)
    row["parentOrderId"] = order.parent_id
    row["linkedOrderId"] = order.linked_id
    return row


def position_row(state: State, position: Position) -> Row:
    """Return a position: size never negative, direction in `type`.

    A position's end is size 0 with the type it had: clients must not wait for type 0.
    """
    contract = state.known_contract(position.contract_id)
    return {
        "id": position.id,
        "accountId": position.account_id,
        "contractId": position.contract_id,
        "contractDisplayName": contract.name,
        "creationTimestamp": iso(position.created_ns),
        "type": int(PositionType.LONG if position.was_long else PositionType.SHORT),
        "size": abs(position.net_qty),
        "averagePrice": _price(position.avg_ticks, contract),
    }


def fill_row(state: State, fill: Fill) -> Row:
    """Return a half turn: `profitAndLoss` is null on an opening fill."""
    return {
        "id": fill.id,
        "accountId": fill.account_id,
        "contractId": fill.contract_id,
        "creationTimestamp": iso(fill.created_ns),
        "price": _price(fill.price_ticks, state.known_contract(fill.contract_id)),
        "profitAndLoss": fill.profit_and_loss,
        "fees": fill.fees,
        "side": int(fill.side),
        "size": fill.size,
        "voided": False,
        "orderId": fill.order_id,
    }


def bar_row(bar: Bar, contract: Contract) -> Row:
    return {
        "t": datetime.fromtimestamp(bar.open_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        "o": _price(bar.open, contract),
        "h": _price(bar.high, contract),
        "l": _price(bar.low, contract),
        "c": _price(bar.close, contract),
        "v": bar.volume,
    }
