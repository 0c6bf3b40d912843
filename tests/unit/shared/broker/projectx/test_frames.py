"""Every shape that documentation and other clients report goes through the parsers first."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from shared.broker.projectx import endpoints
from shared.broker.projectx.endpoints import Endpoint
from shared.broker.projectx.market import MarketTranslator
from shared.broker.projectx.payloads import Envelope
from shared.broker.projectx.translate import user_events
from shared.domain.instrument import Instrument

DATA = Path(__file__).parents[4] / "data" / "projectx"
ES = Instrument(
    symbol="ES",
    contract_id="CON.F.US.EP.U25",
    contract_name="ESU5",
    tick_size=Decimal("0.25"),
    tick_value=Decimal("12.5"),
)
ENDPOINTS: dict[str, Endpoint[Envelope]] = {
    endpoint.path: endpoint for endpoint in vars(endpoints).values() if isinstance(endpoint, Endpoint)
}


def lines(name: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]
    assert found
    return found


@pytest.mark.parametrize("frame", lines("rest.jsonl"), ids=lambda frame: frame["endpoint"])
def test_rest_answer(frame: dict[str, Any]) -> None:
    envelope = msgspec.json.decode(json.dumps(frame["body"]), type=ENDPOINTS[frame["endpoint"]].envelope)
    assert envelope.success
    (payload,) = (value for value in frame["body"].values() if isinstance(value, list))
    rows = next(getattr(envelope, name) for name in frame["body"] if isinstance(frame["body"][name], list))
    assert len(rows) == len(payload)


@pytest.mark.parametrize("frame", lines("market_hub.jsonl"))
def test_market_hub(frame: dict[str, Any]) -> None:
    arguments = Raw(json.dumps(frame["arguments"]).encode())
    events = MarketTranslator([ES]).events(frame["target"], arguments, 7)
    assert [type(event).__name__ for event in events] == frame["expected"]


@pytest.mark.parametrize("frame", lines("user_hub.jsonl"))
def test_user_hub(frame: dict[str, Any]) -> None:
    arguments = Raw(json.dumps(frame["arguments"]).encode())
    events = user_events(frame["target"], arguments, 7, {ES.contract_id: ES})
    assert [type(event).__name__ for event in events] == frame["expected"]
