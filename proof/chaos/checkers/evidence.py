"""All that a run left behind, read once, after everything has stopped."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proof.chaos.installation import ACCOUNT_ID
from proof.chaos.watch import Seen
from proof.chaos.world import World
from services.execution.ledger import SqliteLedger, Step
from services.execution.records import FillRecord, OrderRecord, Standing
from services.simulator.orders import Fill as VenueFill
from services.simulator.orders import Order as VenueOrder
from shared.domain.order import CancelOrder, ClosePosition, ModifyOrder, SubmitOrder
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

STEPS = 10_000


@dataclass
class Evidence:
    """Attributes:
    final: The streams as Redis holds them at the end.
    wall_ns: How far the wall clock is ahead of the monotonic one.
    """

    world: World
    final: dict[str, list[Seen]]
    venue_orders: list[VenueOrder] = field(default_factory=list)
    venue_fills: list[VenueFill] = field(default_factory=list)
    venue_positions: dict[str, int] = field(default_factory=dict)
    orders: dict[str, OrderRecord] = field(default_factory=dict)
    fills: list[FillRecord] = field(default_factory=list)
    standing: Standing = field(default_factory=Standing)
    steps: list[tuple[Step, Any]] = field(default_factory=list)
    cursors: dict[str, str] = field(default_factory=dict)
    wall_ns: int = field(default_factory=lambda: time.time_ns() - time.monotonic_ns())

    @classmethod
    def gather(cls, world: World, final: dict[str, list[Seen]]) -> Evidence:
        found = cls(world, final)
        found._read_venue()
        found._read_ledger()
        return found

    def _read_venue(self) -> None:
        db = sqlite3.connect(f"file:{self.world.installation.venue_database}?mode=ro", uri=True)
        try:
            orders = db.execute("SELECT body FROM orders ORDER BY id").fetchall()
            fills = db.execute("SELECT body FROM fills ORDER BY id").fetchall()
        finally:
            db.close()
        self.venue_orders = [msgspec.json.decode(body, type=VenueOrder) for (body,) in orders]
        self.venue_fills = [msgspec.json.decode(body, type=VenueFill) for (body,) in fills]
        self.venue_positions = self.world.books.positions()

    def _read_ledger(self) -> None:
        ledger = SqliteLedger(self.world.installation.ledger, account_id=ACCOUNT_ID)
        try:
            contents = ledger.load()
            self.orders = {order.client_order_id: order for order in contents.orders}
            self.fills, self.cursors = contents.fills, contents.cursors
            self.standing = contents.standing or Standing()
            first = 1
            while steps := ledger.steps(first, STEPS):
                for step in steps:
                    self.steps.append((step, _message(step.kind, step.value)))
                first = steps[-1].seq + 1
        finally:
            ledger.close()

    def intents(self) -> dict[str, Any]:
        """Return every order intent that any life of Redis was seen to hold: id -> message."""
        found: dict[str, Any] = {}
        for key in self.intent_streams():
            for seen in [*self.world.watch.streams.get(key, []), *self.final.get(key, [])]:
                message = seen.message
                if isinstance(message, SubmitOrder | ClosePosition):
                    found.setdefault(message.client_order_id, message)
        return found

    def wishes(self) -> int:
        """Return how many cancels and changes strategies asked for."""
        return sum(
            isinstance(seen.message, CancelOrder | ModifyOrder)
            for key in self.intent_streams()
            for seen in self.world.watch.streams.get(key, [])
        )

    def intent_streams(self) -> list[str]:
        prefix = topics.intents(ACCOUNT_ID, "")
        return sorted(key for key in {*self.world.watch.streams, *self.final} if key.startswith(prefix))

    def said(self, *kinds: type[msgspec.Struct]) -> Iterable[tuple[Step, Any]]:
        return ((step, message) for step, message in self.steps if isinstance(message, kinds))

    def ns(self, mono_s: float) -> int:
        """Return the wall clock's time of a moment on the monotonic clock."""
        return round(mono_s * 1e9) + self.wall_ns

    def mono_s(self, ts_ns: int) -> float:
        return (ts_ns - self.wall_ns) / 1e9

    @property
    def parents(self) -> list[VenueOrder]:
        """Orders at the venue that somebody sent, without the children that the venue made."""
        return [order for order in self.venue_orders if order.parent_id is None]


def _message(kind: bytes, value: bytes) -> Any:
    try:
        return decode(kind, value)
    except MessageRefused:
        return None
