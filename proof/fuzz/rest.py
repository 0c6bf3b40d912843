"""REST answers: a question answers truly or fails; an order is accepted or refused only by a clear word."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any, cast

from proof.fuzz.engine import PromiseBroken, Target
from proof.fuzz.hubs import INSTRUMENT, NOW_NS, RECORDED
from shared.broker.errors import BrokerQueryFailed
from shared.broker.port import (
    Accepted,
    Credentials,
    LimitKind,
    NotSent,
    OrderTicket,
    Rejected,
    SessionToken,
    Unknown,
)
from shared.broker.projectx import endpoints
from shared.broker.projectx.client import ProjectXAccount, ProjectXMarket, ProjectXOrders, ProjectXSession
from shared.broker.projectx.enums import AMBIGUOUS_CODES, PlaceOrderErrorCode
from shared.broker.projectx.gateway import Gateway
from shared.broker.projectx.links import HubAccess
from shared.broker.projectx.transport import Http, HttpReply
from shared.domain.order import Bracket, Side
from shared.domain.report import FillReport, OrderReport

ACCOUNT = 1
TOKEN = SessionToken(value="token", expires_at_ns=NOW_NS + 10**15)
STATUSES = (200, 200, 200, 200, 200, 200, 204, 301, 400, 401, 403, 404, 429, 500, 502, 503)
TICKET = OrderTicket(
    account_id=ACCOUNT,
    client_order_id="sim.s1.0001",
    contract_id=INSTRUMENT.contract_id,
    side=Side.BUY,
    order_qty=1,
    limit_price=None,
    bracket=Bracket(stop_loss_ticks=8, take_profit_ticks=16),
)


class _Clock:
    def now_ns(self) -> int:
        return NOW_NS

    def monotonic_ns(self) -> int:
        return NOW_NS


class _Open:
    """A limiter that never waits."""

    async def acquire(self, kind: LimitKind, urgent: bool) -> None: ...

    async def pause(self, kind: LimitKind, pause_s: float) -> None: ...


class _Answering:
    """In place of the sockets: gives the prepared answer to whatever is asked, once."""

    def __init__(self) -> None:
        self.reply = HttpReply(status=200, body=b"", retry_after_s=None)
        self.asked = 0

    async def post(self, path: str, body: bytes, **_: object) -> HttpReply:
        self.asked += 1
        return self.reply

    def venue_now_ns(self) -> int | None:
        return None


_http = _Answering()
_gateway = Gateway(http=cast(Http, _http), limiter=_Open(), clock=_Clock(), token=lambda: TOKEN.value)
_no_hub = cast(HubAccess, None)
_account = ProjectXAccount(_gateway, _no_hub, {INSTRUMENT.contract_id: INSTRUMENT})
_market = ProjectXMarket(_gateway, _no_hub)
_orders = ProjectXOrders(_gateway)
_session = ProjectXSession(_gateway, Credentials(user_name="demo", api_key="key-of-the-fuzzer"))

CALLS: tuple[Callable[[], Coroutine[Any, Any, Any]], ...] = (
    lambda: _account.accounts(),
    lambda: _account.positions(ACCOUNT),
    lambda: _account.orders_since(ACCOUNT, 0),
    lambda: _account.working_orders(ACCOUNT),
    lambda: _account.order_by_id(ACCOUNT, 7),
    lambda: _account.fills_since(ACCOUNT, 0),
    lambda: _market.search_contracts("ES"),
    lambda: _market.contract_by_id(INSTRUMENT.contract_id),
    lambda: _market.bars(INSTRUMENT, interval_s=60, start_ns=NOW_NS - 10**12, end_ns=NOW_NS),
    lambda: _session.login(),
    lambda: _session.validate(TOKEN),
    lambda: _orders.place(TICKET),
    lambda: _orders.place(TICKET),
    lambda: _orders.cancel(ACCOUNT, 7),
    lambda: _orders.modify(ACCOUNT, 7, limit_price=Decimal(6335)),
    lambda: _orders.close_contract(ACCOUNT, INSTRUMENT.contract_id),
)
TOKEN_CALLS = (9, 10)
"""What they answer may be a secret, wherever it stands: nothing of it is kept."""
FIRST_MUTATION = 11
PATHS = (
    "/api/Account/search", "/api/Position/searchOpen", "/api/Order/search", "/api/Order/search",
    "/api/Order/search", "/api/Trade/search", "/api/Contract/search", "/api/Contract/search",
    "/api/History/retrieveBars",
)  # fmt: skip


def _done(call: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that has nothing to wait for."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    call.close()
    raise PromiseBroken("it waits for something")


def _check(data: bytes) -> None:
    """First byte: the call; second: the status; then the body."""
    if len(data) < 2:
        return
    number, status, body = data[0] % len(CALLS), STATUSES[data[1] % len(STATUSES)], data[2:]
    _http.reply = HttpReply(status=status, body=body, retry_after_s=None)
    _http.asked = 0
    try:
        found = _done(CALLS[number]())
    except BrokerQueryFailed as failed:
        if number >= FIRST_MUTATION:
            raise PromiseBroken(f"a mutation raised {failed}") from failed
        if body and failed.came is None and number not in TOKEN_CALLS:
            raise PromiseBroken("the answer that was refused is not kept") from failed
        return
    finally:
        if _http.asked > 1 and number != 8:
            raise PromiseBroken(f"asked {_http.asked} times")
    if status != 200 and not isinstance(found, Unknown) and not _is_gone(number, status):
        raise PromiseBroken(f"HTTP {status} was taken for {found}")
    if number >= FIRST_MUTATION:
        _clear_word(body, found)
    for row in found if isinstance(found, list) else ():
        if isinstance(row, OrderReport) and (row.order_qty <= 0 or row.cum_qty < 0):
            raise PromiseBroken(f"a size passed: {row}")
        if isinstance(row, FillReport) and (row.last_qty <= 0 or not row.last_px.is_finite()):
            raise PromiseBroken(f"a fill passed: {row}")


def _is_gone(number: int, status: int) -> bool:
    return CALLS[number] is CALLS[10] and status == 401


def _clear_word(body: bytes, found: object) -> None:
    """Read the body again with another parser: does it really say so?"""
    if isinstance(found, Unknown):
        return
    if isinstance(found, NotSent):
        raise PromiseBroken("it was sent")
    try:
        said = json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise PromiseBroken(f"{body[:200]!r} was taken for {found}") from error
    if isinstance(found, Accepted):
        if said.get("success") is not True or said.get("errorCode", 0) != 0:
            raise PromiseBroken(f"{body[:200]!r} was taken for {found}")
        if found.broker_order_id is not None and said.get("orderId") != found.broker_order_id:
            raise PromiseBroken(f"{body[:200]!r} was taken for {found}")
    elif isinstance(found, Rejected):
        unclear = found.code == 0 or said.get("success") is not False or said.get("errorCode") != found.code
        if unclear:
            raise PromiseBroken(f"{body[:200]!r} was taken for {found}")


def _samples() -> list[bytes]:
    bodies: dict[str, bytes] = {}
    for line in (RECORDED / "rest.jsonl").read_text(encoding="utf-8").splitlines():
        frame = json.loads(line)
        bodies.setdefault(frame["endpoint"], json.dumps(frame["body"]).encode())
    found = [bytes([at, 0]) + bodies[path] for at, path in enumerate(PATHS) if path in bodies]
    order = json.loads(bodies["/api/Order/search"])["orders"][0] if "/api/Order/search" in bodies else {}
    ok: dict[str, Any] = {"success": True, "errorCode": 0, "errorMessage": None}
    found.append(bytes([4, 0]) + json.dumps({**ok, "order": order}).encode())
    found.append(bytes([9, 0]) + json.dumps({**ok, "token": "e30.e30.x"}).encode())
    found.append(bytes([10, 0]) + json.dumps({**ok, "newToken": None}).encode())
    for number in range(FIRST_MUTATION, len(CALLS)):
        found.append(bytes([number, 0]) + json.dumps({**ok, "orderId": 7}).encode())
        for code in (*range(12), *(int(one) for one in PlaceOrderErrorCode)):
            refused = {"success": False, "errorCode": code, "errorMessage": "no", "orderId": None}
            found.append(bytes([number, 0]) + json.dumps(refused).encode())
    return found


assert PlaceOrderErrorCode in AMBIGUOUS_CODES and endpoints.ORDER_PLACE.codes is PlaceOrderErrorCode
TARGETS = (Target("rest", _samples(), _check, 20, head_bytes=2),)
