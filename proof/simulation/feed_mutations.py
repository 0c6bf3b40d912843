"""Planted bugs of the feed; see `planting`."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import msgspec

from proof.simulation.planting import Patches, bug
from services.feed import contract, core, history, shell, staleness, stream
from services.feed.config import FeedConfig
from services.feed.events import BarsFetched, Command, ContractTaken
from services.feed.outlet import Outlet
from services.feed.state import NEVER_NS, Market, Settings, State
from shared.domain.market import Bar, MarketMessage, Quote


@bug(caught_in=30)
def silent_link_called_live() -> Patches:
    """The link is up and the broker answers: so all is well."""
    probed = staleness.probed

    def well(event: BarsFetched, market: Market, state: State) -> list[Command]:
        return probed(msgspec.structs.replace(event, bars=[]), market, state)

    return [patch.object(staleness, "probed", well)]


@bug(caught_in=30)
def looks_into_one_silence_not_compared() -> Patches:
    """Only history's newest minute is looked at, of which the beginning was not seen."""
    return [patch.object(staleness, "_newest", lambda event: (0, 0))]


@bug(caught_in=4)
def gap_not_marked_after_a_fall() -> Patches:
    """The link fell and is up again: there are prices, and nobody is told what was missed."""
    return [patch.object(contract, "open_gap", lambda market, reason, now_ns, messages: None)]


@bug(caught_in=4)
def old_quote_kept_over_a_fall() -> Patches:
    """What the hub leaves out is taken for unchanged, also when it changed while the link was down."""
    return [patch.object(contract, "forget_quote", lambda market: None)]


@bug(caught_in=52)
def repeated_quote_appended_again() -> Patches:
    merge = stream._merge

    def again(item: Quote, market: Market, messages: list[MarketMessage], mono_ns: int) -> None:
        unchanged = market.unchanged
        merge(item, market, messages, mono_ns)
        if market.unchanged > unchanged:
            messages.append(item)

    return [patch.object(stream, "_merge", again)]


@bug(caught_in=9)
def numbers_begin_anew_after_a_restart() -> Patches:
    """What has the number of an entry that is there is taken for a repetition, and not added."""
    begin = Outlet.__init__

    def anew(self: Outlet, symbol: str, writer: Any, pending_max: int) -> None:
        writer.last_seq = writer.acked_seq = 0
        begin(self, symbol, writer, pending_max)

    return [patch.object(Outlet, "__init__", anew)]


@bug(caught_in=29)
def refusal_remembered_when_it_is_over() -> Patches:
    """A subscription that the hub takes at last goes on counting as refused: stale for ever."""

    def deaf(event: ContractTaken, state: State) -> list[Command]:
        return []

    return [patch.object(core, "_taken", deaf)]


@bug(caught_in=4)
def older_feed_vouches_for_its_prices() -> Patches:
    """Who was frozen, and replaced meanwhile, says his state before he asks whether he still may."""
    return [patch.object(shell, "CONFIRMED_NS", NEVER_NS), *prices_vouched_for_on_waking()]


@bug(caught_in=197)
def prices_vouched_for_on_waking() -> Patches:
    """After a pause of its own the feed says that all is live, with what it knew before."""
    settings = FeedConfig.settings

    def never_stalled(self: FeedConfig, julie: Any) -> Settings:
        return msgspec.structs.replace(settings(self, julie), stall_ns=NEVER_NS)

    return [patch.object(FeedConfig, "settings", never_stalled)]


@bug(caught_in=29)
def minute_seen_in_part_called_whole() -> Patches:
    closed = history.minute_closed

    def whole(market: Market, minute: Bar, messages: list[MarketMessage]) -> None:
        closed(market, msgspec.structs.replace(minute, partial=False), messages)

    return [patch.object(history, "minute_closed", whole)]
