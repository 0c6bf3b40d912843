"""Run a recorded journal again: the same inputs in the same order must give the same intents, byte for byte.

The inputs come from the streams or from their archive; the journal says which of them, in which order, and
what the guards' clock was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from services.strategy.consumption import Consumption, Rows
from services.strategy.core import start
from services.strategy.loading import Loaded
from shared.domain.journal import (
    Consumed,
    EntriesSkipped,
    InputsConsumed,
    JournalMessage,
    MarketAdopted,
    Started,
    StrategySnapshot,
)
from shared.domain.order import Intent
from shared.strategy.desk import DeskRules

RowsOf = Callable[[Consumed], Rows]
"""Returns the recorded entries of one run, `[id, [kind, value]]`."""


def replay(
    journal: Iterable[JournalMessage],
    rows_of: RowsOf,
    *,
    loaded: Loaded,
    rules: DeskRules,
    symbols: tuple[str, ...],
) -> Iterator[Intent]:
    """Yield the intents that the journal's inputs lead to.

    Args:
        journal: From a `Started` with reason `fresh` on. A later start from a snapshot changes nothing,
            which is what a replay proves; `fresh` and `changed` begin anew as they did then. Failures had
            no effect.
        loaded: The code and settings of that time; `Started.settings_hash` says which they were.
    """
    consumption: Consumption | None = None
    for message in journal:
        if isinstance(message, Started):
            consumption = _started(message, consumption, loaded, rules, symbols)
        elif consumption is None:
            continue
        elif isinstance(message, MarketAdopted):
            consumption.adopt(message)
        elif isinstance(message, EntriesSkipped):
            consumption.skip(message)
        elif isinstance(message, InputsConsumed):
            yield from _consume(consumption, message, rows_of)


def _started(
    message: Started,
    before: Consumption | None,
    loaded: Loaded,
    rules: DeskRules,
    symbols: tuple[str, ...],
) -> Consumption:
    snapshot = None
    if before is not None and message.reason != "fresh":
        if message.reason == "snapshot":
            return before
        snapshot = msgspec.json.decode(before.step().snapshot, type=StrategySnapshot)
        snapshot = msgspec.structs.replace(snapshot, settings_hash="")
    state, _ = start(
        loaded.cls,
        rules=rules,
        symbols=symbols,
        settings=loaded.settings,
        snapshot=snapshot,
        settings_hash=loaded.settings_hash,
    )
    return Consumption(
        state,
        strategy_id=rules.strategy_id,
        settings_hash=loaded.settings_hash,
        cursors={stream: cursor.encode() for stream, cursor in message.cursors.items()},
        words=[0] * 32,
    )


def _consume(consumption: Consumption, inputs: InputsConsumed, rows_of: RowsOf) -> Iterator[Intent]:
    consumption.begin(inputs.asof_ns)
    for run in inputs.runs:
        rows, at = rows_of(run), 0
        while at < len(rows):
            at = consumption.take(run.stream, rows, at)
    yield from consumption.step().intents
