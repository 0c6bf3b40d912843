"""Every way a broker can fail to answer, over real sockets: nothing becomes "empty" or is sent twice."""

from __future__ import annotations

import asyncio
import json
import socket
from decimal import Decimal
from typing import Any

import pytest

from shared.broker import errors
from shared.broker.port import (
    Accepted,
    NotSent,
    OrderTicket,
    Outcome,
    Rejected,
    Unknown,
)
from shared.broker.projectx import endpoints
from shared.broker.projectx.timestamps import format_ns
from shared.domain.instrument import Instrument
from shared.domain.order import Side
from tests.support.broker_desk import TOKEN, Desk, ask, ok
from tests.support.hostile_server import NEVER, RESET, HostileServer, closed_port, http

pytestmark = pytest.mark.integration
TICKET = OrderTicket(account_id=1, client_order_id="t", contract_id="C", side=Side.BUY, order_qty=1)


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in (endpoints.ORDER_PLACE, endpoints.POSITION_SEARCH_OPEN):
        monkeypatch.setattr(endpoint, "within_s", 0.3)


HTML = b"<html><body>Bad gateway</body></html>"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 1_000
ANSWERS = [
    ("429", http(b"slow down", status="429 Too Many Requests"), Unknown, errors.RateLimited),
    ("500", http(HTML, status="500 Internal Server Error"), Unknown, errors.HttpFailed),
    ("503", http(b"", status="503 Service Unavailable"), Unknown, errors.HttpFailed),
    ("401", http(b"", status="401 Unauthorized"), Unknown, errors.Unauthorized),
    ("403", http(b"", status="403 Forbidden"), Unknown, errors.HttpFailed),
    ("404", http(b"", status="404 Not Found"), Unknown, errors.HttpFailed),
    ("redirect", http(b"", status="307 Moved", headers="Location: /x\r\n"), Unknown, errors.HttpFailed),
    ("html", http(HTML), Unknown, errors.PayloadUnreadable),
    ("empty", http(b""), Unknown, errors.PayloadUnreadable),
    ("null", http(b"null"), Unknown, errors.PayloadUnreadable),
    ("not utf-8", http(b'{"success":true,"errorMessage":"\xff"}'), Unknown, errors.PayloadUnreadable),
    ("cut", b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"success":', Unknown, errors.NoAnswer),
    ("no http", b"\x00\x01\x02\r\n\r\n", Unknown, errors.NoAnswer),
    ("reset", RESET, Unknown, errors.NoAnswer),
    ("refusal", http(b'{"success":false,"errorCode":1,"errorMessage":null}'), Rejected, errors.QueryRefused),
    ("absent", ok(), Unknown, errors.PayloadAbsent),
    ("null list", ok(positions=None, orderId=None), Unknown, errors.PayloadAbsent),
]


@pytest.mark.parametrize(("name", "answer", "outcome", "failure"), ANSWERS, ids=[case[0] for case in ANSWERS])
@pytest.mark.proves("I-5")
def test_mutation_and_question(
    name: str, answer: bytes, outcome: type[Outcome], failure: type[errors.BrokerQueryFailed]
) -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        server.close_after = name in ("cut", "no http")
        found = await desk.orders.place(TICKET)
        assert type(found) is outcome, found
        assert len(server.requests) == 1, "sent more than once"
        with pytest.raises(errors.BrokerQueryFailed) as caught:
            await desk.account.positions(1)
        assert type(caught.value) is failure, caught.value
        assert TOKEN not in f"{found!r} {caught.value} {caught.value!r}"
        assert len(server.requests) == 2
        assert caught.value.endpoint == "/api/Position/searchOpen"

    ask(answer, scenario)


@pytest.mark.usefixtures("short_timeouts")
def test_silence_after_the_request_is_unknown() -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        assert isinstance(await desk.orders.place(TICKET), Unknown)
        with pytest.raises(errors.NoAnswer):
            await desk.account.positions(1)
        assert len(server.requests) == 2

    ask(NEVER, scenario)


@pytest.mark.parametrize("resolved", [True, False])
def test_nobody_there_proves_that_nothing_was_sent(resolved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def whole() -> None:
        host = "127.0.0.1" if resolved else "broker.invalid"
        desk = Desk(f"http://{host}:{closed_port()}")
        if not resolved:
            monkeypatch.setattr(socket, "getaddrinfo", no_name)
        assert isinstance(await desk.orders.place(TICKET), NotSent)
        with pytest.raises(errors.NotReachable):
            await desk.account.positions(1)
        await desk.adapter.close()

    asyncio.run(whole())


def test_failed_tls_proves_that_nothing_was_sent() -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        server.close_at_once = True
        secure = Desk(server.url.replace("http:", "https:"))
        assert isinstance(await secure.orders.place(TICKET), NotSent)
        await secure.adapter.close()

    ask(http(b"plain text"), scenario)


@pytest.mark.proves("I-26")
@pytest.mark.parametrize("kept_alive", [False, True], ids=["new connection", "kept alive"])
def test_halt_that_comes_while_an_order_waits_for_its_connection_stops_it(kept_alive: bool) -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        if kept_alive:
            await desk.account.accounts()
        before = len(server.requests)
        answers = iter((None, "halted"))  # the halt comes between the two questions
        outcome = await desk.orders.place(TICKET, held=lambda: next(answers))
        assert isinstance(outcome, NotSent) and "halted" in outcome.reason
        assert next(answers, None) is None and server.connections == 1
        assert await desk.orders.place(TICKET) == Accepted(broker_order_id=5)
        assert len(server.requests) == before + 1  # what was withheld never came, not even its head
        assert server.connections == 2

    ask(ok(orderId=5, accounts=[]), scenario)


@pytest.mark.proves("I-1")
@pytest.mark.injects("F-31")
def test_connection_that_died_while_idle_is_not_answered_by_a_second_post() -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        assert await desk.orders.place(TICKET) == Accepted(broker_order_id=5)
        server.answer = RESET
        assert isinstance(await desk.orders.place(TICKET), Unknown)
        assert (len(server.requests), server.connections) == (2, 1)  # kept alive, and not repeated

    ask(ok(orderId=5), scenario)


def test_missing_token_store_and_time_and_a_halt_prove_that_nothing_was_sent() -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        late = OrderTicket(
            account_id=1, client_order_id="t", contract_id="C", side=Side.BUY, order_qty=1, expires_at_ns=1
        )
        assert isinstance(await desk.orders.place(late), NotSent)
        assert isinstance(await desk.orders.place(TICKET, held=lambda: "halted"), NotSent)
        assert isinstance(await desk.orders.cancel(1, 5, held=lambda: "over"), NotSent)
        assert isinstance(await desk.orders.close_contract(1, "C", held=lambda: "over"), NotSent)
        desk.token = None
        assert isinstance(await desk.orders.place(TICKET), NotSent)
        with pytest.raises(errors.Unauthorized):
            await desk.account.positions(1)
        desk.limiter.away = True
        assert isinstance(await desk.orders.place(TICKET), NotSent)
        with pytest.raises(errors.NotAttempted):
            await desk.account.positions(1)
        assert server.requests == []

    ask(ok(orderId=5), scenario)


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("", 60.0),
        ("Retry-After: 7\r\n", 7.0),
        ("Retry-After: 99999\r\n", 300.0),
        ("Retry-After: soon\r\n", 60.0),
        (
            "Date: Mon, 21 Jul 2025 13:45:00 GMT\r\nRetry-After: Mon, 21 Jul 2025 13:45:20 GMT\r\n",
            pytest.approx(20.0, abs=1.0),
        ),
    ],
)
@pytest.mark.proves("I-25")
def test_too_many_requests_pauses_the_whole_budget(header: str, pause_s: float) -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        with pytest.raises(errors.RateLimited) as caught:
            await desk.account.accounts()
        assert caught.value.retry_after_s == pause_s
        assert isinstance(await desk.orders.cancel(1, 2), Unknown)
        assert desk.limiter.pauses == [("general", pause_s), ("general", pause_s)]
        assert desk.limiter.acquired == [("general", False), ("general", True)]

    ask(http(b"", status="429 Too Many Requests", headers=header), scenario)


def test_venue_clock_comes_from_the_date_of_answers() -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        assert desk.account.venue_now_ns() is None
        await desk.account.positions(1)
        now_ns = desk.account.venue_now_ns()
        assert now_ns is not None
        assert 0 <= now_ns - 1_753_105_500_000_000_000 < 5_000_000_000

    ask(
        http(
            b'{"success":true,"errorCode":0,"positions":[]}',
            headers="Date: Mon, 21 Jul 2025 13:45:00 GMT\r\n",
        ),
        scenario,
    )


def test_one_row_that_is_not_understood_makes_the_answer_unknown() -> None:
    good = {"id": 1, "accountId": 1, "contractId": "C", "type": 1, "size": 1, "averagePrice": 1}

    async def scenario(desk: Desk, server: HostileServer) -> None:
        with pytest.raises(errors.PayloadRefused) as caught:
            await desk.account.positions(1)
        assert caught.value.refused.field == "type"
        assert "type" in str(caught.value)

    ask(ok(positions=[good, {**good, "type": 7}]), scenario)


def test_working_orders_that_are_cut_off_are_unknown() -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        with pytest.raises(errors.PayloadAbsent):
            await desk.account.working_orders(1)

    ask(ok(orders=[], totalCount=3), scenario)


def test_answer_beyond_the_limit_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        http_transport = desk.adapter._http
        http_transport._answer_bytes_max = 500
        with pytest.raises(errors.NoAnswer, match="larger than 500"):
            await desk.account.positions(1)

    ask(LARGE, scenario)


# -- bars


MINUTE_NS = 60_000_000_000
START_NS = 1_753_105_500_000_000_000
MES = Instrument(
    symbol="MES",
    contract_id="CON.F.US.MES.U25",
    contract_name="MESU5",
    tick_size=Decimal("0.25"),
    tick_value=Decimal("1.25"),
)


def bar_row(minute: int, close: float = 10.5) -> dict[str, Any]:
    time = format_ns(START_NS + minute * MINUTE_NS)
    return {"t": time, "o": 10.25, "h": 11.0, "l": 10.0, "c": close, "v": minute + 1}


def test_bars_come_oldest_first_and_once_and_inside_the_window() -> None:
    async def scenario(desk: Desk, server: HostileServer) -> None:
        asked: dict[str, Any] = {"interval_s": 60, "start_ns": START_NS, "end_ns": START_NS + 3 * MINUTE_NS}
        bars = await desk.market.bars(MES, **asked)
        assert [(bar.volume, bar.partial) for bar in bars] == [(1, False), (2, False), (3, False)]
        assert desk.limiter.acquired == [("history", False)]
        asked["end_ns"] -= 1
        bars = await desk.market.bars(MES, **asked, partial=True)
        assert [(bar.volume, bar.partial) for bar in bars] == [(1, False), (2, False), (3, True)]

    ask(ok(bars=[bar_row(minute) for minute in (4, 3, 2, 1, 1, 0)]), scenario)


def test_no_bars_is_an_answer_and_a_missing_list_is_none() -> None:
    asked: dict[str, Any] = {"interval_s": 60, "start_ns": START_NS, "end_ns": START_NS + MINUTE_NS}

    async def scenario(desk: Desk, server: HostileServer) -> None:
        assert await desk.market.bars(MES, **asked) == []  # the market is closed
        server.answer = ok()
        with pytest.raises(errors.PayloadAbsent):
            await desk.market.bars(MES, **asked)

    ask(ok(bars=[]), scenario)


def test_more_bars_than_one_answer_holds_are_read_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.broker.projectx.client.BARS_MAX", 2)

    async def scenario(desk: Desk, server: HostileServer) -> None:
        pages = [[5, 4], [3, 2], [1]]

        def serve(request: bytes) -> bytes:
            return ok(bars=[bar_row(minute) for minute in pages[len(server.requests) - 1]])

        server.answering = serve
        bars = await desk.market.bars(MES, interval_s=60, start_ns=START_NS, end_ns=START_NS + 6 * MINUTE_NS)
        assert [bar.volume for bar in bars] == [2, 3, 4, 5, 6]
        ends = [json.loads(request.split(b"\r\n\r\n")[1])["endTime"] for request in server.requests]
        assert ends == [format_ns(START_NS + minute * MINUTE_NS) for minute in (6, 4, 2)]

    ask(b"", scenario)
