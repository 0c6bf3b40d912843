"""The simulator's REST side on a real socket."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from services.simulator.shell import CannotListen
from tests.support.eventually import eventually
from tests.support.gateway_client import GatewayClient, gateway_client
from tests.support.simulator import ACCOUNT_ID, API_KEY, USER, running_simulator

pytestmark = pytest.mark.integration
ENTRY = {"stopLossBracket": {"ticks": -40, "type": 4}, "takeProfitBracket": {"ticks": 400, "type": 1}}


async def bars(client: GatewayClient, contract_id: str, **changes: Any) -> dict[str, Any]:
    _, _, headers = await client.raw("GET", "/api/Status/ping")
    now = parsedate_to_datetime(headers["Date"])
    body: dict[str, Any] = {
        "contractId": contract_id,
        "live": False,
        "startTime": (now - timedelta(minutes=5)).isoformat(),
        "endTime": (now + timedelta(minutes=1)).isoformat(),
        "unit": 2,
        "unitNumber": 1,
        "limit": 100,
        "includePartialBar": True,
    }
    return await client.post("History/retrieveBars", **{**body, **changes})


def test_login_validate_logout() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            wrong = await client.post("Auth/loginKey", userName=USER, apiKey="wrong")
            assert (wrong["errorCode"], wrong["token"]) == (3, None)
            assert (await client.post("Auth/loginKey", userName="nobody", apiKey=API_KEY))["errorCode"] == 3
            first = client.token
            shouted = await client.post("Auth/loginKey", userName=USER.upper(), apiKey=API_KEY)
            client.token = shouted["token"]
            renewed = await client.post("Auth/validate")
            assert renewed["newToken"]
            assert (await client.post("Auth/logout"))["success"]
            assert (await client.raw("POST", "/api/Auth/validate"))[0] == 401
            client.token = first  # another login's token lives on
            assert (await client.post("Auth/validate"))["success"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/Account/search", {"onlyActiveAccounts": True}, 200),
        ("POST", "/api/Account/search", {}, 400),
        ("POST", "/api/Account/search", {"onlyActiveAccounts": "maybe"}, 400),
        ("POST", "/api/Auth/loginKey", {"userName": "demo"}, 400),
        ("POST", "/api/Order/search", {"accountId": 1001}, 400),
        ("POST", "/api/Order/search", {"accountId": 1001, "startTimestamp": "yesterday"}, 400),
        ("POST", "/api/Order/v2/query", {"filter": {}}, 400),
        ("POST", "/api/Position/search", {"accountId": 1001}, 404),
        ("POST", "/trades/search", {"accountId": 1001}, 404),
        ("GET", "/api/Order/search", None, 405),
        ("GET", "/api/Status/ping", None, 200),
        ("POST", "/api/Account/search", [1], 400),
    ],
)
def test_statuses(method: str, path: str, body: Any, status: int) -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            answer = await client.raw(method, path, body)
            assert answer[0] == status, answer[1]
            if status == 400:
                assert json.loads(answer[1])["status"] == 400

    asyncio.run(story())


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
def test_bad_token_is_401_with_an_empty_body(token: str) -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            status, body, _ = await client.raw("POST", "/api/Account/search", {}, token)
            assert (status, body) == (401, "")

    asyncio.run(story())


def test_token_expires() -> None:
    async def story() -> None:
        async with running_simulator(token_ttl_s=0.3) as simulator, gateway_client(simulator.url) as client:

            async def refused() -> bool:
                return (await client.raw("POST", "/api/Auth/validate"))[0] == 401

            assert not await refused()
            await eventually(refused)

    asyncio.run(story())


@pytest.mark.parametrize("retry_after", [True, False])
def test_limits_answer_429(retry_after: bool) -> None:
    limits = {"requests": 5, "history_requests": 2, "retry_after": retry_after}

    async def story() -> None:
        async with running_simulator(limits=limits) as simulator, gateway_client(simulator.url) as client:
            body = {"onlyActiveAccounts": True}
            answers = [await client.raw("POST", "/api/Account/search", body) for _ in range(5)]
            assert [status for status, _, _ in answers] == [200, 200, 200, 200, 429]  # the login counts
            assert ("Retry-After" in answers[-1][2]) is retry_after
            history = [await client.raw("POST", "/api/History/retrieveBars", {}) for _ in range(3)]
            assert [status for status, _, _ in history] == [400, 400, 429]  # a window of their own

    asyncio.run(story())


def test_venue_time_is_a_day_session_and_in_every_date() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            _, _, headers = await client.raw("GET", "/api/Status/ping")
            date = parsedate_to_datetime(headers["Date"])
            assert date.weekday() < 5
            assert date.astimezone(UTC).hour in (13, 14)  # 09:30 New York, summer or winter
            assert datetime.now(UTC) - date < timedelta(days=4)
            for method, path, body in (("GET", "/nowhere", None), ("POST", "/api/Auth/validate", None)):
                _, _, headers = await client.raw(method, path, body, "x")
                assert abs(parsedate_to_datetime(headers["Date"]) - date) < timedelta(minutes=5)

    asyncio.run(story())


def test_contracts() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            found = (await client.post("Contract/search", searchText="NQ", live=False))["contracts"]
            assert {one["symbolId"] for one in found} == {"F.US.ENQ", "F.US.MNQ"}
            assert all(one["activeContract"] for one in found)
            assert (await client.post("Contract/search", searchText="NQ", live=True))["contracts"] == []
            past = await client.post("Contract/searchById", contractId="CON.F.US.ENQ.H25")
            assert past["contract"]["activeContract"] is False
            assert past["contract"]["name"] == "NQH5"
            absent = await client.post("Contract/searchById", contractId="x")
            assert (absent["errorCode"], absent["contract"]) == (1, None)

    asyncio.run(story())


def test_bars_newest_first_with_a_past() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            contract_id = await client.contract()
            _, _, headers = await client.raw("GET", "/api/Status/ping")
            start = (parsedate_to_datetime(headers["Date"]) - timedelta(days=3)).isoformat()
            day = (await bars(client, contract_id, startTime=start, limit=20_000))["bars"]
            stamps = [one["t"] for one in day]
            assert stamps == sorted(stamps, reverse=True)
            assert len(day) > 600
            assert all(one["l"] <= min(one["o"], one["c"]) <= one["h"] for one in day)
            closed = (await bars(client, contract_id, includePartialBar=False))["bars"]
            assert closed[0]["t"] < day[0]["t"]
            for changes, code in (
                ({"contractId": "x"}, 1),
                ({"unit": 0}, 2),
                ({"unit": 7}, 2),
                ({"unitNumber": 0}, 3),
                ({"limit": 0}, 4),
                ({"limit": 20_001}, 4),
            ):
                assert (await bars(client, contract_id, **changes))["errorCode"] == code
            assert (await bars(client, contract_id, live=True))["bars"] == []

    asyncio.run(story())


def test_entry_with_brackets_from_placing_to_flat() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            contract_id = await client.contract()
            entry = await client.place(contract_id, size=2, customTag="t1", **ENTRY)
            assert entry["success"]
            assert (await client.place(contract_id, customTag="t1"))["errorCode"] == 2
            account = {"accountId": ACCOUNT_ID}
            position = (await client.post("Position/searchOpen", **account))["positions"][0]
            assert (position["type"], position["size"]) == (1, 2)
            working = (await client.post("Order/searchOpen", **account))["orders"]
            assert [one["id"] for one in working] == [entry["orderId"] + 1, entry["orderId"] + 2]
            assert all("customTag" not in one for one in working)
            stop = (await client.post("Order/searchById", orderId=working[0]["id"], **account))["order"]
            assert stop["stopPrice"] == position["averagePrice"] - 10
            assert "AutoBracket" in stop["customTag"]
            part = await client.post(
                "Position/partialCloseContract", contractId=contract_id, size=1, **account
            )
            assert part["success"]
            assert (await client.post("Position/closeContract", contractId=contract_id, **account))["success"]
            assert (await client.post("Position/searchOpen", **account))["positions"] == []
            left = (await client.post("Order/searchOpen", **account))["orders"]
            assert len(left) == 2  # closing a position leaves its children alive
            for one in left:
                assert (await client.post("Order/cancel", orderId=one["id"], **account))["success"]
            start = {"startTimestamp": "2020-01-01T00:00:00Z"}
            trades = (await client.post("Trade/search", **account, **start))["trades"]
            assert [one["profitAndLoss"] is None for one in trades] == [False, False, True]
            found = (await client.post("Order/search", **account, **start))["orders"]
            tagged = next(one for one in found if one["customTag"] == "t1")
            assert (tagged["status"], tagged["fillVolume"]) == (2, 2)

    asyncio.run(story())


def test_query_sees_suspended_children() -> None:
    async def story() -> None:
        async with running_simulator() as simulator, gateway_client(simulator.url) as client:
            contract_id = await client.contract()
            await client.place(contract_id, type=1, limitPrice=1000, **ENTRY)
            query = {"filter": {"accountId": ACCOUNT_ID, "statuses": [1, 8]}, "includeTotalCount": True}
            answer = await client.post("Order/v2/query", **query, pageSize=2, sortBy=1, sortDirection=1)
            assert [(one["id"], one["status"]) for one in answer["orders"]] == [(3, 8), (2, 8)]
            assert answer["totalCount"] == 3
            assert len((await client.post("Order/searchOpen", accountId=ACCOUNT_ID))["orders"]) == 1

    asyncio.run(story())


def test_restart_keeps_orders_positions_tags_tokens_and_time(tmp_path: Path) -> None:
    database = tmp_path / "venue.sqlite"

    async def story() -> None:
        async with running_simulator(database=database, speed=20) as simulator:
            async with gateway_client(simulator.url) as client:
                contract_id = await client.contract()
                await client.place(contract_id, customTag="kept", **ENTRY)
                token = client.token
                balance = (await client.post("Account/search", onlyActiveAccounts=True))["accounts"]
            stopped_ns = simulator.time.now_ns()
        async with running_simulator(database=database) as simulator:
            assert simulator.time.now_ns() >= stopped_ns
            async with gateway_client(simulator.url) as client:
                client.token = token
                accounts = (await client.post("Account/search", onlyActiveAccounts=True))["accounts"]
                assert accounts == balance
                account = {"accountId": ACCOUNT_ID}
                assert len((await client.post("Position/searchOpen", **account))["positions"]) == 1
                assert len((await client.post("Order/searchOpen", **account))["orders"]) == 2
                again = await client.place(contract_id, customTag="kept")
                assert (again["errorCode"], again["orderId"]) == (2, 4)
                assert (await client.post("Position/closeContract", contractId=contract_id, **account))[
                    "success"
                ]

    asyncio.run(story())


def test_restart_answers_for_closed_orders_before_any_new_one(tmp_path: Path) -> None:
    database = tmp_path / "venue.sqlite"
    account = {"accountId": ACCOUNT_ID}

    async def story() -> None:
        async with running_simulator(database=database) as simulator, gateway_client(simulator.url) as client:
            contract_id = await client.contract()
            await client.place(contract_id, type=2, side=0, size=1)
            await client.post("Position/closeContract", contractId=contract_id, **account)
        async with running_simulator(database=database) as simulator, gateway_client(simulator.url) as client:
            found = await client.post("Order/search", startTimestamp="2020-01-01T00:00:00Z", **account)
            assert [one["id"] for one in found["orders"]] == [1, 2]

    asyncio.run(story())


def test_taken_port_is_named() -> None:
    async def story() -> None:
        async with running_simulator() as simulator:
            port = int(simulator.url.rpartition(":")[2])
            with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port}.*choose another simulator\.port"):
                async with running_simulator(port=port):
                    pass

    asyncio.run(story())


def test_weekend_is_skipped() -> None:
    async def story() -> None:
        settings = {
            "venue_start": "2026-03-06T15:59:30-06:00",  # half a minute before Friday's close
            "speed": 60,
            "limits": {"requests": 100_000},
        }
        async with running_simulator(**settings) as simulator, gateway_client(simulator.url) as client:
            contract_id = await client.contract()
            refused = await eventually_refused(client, contract_id)
            assert refused["errorCode"] == 5

            async def opened_again() -> bool:
                return bool((await client.place(contract_id))["success"])

            await eventually(opened_again, within_s=30)
            _, _, headers = await client.raw("GET", "/api/Status/ping")
            sunday = parsedate_to_datetime(headers["Date"])
            assert (sunday.weekday(), sunday.hour) == (6, 22)  # 17:00 Chicago, summer time

    asyncio.run(story())


async def eventually_refused(client: GatewayClient, contract_id: str) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []

    async def refused() -> bool:
        answers.append(await client.place(contract_id))
        return not answers[-1]["success"]

    await eventually(refused)
    return answers[-1]
