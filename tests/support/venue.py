"""Builders for tests of the simulator's core: one account, one contract, a touch."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from services.simulator import core
from services.simulator.closing import ClosePosition
from services.simulator.contracts import active_contract
from services.simulator.core import TouchChanged
from services.simulator.orders import Account, Bracket, Fill, Order, Position
from services.simulator.placing import PlaceOrder
from services.simulator.state import (
    Command,
    FillBooked,
    OrderUpdated,
    PositionUpdated,
    Reply,
    Rules,
    State,
)
from shared.broker.projectx.enums import OrderSide, OrderStatus, OrderType, TradeLogType

NOW_NS = 1_772_461_800_000_000_000  # Monday 2026-03-02 09:30 New York
MES = active_contract("MES", NOW_NS).id
ACCOUNT_ID = 7
BUY, SELL = OrderSide.BID, OrderSide.ASK
TICK = Decimal("0.25")


class Desk:
    """A venue with one account and MES at 100.00/100.25 (400/401 ticks), ten contracts each."""

    def __init__(self, *, bid: int = 400, ask: int = 401, qty: int = 10, **rules: Any) -> None:
        self.state = State(rules=Rules(fees={"MES": Decimal("0.37")}, **rules))
        account = Account(id=ACCOUNT_ID, name="SIM", balance=Decimal(50_000))
        self.state.accounts[ACCOUNT_ID] = account
        self.account = account
        self.now_ns = NOW_NS
        self.said: list[Command] = []
        self.touch(bid, ask, qty, qty)
        self.trade(bid, 1, TradeLogType.SELL)

    def decide(self, event: core.Event) -> list[Command]:
        commands = core.decide(event, self.state)
        self.said.extend(commands)
        return commands

    def touch(self, bid: int | None, ask: int | None, bid_qty: int = 10, ask_qty: int = 10) -> list[Command]:
        self.now_ns += 1_000_000
        return self.decide(TouchChanged(self.now_ns, MES, bid, bid_qty, ask, ask_qty))

    def trade(self, price: int, qty: int, aggressor: TradeLogType | None) -> list[Command]:
        self.now_ns += 1_000_000
        return self.decide(core.MarketTraded(self.now_ns, MES, price, qty, aggressor))

    def place(
        self,
        side: OrderSide = BUY,
        type: OrderType = OrderType.MARKET,
        size: int = 1,
        *,
        limit: int | None = None,
        stop: int | None = None,
        trail: int | None = None,
        tag: str | None = None,
        stop_ticks: int | None = None,
        target_ticks: int | None = None,
        **changes: Any,
    ) -> Reply:
        """Place an order, prices in ticks."""
        self.now_ns += 1_000_000
        event = PlaceOrder(
            now_ns=self.now_ns,
            account_id=ACCOUNT_ID,
            contract_id=MES,
            type=type,
            side=side,
            size=size,
            limit_price=_price(limit),
            stop_price=_price(stop),
            trail_price=_price(trail),
            custom_tag=tag,
            stop_loss=_bracket(stop_ticks, OrderType.STOP),
            take_profit=_bracket(target_ticks, OrderType.LIMIT),
        )
        reply = self.decide(msgspec.structs.replace(event, **changes))[-1]
        assert isinstance(reply, Reply)
        return reply

    def modify(self, order_id: int, **changes: Any) -> Reply:
        prices = {name: _price(value) for name, value in changes.items() if name.endswith("_price")}
        event = core.ModifyOrder(
            now_ns=self.now_ns, account_id=ACCOUNT_ID, order_id=order_id, **{**changes, **prices}
        )
        reply = self.decide(event)[-1]
        assert isinstance(reply, Reply)
        return reply

    def cancel(self, order_id: int) -> Reply:
        event = core.CancelOrder(now_ns=self.now_ns, account_id=ACCOUNT_ID, order_id=order_id)
        reply = self.decide(event)[-1]
        assert isinstance(reply, Reply)
        return reply

    def close(self, size: int | None = None, **changes: Any) -> Reply:
        event = ClosePosition(now_ns=self.now_ns, account_id=ACCOUNT_ID, contract_id=MES, size=size)
        reply = self.decide(msgspec.structs.replace(event, **changes))[-1]
        assert isinstance(reply, Reply)
        return reply

    # what is known

    def order(self, order_id: int | None) -> Order:
        assert order_id is not None
        return self.state.orders[order_id]

    def status(self, order_id: int | None) -> OrderStatus:
        return self.order(order_id).status

    @property
    def position(self) -> Position | None:
        return self.state.positions.get((ACCOUNT_ID, MES))

    @property
    def net_qty(self) -> int:
        return 0 if self.position is None else self.position.net_qty

    @property
    def fills(self) -> list[Fill]:
        return self.state.fills

    def prices(self) -> list[int]:
        """Return the fill prices so far, in ticks, one for each half turn."""
        return [fill.price_ticks for fill in self.fills]


def statuses_said(commands: list[Command], order_id: int) -> list[OrderStatus]:
    """Return the statuses of one order that the hub would show, in order."""
    return [
        one.order.status for one in commands if isinstance(one, OrderUpdated) and one.order.id == order_id
    ]


def kinds_said(commands: list[Command]) -> list[str]:
    """Return the kinds of reports, in order."""
    kinds = {OrderUpdated: "order", FillBooked: "fill", PositionUpdated: "position"}
    return [kinds[type(one)] for one in commands if type(one) in kinds]


def _price(ticks: int | None) -> Decimal | None:
    return None if ticks is None else ticks * TICK


def _bracket(ticks: int | None, kind: OrderType) -> Bracket | None:
    return None if ticks is None else Bracket(ticks=ticks, type=kind)
