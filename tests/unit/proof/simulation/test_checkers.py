"""What the checkers of the simulation must not let pass."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from proof.simulation.checkers.checker import Sent
from proof.simulation.checkers.commits import may_follow
from proof.simulation.checkers.requests import CANCEL_WITHIN_S
from proof.simulation.loop import EPOCH_NS, NS_PER_S
from proof.simulation.machine import Incarnation, Process
from proof.simulation.plan import Plan
from proof.simulation.swarm import POSITION_MAX
from proof.simulation.venue import ACCOUNT_ID, SYMBOL
from proof.simulation.wire import CANCEL, MODIFY, Post
from proof.simulation.world import World
from services.execution.records import OrderRecord
from services.simulator.placing import PlaceOrder
from shared.broker.projectx.payloads import ModifyOrderRequest
from shared.domain.control import Halt, HaltKind
from shared.domain.execution import OrderClaimed
from shared.domain.order import ModifyOrder, OrderStatus, OrderType, Side

S = OrderStatus
TAG = "sim.s1.a"
LATER_NS = EPOCH_NS + 10 * NS_PER_S


@pytest.fixture
def world() -> Iterator[World]:
    """A world that stands still: what happens in it is what a test does."""
    one = World(Plan(seed=1))
    one.venue.touch(20_000, 5)
    one.surroundings.heard_ns = one.clock.true_ns()
    yield one
    one.loop.close()


def place(world: World, *, tag: str = TAG, qty: int = 2, limit: str | None = "4990") -> int:
    """Have an order of a strategy at the broker, as the judge and the ledger know of it."""
    contract_id = world.venue.contract.id
    reply = world.venue.submit(
        PlaceOrder(
            now_ns=world.venue.now_ns(), account_id=ACCOUNT_ID, contract_id=contract_id,
            type=1 if limit else 2, side=0, size=qty, custom_tag=tag,
            limit_price=Decimal(limit) if limit else None,
        )
    )  # fmt: skip
    assert reply.order_id is not None
    assert reply.code == 0
    world.judge.sent[tag] = Sent(tag, buys=True, qty=qty, posts=[world.clock.true_ns()], arrives=False)
    world.judge.claims[tag] = (claim(world, tag, qty), world.clock.true_ns())
    world.disk.orders[tag] = record(world, tag, qty, S.NEW)
    return reply.order_id


def claim(world: World, tag: str, qty: int) -> OrderClaimed:
    return OrderClaimed(
        client_order_id=tag, strategy_id="s1", symbol=SYMBOL, contract_id=world.venue.contract.id,
        side=Side.BUY, order_qty=qty, order_type=OrderType.LIMIT, cause="", ts_ns=EPOCH_NS,
    )  # fmt: skip


def record(world: World, tag: str, qty: int, status: OrderStatus) -> OrderRecord:
    return OrderRecord(
        client_order_id=tag, strategy_id="s1", symbol=SYMBOL, contract_id=world.venue.contract.id,
        side=Side.BUY, order_qty=qty, order_type=OrderType.LIMIT, cause="", tick_size=Decimal("0.25"),
        multiplier=Decimal(5), ts_claimed_ns=EPOCH_NS, status=status,
    )  # fmt: skip


def change(world: World, order_id: int, *, qty: int | None, expires_at_ns: int = LATER_NS) -> None:
    """Let a change that a strategy asked for leave for the broker."""
    limit = Decimal("4991") if qty is None else None
    world.judge.streams.wished(
        ModifyOrder(
            client_order_id=TAG, strategy_id="s1", symbol=SYMBOL, cause="", ts_cause_ns=EPOCH_NS,
            order_qty=qty, limit_price=limit, expires_at_ns=expires_at_ns,
        ),
        b"1-1",
    )  # fmt: skip
    post(world, order_id, qty=qty, limit=limit)


def post(world: World, order_id: int, *, qty: int | None, limit: Decimal | None) -> None:
    body = ModifyOrderRequest(account_id=ACCOUNT_ID, order_id=order_id, size=qty, limit_price=limit)
    execution = execution_of(world)
    packed = msgspec.json.Encoder(decimal_format="number").encode(body)
    world.judge.requests.posted(Post(MODIFY, packed, world.clock.true_ns(), execution, arrives=True))


def execution_of(world: World) -> Incarnation:
    if world.disk.locked_by is None:
        world.disk.locked_by = Incarnation(Process("execution", nothing, world.machine), 1)
    return world.disk.locked_by


async def nothing(_: Incarnation) -> None: ...


def in_a_storm_with_a_cancel_to_send(world: World) -> None:
    for name in ("broker_sync", "execution"):
        process = world.machine.add(name, nothing)
        running = Incarnation(process, 1)
        process.incarnations.append(running)
        running.in_sync, running.began_s = True, -10.0
        world.disk.locked_by = running
    number = place(world)
    canceling = msgspec.structs.replace(record(world, TAG, 2, S.PENDING_CANCEL), broker_order_id=number)
    world.disk.orders[TAG] = canceling
    world.judge.requests.storm(True)


def violated(world: World) -> set[str]:
    return set(world.judge.record.violations)


def test_a_change_that_obeys_everything_breaks_nothing(world: World) -> None:
    change(world, place(world), qty=3)
    assert not violated(world)
    assert world.judge.record.reached["enlarging change sent"] == 1


def test_a_greater_size_counts_from_when_the_change_leaves_until_it_has_arrived(world: World) -> None:
    order_id = place(world)
    change(world, order_id, qty=POSITION_MAX)
    assert not violated(world)
    place(world, tag="sim.s1.b", qty=1)
    world.judge.exposure.within_limit("one more is sent")
    assert violated(world) == {"I-10"}
    world.judge.record.violations.clear()
    world.judge.requests.arrived(MODIFY, b"another")
    world.judge.exposure.within_limit("another arrived")
    assert violated(world) == {"I-10"}


def test_a_change_that_was_refused_at_the_door_counts_no_more(world: World) -> None:
    change(world, place(world), qty=POSITION_MAX)
    world.judge.requests.arrived(MODIFY, world.judge.changes.under_way[0].body)
    place(world, tag="sim.s1.b", qty=1)
    world.judge.exposure.within_limit("one more is sent")
    assert not violated(world)


@pytest.mark.parametrize("qty", [3, None])
def test_no_change_leaves_while_a_person_has_halted(world: World, qty: int | None) -> None:
    order_id = place(world)
    world.judge.halted_ns = world.judge.stopped_ns = world.clock.true_ns() - 2 * NS_PER_S
    change(world, order_id, qty=qty)
    assert violated(world) == {"I-26"}


def test_a_halt_that_only_reduces_leaves_prices_to_the_strategy_but_no_greater_size(world: World) -> None:
    order_id = place(world)
    world.judge.halted_ns = world.clock.true_ns() - 2 * NS_PER_S
    change(world, order_id, qty=None)
    assert not violated(world)
    change(world, order_id, qty=3)
    assert violated(world) == {"I-26"}


def test_no_change_leaves_after_its_expiry(world: World) -> None:
    change(world, place(world), qty=None, expires_at_ns=EPOCH_NS)
    assert violated(world) == {"I-4"}


def test_no_change_leaves_that_nobody_asked_for(world: World) -> None:
    post(world, place(world), qty=1, limit=None)
    assert violated(world) == {"I-3"}


@pytest.mark.parametrize(("reduce_only", "broken"), [(True, set()), (False, {"I-3"})])
def test_an_exit_alone_is_made_smaller_without_being_asked_for(
    world: World, reduce_only: bool, broken: set[str]
) -> None:
    order_id = place(world)
    claim, *more = world.judge.claims[TAG]
    world.judge.claims[TAG] = (msgspec.structs.replace(claim, reduce_only=reduce_only), *more)
    post(world, order_id, qty=1, limit=None)
    assert violated(world) == broken


def test_no_greater_size_leaves_for_a_contract_with_an_order_of_unknown_fate(world: World) -> None:
    order_id = place(world)
    world.disk.orders["sim.s2.x"] = record(world, "sim.s2.x", 1, S.UNKNOWN)
    change(world, order_id, qty=3)
    assert violated(world) == {"I-4"}


def test_who_does_not_hold_the_ledger_any_more_cannot_know_of_an_order_of_unknown_fate(world: World) -> None:
    order_id = place(world)
    older = execution_of(world)
    world.disk.locked_by = None
    execution_of(world)
    world.disk.orders["sim.s2.x"] = record(world, "sim.s2.x", 1, S.UNKNOWN)
    world.judge.requests.unfrozen(TAG, TAG, older)
    assert order_id
    assert not violated(world)


def test_no_change_leaves_on_a_market_that_is_too_old(world: World) -> None:
    order_id = place(world)
    world.surroundings.heard_ns -= 4 * NS_PER_S
    change(world, order_id, qty=None)
    assert violated(world) == {"I-4"}


@pytest.mark.parametrize(
    ("was", "status", "cum_qty"),
    [
        (S.CANCELED, S.NEW, 0),
        (S.FILLED, S.CANCELED, 1),
        (S.PARTIALLY_FILLED, S.NEW, 1),
        (S.PENDING_CANCEL, S.PENDING_NEW, 0),
        (S.DENIED, S.NEW, 0),
        (S.REJECTED, S.CANCELED, 0),
    ],
)
def test_what_no_single_fact_explains_is_no_move(was: OrderStatus, status: OrderStatus, cum_qty: int) -> None:
    assert not may_follow(was, status, cum_qty)


@pytest.mark.parametrize(
    ("was", "status", "cum_qty"),
    [
        (S.PENDING_NEW, S.PARTIALLY_FILLED, 1),
        (S.PENDING_NEW, S.NEW, 0),
        (S.NEW, S.FILLED, 1),  # it was made smaller
        (S.PENDING_CANCEL, S.PARTIALLY_FILLED, 1),  # a cancel that was refused
        (S.CANCELED, S.FILLED, 2),  # a fill beat the cancel
        (S.ABSENT, S.NEW, 0),  # landed late
    ],
)
def test_what_one_fact_explains_is_a_move(was: OrderStatus, status: OrderStatus, cum_qty: int) -> None:
    assert may_follow(was, status, cum_qty)


@pytest.mark.parametrize(("event", "excused"), [("resume_refused", False), ("unprotected", True)])
def test_only_an_alarm_that_speaks_of_it_excuses_a_position_without_a_stop(
    world: World, event: str, excused: bool
) -> None:
    place(world, limit=None)
    assert world.venue.net_qty == 2
    world.judge.exposure.naked_s = 10.0
    world.judge.alarms.append((world.clock.true_ns(), "execution", event, ""))
    world.judge.exposure.tick()
    assert violated(world) == (set() if excused else {"I-6"})


def test_nothing_is_counted_where_nothing_is_looked_at(world: World) -> None:
    world.venue.externals.add(1)
    world.judge.exposure.tick()
    world.judge.requests.obeys("an order", EPOCH_NS, None)
    assert not world.judge.record.checks


def test_a_cancel_that_a_storm_held_up_gets_through_when_it_is_over(world: World) -> None:
    in_a_storm_with_a_cancel_to_send(world)
    world.judge.requests.tick(CANCEL_WITHIN_S + 1)
    assert not world.judge.record.checks.get("I-25")
    world.judge.requests.storm(False)
    world.judge.requests.tick(CANCEL_WITHIN_S)
    assert not violated(world)
    world.judge.requests.tick(1.0)
    assert violated(world) == {"I-25"}


def test_a_cancel_that_has_come_to_the_broker_is_waited_for_no_more(world: World) -> None:
    in_a_storm_with_a_cancel_to_send(world)
    world.judge.requests.storm(False)
    world.judge.requests.arrived(CANCEL, b"")
    world.judge.requests.tick(CANCEL_WITHIN_S + 1)
    assert not violated(world)


def test_an_acknowledged_tail_that_is_gone_is_a_loss(world: World) -> None:
    server = world.redis.server
    halt = Halt(kind=HaltKind.OPERATOR, reason="stop", issuer="sim", ts_ns=EPOCH_NS)
    assert world.surroundings.operator(halt)
    kept = len(server.log)
    assert world.surroundings.operator(halt)
    world.judge.streams.streams()
    assert not violated(world)
    server.crash()
    server.start(keep=kept)
    world.judge.streams.streams()
    assert violated(world) == {"I-12"}
