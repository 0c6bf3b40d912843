"""Each intent: one order at most, one end; each order: decided before, inside the limits, along the table."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

import msgspec

from proof.chaos.checkers.evidence import Evidence
from proof.chaos.installation import POSITION_MAX
from proof.record import Record
from services.simulator.orders import Fill as VenueFill
from shared.domain.control import TradingState
from shared.domain.execution import (
    IntentExpired,
    OrderClaimed,
    OrderDenied,
    OrderFilled,
    OrderUpdated,
    TradingStateChanged,
)
from shared.domain.order import OrderStatus

PLACE = "/api/Order/place"
RACED_S = 5.0
"""Within this much of another such fill, a stop and an exit may have met."""


def check(evidence: Evidence, record: Record) -> None:
    _once(evidence, record)
    _one_end(evidence, record)
    _decided_before(evidence, record)
    _nothing_while_halted(evidence, record)
    _never_denied_what_is_there(evidence, record)
    _life(evidence, record)
    _exposure(evidence, record)


def posts(evidence: Evidence) -> Counter[str]:
    """Return tag -> how often a request with it was passed on to the venue."""
    found: Counter[str] = Counter()
    for request in evidence.world.requests.all:
        if request.path == PLACE:
            try:
                body = msgspec.json.decode(request.body)
            except msgspec.DecodeError:
                continue
            found[str(body.get("customTag"))] += 1
    return found


def _once(evidence: Evidence, record: Record) -> None:
    """I-1: a tag stands on one order at the venue at most, and in one request."""
    at_venue = Counter(order.custom_tag for order in evidence.parents if order.custom_tag)
    sent = posts(evidence)
    duplicates = 0
    for tag in {*at_venue, *sent}:
        record.check("I-1", at_venue[tag] <= 1, f"{tag}: {at_venue[tag]} orders at the venue")
        known = evidence.orders.get(tag)
        allowed = known.attempts if known is not None else 1
        # A second attempt is for a proven failure to send: the first never reached the venue's door.
        record.check("I-1", sent[tag] <= 1, f"{tag}: sent {sent[tag]} times (attempts {allowed})")
        duplicates += at_venue[tag] > 1 or sent[tag] > 1
    record.figures["duplicates"] = duplicates
    record.figures["posts"] = sum(sent.values())
    record.figures["orders_at_venue"] = len(evidence.parents)


def _one_end(evidence: Evidence, record: Record) -> None:
    """I-2: every intent has one record, and it is at an end."""
    lost = destroyed = 0
    intents = evidence.intents()
    for name, intent in intents.items():
        order = evidence.orders.get(name)
        if order is None and _gone_with_redis(evidence, intent.ts_cause_ns):
            destroyed += 1
            continue
        ended = order is not None and order.status.is_terminal
        text = "never decided" if order is None else f"still {order.status} at the end"
        record.check("I-2", ended, f"{name} of {intent.strategy_id}: {text}")
        lost += not ended
    firsts: Counter[str] = Counter()
    for _, message in evidence.said(OrderClaimed, OrderDenied, IntentExpired):
        if isinstance(message, OrderDenied) and message.client_order_id in evidence.orders:
            if evidence.orders[message.client_order_id].status is not OrderStatus.DENIED:
                continue  # a refused change or cancel of an order that lives
            if firsts[message.client_order_id]:
                continue
        firsts[message.client_order_id] += 1
    for name, times in firsts.items():
        record.check("I-2", times == 1, f"{name} was decided {times} times")
    record.figures["intents"] = len(intents)
    record.figures["lost"] = lost
    record.figures["intents_destroyed_with_redis"] = destroyed
    record.figures["wishes"] = evidence.wishes()
    for order in evidence.orders.values():
        record.reach(f"order ended {order.status}")


def _gone_with_redis(evidence: Evidence, ts_ns: int) -> bool:
    """Was Redis emptied or set back after the intent was written, so that nobody could have read it?"""
    return any(ts_ns <= at_ns <= ts_ns + 60_000_000_000 for at_ns in evidence.world.rebuilt_ns)


def _decided_before(evidence: Evidence, record: Record) -> None:
    """I-3, I-4: whatever was sent was claimed in the ledger, and before its intent expired."""
    claimed = {message.client_order_id for _, message in evidence.said(OrderClaimed)}
    for tag in posts(evidence):
        record.check("I-3", tag in claimed, f"{tag} was sent and never claimed")
    intents = evidence.intents()
    for _, message in evidence.said(OrderClaimed):
        intent = intents.get(message.client_order_id)
        if intent is None:
            continue
        late = message.ts_ns >= intent.expires_at_ns
        record.check("I-4", not late, f"{message.client_order_id} was claimed after its expiry")


def _nothing_while_halted(evidence: Evidence, record: Record) -> None:
    """I-4: while trading is not active nothing is claimed that could add exposure."""
    state = TradingState.HALTED
    for step, message in evidence.said(TradingStateChanged, OrderClaimed):
        if isinstance(message, TradingStateChanged):
            state = message.state
        elif not message.reduce_only:
            words = f"{message.client_order_id} was claimed at step {step.seq} while trading was {state}"
            record.check("I-4", state is TradingState.ACTIVE, words)


def _never_denied_what_is_there(evidence: Evidence, record: Record) -> None:
    """I-5: what the venue holds is not absent or rejected in the ledger."""
    for venue in evidence.parents:
        order = evidence.orders.get(venue.custom_tag or "")
        if order is None:
            continue
        if venue.status.name == "REJECTED" or venue.reason:
            continue
        wrong = order.status in (OrderStatus.ABSENT, OrderStatus.DENIED) or (
            order.status is OrderStatus.REJECTED and venue.fill_volume > 0
        )
        record.check(
            "I-5", not wrong, f"{order.client_order_id} is {order.status}, the venue holds {venue.id}"
        )
        record.check(
            "I-7",
            order.cum_qty == venue.fill_volume,
            f"{order.client_order_id}: {order.cum_qty} filled here, {venue.fill_volume} at the venue",
        )


def _life(evidence: Evidence, record: Record) -> None:
    """I-7: filled quantity rises and stays within the order; no fill twice."""
    filled: dict[str, int] = defaultdict(int)
    fills: set[tuple[str, str, int]] = set()
    for _, message in evidence.said(OrderFilled, OrderUpdated):
        name = message.client_order_id
        if isinstance(message, OrderFilled):
            # One fill of a close may be shared among strategies: each is told its part.
            key = (name, message.strategy_id, message.fill_id)
            record.check("I-7", key not in fills, f"{name}: fill {message.fill_id} was told twice")
            fills.add(key)
            grows = message.cum_qty >= filled[name] and message.leaves_qty >= 0
            record.check("I-7", grows, f"{name}: filled {filled[name]}, then {message.cum_qty}")
            filled[name] = max(filled[name], message.cum_qty)
        else:
            within = message.cum_qty <= message.order_qty or message.order_qty == 0
            record.check("I-7", within, f"{name}: {message.cum_qty} of {message.order_qty} filled")


def _exposure(evidence: Evidence, record: Record) -> None:
    """I-10: the venue's own position after each fill stays within the limit.

    Beyond it is what nobody can know before: a stop and an exit that fill at once, which is taken back in
    seconds, and an order that lands after it was given up.
    """
    claims = {message.client_order_id: message for _, message in evidence.said(OrderClaimed)}
    given_up = {
        message.client_order_id
        for _, message in evidence.said(OrderUpdated)
        if message.status is OrderStatus.ABSENT
    }
    tags = {order.id: order.custom_tag or "" for order in evidence.venue_orders}
    window_ns = round(RACED_S * evidence.world.installation.market_speed * 1e9)
    net: dict[str, int] = defaultdict(int)
    landed: dict[str, int] = defaultdict(int)
    raced: dict[str, deque[VenueFill]] = defaultdict(deque)
    most = 0
    for fill in evidence.venue_fills:
        name = fill.contract_id
        net[name] += fill.size if fill.side.name == "BID" else -fill.size
        claim = claims.get(tags.get(fill.order_id, ""))
        if claim is None or claim.reduce_only:
            raced[name].append(fill)
        elif claim.client_order_id in given_up:
            landed[name] += fill.size
        while raced[name] and raced[name][0].created_ns < fill.created_ns - window_ns:
            raced[name].popleft()
        most = max(most, abs(net[name]))
        room = POSITION_MAX + evidence.world.by_hand + landed[name]
        if abs(net[name]) > room and len(raced[name]) > 1:
            record.reach("an exit raced a stop")
            room += sum(one.size for one in raced[name])
        ok = abs(net[name]) <= room
        record.check("I-10", ok, f"{name} stood at {net[name]} after fill {fill.id}")
        if abs(net[name]) == POSITION_MAX:
            record.reach("position at its limit")
    record.figures["position_max_seen"] = most
    record.figures["fills"] = len(evidence.venue_fills)
