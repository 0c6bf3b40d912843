"""The four ports of `shared.broker.port` on the ProjectX gateway.

Each class holds one kind of power. Rows are translated here, and one row that cannot
be understood makes the whole answer unknown: a list with a row missing would be a
statement that we cannot make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from shared.broker.errors import PayloadAbsent, PayloadRefused, QueryRefused, Unauthorized
from shared.broker.port import (
    Capabilities,
    Credentials,
    FrameRefused,
    LoggedIn,
    LoginRefused,
    OrderTicket,
    Outcome,
    SessionGone,
    SessionToken,
    Validated,
)
from shared.broker.projectx import endpoints, enums, payloads, translate
from shared.broker.projectx.endpoints import Endpoint
from shared.broker.projectx.gateway import Gateway, refused
from shared.broker.projectx.links import HubAccess, ProjectXAccountLink, ProjectXMarketLink
from shared.broker.projectx.market import Untranslatable
from shared.broker.projectx.records import EXCERPT_BYTES_MAX
from shared.broker.projectx.timestamps import format_ns
from shared.broker.projectx.tokens import redact, session_token
from shared.domain.instrument import Instrument
from shared.domain.market import Bar
from shared.domain.order import OrderType
from shared.domain.report import AccountReport, FillReport, OrderReport, PositionReport

BARS_MAX: Final = 20_000  # of one answer; the gateway refuses more
BAR_PAGES_MAX: Final = 50
WORKING_ORDERS_MAX: Final = 200  # one page; whether pageOffset counts rows or pages is not documented
SECOND_NS: Final = 1_000_000_000
WORKING: Final = [
    int(enums.OrderStatus.OPEN),
    int(enums.OrderStatus.PENDING),
    int(enums.OrderStatus.PENDING_CANCELLATION),
    int(enums.OrderStatus.SUSPENDED),
]
CAPABILITIES: Final = Capabilities(
    unique_client_order_id=True,
    brackets=True,
    suspended_visible=True,
    # Stop-limit is in the enum but not in the documented list of types that may be placed.
    order_types=frozenset(OrderType) - {OrderType.STOP_LIMIT},
    bars_max=BARS_MAX,
)

Row = TypeVar("Row", bound=msgspec.Struct)
Ours = TypeVar("Ours")


class _Port:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def venue_now_ns(self) -> int | None:
        return self._gateway.http.venue_now_ns()

    def _rows(
        self,
        endpoint: Endpoint[payloads.Envelope],
        rows: Sequence[Row] | None,
        to_ours: Callable[[Row, int], Ours],
    ) -> list[Ours]:
        """Translate every row or fail; a null or missing list is unknown, only an explicit one is empty."""
        if rows is None:
            raise PayloadAbsent(
                endpoint=endpoint.path,
                reason="the list is null or missing, which is not empty",
                http_status=200,
                excerpt=self._gateway.newest_excerpt,
            )
        ts_recv_ns = self._gateway.clock.now_ns()
        return [self._row(endpoint, row, to_ours, ts_recv_ns) for row in rows]

    def _row(
        self,
        endpoint: Endpoint[payloads.Envelope],
        row: Row,
        to_ours: Callable[[Row, int], Ours],
        ts_recv_ns: int,
    ) -> Ours:
        try:
            return to_ours(row, ts_recv_ns)
        except Untranslatable as error:
            raw = msgspec.json.encode(row)[:EXCERPT_BYTES_MAX]
            frame = FrameRefused(
                origin=endpoint.path,
                field=error.field,
                reason=error.reason,
                raw=raw,
                ts_recv_ns=ts_recv_ns,
            )
            raise PayloadRefused(endpoint=endpoint.path, refused=frame) from None


class ProjectXSession(_Port):
    """For heartbeat: log in, validate, log out."""

    def __init__(self, gateway: Gateway, credentials: Credentials) -> None:
        super().__init__(gateway)
        self._credentials = credentials

    async def login(self) -> LoggedIn | LoginRefused:
        """Log in with the API key.

        Raises:
            BrokerQueryFailed: No answer that means anything; worth another try, later.
        """
        credentials = self._credentials
        request = payloads.LoginKeyRequest(user_name=credentials.user_name, api_key=credentials.api_key)
        envelope = await self._gateway.ask(
            endpoints.LOGIN_KEY, request, urgent=True, anonymous=True, secret=credentials.api_key
        )
        if not envelope.success:
            advice = enums.login_advice(envelope.error_code)
            said = redact(envelope.error_message or "", [credentials.api_key])[:200]
            sentence = f"{advice.sentence} The broker says: {said}" if said else advice.sentence
            return LoginRefused(
                code=envelope.error_code, sentence=sentence, remedy=advice.remedy, fatal=advice.fatal
            )
        if not envelope.token:
            raise PayloadAbsent(endpoint=endpoints.LOGIN_KEY.path, reason="success without a token")
        return LoggedIn(token=self._token(envelope.token))

    async def validate(self, token: SessionToken) -> Validated | SessionGone:
        """Check the token, and take the new one if the broker hands one out.

        Raises:
            BrokerQueryFailed: It is not known whether the session lives.
        """
        try:
            envelope = await self._gateway.ask(endpoints.VALIDATE, None, urgent=True, token=token.value)
        except Unauthorized as error:
            return SessionGone(reason=error.reason)
        if envelope.success:
            if not envelope.new_token:
                return Validated(new_token=None)
            return Validated(new_token=self._token(envelope.new_token))
        gone = {
            enums.ValidateErrorCode.INVALID_SESSION,
            enums.ValidateErrorCode.SESSION_NOT_FOUND,
            enums.ValidateErrorCode.EXPIRED_TOKEN,
        }
        if envelope.error_code in gone:
            return SessionGone(reason=endpoints.VALIDATE.code_name(envelope.error_code))
        raise refused(endpoints.VALIDATE, envelope)

    async def logout(self, token: SessionToken) -> None:
        """End the session. Whether other tokens of the user end too is not documented."""
        try:
            envelope = await self._gateway.ask(endpoints.LOGOUT, None, urgent=True, token=token.value)
        except Unauthorized:
            return  # it was over already
        if not envelope.success and envelope.error_code != enums.LogoutErrorCode.INVALID_SESSION:
            raise refused(endpoints.LOGOUT, envelope)

    def _token(self, value: str) -> SessionToken:
        return session_token(value, self._gateway.clock.now_ns(), self.venue_now_ns())


class ProjectXMarket(_Port):
    """For the feed: contracts and history."""

    def __init__(self, gateway: Gateway, hub: HubAccess, *, live: bool = False) -> None:
        """Remember which data subscription is asked.

        Args:
            live: The live one; on practice and simulated accounts it finds nothing.
        """
        super().__init__(gateway)
        self._hub = hub
        self._live = live

    def market_link(self) -> ProjectXMarketLink:
        return ProjectXMarketLink(self._hub)

    async def search_contracts(self, text: str) -> list[Instrument]:
        request = payloads.ContractSearchRequest(search_text=text, live=self._live)
        envelope = await self._gateway.query(endpoints.CONTRACT_SEARCH, request)
        return self._rows(endpoints.CONTRACT_SEARCH, envelope.contracts, _instrument)

    async def available_contracts(self) -> list[Instrument]:
        request = payloads.ContractAvailableRequest(live=self._live)
        envelope = await self._gateway.query(endpoints.CONTRACT_AVAILABLE, request)
        return self._rows(endpoints.CONTRACT_AVAILABLE, envelope.contracts, _instrument)

    async def contract_by_id(self, contract_id: str) -> Instrument | None:
        request = payloads.ContractByIdRequest(contract_id=contract_id)
        try:
            envelope = await self._gateway.query(endpoints.CONTRACT_BY_ID, request)
        except QueryRefused as error:
            if error.code == enums.ContractByIdErrorCode.CONTRACT_NOT_FOUND:
                return None
            raise
        rows = None if envelope.contract is None else [envelope.contract]
        return self._rows(endpoints.CONTRACT_BY_ID, rows, _instrument)[0]

    async def bars(
        self, instrument: Instrument, *, interval_s: int, start_ns: int, end_ns: int, partial: bool = False
    ) -> list[Bar]:
        """Return the bars that opened in [start, end), oldest first, each once.

        The gateway sends the newest first and keeps the newest when there are too many, so pages go
        backward in time. With `partial` a bar that ends after `end_ns` is still forming and says so.
        """
        unit, unit_number = translate.bar_unit(interval_s)
        found: dict[int, Bar] = {}
        until_ns = end_ns
        for _ in range(BAR_PAGES_MAX):
            request = payloads.RetrieveBarsRequest(
                contract_id=instrument.contract_id,
                live=self._live,
                start_time=format_ns(start_ns),
                end_time=format_ns(until_ns),
                unit=unit,
                unit_number=unit_number,
                limit=BARS_MAX,
                include_partial_bar=partial,
            )
            envelope = await self._gateway.query(endpoints.RETRIEVE_BARS, request)
            page = self._rows(
                endpoints.RETRIEVE_BARS,
                envelope.bars,
                lambda row, ts_recv_ns: translate.bar(row, instrument, interval_s, ts_recv_ns),
            )
            for bar in page:
                found[bar.ts_open_ns] = bar
            oldest_ns = min((bar.ts_open_ns for bar in page), default=start_ns)
            if len(page) < BARS_MAX or oldest_ns <= start_ns or oldest_ns >= until_ns:
                break
            until_ns = oldest_ns
        else:
            reason = f"more than {BAR_PAGES_MAX} pages of bars: ask for a shorter time"
            raise QueryRefused(endpoint=endpoints.RETRIEVE_BARS.path, reason=reason)
        bars = [found[key] for key in sorted(found) if start_ns <= key < end_ns]
        if partial and bars and bars[-1].ts_open_ns + interval_s * SECOND_NS > end_ns:
            bars[-1] = msgspec.structs.replace(bars[-1], partial=True)
        return bars


class ProjectXAccount(_Port):
    """For broker_sync: what the broker holds of an account."""

    def __init__(self, gateway: Gateway, hub: HubAccess, instruments: Mapping[str, Instrument]) -> None:
        """Remember which contracts have a known tick; see `translate.Instruments`."""
        super().__init__(gateway)
        self._hub = hub
        self._instruments = instruments

    def account_link(self, account_ids: Sequence[int]) -> ProjectXAccountLink:
        return ProjectXAccountLink(self._hub, account_ids, self._instruments)

    async def accounts(self, *, only_active: bool = True) -> list[AccountReport]:
        request = payloads.AccountSearchRequest(only_active_accounts=only_active)
        envelope = await self._gateway.query(endpoints.ACCOUNT_SEARCH, request)
        return self._rows(endpoints.ACCOUNT_SEARCH, envelope.accounts, translate.account_report)

    async def positions(self, account_id: int) -> list[PositionReport]:
        request = payloads.AccountKeyRequest(account_id=account_id)
        envelope = await self._gateway.query(endpoints.POSITION_SEARCH_OPEN, request)
        return self._rows(endpoints.POSITION_SEARCH_OPEN, envelope.positions, translate.position_report)

    async def orders_since(
        self, account_id: int, start_ns: int, end_ns: int | None = None
    ) -> list[OrderReport]:
        request = _since(account_id, start_ns, end_ns)
        envelope = await self._gateway.query(endpoints.ORDER_SEARCH, request)
        return self._rows(endpoints.ORDER_SEARCH, envelope.orders, self._order)

    async def open_orders(self, account_id: int) -> list[OrderReport]:
        request = payloads.AccountKeyRequest(account_id=account_id)
        envelope = await self._gateway.query(endpoints.ORDER_SEARCH_OPEN, request)
        return self._rows(endpoints.ORDER_SEARCH_OPEN, envelope.orders, self._order)

    async def working_orders(self, account_id: int) -> list[OrderReport]:
        request = payloads.OrderQueryRequest(
            filter=payloads.OrderQueryFilter(account_id=account_id, statuses=WORKING),
            page_size=WORKING_ORDERS_MAX,
            sort_by=int(enums.OrderSortField.ID),
            sort_direction=int(enums.SortDirection.ASC),
            include_total_count=True,
        )
        envelope = await self._gateway.query(endpoints.ORDER_QUERY, request)
        orders = self._rows(endpoints.ORDER_QUERY, envelope.orders, self._order)
        total = envelope.total_count
        cut = total > len(orders) if total is not None else len(orders) >= WORKING_ORDERS_MAX
        if cut:
            reason = f"the answer holds {len(orders)} of {total or 'more'} working orders"
            raise PayloadAbsent(endpoint=endpoints.ORDER_QUERY.path, reason=reason)
        return orders

    async def order_by_id(self, account_id: int, broker_order_id: int) -> OrderReport | None:
        request = payloads.OrderKeyRequest(account_id=account_id, order_id=broker_order_id)
        try:
            envelope = await self._gateway.query(endpoints.ORDER_BY_ID, request)
        except QueryRefused as error:
            if error.code == enums.OrderByIdErrorCode.ORDER_NOT_FOUND:
                return None
            raise
        rows = None if envelope.order is None else [envelope.order]
        return self._rows(endpoints.ORDER_BY_ID, rows, self._order)[0]

    async def fills_since(
        self, account_id: int, start_ns: int, end_ns: int | None = None
    ) -> list[FillReport]:
        """Return fills of the window, voided ones marked, in the order they happened."""
        request = _since(account_id, start_ns, end_ns)
        envelope = await self._gateway.query(endpoints.TRADE_SEARCH, request)
        fills = self._rows(
            endpoints.TRADE_SEARCH,
            envelope.trades,
            lambda row, ts_recv_ns: translate.fill_report(row, ts_recv_ns, self._instruments),
        )
        return sorted(fills, key=lambda fill: (fill.ts_event_ns, fill.fill_id))

    def _order(self, row: payloads.OrderRow, ts_recv_ns: int) -> OrderReport:
        return translate.order_report(row, ts_recv_ns, self._instruments)


class ProjectXOrders(_Port):
    """For execution: the only hand that moves anything."""

    def __init__(self, gateway: Gateway, *, stop_limit: bool = False) -> None:
        """Remember what this gateway can.

        Args:
            stop_limit: It takes stop-limit orders, which the documentation does not promise.
        """
        super().__init__(gateway)
        self._capabilities = CAPABILITIES
        if stop_limit:
            self._capabilities = msgspec.structs.replace(CAPABILITIES, order_types=frozenset(OrderType))

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def place(self, ticket: OrderTicket, *, held: Callable[[], str | None] = lambda: None) -> Outcome:
        request = translate.place_request(ticket)
        return await self._gateway.mutate(
            endpoints.ORDER_PLACE,
            request,
            urgent=ticket.urgent,
            expires_at_ns=ticket.expires_at_ns,
            held=held,
        )

    async def modify(
        self,
        account_id: int,
        broker_order_id: int,
        *,
        order_qty: int | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail_price: Decimal | None = None,
        urgent: bool = False,
        expires_at_ns: int | None = None,
        held: Callable[[], str | None] = lambda: None,
    ) -> Outcome:
        """Send only what changes; whether the gateway keeps or clears the rest is not documented."""
        request = payloads.ModifyOrderRequest(
            account_id=account_id,
            order_id=broker_order_id,
            size=order_qty,
            limit_price=limit_price,
            stop_price=stop_price,
            trail_price=trail_price,
        )
        return await self._gateway.mutate(
            endpoints.ORDER_MODIFY, request, urgent=urgent, expires_at_ns=expires_at_ns, held=held
        )

    async def cancel(
        self, account_id: int, broker_order_id: int, *, held: Callable[[], str | None] = lambda: None
    ) -> Outcome:
        request = payloads.OrderKeyRequest(account_id=account_id, order_id=broker_order_id)
        return await self._gateway.mutate(endpoints.ORDER_CANCEL, request, urgent=True, held=held)

    async def close_contract(
        self, account_id: int, contract_id: str, *, held: Callable[[], str | None] = lambda: None
    ) -> Outcome:
        request = payloads.ClosePositionRequest(account_id=account_id, contract_id=contract_id)
        return await self._gateway.mutate(endpoints.POSITION_CLOSE, request, urgent=True, held=held)

    async def partial_close(self, account_id: int, contract_id: str, order_qty: int) -> Outcome:
        assert order_qty > 0, f"a close of {order_qty} contracts"
        request = payloads.PartialCloseRequest(account_id=account_id, contract_id=contract_id, size=order_qty)
        return await self._gateway.mutate(endpoints.POSITION_PARTIAL_CLOSE, request, urgent=True)


def _instrument(row: payloads.ContractRow, ts_recv_ns: int) -> Instrument:
    return translate.instrument(row)


def _since(account_id: int, start_ns: int, end_ns: int | None) -> payloads.SinceRequest:
    return payloads.SinceRequest(
        account_id=account_id,
        start_timestamp=format_ns(start_ns),
        end_timestamp=None if end_ns is None else format_ns(end_ns),
    )
