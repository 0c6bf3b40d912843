"""What no report may say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from shared.domain.order import Side
from shared.domain.report import FillReport


def fill(**changes: Any) -> FillReport:
    values: dict[str, Any] = {
        "account_id": 1, "fill_id": 2, "broker_order_id": 3, "contract_id": "C", "side": Side.BUY,
        "last_qty": 1, "last_px": Decimal(5), "fees": Decimal(0), "ts_event_ns": 1, "ts_recv_ns": 1,
    }  # fmt: skip
    return FillReport(**values | changes)


@pytest.mark.parametrize(
    "changes",
    [{"last_qty": 0}, {"ts_event_ns": -1}, {"fees": Decimal("NaN")}],
)
def test_impossible_fill_is_refused(changes: dict[str, Any]) -> None:
    assert fill().last_qty == 1
    with pytest.raises(ValueError, match=next(iter(changes))):
        fill(**changes)
