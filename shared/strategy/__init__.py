"""Everything a strategy file imports: `from shared.strategy import Bar, Strategy`."""

from __future__ import annotations

from msgspec import Meta

from shared.domain.execution import OrderFilled
from shared.domain.market import Aggressor, Bar, Depth, FeedGap, FeedHealth, FeedState, Quote, Trade
from shared.domain.order import OrderStatus, Side, StopPlan
from shared.strategy.indicators import ATR, EMA, SMA, VWAP, Highest, Lowest
from shared.strategy.strategy import Strategy
from shared.strategy.view import Market, Order, Ticks
from shared.strategy.wishes import ActionRefused

__all__ = [
    "ATR",
    "EMA",
    "SMA",
    "VWAP",
    "ActionRefused",
    "Aggressor",
    "Bar",
    "Depth",
    "FeedGap",
    "FeedHealth",
    "FeedState",
    "Highest",
    "Lowest",
    "Market",
    "Meta",
    "Order",
    "OrderFilled",
    "OrderStatus",
    "Quote",
    "Side",
    "StopPlan",
    "Strategy",
    "Ticks",
    "Trade",
]
