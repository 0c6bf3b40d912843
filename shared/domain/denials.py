"""Every reason for which execution refuses an intent: its stable code, what it means, what to do.

`docs/risk.md` is written from `CODES` by `python -m tools.risk_table`; a test compares, and finds a code that
is used and not listed.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes: code: stable and short; numbers: the figures that led to it."""

    code: str
    numbers: dict[str, str]


def deny(code: str, **numbers: object) -> Denied:
    """Return a refusal with the figures that led to it."""
    return Denied(code=code, numbers={name: str(value) for name, value in numbers.items()})


class Code(NamedTuple):
    """One row of the table.

    Attributes:
        blames: The strategy asked for what it should not have; several in a row latch it off.
        latches: Being refused for this reason latches the strategy off at once.
    """

    meaning: str
    remedy: str
    blames: bool = False
    latches: bool = False


_WAIT = "nothing; it passes by itself"
_FIX = "correct the strategy"

CODES: dict[str, Code] = {
    # -- the intent itself
    "foreign_strategy": Code("the intent names another strategy than its stream", _FIX, blames=True),
    "client_order_id": Code("the order id is empty, too long or not printable ASCII", _FIX, blames=True),
    "order_qty": Code("a quantity below 1 (0 means: no order), or below what is filled", _FIX, blames=True),
    "order_type": Code("this type of order cannot be placed here", _FIX, blames=True),
    "limit_price": Code("no price that a contract can have", _FIX, blames=True),
    "limit_price_missing": Code("this type of order needs a limit price", _FIX, blames=True),
    "limit_price_unused": Code("this type of order has no limit price", _FIX, blames=True),
    "stop_price": Code("no price that a contract can have", _FIX, blames=True),
    "stop_price_missing": Code("this type of order needs a stop price", _FIX, blames=True),
    "stop_price_unused": Code("this type of order has no stop price", _FIX, blames=True),
    "trail_ticks": Code("a trail of no usable distance", _FIX, blames=True),
    "trail_ticks_missing": Code("a trailing stop needs its distance", _FIX, blames=True),
    "trail_ticks_unused": Code("this type of order has no trail", _FIX, blames=True),
    "stop_plan": Code("the plan for moving the stop contradicts itself", _FIX, blames=True),
    "off_tick": Code("a price between two ticks", "round to the tick size", blames=True),
    "bracket_missing": Code(
        "an entry without a stop", "bring a bracket, or set `require_bracket = false`", blames=True
    ),
    "bracket_too_near": Code(
        "a stop or target nearer than the gateway takes", "widen it to `bracket_ticks_min`", blames=True
    ),
    "not_reducing": Code("`reduce_only`, and it would do more than shrink the position", _FIX, blames=True),
    "symbol_not_configured": Code("nobody trades this symbol here", "add it to `julie.symbols`", blames=True),
    # -- changes, cancels, closes
    "order_unknown": Code("no order of this strategy has that id", _FIX, blames=True),
    "order_ended": Code("the order ended so long ago that it has left memory", "nothing"),
    "nothing_to_change": Code("the change names nothing that changes", _FIX, blames=True),
    "not_working": Code("the order to be changed does not work, or not yet", _WAIT),
    "change_expired": Code("the change came too late; the market has moved on", _WAIT),
    "change_unanswered": Code("the order's last change has no answer yet", _WAIT),
    "protective_qty": Code("a stop or target grows with its entry only", _FIX, blames=True),
    "stop_through_market": Code("a stop moved through the market would execute at once", _FIX, blames=True),
    "flat": Code("there is no position to close", "nothing"),
    "exits_canceled": Code(
        "exits that rest at the broker are canceled first: with them a close could turn the position",
        "close again in a moment",
    ),
    "already_closing": Code("exits for the whole position are working", _WAIT),
    # -- what trading allows now
    "trading_halted": Code(
        "trading is halted: cancels and flatten only", "see the halts in `julie status`; `julie resume`"
    ),
    "trading_reducing": Code("only what shrinks a position is taken", "see the halts in `julie status`"),
    "strategy_latched": Code(
        "this strategy was latched off; its exits still pass",
        "look at why, then `julie resume --strategy ID`",
    ),
    # -- what must be known and good
    "contract_unknown": Code("nobody has said which contract month the symbol means", "look at the feed"),
    "not_in_sync": Code("the account is not known to be as the broker has it", "look at broker_sync"),
    "session_inactive": Code("there is no valid broker session", "look at the session"),
    "account_cannot_trade": Code("the broker says that the account may not trade", "ask the broker"),
    "heartbeat_silent": Code("nobody judges whether all processes live", "restart heartbeat"),
    "mixed_build": Code(
        "a process that the order depends on runs another build or other shared settings",
        "restart the older one: `julie down`, `julie up`",
    ),
    "contract_frozen": Code(
        "an order of unknown fate exists in the contract, or a flatten's end is still to be booked", _WAIT
    ),
    "reference_missing": Code("there is no market to check the order against", "look at the feed"),
    "reference_stale": Code("the newest market state is too old, or from the future", "look at the feed"),
    "reference_not_live": Code("the feed does not call the symbol live", "look at the feed"),
    "reference_crossed": Code("bid above ask", _WAIT),
    # -- hours
    "market_time_unknown": Code("neither broker nor feed has told the venue's time", _WAIT),
    "session_unknown": Code(
        "the calendar does not know the symbol or the day",
        "rebuild the calendar; `sessions = \"always\"` for a venue that never closes",
    ),
    "market_closed": Code("the venue is closed", _WAIT),
    "near_close": Code("the session ends within `no_entries_before_close_s`", _WAIT),
    "blackout": Code("inside one of `blackouts`", _WAIT),
    # -- limits
    "order_qty_max": Code("one order is too large", "ask for less", blames=True),
    "position_max": Code(
        "position with everything working and unknown would exceed the limit; what is held makes room for a "
        "market order against it, not for an entry that rests: its stop may fill first",
        "ask for less, or close first",
        blames=True,
    ),
    "working_orders_max": Code("too many orders work at once", "cancel what is not needed", blames=True),
    "price_collar": Code("a price too far from the market", _FIX, blames=True),
    "daily_loss_max": Code("the day's realized loss, fees included, is at its limit", "the next trading day"),
    "open_loss_max": Code(
        "the day's loss together with that of open positions at the market is at its limit",
        "close what loses, or the next trading day",
    ),
    "open_loss_unknown": Code(
        "a position is open and its market is not known, so neither is its loss",
        "look at the feed; close a position in an expired month",
    ),
    "messages_per_s_max": Code("too many messages to the broker in this second", _WAIT, blames=True),
    "messages_per_min_max": Code("too many messages to the broker in this minute", _WAIT, blames=True),
    "duplicate": Code("an order alike was sent a moment ago", _FIX, blames=True),
    # -- behaviour
    "entries_max": Code(
        "the strategy has entered too often: repeated automated execution",
        "look at it, then `julie resume --strategy ID`",
        latches=True,
    ),
    "flips_max": Code(
        "the strategy has changed direction too often", "look at it, then `julie resume --strategy ID`",
        latches=True,
    ),
    "intents_max": Code(
        "the strategy asks for too much: a runaway", "look at it, then `julie resume --strategy ID`",
        latches=True,
    ),
    "exits_per_min_max": Code(
        "too many exits in one contract: a liquidation loop; trading is halted",
        "look at the positions, then `julie resume`",
    ),
}  # fmt: skip
