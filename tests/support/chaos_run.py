"""One run of chaos as it should be, for the checkers; what breaks it is up to each test."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from proof.chaos.checkers.evidence import Evidence
from proof.chaos.installation import ACCOUNT_ID, Installation
from proof.chaos.proxy import Request
from proof.chaos.watch import Seen
from proof.chaos.world import World
from proof.record import Record
from services.execution.ledger import Step
from services.execution.records import FillRecord, OrderRecord
from services.simulator.orders import Fill as VenueFill
from services.simulator.orders import Order as VenueOrder
from shared.broker.projectx import enums
from shared.domain.control import TradingState
from shared.domain.execution import OrderClaimed, TradingStateChanged
from shared.domain.journal import InputsConsumed
from shared.domain.order import OrderStatus, OrderType, Side, SubmitOrder
from shared.wire import topics
from shared.wire.codec import encode, kind_of

CONTRACT = "CON.F.US.MES.Z26"
TAG = "sim.c1.aaaaaaaaaaaaaaaaaaaa"
NS = 1_700_000_000_000_000_000


def blank() -> Record:
    return Record(machine="chaos", command="", build="", started="")


def good_run() -> Evidence:
    """Return one intent, claimed, sent once, filled, the same on both sides."""
    world = World(Installation(every_s=1, seed=1), blank(), 1)
    found = Evidence(world, {})
    intent = SubmitOrder(
        client_order_id=TAG, strategy_id="c1", symbol="MES", side=Side.BUY, order_qty=1, cause="md:{MES}@1-1",
        ts_cause_ns=NS, expires_at_ns=NS + 5_000_000_000,
    )  # fmt: skip
    claimed = OrderClaimed(
        client_order_id=TAG, strategy_id="c1", symbol="MES", contract_id=CONTRACT, side=Side.BUY, order_qty=1,
        order_type=OrderType.MARKET, cause="intents:{1001}:c1@1-1", ts_ns=NS + 1,
    )  # fmt: skip
    key = topics.intents(ACCOUNT_ID, "c1")
    found.final[key] = [seen(1, intent)]
    world.watch.streams[key] = [seen(1, intent)]
    told = InputsConsumed(runs=[], intents=[TAG], asof_ns=NS)
    found.final[topics.journal(ACCOUNT_ID, "c1")] = [seen(1, told)]
    active = TradingStateChanged(state=TradingState.ACTIVE, halts={}, ts_ns=NS)
    found.steps = [(step(1, active), active), (step(2, claimed), claimed)]
    found.orders = {TAG: order(OrderStatus.FILLED)}
    found.venue_orders = [venue_order(1)]
    found.fills = [
        FillRecord(
            fill_id=1, broker_order_id=1, contract_id=CONTRACT, side=Side.BUY, qty=1, px=Decimal(1),
            fees=Decimal(1), multiplier=Decimal(5), ts_event_ns=NS, client_order_id=TAG, strategy_id="c1",
        )
    ]  # fmt: skip
    found.venue_fills = [
        VenueFill(
            id=1, account_id=ACCOUNT_ID, contract_id=CONTRACT, created_ns=NS, price_ticks=4,
            side=enums.OrderSide.BID, size=1, profit_and_loss=None, fees=Decimal(1), order_id=1,
        )
    ]  # fmt: skip
    found.venue_positions = {CONTRACT: 1}
    post(found)
    return found


def seen(seq: int, message: msgspec.Struct) -> Seen:
    return Seen(f"{NS // 1_000_000}-{seq}".encode(), kind_of(message), encode(message), 0.0)


def step(seq: int, message: msgspec.Struct) -> Step:
    return Step(seq, NS + seq, kind_of(message), encode(message), "")


def order(status: OrderStatus, **changes: object) -> OrderRecord:
    one = OrderRecord(
        client_order_id=TAG, strategy_id="c1", symbol="MES", contract_id=CONTRACT, side=Side.BUY, order_qty=1,
        order_type=OrderType.MARKET, cause="", tick_size=Decimal("0.25"), multiplier=Decimal(5),
        ts_claimed_ns=NS, status=status, cum_qty=1,
    )  # fmt: skip
    return msgspec.structs.replace(one, **changes)


def venue_order(number: int) -> VenueOrder:
    return VenueOrder(
        id=number, account_id=ACCOUNT_ID, contract_id=CONTRACT, created_ns=NS, updated_ns=NS,
        status=enums.OrderStatus.FILLED, type=enums.OrderType.MARKET, side=enums.OrderSide.BID, size=1,
        fill_volume=1, custom_tag=TAG,
    )  # fmt: skip


def post(evidence: Evidence) -> None:
    body = msgspec.json.encode({"customTag": TAG})
    evidence.world.requests.all.append(
        Request(mono_s=0.0, client="execution", path="/api/Order/place", body=body)
    )
