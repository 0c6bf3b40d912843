"""After a flatten: what strategies still hold against each other ends in the books.

The account is flat when one strategy is long what another is short, so there is nothing to close at the
broker, yet a flatten ends everybody's position. Each book is closed at one price, the market's last, by a
fill with a negative number (the broker's are positive) and without fees. Over all books quantity and money
cancel out, so the account's result stays what the broker booked. What a baseline held against them is used
up too.
"""

from __future__ import annotations

from decimal import Decimal

from services.execution import fills
from services.execution.books import Book
from services.execution.records import EXIT, EXTERNAL, FillRecord
from services.execution.state import State
from services.execution.turn import Turn
from shared.domain.order import Side


def want(turn: Turn, contract_ids: set[str]) -> None:
    """Have the books of these contracts ended as soon as all fills are known."""
    standing = turn.state.change_standing()
    standing.crossing = sorted({*standing.crossing, *contract_ids})


def due(turn: Turn) -> None:
    """End the books of flat contracts that a flatten has left; nothing must be on its way any more."""
    state = turn.state
    for contract_id in list(state.standing.crossing):
        orders = [order for order in state.open.values() if order.contract_id == contract_id]
        unheard = any(order.missing_qty for order in orders) or fills.unexplained(state, contract_id)
        if not unheard and not _open_books(state, contract_id):
            _done(state, contract_id)
            continue
        if orders or unheard or state.look is None or state.look.positions.get(contract_id, 0):
            continue
        if state.contract_qty(contract_id):
            continue  # a fill is still to be heard, or `account` will halt over the difference
        _cross(turn, contract_id)
        _done(state, contract_id)


def _done(state: State, contract_id: str) -> None:
    standing = state.change_standing()
    standing.crossing = [one for one in standing.crossing if one != contract_id]


def _open_books(state: State, contract_id: str) -> dict[str, Book]:
    return {
        owner: book
        for (owner, contract), book in sorted(state.books.items())
        if contract == contract_id and book.position.net_qty
    }


def _cross(turn: Turn, contract_id: str) -> None:
    state = turn.state
    open_books = _open_books(state, contract_id)
    px, multiplier = _terms(state, contract_id, open_books)
    standing = state.change_standing()
    standing.crosses += 1
    for part, (owner, book) in enumerate(open_books.items()):
        net_qty = book.position.net_qty
        closing = FillRecord(
            fill_id=-standing.crosses,
            part=part,
            broker_order_id=0,
            contract_id=contract_id,
            side=Side.SELL if net_qty > 0 else Side.BUY,
            qty=abs(net_qty),
            px=px,
            fees=Decimal(0),
            multiplier=multiplier,
            ts_event_ns=max(turn.at.venue_ns or turn.at.now_ns, book.newest_ns),
            strategy_id=owner,
            client_order_id=f"flatten:cross{standing.crosses}",
        )
        realized = state.put_fill(closing)
        if owner != EXTERNAL:
            fills.publish(turn, closing, EXIT, closing.qty, 0, realized)
    held_before = -state.net_of_fills.get(contract_id, 0)
    if standing.baselines.get(contract_id, 0) != held_before:
        standing.baselines = {**standing.baselines, contract_id: held_before}


def _terms(state: State, contract_id: str, books: dict[str, Book]) -> tuple[Decimal, Decimal]:
    """Return price and multiplier; of what none of ours trades the multiplier is 0: it is others' money."""
    at_cost = next(iter(books.values())).position.avg_px
    contract = state.standing.contracts.get(contract_id)
    if contract is None:
        return at_cost, Decimal(0)
    market = state.markets.get(contract.symbol)
    if market is not None and market.contract_id == contract_id and market.last_px is not None:
        return Decimal(str(market.last_px)), contract.multiplier
    return at_cost, contract.multiplier
