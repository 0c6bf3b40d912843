"""Try a strategy in a test: give it bars, quotes and fills, look at what it asks for. No Redis, no broker.

    def test_buys_a_breakout() -> None:
        stage = Rehearsal(Breakout, lookback_bars=2)
        stage.bars(100.0, 100.0)
        (order,) = stage.bars(101.0)
        assert order.side is Side.BUY

It is the core that runs live, so what holds here holds there.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from services.strategy.core import Input, decide, snapshot_of, start
from shared.domain.execution import OrderFilled
from shared.domain.journal import StrategySnapshot
from shared.domain.market import Bar, ContractResolved, FeedHealth, FeedState, MarketMessage, Quote, Trade
from shared.domain.order import ClosePosition, Intent, Side, SubmitOrder
from shared.domain.position import Position, apply_fill
from shared.strategy.desk import DeskRules
from shared.strategy.settings import read_settings
from shared.strategy.strategy import Strategy

NS_PER_S = 1_000_000_000
START_NS = 1_700_000_040 * NS_PER_S
"""A minute's begin; any time will do, for nothing reads a clock."""

ACCOUNT_ID = 1001


class Rehearsal:
    """One instance on a stage of its own.

    Attributes:
        strategy: The instance under test.
        now_ns: Time on the stage; each bar moves it by its interval, each quote and trade by a second.
        suppressed: Reason -> how many actions led to nothing.
    """

    def __init__(
        self,
        cls: type[Strategy],
        *,
        symbols: tuple[str, ...] = ("MES",),
        tick_size: str = "0.25",
        tick_value: str = "1.25",
        live: bool = True,
        **settings: Any,
    ) -> None:
        self._cls = cls
        self._symbols = symbols
        self._settings = read_settings(cls, settings)
        self._rules = DeskRules(env="test", account_id=ACCOUNT_ID, strategy_id="rehearsal")
        self._multiplier = Decimal(tick_value) / Decimal(tick_size)
        self._positions = {symbol: Position() for symbol in symbols}
        self._seq = 0
        self.now_ns = START_NS
        self._begin(None)
        if live:
            for symbol in symbols:
                self._tell(
                    ContractResolved(
                        symbol=symbol,
                        contract_id=f"CON.{symbol}",
                        contract_name=symbol,
                        tick_size=tick_size,
                        tick_value=tick_value,
                        roll_at_ns=0,
                        ts_recv_ns=self.now_ns,
                    )
                )
                self.feed_is(FeedHealth.LIVE, symbol=symbol)

    @property
    def strategy(self) -> Strategy:
        return self._state.strategy

    @property
    def suppressed(self) -> dict[str, int]:
        return dict(self._state.desk.state.suppressed)

    def bars(self, *closes: float, symbol: str | None = None) -> list[Intent]:
        """Give one bar per close, each reaching one tick above and below it."""
        return [intent for close in closes for intent in self.bar(close, symbol=symbol)]

    def bar(
        self, close: float, *, high: float | None = None, low: float | None = None, symbol: str | None = None
    ) -> list[Intent]:
        interval_s = self._settings["bar_interval_s"]
        opened_ns = self.now_ns
        self.now_ns += interval_s * NS_PER_S
        return self._tell(
            Bar(
                symbol=symbol or self._symbols[0],
                interval_s=interval_s,
                ts_open_ns=opened_ns,
                open=close,
                high=close + 0.25 if high is None else high,
                low=close - 0.25 if low is None else low,
                close=close,
                volume=100,
                ts_recv_ns=self.now_ns,
            )
        )

    def quote(self, bid: float, ask: float | None = None, *, symbol: str | None = None) -> list[Intent]:
        self.now_ns += NS_PER_S
        ask = bid + 0.25 if ask is None else ask
        return self._tell(
            Quote(
                symbol=symbol or self._symbols[0],
                ts_event_ns=self.now_ns,
                ts_recv_ns=self.now_ns,
                bid_px=bid,
                ask_px=ask,
                crossed=bid > ask,
            )
        )

    def trade(self, px: float, qty: int = 1, *, symbol: str | None = None) -> list[Intent]:
        self.now_ns += NS_PER_S
        return self._tell(
            Trade(
                symbol=symbol or self._symbols[0],
                ts_event_ns=self.now_ns,
                ts_recv_ns=self.now_ns,
                px=px,
                qty=qty,
            )
        )

    def feed_is(self, health: FeedHealth, *, symbol: str | None = None) -> list[Intent]:
        return self._tell(
            FeedState(
                symbol=symbol or self._symbols[0],
                health=health,
                reason="",
                contract_id="CON",
                ts_recv_ns=self.now_ns,
            )
        )

    def fill(self, intent: Intent, px: float | str | Decimal) -> list[Intent]:
        """Fill all that `intent` asks for at `px`."""
        position = self._positions[intent.symbol]
        if isinstance(intent, ClosePosition):
            side, qty, role = (Side.SELL if position.net_qty > 0 else Side.BUY), abs(position.net_qty), "exit"
        elif isinstance(intent, SubmitOrder):
            side, qty, role = intent.side, intent.order_qty, "entry"
        else:
            raise TypeError(f"{type(intent).__name__} cannot fill")
        return self._fill(intent.client_order_id, intent.symbol, side, qty, Decimal(str(px)), role)

    def bracket_fills(self, px: float | str | Decimal, *, symbol: str | None = None) -> list[Intent]:
        """Let the stop or the target at the broker end the position at `px`."""
        name = symbol or self._symbols[0]
        net_qty = self._positions[name].net_qty
        side = Side.SELL if net_qty > 0 else Side.BUY
        return self._fill(f"child-{self._seq}", name, side, abs(net_qty), Decimal(str(px)), "stop_loss")

    def restart(self) -> None:
        """Go through a snapshot and back, as after a crash."""
        snapshot = snapshot_of(self._state, strategy_id="rehearsal", cursors={}, settings_hash="")
        self._begin(msgspec.json.decode(msgspec.json.encode(snapshot), type=StrategySnapshot))

    def _begin(self, snapshot: StrategySnapshot | None) -> None:
        self._state, _ = start(
            self._cls,
            rules=self._rules,
            symbols=self._symbols,
            settings=self._settings,
            snapshot=snapshot,
            settings_hash="",
        )

    def _fill(self, order_id: str, symbol: str, side: Side, qty: int, px: Decimal, role: str) -> list[Intent]:
        before = self._positions[symbol]
        after = apply_fill(before, side=side, qty=qty, px=px, multiplier=self._multiplier)
        self._positions[symbol] = after
        return self._tell(
            OrderFilled(
                client_order_id=order_id,
                strategy_id="rehearsal",
                symbol=symbol,
                fill_id=self._seq,
                side=side,
                last_qty=qty,
                last_px=px,
                cum_qty=qty,
                leaves_qty=0,
                fees=Decimal(0),
                realized_pnl=after.realized_pnl - before.realized_pnl,
                strategy_net_qty=after.net_qty,
                strategy_avg_px=after.avg_px,
                ts_event_ns=self.now_ns,
                ts_ns=self.now_ns,
                role=role,
            )
        )

    def _tell(self, message: MarketMessage | OrderFilled) -> list[Intent]:
        self._seq += 1
        entry_id = f"{self.now_ns // 1_000_000}-{self._seq}".encode()
        return decide(Input("rehearsal", entry_id, message, self.now_ns), self._state)
