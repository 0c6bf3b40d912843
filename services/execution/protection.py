"""What protects each entry's position is of its size; where it is not, it is mended, else the position goes.

The broker makes stop and target with the entry and is given a moment to size them, wake them and cancel one
for the other. What still differs then is looked at afresh (orders, fills, position) and mended by one step at
a time: a size is changed, a stop of our own takes the place of one that is missing, what guards nothing is
canceled. A stop that cannot be had ends the position, and a person hears of it.

Nothing is mended while our fills do not explain the broker's position: no difference is repaired by trading.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from services.execution import claims, conduct, flatten, halts
from services.execution.books import Lot
from services.execution.orders import cancel, send_modify, want_search
from services.execution.records import ENTRY, EXIT, EXTERNAL, NOT_SENT, STOP_LOSS, OrderRecord
from services.execution.state import LOOK_AGAIN_S, NS_PER_S, Gap, State
from services.execution.turn import Turn
from shared.domain.control import HaltKind
from shared.domain.ids import dependent_order_id
from shared.domain.order import OrderStatus, OrderType, Side

EXITS_MAX = 3
"""Of one entry, sent by execution itself; after that a person has to look."""
UNSENT_DOUBLINGS_MAX = 2
"""Of the pause between tries while the broker cannot be reached."""
EXPIRES_S = 5.0
HEARD_JUST_NOW_NS = NS_PER_S
ALARM_AFTER_NS = NS_PER_S // 2
"""What is heard of late may have its stop: that is told in the next moment."""

_WORKING = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
_GIVEN_UP = (OrderStatus.REJECTED, OrderStatus.ABSENT, OrderStatus.EXPIRED)
_UNSETTLED = (OrderStatus.PENDING_NEW, OrderStatus.UNKNOWN, OrderStatus.PENDING_CANCEL)


class Held(NamedTuple):
    """One order's open part of a strategy's position."""

    name: str
    strategy_id: str
    contract_id: str
    side: Side
    lot: Lot


def due(turn: Turn) -> None:
    """Compare what protects with what is held."""
    state = turn.state
    if not (state.recovered and state.searched):
        return
    held = _held(state)
    legs: dict[str, list[OrderRecord]] = {}
    for order in state.open.values():
        if order.is_protective and order.parent is not None:
            legs.setdefault(order.parent, []).append(order)
    for order in list(state.open.values()):
        if _looked_for(state, order):
            continue
        if order.unwanted and order.status in _WORKING and not _flattened(state, order.contract_id):
            cancel(turn, order, "landed after it had been given up")
    for name in sorted(legs.keys() - held.keys()):
        if not _flattened(state, state.orders[name].contract_id):
            _alone(turn, state.orders[name], legs[name])
    _fit_exits(turn)
    for name in state.gaps.keys() - held.keys():
        del state.gaps[name]
    for name in state.alone_since_ns.keys() - state.open.keys():
        del state.alone_since_ns[name]
    for name, one in sorted(held.items()):
        if _flattened(state, one.contract_id) or _is_guarded(state, one, legs.get(name, [])):
            state.gaps.pop(name, None)
        else:
            _mend(turn, one, legs.get(name, []))
    state.watched = True


def _flattened(state: State, contract_id: str) -> bool:
    """Is a flatten at this contract, or has its end still to be booked?"""
    under_way = state.standing.flatten is not None and flatten.covered(state, contract_id)
    return under_way or contract_id in state.standing.crossing


def _held(state: State) -> dict[str, Held]:
    held = {}
    for (strategy_id, contract_id), book in state.books.items():
        if strategy_id == EXTERNAL:
            continue
        side = Side.BUY if book.position.net_qty > 0 else Side.SELL
        for name, lot in book.lots.items():
            held[name] = Held(name, strategy_id, contract_id, side, lot)
    return held


def _looked_for(state: State, order: OrderRecord) -> bool:
    """Is a fresh look at this order due? A cancel that was just refused would be refused again, for ever."""
    return order.broker_order_id in state.checks


def _alone(turn: Turn, entry: OrderRecord, legs: list[OrderRecord]) -> None:
    """Cancel protective orders that have nothing left to protect; one alone would open a new position."""
    state = turn.state
    if entry.status.may_fill or entry.missing_qty:
        return
    for leg in legs:
        if leg.status in _UNSETTLED or leg.cancel_wanted or _looked_for(state, leg):
            continue
        # The broker cancels its own pair, and what waited for an entry that never filled; ours it does not.
        family = [state.orders[name] for name in state.children.get(entry.client_order_id, ())]
        by_broker = leg.native and (not entry.cum_qty or any(one.native and one.cum_qty for one in family))
        since_ns = state.alone_since_ns.setdefault(leg.client_order_id, turn.at.mono_ns)
        if not by_broker or turn.at.mono_ns - since_ns >= state.rules.orphan_after_s * NS_PER_S:
            del state.alone_since_ns[leg.client_order_id]
            cancel(turn, leg, "nothing left to protect")


def _fit_exits(turn: Turn) -> None:
    """Let the exits that rest at the broker close no more than there is: the rest would turn the position."""
    state = turn.state
    if HaltKind.STARTING in state.own_halts:
        return  # nothing of ours would leave yet
    room: dict[tuple[str, str, Side], int] = {}
    exits = [one for one in state.open.values() if one.role == EXIT and one.parent is None]
    # What closes at once takes its part first.
    for order in sorted(exits, key=lambda one: one.order_type is not OrderType.MARKET):
        key = order.strategy_id, order.contract_id, order.side
        left = room.get(key, max(0, -state.net_qty(*key[:2]) * order.side.sign))
        room[key] = max(0, left - order.leaves_qty)
        if order.order_type is OrderType.MARKET or order.status not in _WORKING:
            continue
        if order.leaves_qty <= left:
            state.alone_since_ns.pop(order.client_order_id, None)
            state.exits_fitted.discard(order.client_order_id)
        elif not _flattened(state, order.contract_id):
            _fit_exit(turn, order, left)
    state.exits_fitted &= state.open.keys()


def _fit_exit(turn: Turn, order: OrderRecord, left_qty: int) -> None:
    """Make one exit as small as what is left for it, once; then, and when nothing is left, it goes."""
    state, name = turn.state, order.client_order_id
    since_ns = state.alone_since_ns.setdefault(name, turn.at.mono_ns)
    unheard = any(one.missing_qty for one in state.open.values() if one.contract_id == order.contract_id)
    if unheard or _looked_for(state, order) or order.broker_order_id in state.modifies_running:
        return
    if turn.at.mono_ns - since_ns < state.rules.protect_after_s * NS_PER_S:
        return
    state.alone_since_ns[name] = turn.at.mono_ns
    if left_qty and name not in state.exits_fitted:
        state.exits_fitted.add(name)
        _resize(turn, order, left_qty)
    else:
        cancel(turn, order, "more than is left to close")


def _is_guarded(state: State, held: Held, legs: list[OrderRecord]) -> bool:
    order = state.orders.get(held.name)
    if order is None or order.role != ENTRY or order.unwanted:
        return False
    if order.stop_loss_ticks is None:
        return True  # it was allowed to go without
    return _guard(legs) == held.lot.qty and _beyond(legs, held.lot.qty) is None


def _guard(legs: list[OrderRecord]) -> int:
    return sum(one.leaves_qty for one in legs if one.role == STOP_LOSS and one.status in _WORKING)


def _beyond(legs: list[OrderRecord], qty: int) -> OrderRecord | None:
    """Return a target that would close more than there is."""
    targets = (one for one in legs if one.role != STOP_LOSS and one.status in _WORKING)
    return next((one for one in targets if one.leaves_qty > qty), None)


def _mend(turn: Turn, held: Held, legs: list[OrderRecord]) -> None:
    """Take the next step toward a protection of the right size, when all before it has had its time."""
    state, rules = turn.state, turn.state.rules
    gap = state.gaps.get(held.name)
    if gap is None:
        since_ns = turn.at.mono_ns - _unwatched_ns(turn, held)
        gap = Gap(held.contract_id, since_ns=since_ns, bare_ns=_bare_since_ns(turn, held, since_ns))
        state.gaps[held.name] = gap
    age_ns, bare_ns = turn.at.mono_ns - gap.since_ns, turn.at.mono_ns - gap.bare_ns
    guard = _guard(legs)
    gap.bare = guard < held.lot.qty
    late = bare_ns >= rules.protect_within_s * NS_PER_S and age_ns >= ALARM_AFTER_NS
    if late and gap.bare and not gap.alarmed:
        gap.alarmed = True
        after_s = bare_ns / NS_PER_S
        text = f"{held.name}: {guard} of {held.lot.qty} contracts have a stop after {after_s:.0f} s"
        turn.alarm("unprotected", text)
    if HaltKind.STARTING in state.own_halts:
        return  # nothing of ours would leave yet, and each try counts
    changing = any(one.broker_order_id in state.modifies_running for one in legs)
    if changing or any(one.status in _UNSETTLED for one in legs) or _unheard(state, held):
        return
    if age_ns < rules.protect_within_s * NS_PER_S and _exits(state, held):
        return  # a market order is about to explain the difference
    if turn.at.mono_ns - max(gap.since_ns, gap.acted_ns) < _patience_ns(state, held, gap, guard):
        return
    # The hub's word on the position is enough to change a size; to replace an order it is not.
    told = state.sync.in_sync and state.sync.positions.get(held.contract_id, 0)
    if not (guard and told == state.contract_qty(held.contract_id)):
        if not _looked(turn, gap):
            return
        assert state.look is not None
        if state.look.positions.get(held.contract_id, 0) != state.contract_qty(held.contract_id):
            # `account` says so when it lasts; trading would not make it better. One of both may be old.
            _look_again(turn, gap, LOOK_AGAIN_S)
            return
    gap.acted_ns = turn.at.mono_ns
    order = state.orders.get(held.name)
    if order is None or order.role != ENTRY:
        _leave(turn, held, gap, "no entry of the strategy explains this position")
    elif order.unwanted:
        _leave(turn, held, gap, "its entry landed after it had been given up")
    else:
        _fit(turn, held, gap, order, legs)


def _patience_ns(state: State, held: Held, gap: Gap, guard: int) -> int:
    """Return how long after a step the next one comes; longer while nothing that we would place leaves."""
    step_ns = round(state.rules.protect_after_s * NS_PER_S)
    if guard:
        return step_ns
    family = (state.orders[name] for name in state.children.get(held.name, ()))
    unsent = sum(1 for one in family if _unsent(one) and (one.mono_claimed_ns or 0) >= gap.since_ns)
    return step_ns << min(unsent, UNSENT_DOUBLINGS_MAX)


def _unsent(order: OrderRecord) -> bool:
    """Did it provably never leave? That says nothing about what the broker would have done with it."""
    return order.status is OrderStatus.REJECTED and order.reason.startswith(NOT_SENT)


def _bare_since_ns(turn: Turn, held: Held, since_ns: int) -> int:
    """Return since when the account lacks a stop in this contract, now that this position does.

    Gaps of several strategies, each over in time and the next begun before, are one for the account.
    """
    others = (one for one in turn.state.gaps.values() if one.contract_id == held.contract_id and one.bare)
    heard_ns = turn.at.mono_ns - _unheard_ns(turn, held)
    return min([since_ns, heard_ns, *(one.bare_ns for one in others)])


def _unwatched_ns(turn: Turn, held: Held) -> int:
    """Return how long nobody has looked after this position: after a start, since its newest fill.

    A process that is killed again and again would otherwise never come to the end of its patience.
    """
    state, venue_ns = turn.state, turn.at.venue_ns
    if state.watched or venue_ns is None:
        return 0
    newest_ns = state.books[held.strategy_id, held.contract_id].newest_ns
    return round(max(0, venue_ns - newest_ns) / state.rules.market_speed)


def _unheard_ns(turn: Turn, held: Held) -> int:
    """Return how long this position stood before it was known to be one of ours.

    To wait for the fill and then once more for its stop would be two patiences, and one promise.
    """
    return max(_heard_late_ns(turn, held), _spoken_of_ns(turn, held))


def _heard_late_ns(turn: Turn, held: Held) -> int:
    """Return the age of its newest fill, when that was told just now and long after it happened."""
    heard = turn.state.heard_late.pop(held.name, None)
    if heard is None or turn.at.mono_ns - heard.mono_ns > HEARD_JUST_NOW_NS:
        return 0
    return heard.late_ns + turn.at.mono_ns - heard.mono_ns


def _spoken_of_ns(turn: Turn, held: Held) -> int:
    """Return how long the broker spoke of a position that no fill explained."""
    state, venue_ns = turn.state, turn.at.venue_ns
    apart = state.apart.get(held.contract_id)
    newest_ns = state.books[held.strategy_id, held.contract_id].newest_of_ns(held.name)
    if apart is None or newest_ns is None:
        return 0
    spoken_ns = turn.at.mono_ns - apart.since_ns
    if venue_ns is None:
        return spoken_ns
    # What was apart before this fill was something else.
    return min(spoken_ns, round(max(0, venue_ns - newest_ns) / state.rules.market_speed))


def _unheard(state: State, held: Held) -> bool:
    """Does the broker speak of fills in this contract that we have not seen?"""
    return any(one.missing_qty for one in state.open.values() if one.contract_id == held.contract_id)


def _exits(state: State, held: Held) -> bool:
    """Is a market order at work that ends this strategy's position, in part or whole?

    One that was sent for the other side, before the position turned, ends nothing: it would only add.
    """
    return any(
        one.role == EXIT
        and one.side is held.side.opposite
        and one.order_type is OrderType.MARKET
        and one.leaves_qty
        for one in state.open.values()
        if one.strategy_id == held.strategy_id and one.contract_id == held.contract_id
    )


def _looked(turn: Turn, gap: Gap) -> bool:
    """Has the broker been looked at since the last change? If not, have it done."""
    state = turn.state
    before_ns = max(gap.since_ns, gap.acted_ns)
    if state.look is not None and state.look.started_ns > before_ns:
        return True
    _look_again(turn, gap, 1.0 if gap.looked_ns >= before_ns else 0.0)
    return False


def _look_again(turn: Turn, gap: Gap, after_s: float) -> None:
    if turn.at.mono_ns - gap.looked_ns >= after_s * NS_PER_S:
        gap.looked_ns = turn.at.mono_ns
        want_search(turn, delay_s=0.0)


def _fit(turn: Turn, held: Held, gap: Gap, entry: OrderRecord, legs: list[OrderRecord]) -> None:
    stops = [one for one in legs if one.role == STOP_LOSS and one.status in _WORKING]
    guard, wanted = _guard(legs), held.lot.qty
    target = _beyond(legs, wanted)
    if guard == 0:
        _place_stop(turn, held, gap, entry, wanted)
    elif guard < wanted:
        _resize(turn, stops[0], stops[0].leaves_qty + wanted - guard)
    elif guard > wanted:
        last = stops[-1]  # ours come after the broker's: they go first
        left = last.leaves_qty - (guard - wanted)
        if left > 0:
            _resize(turn, last, left)
        else:
            cancel(turn, last, "more stops than position")
    elif target is not None:
        _resize(turn, target, wanted)


def _resize(turn: Turn, order: OrderRecord, leaves_qty: int) -> None:
    send_modify(turn, order, order_qty=order.cum_qty + leaves_qty, urgent=True)


def _place_stop(turn: Turn, held: Held, gap: Gap, entry: OrderRecord, qty: int) -> None:
    """Put a stop of our own where none works; the claim makes it as unique as any order."""
    state = turn.state
    family = [state.orders[name] for name in state.children.get(entry.client_order_id, ())]
    own = [one for one in family if one.role == STOP_LOSS and not one.native]
    price = stop_price(held, entry, family)
    if any(one.status in _GIVEN_UP and not _unsent(one) for one in own) or _through(state, held, price):
        _leave(turn, held, gap, "no stop could be placed")
        return
    turn.alarm("own_stop", f"{entry.client_order_id}: no stop works at the broker; placing one at {price}")
    name = dependent_order_id(entry.client_order_id, f"stop{len(own)}")
    _claim(turn, held, name, qty, STOP_LOSS, price, "replaces the stop that is missing at the broker")


def stop_price(held: Held, entry: OrderRecord, family: list[OrderRecord]) -> Decimal:
    """Return where the entry's stop belongs: at its distance, or where it had been moved to."""
    assert entry.stop_loss_ticks is not None
    exact = held.lot.px - held.side.sign * entry.stop_loss_ticks * entry.tick_size
    rounding = ROUND_CEILING if held.side is Side.BUY else ROUND_FLOOR
    prices = [(exact / entry.tick_size).to_integral_value(rounding) * entry.tick_size]
    prices += [one.stop_price for one in family if one.role == STOP_LOSS and one.stop_price is not None]
    return max(prices) if held.side is Side.BUY else min(prices)


def _through(state: State, held: Held, price: Decimal) -> bool:
    """Has the market passed the stop already? The broker would refuse it."""
    contract = state.standing.contracts[held.contract_id]
    market = state.markets.get(contract.symbol)
    if market is None or market.contract_id != held.contract_id:
        return False
    touch = market.bid_px if held.side is Side.BUY else market.ask_px
    return touch is not None and (Decimal(str(touch)) - price) * held.side.sign <= 0


def _leave(turn: Turn, held: Held, gap: Gap, why: str) -> None:
    """End a position that cannot be protected, or that nobody wanted, by an order of our own."""
    state = turn.state
    if _exits(state, held):
        return  # two would turn the position
    family = [state.orders[name] for name in state.children.get(held.name, ())]
    exits = [one for one in family if one.role == EXIT]
    sent = sum(1 for one in exits if not _unsent(one))
    if sent >= EXITS_MAX:
        text = f"{held.name}: {held.lot.qty} contracts left after {sent} exits: {why}; close them by hand"
        if not gap.given_up:
            gap.given_up = True
            turn.alarm("exit_failed", text)
            halts.halt(turn, HaltKind.INVARIANT, text)
        return
    most = state.rules.limits.exits_per_min_max
    if conduct.exits_last_min(turn.at.mono_ns, state, held.contract_id) >= most:
        halts.halt(turn, HaltKind.RUNAWAY, f"{most} exits in {held.contract_id} within a minute; {why}")
        return
    turn.alarm("position_left", f"{held.name}: {why}; closing {held.lot.qty}")
    name = dependent_order_id(held.name, f"exit{len(exits)}")
    _claim(turn, held, name, held.lot.qty, EXIT, None, why)


def _claim(
    turn: Turn, held: Held, name: str, qty: int, role: str, price: Decimal | None, reason: str
) -> None:
    state, at = turn.state, turn.at
    contract = state.standing.contracts[held.contract_id]
    entry = state.orders.get(held.name)
    order = OrderRecord(
        client_order_id=name,
        strategy_id=held.strategy_id,
        symbol=contract.symbol,
        contract_id=held.contract_id,
        side=held.side.opposite,
        order_qty=qty,
        order_type=OrderType.STOP if price is not None else OrderType.MARKET,
        cause=entry.cause if entry is not None else turn.cause,
        tick_size=contract.tick_size,
        multiplier=contract.multiplier,
        ts_claimed_ns=at.now_ns,
        mono_claimed_ns=at.mono_ns,
        boot=state.standing.boots,
        expires_at_ns=at.now_ns + round(EXPIRES_S * NS_PER_S),
        venue_claimed_ns=at.venue_ns,
        role=role,
        parent=held.name,
        stop_price=price,
        reduce_only=True,
        reason=reason,
    )
    claims.claim(turn, order)
