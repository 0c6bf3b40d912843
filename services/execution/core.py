"""Decide what becomes of orders: the only sender of an account's orders thinks here, and only here.

An intent is checked, claimed in the ledger, sent once. Whatever the world does then (no answer, an answer
that is overtaken, a restart at any point) ends in what the broker can show, never in a guess:

* A claimed id is never sent again by anyone; one failure to send that is proven may be repeated once.
* What is not known freezes new exposure in its contract until the broker has shown or ruled out the order.
* Everything that must last is in records; `decide` changes them, the shell commits them before it obeys.

The parts: `intents` asks `shared.domain.risk`, `orders` moves one order along the table, `brackets` finds
whose an order is, `fills` counts, `answers` takes outcomes, `resolver` ends doubts, `account` compares with
the broker, `trading` keeps halts, `conduct` latches strategies off, `flatten` makes flat.
"""

from __future__ import annotations

from decimal import Decimal
from typing import assert_never

from services.execution import account, answers, conduct, halts, intents, management, resolver, trading
from services.execution.events import (
    BusDiffers,
    CancelAnswered,
    CloseAnswered,
    Command,
    ControlRead,
    Event,
    HeartbeatHeard,
    IntentRead,
    KillSeen,
    MarketRead,
    ModifyAnswered,
    OrderQueried,
    PlaceAnswered,
    ProcessSeen,
    Recovered,
    ReportRead,
    Searched,
    StreamGap,
    Tick,
)
from services.execution.records import ContractRecord
from services.execution.state import NS_PER_S, State
from services.execution.turn import Turn
from shared.domain.control import HaltKind
from shared.domain.market import MarketState


def decide(event: Event, state: State) -> list[Command]:
    """Apply one event to `state` and return what must now happen, in order."""
    turn = Turn(state=state, at=event.at)
    match event:
        case IntentRead():
            turn.cause = event.cause
            intents.take(turn, event)
        case ReportRead():
            turn.cause = event.cause
            account.take(turn, event.report)
        case ControlRead():
            turn.cause = event.cause
            trading.control(turn, event)
        case MarketRead():
            _market(turn, event.market, polled=event.polled)
            management.follow(turn, event.market)
        case Tick():
            state.session = event.session
            halts.measure(turn, event.clock_offset_ms)
            resolver.due(turn)
        case HeartbeatHeard():
            said_ns = event.at.mono_ns - event.age_ns
            state.heartbeat_ns = max(said_ns, state.heartbeat_ns or said_ns)
        case ProcessSeen():
            state.builds[event.process] = (event.build, event.settings)
        case KillSeen():
            halts.halt(turn, HaltKind.OPERATOR, event.why)
        case PlaceAnswered():
            turn.cause = state.orders[event.client_order_id].cause
            answers.placed(turn, event)
        case CancelAnswered():
            answers.canceled(turn, event)
        case ModifyAnswered():
            answers.modified(turn, event)
        case CloseAnswered():
            answers.closed(turn, event)
        case Searched():
            resolver.searched(turn, event)
        case OrderQueried():
            resolver.queried(turn, event)
        case StreamGap():
            trading.gap(turn, event)
        case BusDiffers():
            _distrust(turn, event.what)  # told when the start is done: nothing can be published yet
        case Recovered():
            _count_boots(state, event.boot)
            if event.lost is not None:
                _distrust(turn, event.lost)
            resolver.recovered(turn)
            conduct.remember(turn)
            halts.announce(turn)
        case _:
            assert_never(event)
    if HaltKind.STARTING in state.own_halts:
        halts.measure(turn)
    return turn.commands


def _count_boots(state: State, boot: str) -> None:
    """Notice that the machine has started anew: monotonic times of before say nothing any more."""
    if not boot or boot != state.standing.boot:
        standing = state.change_standing()
        standing.boot, standing.boots = boot, standing.boots + 1


def _distrust(turn: Turn, what: str) -> None:
    turn.alarm("bus_differs", what)
    halts.add(turn, HaltKind.INVARIANT, what)


def _market(turn: Turn, market: MarketState, *, polled: bool) -> None:
    """Take a market state in, if it is news: neither the one that is known, nor one of before it.

    By the wall clock alone an old one is young when that was set back: what lies under its key counts as
    heard where it has changed since we looked. Nor can all that is said since then be of before: after a
    second without news anything else is.
    """
    state = turn.state
    known, heard_ns = state.markets.get(market.symbol), state.market_heard_ns.get(market.symbol)
    if known is not None:
        silent = heard_ns is None or turn.at.mono_ns - heard_ns > NS_PER_S
        if market == known or (market.ts_asof_ns < known.ts_asof_ns and not silent):
            return
    if known is not None or not polled:
        state.market_heard_ns[market.symbol] = turn.at.mono_ns
    state.markets[market.symbol] = market
    if market.contract_id and market.contract_id not in state.standing.contracts:
        tick_size = Decimal(market.tick_size)
        standing = state.change_standing()
        standing.contracts = {
            **standing.contracts,
            market.contract_id: ContractRecord(
                symbol=market.symbol,
                tick_size=tick_size,
                multiplier=Decimal(market.tick_value) / tick_size,
            ),
        }
