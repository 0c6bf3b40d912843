"""The figures that risk asks for, taken from the state at one moment."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from services.execution import conduct
from services.execution.events import Moment
from services.execution.records import ENTRY, EXTERNAL, OrderRecord
from services.execution.state import NS_PER_MS, NS_PER_S, State
from shared.domain.control import SessionHealth
from shared.domain.market import MarketState
from shared.domain.order import OrderType, Side, SubmitOrder
from shared.domain.risk import Exposure, worst_qty

NEVER_MS = 1 << 53


def contract_of(state: State, intent_symbol: str, strategy_id: str, side: Side) -> str:
    """Return the contract month an order is for.

    An exit goes to the month in which the strategy holds its position, also after the symbol has rolled to
    the next one; everything else goes to what the symbol means now.
    """
    for (owner, contract_id), book in state.books.items():
        contract = state.standing.contracts.get(contract_id)
        held = contract is not None and contract.symbol == intent_symbol
        if owner == strategy_id and held and book.position.net_qty * side.sign < 0:
            return contract_id
    market = state.markets.get(intent_symbol)
    return market.contract_id if market is not None else ""


def exposure(
    state: State, command: SubmitOrder, contract_id: str, at: Moment, order_type: OrderType
) -> Exposure:
    """Return what is known at `at`; what is sent and unanswered, or unknown, counts as it may still fill.

    Args:
        order_type: Of the order that is to be sent, or to grow.
    """
    own = _working(state, command.strategy_id, contract_id)
    longs, shorts = _others(state, command.strategy_id, contract_id)
    did = conduct.figures(at.mono_ns, state, command.strategy_id, command.side.sign)
    market_ns = market_time_ns(state, at)
    trim(state, at)
    return Exposure(
        contract_id=contract_id,
        trading_state=state.trading_state,
        halt_reason=state.halt_reason(),
        net_qty=state.net_qty(command.strategy_id, contract_id),
        buy_qty=own.buy_qty,
        sell_qty=own.sell_qty,
        buy_rests_qty=own.buy_rests_qty,
        sell_rests_qty=own.sell_rests_qty,
        others_long_qty=longs,
        others_short_qty=shorts,
        working_orders=sum(1 for order in state.open.values() if not order.is_protective),
        frozen=state.is_frozen(contract_id),
        in_sync=state.sync.in_sync and state.sync.complete,
        session_active=state.session is SessionHealth.ACTIVE,
        account_can_trade=state.sync.can_trade,
        heartbeat_silent_ms=silent_ms(state, at),
        reference_age_ms=reference_age_ms(state, command.symbol, at),
        day_pnl=state.day_pnl(market_ns or at.now_ns),
        messages_last_s=sum(1 for sent_ns in state.sent_ns if sent_ns > at.mono_ns - NS_PER_S),
        messages_last_min=len(state.sent_ns),
        duplicate_of=_alike(state, command, at),
        market_ns=market_ns,
        open_pnl=open_pnl(state, at),
        latched=state.latched().get(command.strategy_id, ""),
        rests=order_type is not OrderType.MARKET,
        mixed=_mixed(state, command.strategy_id),
        intents=did.intents,
        entries=did.entries,
        flips=did.flips,
        exits_last_min=conduct.exits_last_min(at.mono_ns, state, contract_id),
    )


def market_time_ns(state: State, at: Moment) -> int | None:
    """Return the venue's time, None while nobody has told it.

    A venue whose clock runs faster than ours is ahead of what its last answer said; its quotes are newer.
    """
    if not state.rules.venue_clock:
        return at.venue_ns
    told = [market.ts_event_ns for market in state.markets.values()]
    return max([*told, at.venue_ns or 0]) or None


def open_pnl(state: State, at: Moment) -> Decimal | None:
    """Return what the positions of all strategies make at the price they could be closed at now.

    None when one of them has no fresh market: then nobody knows.
    """
    total = Decimal(0)
    for (strategy_id, contract_id), book in state.books.items():
        position = book.position
        if strategy_id == EXTERNAL or not position.net_qty:
            continue
        contract = state.standing.contracts.get(contract_id)
        market = state.markets.get(contract.symbol) if contract is not None else None
        if contract is None or market is None or market.contract_id != contract_id:
            return None
        age_ms = reference_age_ms(state, contract.symbol, at)
        px = _exit_px(market, position.net_qty)
        if px is None or age_ms is None or not 0 <= age_ms <= state.rules.limits.reference_age_ms_max:
            return None
        total += (Decimal(str(px)) - position.avg_px) * position.net_qty * contract.multiplier
    return total


def _exit_px(market: MarketState, net_qty: int) -> float | None:
    return market.bid_px if net_qty > 0 else market.ask_px


def _mixed(state: State, strategy_id: str) -> str:
    """Return which process that an order of the strategy depends on is not of our build and settings."""
    ours = (state.rules.build, state.rules.settings)
    for name in ("heartbeat", "feed", "broker_sync", f"strategy:{strategy_id}"):
        theirs = state.builds.get(name, ours)
        if theirs != ours:
            return (
                f"{name} runs build {theirs[0]} with settings {theirs[1]}, execution {ours[0]} with {ours[1]}"
            )
    return ""


def reference_age_ms(state: State, symbol: str, at: Moment) -> int | None:
    """Return the market state's age by the worse of two clocks: the feed's word, and when we heard it."""
    market = state.markets.get(symbol)
    if market is None:
        return None
    vouched_ms = (at.now_ns - market.ts_asof_ns) // NS_PER_MS
    heard_ns = state.market_heard_ns.get(symbol)
    heard_ms = (at.mono_ns - heard_ns) // NS_PER_MS if heard_ns is not None else NEVER_MS
    if vouched_ms < 0:
        # Written in our future: clocks disagree. A second is tolerated, more is not fresh but wrong.
        vouched_ms = 0 if vouched_ms > -1_000 else NEVER_MS
    return max(vouched_ms, heard_ms)


def trim(state: State, at: Moment) -> None:
    """Forget messages older than a minute."""
    while state.sent_ns and state.sent_ns[0] <= at.mono_ns - 60 * NS_PER_S:
        state.sent_ns.popleft()


class _Working(msgspec.Struct):
    """What orders of one strategy may still buy and sell; what rests is a part of it, see `Exposure`."""

    buy_qty: int = 0
    sell_qty: int = 0
    buy_rests_qty: int = 0
    sell_rests_qty: int = 0

    def add(self, side: Side, qty: int, *, rests: bool) -> None:
        if side is Side.BUY:
            self.buy_qty += qty
            self.buy_rests_qty += qty if rests else 0
        else:
            self.sell_qty += qty
            self.sell_rests_qty += qty if rests else 0


def _working(state: State, strategy_id: str, contract_id: str) -> _Working:
    """Return what orders of one strategy may still buy and sell.

    Those that protect close what is held, and cancel each other; only what they have too much would trade.
    """
    working = _Working()
    guards: dict[tuple[str, Side], dict[str, int]] = {}
    for order in state.open.values():
        if order.strategy_id != strategy_id or order.contract_id != contract_id:
            continue
        if order.is_protective and order.parent is not None:
            by_role = guards.setdefault((order.parent, order.side), {})
            by_role[order.role] = by_role.get(order.role, 0) + order.most_leaves_qty
        else:
            # An exit takes from the position, as a stop does: execution sees that only one of them does.
            rests = order.role == ENTRY and order.order_type is not OrderType.MARKET
            working.add(order.side, order.most_leaves_qty, rests=rests)
    for (entry, side), by_role in guards.items():
        surplus = max(by_role.values()) - _to_guard(state, entry, strategy_id, contract_id)
        working.add(side, max(0, surplus), rests=True)
    return working


def _to_guard(state: State, entry: str, strategy_id: str, contract_id: str) -> int:
    """Return what is open of an entry, and what may still come of it: before, its brackets do nothing."""
    book = state.books.get((strategy_id, contract_id))
    lot = book.lots.get(entry) if book is not None else None
    order = state.orders.get(entry)
    return (lot.qty if lot is not None else 0) + (order.leaves_qty if order is not None else 0)


def _others(state: State, strategy_id: str, contract_id: str) -> tuple[int, int]:
    """Return the worst case of everybody else, longs and shorts apart."""
    longs = shorts = 0
    owners = {owner for owner, contract in state.books if contract == contract_id}
    owners |= {order.strategy_id for order in state.open.values() if order.contract_id == contract_id}
    for owner in owners - {strategy_id}:
        net = state.net_qty(owner, contract_id)
        works = _working(state, owner, contract_id)
        longs += worst_qty(net, works.buy_qty, works.buy_rests_qty)
        shorts += worst_qty(-net, works.sell_qty, works.sell_rests_qty)
    baseline = state.standing.baselines.get(contract_id, 0)
    return longs + max(0, baseline), shorts + max(0, -baseline)


def beyond_limit(state: State, order: OrderRecord) -> bool:
    """Say whether the account could come to hold too much with this order, which is among the open ones."""
    works = _working(state, order.strategy_id, order.contract_id)
    longs, shorts = _others(state, order.strategy_id, order.contract_id)
    net_qty = state.net_qty(order.strategy_id, order.contract_id)
    if order.side is Side.BUY:
        worst = longs + worst_qty(net_qty, works.buy_qty, works.buy_rests_qty)
    else:
        worst = shorts + worst_qty(-net_qty, works.sell_qty, works.sell_rests_qty)
    return worst > state.rules.limits.position_max


def silent_ms(state: State, at: Moment) -> int:
    """Return for how long heartbeat has not been heard."""
    if state.heartbeat_ns is None:
        return NEVER_MS
    return (at.mono_ns - state.heartbeat_ns) // NS_PER_MS


def _alike(state: State, command: SubmitOrder, at: Moment) -> str:
    window_ns = state.rules.limits.duplicate_window_ms * NS_PER_MS
    for sent_ns, order in reversed(state.recent):
        if at.mono_ns - sent_ns >= window_ns:
            break
        if _same(order, command):
            return order.client_order_id
    return ""


def _same(order: OrderRecord, command: SubmitOrder) -> bool:
    return (
        order.strategy_id == command.strategy_id
        and order.symbol == command.symbol
        and order.side is command.side
        and order.order_qty == command.order_qty
        and order.limit_price == command.limit_price
        and order.stop_price == command.stop_price
        and order.client_order_id != command.client_order_id
    )
