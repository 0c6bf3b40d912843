"""What the searches of orders, positions and trades answer; faults may let them lag or miss an order."""

from __future__ import annotations

from services.simulator import orders, requests, rows
from services.simulator.answers import Malformed, failed, moment, no_account, ok
from services.simulator.config import SimulatorConfig
from services.simulator.faults import Faults
from services.simulator.lagging import LaggingBooks
from services.simulator.order_faults import OrderFaults
from services.simulator.state import Command, State
from services.simulator.venue import Venue
from shared.broker.projectx.enums import (
    OrderByIdErrorCode,
    OrderSearchErrorCode,
    OrderSortField,
    OrderStatus,
    SortDirection,
)

PAGE_SIZE_MAX = 1_000


class Searches:
    """The searches of one venue."""

    def __init__(
        self, *, venue: Venue, config: SimulatorConfig, faults: Faults, order_faults: OrderFaults
    ) -> None:
        self._venue = venue
        self._config = config
        self._state = venue.state
        self._faults = faults
        self._order_faults = order_faults
        self._lagging: LaggingBooks | None = None
        venue.heard.append(self._hear)
        faults.on_put.append(self._begin_to_lag)
        self._begin_to_lag()

    def _begin_to_lag(self) -> None:
        """Take a copy of the books, when a lag is in force, to stay behind."""
        lags_s = [one.delay_s[1] for one in self._faults.settings.active if one.kind == "search_lag"]
        self._lagging = (
            LaggingBooks(self._state, lag_s=lags_s[0], monotonic_ns=self._venue.monotonic_ns)
            if lags_s
            else None
        )

    def _hear(self, commands: list[Command]) -> None:
        if self._lagging is not None:
            self._lagging.hear(commands)
            if not self._faults.has("search_lag"):
                self._lagging = None

    def _books(self, path: str) -> State | LaggingBooks:
        """Return the books that a search reads."""
        if self._lagging is not None and self._faults.draw("search_lag", path):
            return self._lagging.catch_up()
        return self._state

    def _of_account(self, account_id: int, search: str) -> list[orders.Order]:
        """Return an account's orders as the named order search knows them."""
        books = self._books(f"/api/Order/{search}")
        return [
            one
            for one in books.orders.values()
            if one.account_id == account_id and not self._order_faults.is_hidden(one.id)
        ]

    def orders(self, body: requests.Since) -> rows.Row:
        start_ns, end_ns = _window(body)
        if body.account_id not in self._state.accounts:
            return no_account("orders")
        found = [
            one for one in self._of_account(body.account_id, "search") if start_ns <= one.created_ns <= end_ns
        ]
        return ok(orders=[rows.order_row(self._state, one) for one in found])

    def open_orders(self, body: requests.AccountKey) -> rows.Row:
        """Status Open only, so no suspended children; rows lack what the samples lack."""
        if body.account_id not in self._state.accounts:
            return no_account("orders")
        found = [
            one for one in self._of_account(body.account_id, "searchOpen") if one.status is OrderStatus.OPEN
        ]
        answer = [rows.order_row(self._state, one) for one in found]
        if not self._config.open_rows_with_tag:
            for row in answer:
                for absent in ("customTag", "symbolId", "fillVolume"):
                    del row[absent]
        return ok(orders=answer)

    def order(self, body: requests.OrderKey) -> rows.Row:
        found = self._books("/api/Order/searchById").orders.get(body.order_id)
        hidden = self._order_faults.is_hidden(body.order_id)
        if found is None or hidden or found.account_id != body.account_id:
            return failed(OrderByIdErrorCode.ORDER_NOT_FOUND, "Order not found.", order=None)
        return ok(order=rows.order_row(self._state, found))

    def query(self, body: requests.Query) -> rows.Row:
        wanted = body.filter
        size = 100 if body.page_size is None else body.page_size
        offset = body.page_offset or 0
        if not 1 <= size <= PAGE_SIZE_MAX or offset < 0:
            raise Malformed(f"pageSize must be 1 to {PAGE_SIZE_MAX} and pageOffset not negative.")
        after_ns = moment(wanted.created_after, "createdAfter") if wanted.created_after else 0
        before_ns = moment(wanted.created_before, "createdBefore") if wanted.created_before else None
        if wanted.account_id not in self._state.accounts:
            return failed(OrderSearchErrorCode.ACCOUNT_NOT_FOUND, "Account not found.", orders=None)
        found = [
            one
            for one in self._of_account(wanted.account_id, "v2/query")
            if (not wanted.statuses or one.status in wanted.statuses)
            and (wanted.contract_id is None or one.contract_id == wanted.contract_id)
            and one.created_ns >= after_ns
            and (before_ns is None or one.created_ns <= before_ns)
        ]
        by_id = body.sort_by == OrderSortField.ID
        found.sort(key=lambda one: one.id if by_id else (one.created_ns, one.id))
        if body.sort_direction == SortDirection.DESC:
            found.reverse()
        page = [rows.order_row(self._state, one) for one in found[offset : offset + size]]
        return ok(orders=page, totalCount=len(found) if body.include_total_count else None)

    def positions(self, body: requests.AccountKey) -> rows.Row:
        if body.account_id not in self._state.accounts:
            return no_account("positions")
        books = self._books("/api/Position/searchOpen")
        found = [one for one in books.positions.values() if one.account_id == body.account_id]
        return ok(positions=[rows.position_row(self._state, one) for one in found])

    def trades(self, body: requests.Since) -> rows.Row:
        start_ns, end_ns = _window(body)
        if body.account_id not in self._state.accounts:
            return no_account("trades")
        found = [
            one
            for one in reversed(self._books("/api/Trade/search").fills)
            if one.account_id == body.account_id and start_ns <= one.created_ns <= end_ns
        ]
        return ok(trades=[rows.fill_row(self._state, one) for one in found])


def _window(body: requests.Since) -> tuple[int, int]:
    start_ns = moment(body.start_timestamp, "startTimestamp")
    end_ns = moment(body.end_timestamp, "endTimestamp") if body.end_timestamp else 1 << 62
    return start_ns, end_ns
