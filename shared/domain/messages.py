"""Every message that crosses a process, as one closed union; `wire/codec.py` is made from it."""

from __future__ import annotations

from shared.domain.control import Beat, Control, SessionMessage
from shared.domain.execution import OrderMessage
from shared.domain.journal import JournalMessage
from shared.domain.market import BarsWanted, MarketMessage, MarketState
from shared.domain.order import Intent
from shared.domain.report import Report

Message = (
    MarketMessage
    | MarketState
    | BarsWanted
    | Intent
    | OrderMessage
    | Report
    | Control
    | SessionMessage
    | JournalMessage
    | Beat
)
