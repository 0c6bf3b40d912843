"""What reaches a strategy, and what of its wishes becomes an intent."""

from __future__ import annotations

from decimal import Decimal

import pytest

from services.strategy.core import EntriesLost, decide
from shared.domain.control import TradingState
from shared.domain.execution import IntentExpired, OrderDenied, TradingStateChanged
from shared.domain.journal import InputsConsumed, MarketAdopted
from shared.domain.market import Bar, BarSource, FeedGap, FeedHealth, MarketState, Quote
from shared.domain.order import CancelOrder, ClosePosition, OrderStatus, Side, SubmitOrder
from shared.strategy import Order, OrderFilled, Strategy
from tests.support.strategy_rows import (
    MD,
    ORDERS,
    T0,
    Bench,
    S,
    bar,
    contract,
    feed_state,
    filled,
    quote,
    rows,
    updated,
)


class BuyEachQuote(Strategy):
    def on_quote(self, quote: Quote) -> None:
        self.buy(1, stop=self.ticks(8), target=self.ticks(16), reason="test")


class BarsOnly(Strategy):
    seen: list[str]

    def on_start(self) -> None:
        self.seen = []

    def on_bar(self, bar: Bar) -> None:
        self.seen.append(f"{bar.close} {self.quote.bid_px if self.quote else None}")
        if self.position:
            self.close()
        else:
            self.buy(1)

    def on_gap(self, gap: FeedGap) -> None:
        self.seen.append("gap")

    def on_fill(self, fill: OrderFilled) -> None:
        self.seen.append(f"fill {self.position}")

    def on_order(self, order: Order) -> None:
        self.seen.append(f"order {order.status}")


def test_intent_of_a_quote() -> None:
    bench = Bench(BuyEachQuote)
    bench.live()
    (intent,) = bench.give(quote(100.0))
    assert isinstance(intent, SubmitOrder)
    assert intent.cause == "md:{MES}@1700000000000-3"
    assert (intent.side, intent.order_qty, intent.symbol) == (Side.BUY, 1, "MES")
    assert intent.bracket is not None
    assert (intent.bracket.stop_loss_ticks, intent.bracket.take_profit_ticks) == (8, 16)
    assert intent.expires_at_ns == T0 + 5 * S


def test_same_input_gives_the_same_id() -> None:
    ids = []
    for _ in range(2):
        bench = Bench(BuyEachQuote)
        bench.live()
        ids.append(bench.give(quote(100.0))[0].client_order_id)
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("before", "asof_ns", "reason"),
    [
        ([], T0, "no_contract"),
        ([contract()], T0, "not_live"),
        ([contract(), feed_state(FeedHealth.STALE)], T0, "not_live"),
        ([contract(), feed_state()], T0 + 5 * S + 1, "late"),
        ([contract(), feed_state()], T0 + 5 * S, None),
        ([contract(), feed_state()], T0 - S, None),  # clocks of two machines
        ([contract(), feed_state()], T0 - S - 1, "late"),  # of before the clock was set back
    ],
)
def test_guards(before: list[object], asof_ns: int, reason: str | None) -> None:
    bench = Bench(BuyEachQuote)
    if before:
        bench.give(*before)
    intents = bench.give(quote(100.0), asof_ns=asof_ns)
    assert len(intents) == (0 if reason else 1)
    assert bench.suppressed == ({reason: 1} if reason else {})


def test_crossed_quote_is_not_traded_on() -> None:
    bench = Bench(BuyEachQuote)
    bench.live()
    assert bench.give(quote(100.0, crossed=True)) == []
    assert bench.suppressed == {"crossed": 1}
    assert len(bench.give(quote(100.0))) == 1


def test_backfilled_bar_leads_to_no_order() -> None:
    bench = Bench(BarsOnly)
    bench.live()
    assert bench.give(bar(0, 100.0, source=BarSource.BACKFILL)) == []
    assert bench.suppressed == {"backfill": 1}
    assert len(bench.give(bar(1, 100.0))) == 1


def test_entries_do_not_pile_up() -> None:
    bench = Bench(BuyEachQuote)
    bench.live()
    (first,) = bench.give(quote(100.0), quote(100.25))
    assert bench.strategy.pending
    order_id = first.client_order_id
    bench.give(updated(order_id, OrderStatus.UNKNOWN), stream=ORDERS)
    assert bench.give(quote(100.0)) == []
    # A status may overtake its fill: the order counts until the fill is here.
    bench.give(updated(order_id, OrderStatus.FILLED, cum_qty=1), stream=ORDERS)
    assert bench.strategy.pending and bench.give(quote(100.0)) == []
    bench.give(filled(order_id, Side.BUY, 1, ts_ns=T0), stream=ORDERS)
    assert bench.strategy.position == 1 and not bench.strategy.pending
    assert len(bench.give(quote(100.0))) == 1


def test_status_after_its_fill_does_not_bring_the_order_back() -> None:
    bench = Bench(BuyEachQuote)
    bench.live()
    (first,) = bench.give(quote(100.0))
    bench.give(filled(first.client_order_id, Side.BUY, 1, ts_ns=T0), stream=ORDERS)
    bench.give(updated(first.client_order_id, OrderStatus.FILLED, cum_qty=1), stream=ORDERS)
    assert not bench.strategy.pending
    assert len(bench.give(quote(100.0))) == 1


@pytest.mark.parametrize("how", ["denied", "expired", "rejected"])
def test_refused_entry_frees_the_way(how: str) -> None:
    bench = Bench(BuyEachQuote)
    bench.live()
    (intent,) = bench.give(quote(100.0))
    i = intent.client_order_id
    message = {
        "denied": OrderDenied(
            client_order_id=i,
            strategy_id="b1",
            symbol="MES",
            code="max_position",
            numbers={},
            cause="",
            ts_ns=T0,
        ),
        "expired": IntentExpired(
            client_order_id=i, strategy_id="b1", symbol="MES", expires_at_ns=T0, ts_ns=T0
        ),
        "rejected": updated(i, OrderStatus.REJECTED),
    }[how]
    bench.give(message, stream=ORDERS)
    assert not bench.strategy.pending
    assert len(bench.give(quote(100.0))) == 1


def test_refused_change_leaves_the_order_working() -> None:
    """A denied modify or cancel names the order it was about; that order lives on."""
    bench = Bench(BuyEachQuote)
    bench.live()
    (intent,) = bench.give(quote(100.0))
    i = intent.client_order_id
    bench.give(updated(i, OrderStatus.NEW), stream=ORDERS)
    denied = OrderDenied(
        client_order_id=i, strategy_id="b1", symbol="MES", code="off_tick", numbers={}, cause="", ts_ns=T0
    )
    bench.give(denied, stream=ORDERS)
    assert bench.strategy.working_orders[0].status is OrderStatus.NEW
    assert bench.strategy.working_orders[0].reason == "off_tick"


def test_orders_of_others_are_not_ours() -> None:
    bench = Bench(BarsOnly)
    foreign = filled("x", Side.BUY, 5, ts_ns=T0)
    foreign = OrderFilled(
        **{name: getattr(foreign, name) for name in foreign.__struct_fields__} | {"strategy_id": "z"}
    )
    bench.give(foreign, stream=ORDERS)
    assert bench.strategy.flat


def test_halted_trading_suppresses() -> None:
    bench = Bench(BuyEachQuote)
    bench.live()
    bench.give(TradingStateChanged(state=TradingState.HALTED, halts={}, ts_ns=T0), stream=ORDERS)
    assert bench.give(quote(100.0)) == []
    assert bench.suppressed == {"halted": 1}


def test_close_once_until_answered() -> None:
    bench = Bench(BarsOnly)
    bench.live()
    bench.give(filled("e", Side.BUY, 1, ts_ns=T0), stream=ORDERS)
    (close,) = bench.give(bar(0, 100.0))
    assert isinstance(close, ClosePosition)
    again = quote(100.0)  # the same second: refused; a minute later: asked again
    bench.give(again)
    assert [type(i) for i in bench.give(bar(1, 100.0))] == [ClosePosition]


def test_quotes_nobody_wants_are_conflated_but_known() -> None:
    bench = Bench(BarsOnly)
    bench.live()
    bench.give(quote(100.0), quote(101.0), quote(102.0), bar(0, 100.0))
    assert bench.strategy.seen == ["100.0 102.0"]
    assert bench.words[1] == 3  # contract, feed state, bar


def test_older_bar_corrects_silently() -> None:
    bench = Bench(BarsOnly)
    bench.give(bar(0, 100.0), bar(2, 102.0), bar(1, 101.0), bar(2, 103.0))
    assert [b.close for b in bench.strategy.bars] == [100.0, 101.0, 103.0]
    assert len(bench.strategy.seen) == 2


def test_lost_entries_stop_trading_until_live() -> None:
    bench = Bench(BarsOnly)
    bench.live()
    decide(EntriesLost("MES", 7, T0), bench.state)
    assert bench.strategy.seen == ["gap"]
    assert bench.give(bar(0, 100.0)) == []
    bench.give(feed_state(ts_ns=T0 + 1))
    assert len(bench.give(bar(1, 100.0))) == 1


def test_gap_in_sequence_numbers_is_noticed() -> None:
    bench = Bench(BarsOnly)
    bench.live()
    bench._seq["md:{MES}"] += 5
    assert bench.give(bar(0, 100.0)) == []
    assert bench.strategy.seen[0] == "gap"
    assert bench.suppressed == {"not_live": 1}


def test_lost_order_entries_stop_entries_when_exposed() -> None:
    bench = Bench(BuyEachQuote)
    bench.live()
    bench.give(filled("e", Side.BUY, 1, ts_ns=T0), stream=ORDERS)
    bench._seq[ORDERS] += 3
    bench.give(updated("z", OrderStatus.NEW), stream=ORDERS)
    assert bench.give(quote(100.0)) == []
    assert bench.suppressed == {"orders_lost": 1}


@pytest.mark.parametrize(("age_ns", "live"), [(0, True), (6 * S, False), (-S, True), (-S - 1, False)])
def test_adopted_market_is_tradable_when_fresh(age_ns: int, live: bool) -> None:
    bench = Bench(BuyEachQuote)
    seen = MarketState(
        symbol="MES", contract_id="C", health=FeedHealth.LIVE, bid_px=1.0, ask_px=1.25, last_px=1.0,
        crossed=False, tick_size="0.25", tick_value="1.25", ts_event_ns=T0, ts_asof_ns=T0,
    )  # fmt: skip
    bench.consumption.adopt(MarketAdopted(state=seen, asof_ns=T0 + age_ns))
    market = bench.strategy.market()
    assert market.tick_size == Decimal("0.25")
    assert market.ts_health_ns <= T0 + age_ns, "what the feed says from now on is newer"
    assert bool(bench.give(quote(100.0))) is live


def test_the_clock_of_the_guards_goes_with_what_is_consumed() -> None:
    """Until the next commit it stood still, and what came a second later seemed to be in our future."""
    bench = Bench(BuyEachQuote)
    bench.live()
    stale = rows([quote(100.0, ts_ns=T0 - 60 * S)], first_seq=3)
    fresh = rows([quote(100.0, ts_ns=T0 + 2 * S)], first_seq=4)
    back = rows([quote(100.0, ts_ns=T0 + 2 * S)], first_seq=5)
    for read, asof_ns in ((stale, T0), (fresh, T0 + 2 * S), (back, T0 - 60 * S)):
        bench.consumption.begin(asof_ns)
        bench.consumption.take(MD, read)
    step = bench.consumption.step()
    assert [intent.cause.rpartition("-")[2] for intent in step.intents] == ["4"]
    assert bench.suppressed == {"late": 2}
    told = [(one.asof_ns, len(one.intents)) for one in step.journal if isinstance(one, InputsConsumed)]
    assert told == [(T0, 0), (T0 + 2 * S, 1), (T0 - 60 * S, 0)]


def test_refused_value_is_skipped_and_counted() -> None:
    bench = Bench(BarsOnly)
    bench.feed("md:{MES}", [[b"1-1", [b"bar", b"{}"]], [b"1-2", [b"nonsense", b"{}"]]])
    assert bench.words[4] == 2
    assert [one.cause for one in bench.consumption.refused] == ["md:{MES}@1-1", "md:{MES}@1-2"]


class CancelAll(Strategy):
    def on_quote(self, quote: Quote) -> None:
        if not self.working_orders:
            self.buy(1, limit=self.on_tick(quote.bid_px or 0.0))
        for order in self.working_orders:
            self.cancel(order)


def test_cancel_asks_again_only_after_a_while() -> None:
    bench = Bench(CancelAll)
    bench.live()
    intents = bench.give(quote(100.0), quote(100.0), quote(100.0, ts_ns=T0 + 10 * S))
    assert [type(i) for i in intents] == [SubmitOrder, CancelOrder, CancelOrder]
    assert isinstance(intents[0], SubmitOrder) and intents[0].limit_price == Decimal("100.00")
