"""What a worker has consumed since its last commit, and what it led to. No I/O: rows in, a step out.

The step is one atomic write: snapshot with its cursors, journal, intents. A crash before it means that the
same entries are read again, and because ids come from causes, the same intents follow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from services.strategy.core import EntriesLost, Handler, Input, State, decide, snapshot_of
from services.strategy.progress import HANDLED, REFUSED, TURNS
from shared.domain.journal import Consumed, EntriesSkipped, InputsConsumed, JournalMessage, MarketAdopted
from shared.domain.order import Intent
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode, encode

Rows = Sequence[Sequence[Any]]

ASOF_KEPT_NS = 500_000_000
"""How long the clock that the guards see stands for the true one: what is received later must not seem to be
in our future. With the intervals as they come, it is read once per commit."""

REFUSED_MAX = 32
"""Held until the worker tells of them; all are counted."""


class Refusal(NamedTuple):
    """An entry that cannot be used, with all of its value."""

    cause: str
    why: str
    raw: bytes


class Step(NamedTuple):
    """One commit."""

    snapshot: bytes
    journal: list[JournalMessage]
    intents: list[Intent]


class Consumption:
    """Feeds rows to `decide` and keeps account of them.

    Attributes:
        cursors: Stream -> id of the last entry given to the strategy.
        count: Entries consumed since the last step.
        refused: The newest values that were not our messages, until the worker has told of them.
    """

    def __init__(
        self,
        state: State,
        *,
        strategy_id: str,
        settings_hash: str,
        cursors: dict[str, bytes],
        words: memoryview | list[int],
    ) -> None:
        self.state = state
        self.cursors = cursors
        self.intents: list[Intent] = []
        self.count = 0
        self.asof_ns = 0
        self.refused: deque[Refusal] = deque(maxlen=REFUSED_MAX)
        self._strategy_id = strategy_id
        self._settings_hash = settings_hash
        self._words = words
        self._journal: list[JournalMessage] = []
        self._runs: list[Consumed] = []
        self._taken: list[Intent] = []
        self._quotes: dict[str, Sequence[Any]] = {}
        self._seqs: dict[str, int] = {}
        self._skipped = frozenset(_kind(t) for t in state.routes if t not in state.every)
        self._table: dict[bytes, tuple[Callable[[bytes], Any], Handler]] = {
            _kind(t): (msgspec.json.Decoder(t).decode, state.routes[t])
            for t in sorted(state.every, key=_kind)
        }

    @property
    def dirty(self) -> bool:
        return bool(self.count or self._journal)

    def note(self, message: JournalMessage) -> None:
        """Put a message into the journal, after what was consumed so far."""
        self._close_inputs()
        self._journal.append(message)

    def adopt(self, seen: MarketAdopted) -> None:
        self._apply_quotes()
        self.note(seen)
        decide(seen, self.state)

    def skip(self, skipped: EntriesSkipped) -> None:
        """Go on behind entries that came faster than the strategy can look at them."""
        self._apply_quotes()
        self.note(skipped)
        self.cursors[skipped.stream] = skipped.to_id.encode()
        self._seqs.pop(skipped.stream, None)
        decide(EntriesLost(topics.symbol_of(skipped.stream), skipped.missing, skipped.asof_ns), self.state)

    def begin(self, asof_ns: int) -> None:
        """Fix the clock that the guards see for what comes next; what was consumed is journaled with its."""
        if self._runs and not 0 <= asof_ns - self.asof_ns <= ASOF_KEPT_NS:
            self._apply_quotes()
            self._close_inputs()
        if not self._runs:
            self.asof_ns = asof_ns

    def take(self, stream: str, rows: Rows, at: int = 0) -> int:
        """Consume `rows[at:]` up to the first entry that led to intents; return where to go on.

        Raises:
            Exception: Whatever the author's code raises.
        """
        self._words[TURNS] += 1
        self._check_gap(stream, rows, at)
        words, desk, table = self._words, self.state.desk, self._table
        desk.stream, desk.asof_ns, desk.intents = stream, self.asof_ns, []
        handled, total = words[HANDLED], len(rows)
        end = total
        # `decide`, unrolled: a call and a tuple an entry would cost as much as the rest of this loop.
        for i in range(at, total):
            entry_id, (kind, value) = rows[i]
            known = table.get(kind)
            if known is None:
                if kind == b"quote":
                    self._quotes[stream] = rows[i]
                elif kind not in self._skipped:
                    self._refuse(stream, entry_id, kind, value)
                continue
            if self._quotes:
                self._apply_quotes()
                desk.stream = stream
            handled += 1
            words[HANDLED] = handled
            try:
                desk.message = message = known[0](value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._refuse(stream, entry_id, kind, value)
                continue
            desk.entry_id = entry_id
            known[1](message)
            if desk.intents:
                self.intents += desk.intents
                end = i + 1
                break
        desk.message = None
        self._consumed(stream, rows[at][0], rows[end - 1][0], end - at)
        for i in range(end - 1, at - 1, -1):
            if seq := seq_of(rows[i][0]):
                self._seqs[stream] = seq
                break
        return end

    def step(self) -> Step:
        """Return what to commit; from now on a new step is being gathered."""
        self._apply_quotes()
        self._close_inputs()
        snapshot = snapshot_of(
            self.state,
            strategy_id=self._strategy_id,
            cursors={stream: cursor.decode() for stream, cursor in self.cursors.items()},
            settings_hash=self._settings_hash,
        )
        step = Step(encode(snapshot), self._journal, self._taken)
        self._journal, self._taken, self.count = [], [], 0
        return step

    def _consumed(self, stream: str, first: bytes, last: bytes, count: int) -> None:
        self.cursors[stream] = last
        self.count += count
        runs = self._runs
        if runs and runs[-1].stream == stream and seq_of(runs[-1].last_id) + 1 == seq_of(first):
            before = runs[-1]
            runs[-1] = Consumed(
                stream=stream, first_id=before.first_id, last_id=last.decode(), count=before.count + count
            )
        else:
            runs.append(Consumed(stream=stream, first_id=first.decode(), last_id=last.decode(), count=count))

    def _close_inputs(self) -> None:
        if not self._runs:
            return
        self._taken += self.intents
        ids = [intent.client_order_id for intent in self.intents]
        self._journal.append(InputsConsumed(runs=self._runs, intents=ids, asof_ns=self.asof_ns))
        self._runs, self.intents = [], []

    def _apply_quotes(self) -> None:
        """Give the framework the last quote of each stream: nobody wanted the ones before."""
        quotes, self._quotes = self._quotes, {}
        for stream, (entry_id, (kind, value)) in quotes.items():
            try:
                message: Any = decode(kind, value)
            except MessageRefused as refused:
                self._note_refused(stream, entry_id, refused, value)
            else:
                decide(Input(stream, entry_id, message, self.asof_ns), self.state)

    def _check_gap(self, stream: str, rows: Rows, at: int) -> None:
        """Ids end in a number that rises by one: entries trimmed before they were read show here.

        0 is never ours: an entry that somebody added by hand, its id chosen by the server, is no gap.
        """
        here = seq_of(rows[at][0])
        before = self._seqs.get(stream) or seq_of(self.cursors[stream])
        if here and before and here != before + 1:
            symbol = topics.symbol_of(stream) if stream.startswith("md:") else None
            # A number that falls is not ours either; what it hides nobody knows.
            decide(EntriesLost(symbol, max(1, here - before - 1), self.asof_ns), self.state)

    def _refuse(self, stream: str, entry_id: bytes, kind: bytes, value: bytes) -> None:
        try:
            decode(kind, value)
        except MessageRefused as refused:
            self._note_refused(stream, entry_id, refused, value)

    def _note_refused(self, stream: str, entry_id: bytes, refused: MessageRefused, value: bytes) -> None:
        self._words[REFUSED] += 1
        why = f"{refused.kind}: {refused.why}"
        self.refused.append(Refusal(f"{stream}@{entry_id.decode()}", why, value))


def _kind(message_type: type) -> bytes:
    return str(message_type.__struct_config__.tag).encode()  # type: ignore[attr-defined]


def seq_of(entry_id: bytes | str) -> int:
    return int(entry_id.partition("-")[2] if isinstance(entry_id, str) else entry_id.partition(b"-")[2])


def market_state(value: bytes | None) -> Any:
    """Return the `MarketState` under `quote:{SYM}`, None if there is none or it cannot be read."""
    if value is None:
        return None
    try:
        return decode(b"market_state", value)
    except (MessageRefused, msgspec.DecodeError):
        return None
