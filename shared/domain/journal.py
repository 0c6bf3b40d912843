"""What a strategy worker consumed, in which order: enough to replay it byte for byte."""

from __future__ import annotations

import msgspec

from shared.domain.market import MarketState


class Consumed(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A run of consecutive entries of one stream."""

    stream: str
    first_id: str
    last_id: str
    count: int


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """An incarnation began from a snapshot (`cursors` say where) or from nothing.

    Attributes:
        reason: `fresh` (nothing was stored), `snapshot`, or `changed` (code or settings are others than the
            snapshot's: positions, orders and cursors stay, the author's memory starts anew).
        build: Code version, so that a replay with other code can say so.
    """

    strategy_id: str
    reason: str
    cursors: dict[str, str]
    build: str
    settings_hash: str
    ts_ns: int


class InputsConsumed(msgspec.Struct, frozen=True, kw_only=True, tag="inputs"):
    """Runs in the order they were consumed, and the ids of the orders they led to.

    Attributes:
        asof_ns: The worker's clock as the strategy's guards saw it: what was older than
            `max_input_age_s` then led to no intent. The only clock reading that matters, hence kept.
    """

    runs: list[Consumed]
    intents: list[str]
    asof_ns: int


class MarketAdopted(msgspec.Struct, frozen=True, kw_only=True, tag="market_adopted"):
    """The worker took a symbol's state from its conflated view: at a fresh start, and after lost entries."""

    state: MarketState
    asof_ns: int


class EntriesSkipped(msgspec.Struct, frozen=True, kw_only=True, tag="entries_skipped"):
    """The strategy was too slow: what lay between its place and `to_id` was left out, and marked as a gap."""

    stream: str
    missing: int
    to_id: str
    asof_ns: int


class StrategyFailed(msgspec.Struct, frozen=True, kw_only=True, tag="strategy_failed"):
    """The strategy raised; the host restarts it from its snapshot after a pause."""

    strategy_id: str
    error: str
    cause: str
    ts_ns: int


JournalMessage = Started | InputsConsumed | MarketAdopted | EntriesSkipped | StrategyFailed


class StrategySnapshot(msgspec.Struct, frozen=True, kw_only=True, tag="strategy_snapshot"):
    """A strategy's state and the ids it stands at. One value under `state:{acct}:ID`.

    Attributes:
        cursors: Stream -> id of the last entry the state contains.
        framework: Positions, working orders, counters: what the base class keeps.
        strategy: What the author's class saved.
    """

    strategy_id: str
    cursors: dict[str, str]
    framework: msgspec.Raw
    strategy: msgspec.Raw
    settings_hash: str
