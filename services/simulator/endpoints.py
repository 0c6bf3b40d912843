"""What each REST endpoint answers, without HTTP: a body in, an envelope out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.simulator import contracts, core, orders, requests, rows
from services.simulator.answers import failed, moment, ok
from services.simulator.bars import SUB_HOUR, select
from services.simulator.closing import ClosePosition
from services.simulator.order_faults import OrderFaults
from services.simulator.placing import PlaceOrder
from services.simulator.searches import Searches
from services.simulator.state import Reply
from services.simulator.venue import Venue
from shared.broker.projectx.enums import (
    AggregateBarUnit,
    ContractByIdErrorCode,
    OrderType,
    RetrieveBarsErrorCode,
)

SEARCH_RESULTS_MAX = 20
BARS_MAX = 20_000
Answer = Callable[[Any], rows.Row]


class Endpoints:
    """The endpoints of one venue."""

    def __init__(self, venue: Venue, searches: Searches, order_faults: OrderFaults) -> None:
        self._venue = venue
        self._searches = searches
        self._order_faults = order_faults
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
            ("/api/Order/search", requests.Since, self._searches.orders),
            ("/api/Order/searchOpen", requests.AccountKey, self._searches.open_orders),
            ("/api/Order/searchById", requests.OrderKey, self._searches.order),
            ("/api/Order/v2/query", requests.Query, self._searches.query),
            ("/api/Position/searchOpen", requests.AccountKey, self._searches.positions),
            ("/api/Position/closeContract", requests.Close, self._close),
            ("/api/Position/partialCloseContract", requests.PartialClose, self._partial_close),
            ("/api/Trade/search", requests.Since, self._searches.trades),
        )

    # accounts and contracts

    def _accounts(self, body: requests.AccountSearch) -> rows.Row:
        accounts = self._state.accounts.values()
        shown = [one for one in accounts if one.can_trade or not body.only_active_accounts]
        return ok(accounts=[rows.account_row(one) for one in shown])

    def _contracts(self, body: requests.ContractSearch) -> rows.Row:
        """Search the simulated data subscription; the live one is not linked, so it is empty."""
        now_ns = self._venue.now_ns()
        found = [] if body.live else contracts.search(body.search_text, now_ns)
        return ok(contracts=[rows.contract_row(one, now_ns) for one in found[:SEARCH_RESULTS_MAX]])

    def _available(self, body: requests.ContractAvailable) -> rows.Row:
        now_ns = self._venue.now_ns()
        found = [] if body.live else contracts.available(now_ns)
        return ok(contracts=[rows.contract_row(one, now_ns) for one in found])

    def _contract(self, body: requests.ContractById) -> rows.Row:
        now_ns = self._venue.now_ns()
        found = contracts.resolve(body.contract_id, now_ns)
        if found is None:
            return failed(ContractByIdErrorCode.CONTRACT_NOT_FOUND, "Contract not found.", contract=None)
        return ok(contract=rows.contract_row(found, now_ns))

    def _bars(self, body: requests.RetrieveBars) -> rows.Row:
        codes = RetrieveBarsErrorCode
        now_ns = self._venue.now_ns()
        contract = contracts.resolve(body.contract_id, now_ns)
        if contract is None:
            return failed(codes.CONTRACT_NOT_FOUND, "Contract not found.", bars=None)
        if not AggregateBarUnit.SECOND <= body.unit <= AggregateBarUnit.MONTH:
            return failed(codes.UNIT_INVALID, f"Invalid unit ({body.unit}).", bars=None)
        if not 1 <= body.unit_number <= 10_000:
            return failed(codes.UNIT_NUMBER_INVALID, f"Invalid unit number ({body.unit_number}).", bars=None)
        if not 1 <= body.limit <= BARS_MAX:
            return failed(codes.LIMIT_INVALID, f"Invalid limit ({body.limit}).", bars=None)
        start_ns, end_ns = moment(body.start_time, "startTime"), moment(body.end_time, "endTime")
        unit = AggregateBarUnit(body.unit)
        if body.live or (unit in SUB_HOUR and not contracts.is_active(contract, now_ns)):
            return ok(bars=[])
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
        return ok(bars=[rows.bar_row(bar, contract) for bar in found])

    # orders

    def _reply(self, reply: Reply, **payload: object) -> rows.Row:
        if reply.code == 0:
            return ok(**payload)
        return failed(reply.code, reply.message, **payload)

    def _place(self, body: requests.Place) -> rows.Row:
        reply = self._order_faults.place(
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
        return self._reply(self._order_faults.cancel(event))

    # positions

    def _close(self, body: requests.Close) -> rows.Row:
        event = ClosePosition(
            now_ns=self._venue.now_ns(), account_id=body.account_id, contract_id=body.contract_id
        )
        return self._reply(self._venue.submit(event))

    def _partial_close(self, body: requests.PartialClose) -> rows.Row:
        event = ClosePosition(
            now_ns=self._venue.now_ns(),
            account_id=body.account_id,
            contract_id=body.contract_id,
            size=body.size,
        )
        return self._reply(self._venue.submit(event))


def _bracket(body: requests.Bracket | None) -> orders.Bracket | None:
    if body is None:
        return None
    known = {int(one): one for one in OrderType}
    return orders.Bracket(ticks=body.ticks, type=known.get(body.type, OrderType.UNKNOWN))
