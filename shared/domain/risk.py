"""Pre-trade controls: pure, fail closed, and every refusal says which figure broke which limit.

An order that only shrinks its strategy's own position passes nearly everything: a limit that traps a
position would be worse than what it guards against. Everything else needs all figures to be known and good;
what is missing or stale denies.

Exposure is counted per strategy and added up gross: the longs of all strategies on one side, the shorts on
the other. A net figure would let one strategy's exit push the account beyond the limit that another one's
opposite position had hidden.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from shared.domain.control import TradingState
from shared.domain.denials import Denied, deny
from shared.domain.hours import Blackout, hours
from shared.domain.market import FeedHealth, MarketState
from shared.domain.order import OrderType, Side, SubmitOrder

ZERO = Decimal(0)
PX_MAX = Decimal(10) ** 9
"""Beyond every price; also keeps arithmetic on the tick grid exact."""
_LIMIT_TYPES = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_STOP_TYPES = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
TRAIL_TICKS_MAX = 1_000
"""The gateway refuses a longer trail at placing and does not look at it in a change."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit with its unit; the settings say the same words.

    Attributes:
        daily_loss_max: Account currency; realized result of the trading day, after fees.
        open_loss_max: The same with open positions at the market.
        duplicate_window_ms: 0 turns the check off.
        always_open: The venue never closes.
        no_entries_before_close_s, conduct_window_s: In the venue's seconds.
        entries_max, flips_max, intents_max: Of one strategy in the window.
        rejects_max, denials_max: In a row, of one strategy.
    """

    symbols: frozenset[str]
    order_qty_max: int = 5
    position_max: int = 5
    working_orders_max: int = 20
    collar_ticks: int = 100
    reference_age_ms_max: int = 2_000
    heartbeat_silence_ms_max: int = 5_000
    daily_loss_max: Decimal = Decimal(1_000)
    open_loss_max: Decimal = Decimal(1_000)
    messages_per_s_max: int = 10
    messages_per_min_max: int = 100
    duplicate_window_ms: int = 500
    require_bracket: bool = True
    bracket_ticks_min: int = 4
    always_open: bool = False
    no_entries_before_close_s: int = 60
    blackouts: tuple[Blackout, ...] = ()
    conduct_window_s: float = 300.0
    entries_max: int = 50
    flips_max: int = 20
    intents_max: int = 600
    rejects_max: int = 5
    denials_max: int = 20
    exits_per_min_max: int = 10


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the account at the moment of the check.

    Working quantities include what was sent and not answered, and orders whose fate is unknown.

    Attributes:
        contract_id: What the symbol means now; empty when nobody has said.
        net_qty: The strategy's own position in the contract, signed.
        buy_qty: What the strategy's own orders may still buy; its protective orders are not counted.
        buy_rests_qty: Of these, entries that wait at the broker for their price.
        exit_qty: What its orders against its position may still take from it.
        others_long_qty: Worst case of all others in the contract, their working orders filled.
        frozen: An order of unknown fate exists in the contract.
        reference_age_ms: Age of the market state; None when there is none.
        duplicate_of: Id of an order alike, sent a moment ago.
        market_ns: The venue's time; None while nobody has told it.
        open_pnl: Of all strategies' positions at the market; None when one has none.
        latched: Why the strategy may take no new exposure until a person arms it again.
        rests: The order that is asked for would wait at the broker for its price.
        mixed: A process of another build or other settings that the order depends on.
        intents: Of the strategy in the window, this one included.
        entries: Of the strategy in the window, before this one.
        flips: Changes of direction among the entries of the window, this one included.
        exits_last_min: In the contract, whoever asked.
    """

    contract_id: str
    trading_state: TradingState
    halt_reason: str = ""
    net_qty: int = 0
    buy_qty: int = 0
    sell_qty: int = 0
    buy_rests_qty: int = 0
    sell_rests_qty: int = 0
    others_long_qty: int = 0
    others_short_qty: int = 0
    working_orders: int = 0
    frozen: bool = False
    in_sync: bool = True
    session_active: bool = True
    account_can_trade: bool = True
    heartbeat_silent_ms: int = 0
    reference_age_ms: int | None = None
    day_pnl: Decimal = ZERO
    messages_last_s: int = 0
    messages_last_min: int = 0
    duplicate_of: str = ""
    market_ns: int | None = None
    open_pnl: Decimal | None = ZERO
    latched: str = ""
    rests: bool = False
    mixed: str = ""
    intents: int = 0
    entries: int = 0
    flips: int = 0
    exits_last_min: int = 0

    @property
    def exit_qty(self) -> int:
        return self.sell_qty if self.net_qty > 0 else self.buy_qty


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: reduces: the order can only shrink the strategy's position."""

    reduces: bool


Verdict = Approved | Denied


def reduces(command: SubmitOrder, exposure: Exposure) -> bool:
    """Can `command`, with everything else the strategy has out against its position, only shrink it?"""
    against = exposure.net_qty * command.side.sign < 0
    return against and 0 < command.order_qty <= abs(exposure.net_qty) - exposure.exit_qty


def check(command: SubmitOrder, exposure: Exposure, market: MarketState | None, limits: Limits) -> Verdict:
    """Return whether `command` may be sent.

    Args:
        command: As the strategy wants it.
        exposure: Of its strategy and contract, with everything unknown counted as filled.
        market: Newest state of the symbol; None when there is none.
        limits: From the settings.
    """
    denied = _shape(command, market) or _state(exposure)
    if denied is not None:
        return denied
    if reduces(command, exposure):
        return _exits(exposure, limits) or Approved(reduces=True)
    denied = (
        _reduce_only(command, exposure)
        or _conduct(exposure, limits)
        or _known(command, exposure, limits)
        or _hours(command, exposure, limits)
        or _sizes(command, exposure, limits)
        or _bracket(command, limits)
        or reference(exposure, market, limits)
        or collar(command.symbol, (command.limit_price, command.stop_price), market, limits)
        or _losses(exposure, limits)
        or pace(exposure, limits)
        or _duplicate(exposure, limits)
    )
    return denied or Approved(reduces=False)


def _shape(command: SubmitOrder, market: MarketState | None) -> Denied | None:
    if command.order_qty <= 0:
        return deny("order_qty", order_qty=command.order_qty, least=1)  # 0 means: no order
    denied = trail(command.order_type, command.trail_ticks, market)
    if denied is not None:
        return denied
    for name, needed, px in (
        ("limit_price", command.order_type in _LIMIT_TYPES, command.limit_price),
        ("stop_price", command.order_type in _STOP_TYPES, command.stop_price),
    ):
        if needed and px is None:
            return deny(f"{name}_missing", order_type=command.order_type)
        if not needed and px is not None:
            return deny(f"{name}_unused", order_type=command.order_type, px=px)
        if px is not None and not is_price(px):
            return deny(name, px=px)
        if px is not None and market is not None and px % Decimal(market.tick_size):
            return deny("off_tick", px=px, tick_size=market.tick_size)
    return None


def is_price(px: Decimal) -> bool:
    """Could any contract trade at `px`?"""
    return px.is_finite() and ZERO < px < PX_MAX


def trail(order_type: OrderType, trail_ticks: int | None, market: MarketState | None) -> Denied | None:
    """Deny a trail that cannot be placed; the broker measures it from the last trade."""
    if order_type is not OrderType.TRAILING_STOP:
        return None if trail_ticks is None else deny("trail_ticks_unused", order_type=order_type)
    if trail_ticks is None:
        return deny("trail_ticks_missing", order_type=order_type)
    if not 0 < trail_ticks <= TRAIL_TICKS_MAX:
        return deny("trail_ticks", trail_ticks=trail_ticks, least=1, most=TRAIL_TICKS_MAX)
    if market is None or market.last_px is None:
        return deny("reference_missing", last_px=None)
    return None


def _state(exposure: Exposure) -> Denied | None:
    if exposure.trading_state is TradingState.HALTED:
        return deny("trading_halted", halts=exposure.halt_reason)
    return None


def _exits(exposure: Exposure, limits: Limits) -> Denied | None:
    """Even exits have a limit: a loop of them pays the spread for ever."""
    if exposure.exits_last_min >= limits.exits_per_min_max:
        return deny(
            "exits_per_min_max",
            exits=exposure.exits_last_min,
            most=limits.exits_per_min_max,
            contract_id=exposure.contract_id,
        )
    return None


def _conduct(exposure: Exposure, limits: Limits) -> Denied | None:
    """Deny a strategy that behaves as none should. These refusals latch it off; see `denials`."""
    if exposure.latched:
        return deny("strategy_latched", latched=exposure.latched)
    window_s = f"{limits.conduct_window_s:g}"
    if exposure.intents > limits.intents_max:
        return deny("intents_max", intents=exposure.intents, most=limits.intents_max, window_s=window_s)
    if exposure.entries >= limits.entries_max:
        return deny("entries_max", entries=exposure.entries, most=limits.entries_max, window_s=window_s)
    if exposure.flips > limits.flips_max:
        return deny("flips_max", flips=exposure.flips, most=limits.flips_max, window_s=window_s)
    return None


def _reduce_only(command: SubmitOrder, exposure: Exposure) -> Denied | None:
    """Here only orders arrive that do more than shrink the strategy's position."""
    if command.reduce_only:
        return deny(
            "not_reducing",
            net_qty=exposure.net_qty,
            order_qty=command.order_qty,
            side=command.side,
            exits_working=exposure.exit_qty,
        )
    if exposure.trading_state is TradingState.REDUCING:
        return deny("trading_reducing", halts=exposure.halt_reason)
    return None


def _known(command: SubmitOrder, exposure: Exposure, limits: Limits) -> Denied | None:
    if command.symbol not in limits.symbols:
        return deny("symbol_not_configured", symbol=command.symbol)
    if not exposure.contract_id:
        return deny("contract_unknown", symbol=command.symbol)
    if not exposure.in_sync:
        return deny("not_in_sync")
    if not exposure.session_active:
        return deny("session_inactive")
    if not exposure.account_can_trade:
        return deny("account_cannot_trade")
    if exposure.heartbeat_silent_ms > limits.heartbeat_silence_ms_max:
        return deny(
            "heartbeat_silent", silent_ms=exposure.heartbeat_silent_ms, most=limits.heartbeat_silence_ms_max
        )
    if exposure.mixed:
        return deny("mixed_build", mixed=exposure.mixed)
    if exposure.frozen:
        return deny("contract_frozen", contract_id=exposure.contract_id)
    return None


def _hours(command: SubmitOrder, exposure: Exposure, limits: Limits) -> Denied | None:
    return hours(
        command.symbol,
        exposure.market_ns,
        always_open=limits.always_open,
        before_close_s=limits.no_entries_before_close_s,
        blackouts=limits.blackouts,
    )


def _sizes(command: SubmitOrder, exposure: Exposure, limits: Limits) -> Denied | None:
    qty = command.order_qty
    if qty > limits.order_qty_max:
        return deny("order_qty_max", order_qty=qty, most=limits.order_qty_max)
    if command.side is Side.BUY:
        others, working, resting = exposure.others_long_qty, exposure.buy_qty, exposure.buy_rests_qty
    else:
        others, working, resting = exposure.others_short_qty, exposure.sell_qty, exposure.sell_rests_qty
    held = exposure.net_qty * command.side.sign
    worst = others + worst_qty(held, working + qty, resting + (qty if exposure.rests else 0))
    if worst > limits.position_max:
        return deny(
            "position_max",
            worst_case=worst,
            most=limits.position_max,
            net_qty=exposure.net_qty,
            working_buys=exposure.buy_qty,
            working_sells=exposure.sell_qty,
            order_qty=qty,
            rests=exposure.rests,
        )
    if exposure.working_orders >= limits.working_orders_max:
        return deny("working_orders_max", working=exposure.working_orders, most=limits.working_orders_max)
    return None


def worst_qty(held_qty: int, working_qty: int, rests_qty: int) -> int:
    """Return contracts that one side may come to hold when all that works on it fills.

    A position on the other side makes room for what closes it now, not for an entry that waits for its price:
    by then its own stop may have ended it, and both have filled.

    Args:
        held_qty: The position, positive on this side and negative on the other one.
        working_qty: Everything that works on this side.
        rests_qty: Of it, entries that wait at the broker for their price.
    """
    return rests_qty + max(0, held_qty + working_qty - rests_qty)


def _bracket(command: SubmitOrder, limits: Limits) -> Denied | None:
    bracket = command.bracket
    if bracket is None:
        return deny("bracket_missing") if limits.require_bracket else None
    for name, ticks in (
        ("stop_loss_ticks", bracket.stop_loss_ticks),
        ("take_profit_ticks", bracket.take_profit_ticks),
    ):
        # The gateway refuses anything nearer; reported by two independent clients.
        if ticks is not None and ticks < limits.bracket_ticks_min:
            return deny("bracket_too_near", **{name: ticks, "least": limits.bracket_ticks_min})
    if bracket.plan is not None and bracket.plan.problem:
        return deny("stop_plan", problem=bracket.plan.problem)
    return None


_WEIGHED = (
    "net_qty", "buy_qty", "sell_qty", "buy_rests_qty", "sell_rests_qty", "others_long_qty",
    "others_short_qty", "working_orders", "day_pnl", "open_pnl", "messages_last_min", "reference_age_ms",
    "heartbeat_silent_ms",
)  # fmt: skip


def weighed(exposure: Exposure, market: MarketState | None) -> dict[str, str]:
    """Return the figures that an approval rests on, for the record of the claim."""
    numbers = {name: str(getattr(exposure, name)) for name in _WEIGHED}
    if market is not None:
        numbers |= {"bid_px": str(market.bid_px), "ask_px": str(market.ask_px)}
    return numbers


def reference(exposure: Exposure, market: MarketState | None, limits: Limits) -> Denied | None:
    """Deny unless there is a fresh, live, uncrossed market."""
    age_ms = exposure.reference_age_ms
    if market is None or age_ms is None:
        return deny("reference_missing")
    if not 0 <= age_ms <= limits.reference_age_ms_max:
        return deny("reference_stale", age_ms=age_ms, most=limits.reference_age_ms_max)
    if market.health is not FeedHealth.LIVE:
        return deny("reference_not_live", health=market.health)
    if market.bid_px is None or market.ask_px is None:
        return deny("reference_missing", bid_px=market.bid_px, ask_px=market.ask_px)
    if market.crossed or market.bid_px > market.ask_px:
        return deny("reference_crossed", bid_px=market.bid_px, ask_px=market.ask_px)
    return None


def collar(
    symbol: str, prices: tuple[Decimal | None, ...], market: MarketState | None, limits: Limits
) -> Denied | None:
    """Deny a price that is more than the collar away from the market, on either side."""
    assert market is not None and market.bid_px is not None and market.ask_px is not None, symbol
    room = limits.collar_ticks * Decimal(market.tick_size)
    least, most = Decimal(str(market.bid_px)) - room, Decimal(str(market.ask_px)) + room
    for px in prices:
        if px is not None and not least <= px <= most:
            return deny("price_collar", px=px, least=least, most=most)
    return None


def _losses(exposure: Exposure, limits: Limits) -> Denied | None:
    if exposure.day_pnl <= -limits.daily_loss_max:
        return deny("daily_loss_max", day_pnl=exposure.day_pnl, most=limits.daily_loss_max)
    if exposure.open_pnl is None:
        return deny("open_loss_unknown")
    if exposure.day_pnl + exposure.open_pnl <= -limits.open_loss_max:
        return deny(
            "open_loss_max",
            day_pnl=exposure.day_pnl,
            open_pnl=exposure.open_pnl,
            most=limits.open_loss_max,
        )
    return None


def pace(exposure: Exposure, limits: Limits) -> Denied | None:
    """Deny what would make more messages than the gateway may get; orders, changes and cancels count."""
    if exposure.messages_last_s >= limits.messages_per_s_max:
        return deny("messages_per_s_max", messages=exposure.messages_last_s, most=limits.messages_per_s_max)
    if exposure.messages_last_min >= limits.messages_per_min_max:
        return deny(
            "messages_per_min_max", messages=exposure.messages_last_min, most=limits.messages_per_min_max
        )
    return None


def _duplicate(exposure: Exposure, limits: Limits) -> Denied | None:
    if exposure.duplicate_of:
        return deny("duplicate", earlier=exposure.duplicate_of, window_ms=limits.duplicate_window_ms)
    return None
