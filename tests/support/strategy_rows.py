"""Builders of stream rows as a worker reads them, and a short way to feed them to a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from services.strategy.consumption import Consumption
from services.strategy.core import start
from services.strategy.loading import Loaded
from shared.domain.execution import OrderFilled, OrderUpdated
from shared.domain.journal import StrategySnapshot
from shared.domain.market import Bar, BarSource, ContractResolved, FeedHealth, FeedState, Quote
from shared.domain.order import Intent, OrderStatus, Side
from shared.strategy.desk import DeskRules
from shared.strategy.settings import read_settings
from shared.strategy.strategy import Strategy
from shared.wire.codec import decode, encode, kind_of

S = 1_000_000_000
T0 = 1_700_000_000 * S
MD, ORDERS = "md:{MES}", "orders:{1001}"
RULES = DeskRules(env="sim", account_id=1001, strategy_id="b1")


def contract(symbol: str = "MES") -> ContractResolved:
    return ContractResolved(
        symbol=symbol, contract_id=f"CON.F.US.{symbol}.Z26", contract_name=f"{symbol}Z6", tick_size="0.25",
        tick_value="1.25", roll_at_ns=0, ts_recv_ns=T0,
    )  # fmt: skip


def feed_state(health: FeedHealth = FeedHealth.LIVE, symbol: str = "MES", ts_ns: int = T0) -> FeedState:
    return FeedState(symbol=symbol, health=health, reason="", contract_id="C", ts_recv_ns=ts_ns)


def quote(bid: float, *, ts_ns: int = T0, crossed: bool = False, symbol: str = "MES") -> Quote:
    return Quote(
        symbol=symbol, ts_event_ns=ts_ns, ts_recv_ns=ts_ns, bid_px=bid, ask_px=bid + 0.25, crossed=crossed
    )


def bar(n: int, close: float, *, source: BarSource = BarSource.TRADES, symbol: str = "MES") -> Bar:
    """Return the `n`-th minute's bar, one tick around its close."""
    ts_ns = T0 + n * 60 * S
    return Bar(
        symbol=symbol, interval_s=60, ts_open_ns=ts_ns, open=close, high=close + 0.25, low=close - 0.25,
        close=close, volume=10, ts_recv_ns=ts_ns + 60 * S, source=source,
    )  # fmt: skip


def filled(order_id: str, side: Side, net_qty: int, *, ts_ns: int, role: str = "entry") -> OrderFilled:
    return OrderFilled(
        client_order_id=order_id, strategy_id="b1", symbol="MES", fill_id=1, side=side, last_qty=1,
        last_px=Decimal("100.25"), cum_qty=1, leaves_qty=0, fees=Decimal("0.37"), realized_pnl=Decimal(0),
        strategy_net_qty=net_qty, strategy_avg_px=Decimal("100.25"), ts_event_ns=ts_ns, ts_ns=ts_ns,
        role=role,
    )  # fmt: skip


def updated(order_id: str, status: OrderStatus, *, ts_ns: int = T0, cum_qty: int = 0) -> OrderUpdated:
    return OrderUpdated(
        client_order_id=order_id, strategy_id="b1", symbol="MES", status=status, reason="", ts_ns=ts_ns,
        side=Side.BUY, order_qty=1, cum_qty=cum_qty,
    )  # fmt: skip


def rows(messages: Sequence[msgspec.Struct], *, first_seq: int = 1) -> list[list[Any]]:
    return [
        [f"{1_700_000_000_000 + n}-{first_seq + n}".encode(), [kind_of(m), encode(m)]]
        for n, m in enumerate(messages)
    ]


def received_ns(row: Sequence[Any]) -> int:
    """Return our clock as a row's message was received."""
    message: Any = decode(*row[1])
    ns: int = message.ts_recv_ns if hasattr(message, "ts_recv_ns") else message.ts_ns
    return ns


class Bench:
    """One instance under test: give it messages, look at its intents."""

    def __init__(
        self,
        cls: type[Strategy],
        *,
        symbols: tuple[str, ...] = ("MES",),
        snapshot: StrategySnapshot | None = None,
        **settings: Any,
    ) -> None:
        self.loaded = Loaded(cls, read_settings(cls, settings), "hash")
        self.state, self.reason = start(
            cls, rules=RULES, symbols=symbols, settings=self.loaded.settings, snapshot=snapshot,
            settings_hash="hash",
        )  # fmt: skip
        stored = snapshot.cursors if snapshot else {}
        streams = [ORDERS, *(f"md:{{{symbol}}}" for symbol in symbols)]
        self.words = [0] * 32
        self.consumption = Consumption(
            self.state, strategy_id="b1", settings_hash="hash",
            cursors={s: stored.get(s, "0-0").encode() for s in streams}, words=self.words,
        )  # fmt: skip
        self.strategy = self.state.strategy
        self._seq = dict.fromkeys(streams, 0)

    @property
    def suppressed(self) -> dict[str, int]:
        return self.state.desk.state.suppressed

    def live(self, *symbols: str) -> None:
        for symbol in symbols or ("MES",):
            self.give(contract(symbol), feed_state(symbol=symbol), stream=f"md:{{{symbol}}}")

    def give(self, *messages: Any, stream: str = MD, asof_ns: int | None = None) -> list[Intent]:
        """Feed messages as newest entries of `stream`, each as it is received; return their intents.

        Args:
            asof_ns: The worker's clock; None for the time at which each was received.
        """
        given = rows(messages, first_seq=self._seq[stream] + 1)
        self._seq[stream] += len(messages)
        return self.feed(stream, given, asof_ns=asof_ns)

    def feed(self, stream: str, given: list[list[Any]], *, asof_ns: int | None = T0) -> list[Intent]:
        consumption = self.consumption
        for read in [given] if asof_ns is not None else [[row] for row in given]:
            at = 0
            consumption.begin(received_ns(read[0]) if asof_ns is None else asof_ns)
            while at < len(read):
                at = consumption.take(stream, read, at)
        return consumption.step().intents
