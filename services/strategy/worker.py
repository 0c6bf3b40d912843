"""The loop of one strategy instance; `process.py` is the process around it.

One thread, one blocking connection. Commit and next read travel in one write. Intents are committed as soon
as the event that led to them is done; otherwise a commit every 250 ms bounds what a crash reads again.
Nobody waits for this process: it runs niced, its host kills it when a callback hangs, and it dies with its
host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from services.strategy.ages import Ages
from services.strategy.consumption import Consumption, Step, market_state, seq_of
from services.strategy.core import StopAsked, decide, start
from services.strategy.ends import StrategyRaised, told
from services.strategy.loading import InstanceRefused, Loaded
from services.strategy.patience import Patience
from services.strategy.places import Places
from services.strategy.progress import (
    BEHIND,
    BUSY,
    COMMITS,
    INTENTS,
    LAST_MS,
    LAST_SEQ,
    READY,
    SEQS,
    SUPPRESSED,
    TURNS,
    ProgressPage,
    consumed_streams,
)
from services.strategy.spec import WORKER_PREFIX, WorkerSpec
from shared.bus.blocking import BlockingBus, Output
from shared.bus.port import BusAway, BusRefused, Fenced, Lease, RolledBack
from shared.domain.journal import EntriesSkipped, MarketAdopted, Started, StrategyFailed, StrategySnapshot
from shared.domain.market import BarsWanted, MarketState
from shared.runtime.logs import Log
from shared.runtime.quarantine import ENTRIES_MAX, refused_input
from shared.strategy.desk import INPUT_AHEAD_MAX_NS, DeskRules
from shared.strategy.memory import MemoryRefused
from shared.wire import topics
from shared.wire.codec import encode

NS_PER_S = 1_000_000_000
READ_ENTRIES_MAX = 512
"""Entries a stream and read: what still fits into the processor's cache when it is looked at (measured)."""

READ_ENTRIES_FIRST = 16
CATCH_UP_MAX_NS = 60 * NS_PER_S
"""How long a worker may read old entries after its start before being behind counts against it."""

ADOPT_EVERY_NS = 2 * NS_PER_S

Reply = list[tuple[str, list[list[Any]]]]


class Worker:
    """The loop of one instance."""

    def __init__(
        self,
        spec: WorkerSpec,
        loaded: Loaded,
        *,
        bus: BlockingBus,
        page: ProgressPage,
        log: Log,
        now_ns: Callable[[], int],
        sleep: Callable[[float], None],
        stop_asked: Callable[[], bool],
    ) -> None:
        self._spec, self._loaded, self._bus, self._page, self._log = spec, loaded, bus, page, log
        self._now_ns, self._stop_asked = now_ns, stop_asked
        self._patience = Patience(bus, page=page, log=log, sleep=sleep, stop_asked=stop_asked)
        self._reach = self._patience.reach
        self._lease = Lease(*spec.lease)
        self._state_key = topics.state(spec.account_id, spec.strategy_id)
        self._intents = topics.intents(spec.account_id, spec.strategy_id)
        self._journal = topics.journal(spec.account_id, spec.strategy_id)
        self._orders = topics.orders(spec.account_id)
        self._places = Places(bus, self._patience, orders=self._orders)
        self._next_seq: dict[str, int] = {}
        consumed = consumed_streams(spec.account_id, spec.symbols)
        self._word_of = {stream: SEQS + at for at, stream in enumerate(consumed)}
        self._snapshot = b""
        self._committed_ns = 0
        self._adopted_ns = 0
        self._count = READ_ENTRIES_FIRST
        self._caught_up = False
        self._consumption: Consumption
        self._ages: Ages

    def run(self) -> None:
        """Work until asked to stop.

        Raises:
            Fenced: If another host has the lease.
            RolledBack: If Redis lost what was committed.
            InstanceRefused, MemoryRefused: If the instance cannot start as it is written.
            StrategyRaised: If the author's code raised; journaled.
        """
        self._reach(self._bus.ready)
        try:
            self._begin()
            self._catch_up_orders()
            self._page.words[READY] = 1
            self._loop()
        except StrategyRaised as raised:
            self._journal_failure(raised)
            raise

    # Start

    def _begin(self) -> None:
        spec, loaded = self._spec, self._loaded
        snapshot = self._stored()
        rules = DeskRules(
            env=spec.env,
            account_id=spec.account_id,
            strategy_id=spec.strategy_id,
            intent_ttl_ns=round(spec.intent_ttl_s * NS_PER_S),
            input_age_max_ns=round(spec.max_input_age_s * NS_PER_S),
        )
        state, reason = self._guarded(
            lambda: start(
                loaded.cls,
                rules=rules,
                symbols=spec.symbols,
                settings=loaded.settings,
                snapshot=snapshot,
                settings_hash=loaded.settings_hash,
            ),
            "on_start",
        )
        stored = snapshot.cursors if snapshot is not None else {}
        since = f"{self._now_ns() // 1_000_000 - round(spec.warmup_s * 1000)}-0"
        fresh = {self._orders: "0-0", **{topics.md(symbol): since for symbol in spec.symbols}}
        cursors = {stream: stored.get(stream, begin).encode() for stream, begin in fresh.items()}
        for stream in (self._intents, self._journal):
            self._next_seq[stream] = self._reach(lambda s=stream: self._bus.head(s)) + 1  # type: ignore[misc]
        self._consumption = Consumption(
            state,
            strategy_id=spec.strategy_id,
            settings_hash=loaded.settings_hash,
            cursors=cursors,
            words=self._page.words,
        )
        self._consumption.note(
            Started(
                strategy_id=spec.strategy_id,
                reason=reason,
                cursors={stream: cursor.decode() for stream, cursor in cursors.items()},
                build=spec.build,
                settings_hash=loaded.settings_hash,
                ts_ns=self._now_ns(),
            )
        )
        self._find_places()
        self._ages = Ages(self._places.ends, self._now_ns())
        self._want_bars()
        self._show_place(self._consumption.cursors)
        self._adopt()
        self._commit()
        self._log.info("strategy_started", why=reason, symbols=",".join(spec.symbols))

    def _want_bars(self) -> None:
        """Ask for the bars that `on_bar` gets, wherever the feed is; it looks every second."""
        spec = self._spec
        wish = BarsWanted(interval_s=self._loaded.settings["bar_interval_s"], symbols=list(spec.symbols))
        field = topics.bars_wanted_by(spec.account_id, spec.strategy_id)
        self._reach(lambda: self._bus.call("HSET", topics.BARS_WANTED, field, encode(wish)))

    def _show_place(self, streams: Iterable[str]) -> None:
        """Put on the page which entries are consumed; the host knows how far the streams are."""
        words, cursors = self._page.words, self._consumption.cursors
        for stream in streams:
            if (word := self._word_of.get(stream)) is not None:
                words[word] = seq_of(cursors[stream])

    def _stored(self) -> StrategySnapshot | None:
        value = self._reach(lambda: self._bus.call("GET", self._state_key))
        if value is None:
            return None
        try:
            return msgspec.json.decode(value, type=StrategySnapshot)
        except msgspec.DecodeError as error:
            raise InstanceRefused(
                self._spec.strategy_id,
                f"its snapshot cannot be read: {error}",
                f"move the key {self._state_key} away: the instance then starts fresh",
            ) from error

    def _catch_up_orders(self) -> None:
        """Know position and orders before the first market event is judged."""
        while True:
            cursor = self._consumption.cursors[self._orders]
            rows = self._reach(
                lambda c=cursor: self._bus.call(  # type: ignore[misc]
                    "XRANGE", self._orders, b"(" + c, "+", "COUNT", READ_ENTRIES_MAX
                )
            )
            if not rows:
                return
            self._consume([(self._orders, rows)])
            self._commit()

    # Loop

    def _loop(self) -> None:
        consumption = self._consumption
        interval_ns = self._spec.commit_interval_ms * 1_000_000
        entries_max = self._spec.commit_entries_max
        began_ns = self._now_ns()
        due = False
        while not self._stop_asked():
            self._page.words[TURNS] += 1  # also in a quiet market: our host sees that we do not stand still
            reply = self._commit_and_read() if due else self._read()
            now_ns = self._now_ns()
            if reply:
                self._consume(reply, now_ns)
            behind_ms = self._measure(reply, now_ns)
            old = self._caught_up or not 0 <= now_ns - began_ns < CATCH_UP_MAX_NS
            if behind_ms > self._spec.skip_behind_s * 1_000 and old:
                self._skip()
            if now_ns - self._adopted_ns > ADOPT_EVERY_NS or now_ns < self._adopted_ns:
                self._adopt()
                self._places.check(self._consumption.cursors)
            due = consumption.dirty and (
                bool(consumption.intents)
                or consumption.count >= entries_max
                or not 0 <= now_ns - self._committed_ns < interval_ns
            )
        self._guarded(lambda: decide(StopAsked(), consumption.state), "on_stop")
        if consumption.dirty:
            self._commit()

    def _consume(self, reply: Reply, now_ns: int | None = None) -> None:
        consumption = self._consumption
        words = self._page.words
        consumption.begin(self._ages.asof_ns(reply, self._now_ns() if now_ns is None else now_ns))
        last = len(reply) - 1
        for number, (stream, rows) in enumerate(reply):
            at = 0
            while at < len(rows):
                words[BUSY] = 1
                try:
                    at = consumption.take(stream, rows, at)
                except (Exception, SystemExit) as error:
                    # The author's code may raise anything; this process ends with it, in good order.
                    raise StrategyRaised(told(error), consumption.state.desk.cause) from error
                finally:
                    words[BUSY] = 0  # also before the failure is journaled, which may wait for Redis
                if consumption.intents and (at < len(rows) or number < last):
                    # More to consume, but an order must not wait for it.
                    self._commit()
                    consumption.begin(self._now_ns())
        if consumption.refused:
            self._tell_refused()

    def _tell_refused(self) -> None:
        """Keep what could not be used where people look; the page counts it."""
        refused = self._consumption.refused
        newest = refused[-1]
        self._log.warning("message_refused", entry=newest.cause, why=newest.why, raw=newest.raw[:200])
        key, ts_ns = topics.refused(WORKER_PREFIX + self._spec.strategy_id), self._now_ns()
        values = [
            msgspec.json.encode(refused_input(ts_ns=ts_ns, origin=one.cause, why=one.why, raw=one.raw))
            for one in refused
        ]
        refused.clear()
        try:
            self._bus.call("LPUSH", key, *values)
            self._bus.call("LTRIM", key, 0, ENTRIES_MAX - 1)
        except BusAway as error:
            self._patience.back(error)
        except BusRefused as error:
            self._log.warning("refused_not_kept", why=str(error))

    def _measure(self, reply: Reply, read_ns: int) -> int:
        """Return how many milliseconds we are behind, and fit the next read to the strategy's pace.

        A read that was not full has reached the end: only a full one leaves us behind. A slow strategy gets
        small reads, so that commits, a stop and a lost lease are not held up by a long batch.
        """
        count, now_ns = self._count, self._now_ns()
        most = max((len(rows) for _, rows in reply), default=0)
        took_ns, limit_ns = now_ns - read_ns, self._spec.commit_interval_ms * 1_000_000
        full = [rows[-1][0] for _, rows in reply if len(rows) >= count]
        if took_ns > limit_ns:
            self._count = max(1, most * limit_ns // took_ns)
        elif full:
            self._count = min(READ_ENTRIES_MAX, 2 * count)
        self._caught_up = self._caught_up or not full
        oldest_ms = min((int(entry_id.partition(b"-")[0]) for entry_id in full), default=None)
        behind_ms = 0 if oldest_ms is None else max(0, now_ns // 1_000_000 - oldest_ms)
        self._page.words[BEHIND] = behind_ms
        self._show_place(stream for stream, _ in reply)
        return behind_ms

    def _skip(self) -> None:
        """Leave out what the strategy was too slow for: it sees a gap, and trades on fresh data again."""
        for stream, cursor in list(self._consumption.cursors.items()):
            if stream == self._orders:
                continue
            newest = self._places.newest(stream)
            missing = seq_of(newest) - seq_of(cursor)
            if missing > 0:
                self._leave_out(stream, newest, missing)

    def _leave_out(self, stream: str, newest: bytes, missing: int) -> None:
        skipped = EntriesSkipped(
            stream=stream, missing=missing, to_id=newest.decode(), asof_ns=self._now_ns()
        )
        self._log.warning("entries_skipped", stream=stream, missing=missing)
        self._guarded(lambda: self._consumption.skip(skipped), "on_gap")

    def _guarded(self, work: Callable[[], Any], cause: str) -> Any:
        words = self._page.words
        words[TURNS] += 1
        words[BUSY] = 1
        try:
            return work()
        except MemoryRefused:
            raise
        except (Exception, SystemExit) as error:
            raise StrategyRaised(told(error), cause) from error
        finally:
            words[BUSY] = 0

    def _find_places(self) -> None:
        """Begin at places that exist."""
        cursors = self._consumption.cursors
        for stream, place in self._places.found(cursors).items():
            self._log.warning("place_found", stream=stream, was=cursors[stream].decode(), now=place.decode())
            if stream == self._orders:
                cursors[stream] = place
            else:
                self._leave_out(stream, place, 1)

    def _adopt(self) -> None:
        """Where the stream has not said that a symbol is live, ask the feed's conflated view."""
        self._adopted_ns = self._now_ns()
        for symbol, market in self._consumption.state.desk.state.markets.items():
            if market.live and market.tick_size is not None:
                continue
            value = self._reach(lambda s=symbol: self._bus.call("GET", topics.quote(s)))  # type: ignore[misc]
            seen = market_state(value)
            if not isinstance(seen, MarketState) or seen.ts_asof_ns <= market.ts_health_ns:
                continue
            if market.tick_size is not None and seen.ts_asof_ns > self._now_ns() + INPUT_AHEAD_MAX_NS:
                continue  # it would not be believed, at every look until the clock is there
            if market.tick_size is None or seen.health != market.health or market.gapped:
                adopted = MarketAdopted(state=seen, asof_ns=self._now_ns())
                self._guarded(lambda a=adopted: self._consumption.adopt(a), "on_feed_state")  # type: ignore[misc]

    # Bus

    def _read(self) -> Reply:
        consumption = self._consumption
        try:
            return self._bus.read(consumption.cursors, self._count)
        except (BusAway, BusRefused) as error:
            self._patience.back(error)
            return []

    def _commit_and_read(self) -> Reply:
        step, outputs = self._step()
        consumption = self._consumption
        try:
            reply = self._bus.step_and_read(
                self._lease, self._state_key, step.snapshot, outputs, consumption.cursors, self._count
            )
        except (BusAway, BusRefused) as error:
            self._write_again(error, step, outputs)
            reply = []
        self._committed(step, outputs)
        return reply

    def _commit(self) -> None:
        step, outputs = self._step()
        try:
            self._bus.step(self._lease, self._state_key, step.snapshot, outputs)
        except (BusAway, BusRefused) as error:
            self._write_again(error, step, outputs)
        self._committed(step, outputs)

    def _step(self) -> tuple[Step, list[Output]]:
        """Gather a step; the flag is up while the author's `save` may run, and down when the bus has it."""
        words = self._page.words
        words[TURNS] += 1
        words[BUSY] = 1
        try:
            step = self._consumption.step()
        except MemoryRefused as refused:
            raise StrategyRaised(str(refused), "save") from refused
        except Exception as error:
            raise StrategyRaised(told(error), "save") from error
        finally:
            words[BUSY] = 0
        outputs = [Output(self._journal, self._next_seq[self._journal], step.journal)]
        if step.intents:
            outputs.append(Output(self._intents, self._next_seq[self._intents], step.intents))
        return step, outputs

    def _write_again(self, error: BusAway | BusRefused, step: Step, outputs: list[Output]) -> None:
        """Whether the step was done is unknown: repeat it, which adds nothing twice."""
        if isinstance(error, (Fenced, RolledBack)):
            raise error
        self._patience.away(error)
        self._reach(lambda: self._bus.step(self._lease, self._state_key, step.snapshot, outputs))

    def _committed(self, step: Step, outputs: list[Output]) -> None:
        words = self._page.words
        for output in outputs:
            self._next_seq[output.stream] = output.first_seq + len(output.messages)
        self._snapshot = step.snapshot
        self._committed_ns = self._now_ns()
        words[COMMITS] += 1
        words[INTENTS] += len(step.intents)
        words[SUPPRESSED] = sum(self._consumption.state.desk.state.suppressed.values())
        newest = max(self._consumption.cursors.values(), key=lambda c: int(c.partition(b"-")[0]))
        ms, _, seq = newest.partition(b"-")
        words[LAST_MS], words[LAST_SEQ] = int(ms), int(seq)

    def _journal_failure(self, raised: StrategyRaised) -> None:
        """Record why; snapshot and cursors stay where the last commit left them."""
        if not self._snapshot:
            return
        failed = StrategyFailed(
            strategy_id=self._spec.strategy_id, error=raised.error, cause=raised.cause, ts_ns=self._now_ns()
        )
        output = Output(self._journal, self._next_seq[self._journal], [failed])
        try:
            self._bus.step(self._lease, self._state_key, self._snapshot, [output])
        except (BusAway, BusRefused) as error:
            self._log.warning("failure_not_journaled", why=str(error))
