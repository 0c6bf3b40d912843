"""Hub invocations: targets, arguments, completions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.simulator.hub import Hub, HubClient
from shared.broker.projectx.signalr import HANDSHAKE_REQUEST, Invocation, ServerConnection


class Bench:
    """One hub with one client that has shaken hands."""

    def __init__(self, *, user: bool) -> None:
        self.subscribed: list[tuple[str, object]] = []
        self.hub = Hub(
            is_user_hub=user,
            known_key=lambda key: key in (7, "CON"),
            subscribed=lambda client, topic, key: self.subscribed.append((topic, key)),
        )
        link = ServerConnection()
        link.start(0)
        link.receive(HANDSHAKE_REQUEST, 0)
        link.take_output()
        self.client = HubClient("x", link, lambda: None)
        self.hub.clients.append(self.client)

    def send(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Give the hub one record and return what it answers."""
        for event in self.client.link.receive(json.dumps({"type": 1, **message}).encode() + b"\x1e", 0):
            assert isinstance(event, Invocation)
            self.hub.invoke(self.client, event, 0)
        return [json.loads(one) for one in self.client.link.take_output().split(b"\x1e") if one]


@pytest.mark.parametrize(
    ("user", "target", "arguments", "topic", "key"),
    [
        (True, "Accounts", [], "accounts", None),
        (True, "Orders", [7], "orders", 7),
        (True, "Positions", [7], "positions", 7),
        (True, "Trades", [7], "trades", 7),
        (False, "ContractQuotes", ["CON"], "quotes", "CON"),
        (False, "ContractTrades", ["CON"], "trades", "CON"),
        (False, "ContractMarketDepth", ["CON"], "depth", "CON"),
    ],
)
def test_subscribe_and_unsubscribe(
    user: bool, target: str, arguments: list[object], topic: str, key: object
) -> None:
    bench = Bench(user=user)
    subscribe = {"target": f"Subscribe{target}", "arguments": arguments, "invocationId": "1"}
    assert bench.send(subscribe) == [{"type": 3, "invocationId": "1"}]
    assert bench.send(subscribe) == [{"type": 3, "invocationId": "1"}]  # twice is once
    assert bench.hub.subscribers(topic, key) == [bench.client]
    assert bench.subscribed == [(topic, key)]
    bench.send({"target": f"Unsubscribe{target}", "arguments": arguments})
    assert bench.hub.subscribers(topic, key) == []


@pytest.mark.parametrize(
    ("user", "target", "arguments", "words"),
    [
        (False, "SubscribeContractDepth", ["CON"], "Method does not exist"),
        (False, "SubscribeToBars", [], "Method does not exist"),
        (False, "subscribecontractquotes", ["CON"], "Method does not exist"),  # case matters
        (False, "SubscribeOrders", [7], "Method does not exist"),  # the other hub's
        (True, "SubscribeOrders", [], "provides 0 argument(s) but target expects 1"),
        (True, "SubscribeAccounts", [7], "provides 1 argument(s) but target expects 0"),
        (True, "SubscribeOrders", ["seven"], "Error binding arguments"),
        (True, "SubscribeOrders", [8], "unknown account 8"),
        (False, "SubscribeContractQuotes", [7], "Error binding arguments"),
        (False, "SubscribeContractQuotes", ["NOPE"], "unknown contract 'NOPE'"),
    ],
)
def test_refused_invocation(user: bool, target: str, arguments: list[object], words: str) -> None:
    bench = Bench(user=user)
    message = {"target": target, "arguments": arguments}
    assert bench.send(message) == []  # without an id nobody is told
    answer = bench.send({**message, "invocationId": "9"})
    assert answer[0]["invocationId"] == "9"
    assert words in answer[0]["error"]
    assert bench.subscribed == []


def test_removed_client_is_forgotten_everywhere() -> None:
    bench = Bench(user=False)
    bench.send({"target": "SubscribeContractQuotes", "arguments": ["CON"]})
    bench.hub.remove(bench.client)
    assert bench.hub.subscribers("quotes", "CON") == []
    assert bench.hub.clients == []
