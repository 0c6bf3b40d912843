"""The venue's State, its rules, and the commands that `core.decide` returns."""

from __future__ import annotations

import copy
from decimal import Decimal

import msgspec

from services.simulator.book import Book
from services.simulator.contracts import Contract, resolve
from services.simulator.orders import Account, Fill, Order, Position


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between venues of this kind, and what nobody documents.

    Attributes:
        fees: USD per contract and side by product symbol; absent means none.
        bracket_ticks_min: Least distance of a bracket from the entry, in ticks.
        trail_ticks_max: Greatest trailing distance at placing, in ticks.
        order_size_max: Greatest order, in contracts.
        stop_limit: Whether stop-limit orders are taken. The enum has their code, the documented list has not.
        close_cancels_brackets: Whether closing a position also cancels working
            bracket children. Reported live: it does not.
        history_max: Ended orders, and fills, kept in memory for searches.
    """

    fees: dict[str, Decimal]
    bracket_ticks_min: int = 4
    trail_ticks_max: int = 1000
    order_size_max: int = 500
    stop_limit: bool = False
    close_cancels_brackets: bool = False
    history_max: int = 100_000


class OrderUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """An order changed; `order` is a copy taken at that moment."""

    order: Order


class FillBooked(msgspec.Struct, frozen=True, kw_only=True):
    """A half turn was booked."""

    fill: Fill


class PositionUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """A position changed; `net_qty` zero means that it ended."""

    position: Position


class AccountUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """The balance or the right to trade changed."""

    account: Account


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to whoever asked. Code 0 is success; codes are per endpoint."""

    code: int
    message: str | None = None
    order_id: int | None = None


Command = OrderUpdated | FillBooked | PositionUpdated | AccountUpdated | Reply


class State(msgspec.Struct, kw_only=True):
    """All that the venue knows. Only `core.decide` changes it.

    Attributes:
        books: Contracts with a market, by contract id.
        orders: Every order remembered, by id, in the order of their ids.
        working: Open orders by contract, oldest first; suspended ones are absent.
        tags: Every custom tag ever used and when it last was, by account; also those of refused orders.
        positions: Open positions by (account id, contract id).
        session_open: False during the daily break and the weekend.
        now_ns: Venue time of the present event.
        out: Commands of the present event, in the order they happened.
    """

    rules: Rules
    accounts: dict[int, Account] = {}
    books: dict[str, Book] = {}
    orders: dict[int, Order] = {}
    working: dict[str, list[Order]] = {}
    tags: dict[int, dict[str, int]] = {}
    positions: dict[tuple[int, str], Position] = {}
    fills: list[Fill] = []
    contracts: dict[str, Contract] = {}
    session_open: bool = True
    next_order_id: int = 1
    next_fill_id: int = 1
    next_position_id: int = 1
    now_ns: int = 0
    out: list[Command] = []

    def contract(self, contract_id: str) -> Contract | None:
        """Return a contract by id, or None; what was asked once is remembered."""
        known = self.contracts.get(contract_id)
        if known is None:
            known = resolve(contract_id, self.now_ns)
            if known is not None:
                self.contracts[contract_id] = known
        return known

    def known_contract(self, contract_id: str) -> Contract:
        found = self.contract(contract_id)
        assert found is not None, contract_id  # orders exist only for contracts that resolved
        return found

    def take_order_ids(self, count: int) -> int:
        """Reserve `count` consecutive order ids and return the first."""
        first = self.next_order_id
        self.next_order_id += count
        return first

    def report(self, order: Order) -> None:
        """Stamp an order's change and put it among the commands."""
        order.updated_ns = max(order.updated_ns, self.now_ns)
        self.out.append(OrderUpdated(order=copy.copy(order)))

    def start_working(self, order: Order) -> None:
        self.working.setdefault(order.contract_id, []).append(order)
        self.books.setdefault(order.contract_id, Book()).working += 1

    def stop_working(self, order: Order) -> None:
        orders = self.working.get(order.contract_id, [])
        for index, one in enumerate(orders):
            if one.id == order.id:
                del orders[index]
                self.books[order.contract_id].working -= 1
                return
