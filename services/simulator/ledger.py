"""The venue's books as JSON: what a proving machine compares with what a client believes.

Parts: `attempts` (every request that changes something, in the order in which they came: `id`, `ts_ns` of the
host's clock, `path`, `account_id`, `tag`, `body`, `status` of the reply (0: cut, null: killed before it),
`code` and `order_id` as the venue decided, `processed_ns`, `faults` that hit it), `orders` and `fills` (all
there ever were, rows as in the gateway's searches, orders with `reason`), `positions`, `accounts`, `requests`
(path -> second of the host's clock -> how many), `last_request_ns` (by path), `faults` (those in force) and
`injected` (hits by the fault's name; a kill may lose the last second's).

`attempts`, `orders` and `fills` are read from the database, so a kill loses nothing that was answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.simulator import rows
from services.simulator.faults import Faults
from services.simulator.journal import Journal
from services.simulator.orders import Order
from services.simulator.state import State
from services.simulator.store import Store

PARTS = (
    "attempts",
    "orders",
    "fills",
    "positions",
    "accounts",
    "requests",
    "last_request_ns",
    "faults",
    "injected",
)


class Ledger:
    """Read a venue's books."""

    def __init__(
        self,
        *,
        state: State,
        store: Store,
        faults: Faults,
        venue_now_ns: Callable[[], int],
        now_ns: Callable[[], int],
    ) -> None:
        self._state = state
        self._store = store
        self._journal: Journal = store.journal
        self._faults = faults
        self._venue_now_ns = venue_now_ns
        self._now_ns = now_ns

    def faults(self) -> rows.Row:
        """Return the faults in force and their hits."""
        settings = self._faults.settings.model_dump(mode="json")
        return {**settings, "injected": dict(self._faults.injected)}

    def read(self, parts: tuple[str, ...]) -> rows.Row:
        """Return the parts asked for, with the time of both clocks."""
        state = self._state
        make: dict[str, Callable[[], Any]] = {
            "attempts": self._journal.attempts,
            "orders": lambda: [self._order_row(one) for one in self._store.orders()],
            "fills": lambda: [rows.fill_row(state, one) for one in self._store.fills()],
            "positions": lambda: [rows.position_row(state, one) for one in state.positions.values()],
            "accounts": lambda: [rows.account_row(one) for one in state.accounts.values()],
            "requests": self._journal.requests,
            "last_request_ns": self._journal.last_request_ns,
            "faults": lambda: self.faults()["active"],
            "injected": lambda: dict(self._faults.injected),
        }
        told: rows.Row = {"now_ns": self._now_ns(), "venue_now_ns": self._venue_now_ns()}
        return told | {part: make[part]() for part in parts}

    def _order_row(self, order: Order) -> rows.Row:
        return rows.order_row(self._state, order) | {"reason": order.reason}
