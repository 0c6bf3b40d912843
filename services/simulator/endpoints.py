"""What each REST endpoint answers, without HTTP: a body in, an envelope out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.simulator import contracts, core, orders, requests, rows
from services.simulator.bars import SUB_HOUR, select
from services.simulator.config import SimulatorConfig
from services.simulator.placing import PlaceOrder
from services.simulator.state import Reply
from services.simulator.venue import Venue
from shared.broker.projectx.enums import (
    AggregateBarUnit,
    ContractByIdErrorCode,
    OrderByIdErrorCode,
    OrderSearchErrorCode,
    OrderSortField,
    OrderStatus,
    OrderType,
    RetrieveBarsErrorCode,
    SortDirection,
)

SEARCH_RESULTS_MAX = 20
BARS_MAX = 20_000
PAGE_SIZE_MAX = 1_000
ACCOUNT_NOT_FOUND = 1  # the same in all account searches
Answer = Callable[[Any], rows.Row]


class Malformed(Exception):
    """A body that is JSON of the right types but still no request: HTTP 400."""


def _ok(**payload: object) -> rows.Row:
    return {"success": True, "errorCode": 0, "errorMessage": None, **payload}


def _failed(code: int, message: str | None = None, **payload: object) -> rows.Row:
    return {"success": False, "errorCode": int(code), "errorMessage": message, **payload}


def _moment(text: str, field: str) -> int:
    try:
        return rows.parse_iso(text)
    except ValueError as error:
        raise Malformed(f"The {field} field is not a date and time: {text!r}.") from error


def _no_account(field: str) -> rows.Row:
    return _failed(ACCOUNT_NOT_FOUND, "Account not found.", **{field: None})


class Endpoints:
    """The endpoints of one venue."""

    def __init__(self, venue: Venue, config: SimulatorConfig) -> None:
        self._venue = venue
        self._config = config
        self._state = venue.state

    def table(self) -> Iterable[tuple[str, type[requests.Body], Answer]]:
        """Return (path, body, answer) of every endpoint that needs a token and a body."""
        return (
            ("/api/Account/search", requests.AccountSearch, self._accounts),
            ("/api/Contract/search", requests.ContractSearch, self._contracts),
            ("/api/Contract/available", requests.ContractAvailable, self._available),
            ("/api/Contract/searchById", requests.ContractById, self._contract),
            ("/api/History/retrieveBars", requests.RetrieveBars, self._bars),
            ("/api/Order/place", requests.Place, self._place),
            ("/api/Order/modify", requests.Modify, self._modify),
            ("/api/Order/cancel", requests.OrderKey, self._cancel),
            ("/api/Order/search", requests.Since, self._orders),
            ("/api/Order/searchOpen", requests.AccountKey, self._open_orders),
            ("/api/Order/searchById", requests.OrderKey, self._order),
            ("/api/Order/v2/query", requests.Query, self._query),
            ("/api/Position/searchOpen", requests.AccountKey, self._positions),
            ("/api/Position/closeContract", requests.Close, self._close),
            ("/api/Position/partialCloseContract", requests.PartialClose, self._partial_close),
            ("/api/Trade/search", requests.Since, self._trades),
        )

    # accounts and contracts

    def _accounts(self, body: requests.AccountSearch) -> rows.Row:
        accounts = self._state.accounts.values()
        shown = [one for one in accounts if one.can_trade or not body.only_active_accounts]
        return _ok(accounts=[rows.account_row(one) for one in shown])

    def _contracts(self, body: requests.ContractSearch) -> rows.Row:
        """Search the simulated data subscription; the live one is not linked, so it is empty."""
        now_ns = self._venue.now_ns()
        found = [] if body.live else contracts.search(body.search_text, now_ns)
        return _ok(contracts=[rows.contract_row(one, now_ns) for one in found[:SEARCH_RESULTS_MAX]])

    def _available(self, body: requests.ContractAvailable) -> rows.Row:
        now_ns = self._venue.now_ns()
        found = [] if body.live else contracts.available(now_ns)
        return _ok(contracts=[rows.contract_row(one, now_ns) for one in found])

    def _contract(self, body: requests.ContractById) -> rows.Row:
        now_ns = self._venue.now_ns()
        found = contracts.resolve(body.contract_id, now_ns)
        if found is None:
            return _failed(ContractByIdErrorCode.CONTRACT_NOT_FOUND, "Contract not found.", contract=None)
        return _ok(contract=rows.contract_row(found, now_ns))

    def _bars(self, body: requests.RetrieveBars) -> rows.Row:
        codes = RetrieveBarsErrorCode
        now_ns = self._venue.now_ns()
        contract = contracts.resolve(body.contract_id, now_ns)
        if contract is None:
            return _failed(codes.CONTRACT_NOT_FOUND, "Contract not found.", bars=None)
        if not AggregateBarUnit.SECOND <= body.unit <= AggregateBarUnit.MONTH:
            return _failed(codes.UNIT_INVALID, f"Invalid unit ({body.unit}).", bars=None)
        if not 1 <= body.unit_number <= 10_000:
            return _failed(codes.UNIT_NUMBER_INVALID, f"Invalid unit number ({body.unit_number}).", bars=None)
        if not 1 <= body.limit <= BARS_MAX:
            return _failed(codes.LIMIT_INVALID, f"Invalid limit ({body.limit}).", bars=None)
        start_ns, end_ns = _moment(body.start_time, "startTime"), _moment(body.end_time, "endTime")
        unit = AggregateBarUnit(body.unit)
        if body.live or (unit in SUB_HOUR and not contracts.is_active(contract, now_ns)):
            return _ok(bars=[])
        if unit is AggregateBarUnit.SECOND:
            source = self._venue.second_bars(contract.id)
        else:
            source = self._venue.minute_bars(contract.id, start_ns)
        found = select(
            list(source),
            unit=unit,
            number=body.unit_number,
            start_ns=start_ns,
            end_ns=end_ns,
            now_ns=now_ns,
            limit=body.limit,
            partial=body.include_partial_bar,
        )
        return _ok(bars=[rows.bar_row(bar, contract) for bar in found])

    # orders

    def _reply(self, reply: Reply, **payload: object) -> rows.Row:
        if reply.code == 0:
            return _ok(**payload)
        return _failed(reply.code, reply.message, **payload)

    def _place(self, body: requests.Place) -> rows.Row:
        reply = self._venue.submit(
            PlaceOrder(
                now_ns=self._venue.now_ns(),
                account_id=body.account_id,
                contract_id=body.contract_id,
                type=body.type,
                side=body.side,
                size=body.size,
                limit_price=body.limit_price,
                stop_price=body.stop_price,
                trail_price=body.trail_price,
                custom_tag=body.custom_tag,
                stop_loss=_bracket(body.stop_loss_bracket),
                take_profit=_bracket(body.take_profit_bracket),
            )
        )
        return self._reply(reply, orderId=reply.order_id)

    def _modify(self, body: requests.Modify) -> rows.Row:
        return self._reply(
            self._venue.submit(
                core.ModifyOrder(
                    now_ns=self._venue.now_ns(),
                    account_id=body.account_id,
                    order_id=body.order_id,
                    size=body.size,
                    limit_price=body.limit_price,
                    stop_price=body.stop_price,
                    trail_price=body.trail_price,
                )
            )
        )

    def _cancel(self, body: requests.OrderKey) -> rows.Row:
        event = core.CancelOrder(
            now_ns=self._venue.now_ns(), account_id=body.account_id, order_id=body.order_id
        )
        return self._reply(self._venue.submit(event))

    def _of_account(self, account_id: int) -> list[orders.Order]:
        return [one for one in self._state.orders.values() if one.account_id == account_id]

    def _orders(self, body: requests.Since) -> rows.Row:
        start_ns, end_ns = _window(body)
        if body.account_id not in self._state.accounts:
            return _no_account("orders")
        found = [one for one in self._of_account(body.account_id) if start_ns <= one.created_ns <= end_ns]
        return _ok(orders=[rows.order_row(self._state, one) for one in found])

    def _open_orders(self, body: requests.AccountKey) -> rows.Row:
        """Status Open only, so no suspended children; rows lack what the samples lack."""
        if body.account_id not in self._state.accounts:
            return _no_account("orders")
        found = [one for one in self._of_account(body.account_id) if one.status is OrderStatus.OPEN]
        answer = [rows.order_row(self._state, one) for one in found]
        if not self._config.open_rows_with_tag:
            for row in answer:
                for absent in ("customTag", "symbolId", "fillVolume"):
                    del row[absent]
        return _ok(orders=answer)

    def _order(self, body: requests.OrderKey) -> rows.Row:
        found = self._state.orders.get(body.order_id)
        if found is None or found.account_id != body.account_id:
            return _failed(OrderByIdErrorCode.ORDER_NOT_FOUND, "Order not found.", order=None)
        return _ok(order=rows.order_row(self._state, found))

    def _query(self, body: requests.Query) -> rows.Row:
        wanted = body.filter
        size = 100 if body.page_size is None else body.page_size
        offset = body.page_offset or 0
        if not 1 <= size <= PAGE_SIZE_MAX or offset < 0:
            raise Malformed(f"pageSize must be 1 to {PAGE_SIZE_MAX} and pageOffset not negative.")
        after_ns = _moment(wanted.created_after, "createdAfter") if wanted.created_after else 0
        before_ns = _moment(wanted.created_before, "createdBefore") if wanted.created_before else None
        if wanted.account_id not in self._state.accounts:
            return _failed(OrderSearchErrorCode.ACCOUNT_NOT_FOUND, "Account not found.", orders=None)
        found = [
            one
            for one in self._of_account(wanted.account_id)
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
        return _ok(orders=page, totalCount=len(found) if body.include_total_count else None)

    # positions and trades

    def _positions(self, body: requests.AccountKey) -> rows.Row:
        if body.account_id not in self._state.accounts:
            return _no_account("positions")
        found = [one for one in self._state.positions.values() if one.account_id == body.account_id]
        return _ok(positions=[rows.position_row(self._state, one) for one in found])

    def _close(self, body: requests.Close) -> rows.Row:
        event = core.ClosePosition(
            now_ns=self._venue.now_ns(), account_id=body.account_id, contract_id=body.contract_id
        )
        return self._reply(self._venue.submit(event))

    def _partial_close(self, body: requests.PartialClose) -> rows.Row:
        event = core.ClosePosition(
            now_ns=self._venue.now_ns(),
            account_id=body.account_id,
            contract_id=body.contract_id,
            size=body.size,
        )
        return self._reply(self._venue.submit(event))

    def _trades(self, body: requests.Since) -> rows.Row:
        start_ns, end_ns = _window(body)
        if body.account_id not in self._state.accounts:
            return _no_account("trades")
        found = [
            one
            for one in reversed(self._state.fills)
            if one.account_id == body.account_id and start_ns <= one.created_ns <= end_ns
        ]
        return _ok(trades=[rows.fill_row(self._state, one) for one in found])


def _bracket(body: requests.Bracket | None) -> orders.Bracket | None:
    if body is None:
        return None
    known = {int(one): one for one in OrderType}
    return orders.Bracket(ticks=body.ticks, type=known.get(body.type, OrderType.UNKNOWN))


def _window(body: requests.Since) -> tuple[int, int]:
    start_ns = _moment(body.start_timestamp, "startTimestamp")
    end_ns = _moment(body.end_timestamp, "endTimestamp") if body.end_timestamp else 1 << 62
    return start_ns, end_ns
