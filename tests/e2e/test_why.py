"""`julie why` and `julie ledger verify` on a system that trades, and after it has stopped."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.execution.ledger import ledger_path
from shared.domain.order import Side
from shared.wire import topics
from tests.support.eventually import TIME_FACTOR, eventually
from tests.support.operator_desk import ACCOUNT_ID, Orders
from tests.support.stack import Stack, running_stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240 * TIME_FACTOR)]
TRADED_WITHIN_S = 90.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as running:
        yield running


@pytest.fixture(scope="module")
def order(stack: Stack) -> str:
    """An order of a real strategy that was filled."""
    found: list[str] = []

    async def filled() -> bool:
        bus = stack.installation().bus()
        try:
            entries = await bus.between(topics.orders(ACCOUNT_ID), "-", "+", 10_000)
        finally:
            await bus.close()
        rows = [json.loads(entry.value) for entry in entries if entry.kind == b"order_filled"]
        found.extend(row["client_order_id"] for row in rows if row.get("role", "entry") == "entry")
        return bool(found)

    asyncio.run(eventually(filled, within_s=TRADED_WITHIN_S, what="a strategy has traded", poll_s=0.5))
    return found[0]


def why(stack: Stack, order: str) -> dict[str, Any]:
    done = stack.julie("why", order, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_filled_order_leads_back_to_the_very_entry(stack: Stack, order: str) -> None:
    found = why(stack, order)
    assert found["record"]["cum_qty"] >= 1
    assert found["intent"]["kind"] == "submit_order"
    assert found["intent"]["message"]["client_order_id"] == order
    (led,) = found["inputs"]
    assert led["cause"] == found["intent"]["message"]["cause"]
    assert led["cause"].startswith("md:{")
    assert led["where"] in ("bus", "archive")
    assert led["message"]["symbol"] == found["record"]["symbol"]
    assert any(order in one["message"].get("intents", ()) for one in found["journal"])
    kinds = [step["kind"] for step in found["steps"]]
    assert kinds[0] == "order_claimed"
    assert "order_filled" in kinds
    assert {"bid_px", "ask_px", "net_qty", "reference_age_ms"} <= set(found["steps"][0]["message"]["numbers"])
    assert all(step["build"] and step["settings"] for step in found["steps"])
    assert found["sent"][0]["words"] == f"Place {order}"
    by_number = why(stack, str(found["record"]["broker_order_id"]))
    assert by_number["order"] == order
    shown = stack.julie("why", order)
    assert shown.returncode == 0
    for words in ("What it came from", "What was asked", "order_claimed", led["cause"]):
        assert words in shown.stdout


def test_denied_and_expired_intents_too(stack: Stack) -> None:
    orders = Orders(stack)
    expired = orders.take("MES", Side.BUY, ttl_s=-1.0)
    assert stack.julie("halt").returncode == 0
    denied = orders.take("MES", Side.BUY)
    assert orders.outcome(denied) == "trading_halted"
    assert stack.julie("resume").returncode == 0
    found = why(stack, denied)
    assert found["steps"][0]["message"]["code"] == "trading_halted"
    assert found["intent"]["message"]["client_order_id"] == denied
    assert found["inputs"][0]["where"] == "this names no entry of a stream"
    assert found["sent"] == []
    found = why(stack, expired)
    assert [step["kind"] for step in found["steps"]] == ["intent_expired"]
    assert found["intent"]["message"]["client_order_id"] == expired
    nobody = stack.julie("why", "nobody")
    assert nobody.returncode == 1
    assert "knows no order nobody" in nobody.stdout


def test_the_ledger_is_sound_while_it_is_written(stack: Stack, order: str) -> None:
    done = stack.julie("ledger", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sound up to step" in done.stdout
    assert "Not compared with the bus" not in done.stdout


def test_without_the_bus_the_ledger_still_tells(stack: Stack, order: str, tmp_path: Path) -> None:
    assert stack.down().returncode == 0
    shown = stack.julie("why", order)
    assert shown.returncode == 0, shown.stderr
    assert "The bus is away" in shown.stdout
    assert "order_filled" in shown.stdout
    found = why(stack, order)
    assert found["intent"]["where"] == "archive" or "the bus is away" in found["intent"]["where"]
    done = stack.julie("ledger", "verify")
    assert done.returncode == 0, done.stdout
    assert "Not compared with the bus" in done.stdout
    copy = tmp_path / "copy.sqlite"
    shutil.copy(ledger_path(stack.folder, ACCOUNT_ID), copy)
    with sqlite3.connect(copy) as db:
        db.execute(
            "UPDATE orders SET record = replace(record, 'MES', 'MEZ') WHERE client_order_id = ?", (order,)
        )
    db.close()
    done = stack.julie("ledger", "verify", "--file", str(copy))
    assert done.returncode == 1
    assert f"orders/{order} is not what step" in done.stdout.replace("\n", "")
