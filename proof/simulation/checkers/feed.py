"""The real feed, held against what its hub has told it and what the broker's market has done.

I-14 (what was told is in `md:{SYM}` once, in order and as it was, and where anything may be missing a gap is
marked), I-4 (a market is called live only with the prices that come, and not when they have stopped coming),
I-17 (an older feed tells nothing any more) and I-18 (prices that come make it live again).

It knows what a life of the feed has taken from its link: what a frozen or killed one never read is not its
fault. What it does not read while it runs is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proof.simulation.bus.replies import ErrorReply
from proof.simulation.bus.session import Parked
from proof.simulation.bus.streams import Stream
from proof.simulation.checkers.checker import Checker
from proof.simulation.checkers.feed_lives import Life
from proof.simulation.loop import NS_PER_S
from proof.simulation.machine import Incarnation
from proof.simulation.market_hub import SUBSCRIPTIONS
from proof.simulation.scaled import PROBE_WAIT_S, STALE_AFTER_NIGHT_S, STALE_AFTER_S
from proof.simulation.venue import SYMBOL
from shared.broker.port import LinkDown, LinkEvent, LinkUp, SubscriptionRefused, SubscriptionTaken
from shared.bus.client import COMMAND_TIMEOUT_S
from shared.domain.market import Bar, BarSource, FeedGap, FeedHealth, FeedState, MarketState, Quote, Trade
from shared.wire import topics
from shared.wire.codec import decode

if TYPE_CHECKING:
    from proof.simulation.judge import Judge

MD, QUOTES = topics.md(SYMBOL).encode(), topics.quotes(SYMBOL).encode()
HEAD = topics.head(topics.md(SYMBOL)).encode()
TICK = 0.25
"""Points."""
VOUCHED_S = 0.4
"""A state that is older when it comes to Redis says so itself, by its time."""
READ_S = 0.4
"""What has come is read so soon by a process that runs."""
ANSWER_S = 0.5
"""A question to the broker and its answer, and a turn of the feed on both ends."""
PLACE_S = COMMAND_TIMEOUT_S
"""A question for a place in the request budget, when Redis does not answer."""
CONFIRMED_S = 1.25
"""For so long it may go by what the stream has answered: that it writes it, and nobody else."""
APPENDED_S = 3.0
LIVE_WITHIN_S = 2.0
COMES_S = 1.6
"""Prices that come at least so often reach the feed."""
BUS_LOST_S = 3.0
HOUR_BACK_S = 59.0
"""A wall clock that is so far back makes what comes look as if from the future, until an answer of the broker
has told its time."""
KNOWS_S = 0.75
"""So long after such an answer a process that runs has had a turn in which it takes note of it."""
METHODS = frozenset(SUBSCRIPTIONS.values())


class Feed(Checker):
    """See the module.

    Attributes:
        live_ns: When a market that may be traded on was vouched for last, true time.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__(judge)
        self.on = judge.world.plan.feed.on
        self.lives: dict[Incarnation, Life] = {}
        self.live_ns = 0
        self._state: MarketState | None = None
        self._read = 0
        self._bar_ns = 0
        self._redis_s = 0.0
        self._away_s = -1.0
        self._writer: Incarnation | None = None
        self._writer_s = 0.0

    # -- what it hears ------------------------------------------------------------------

    def answered(self, incarnation: Incarnation) -> None:
        """The broker has answered a process: from then on it knows the broker's time."""
        self._life(incarnation).answered = True

    def linked(self, incarnation: Incarnation, event: LinkEvent) -> None:
        life = self._life(incarnation)
        match event:
            case LinkUp():
                life.up = True
            case LinkDown():
                life.fell(self.world.loop.now_s)
            case SubscriptionRefused(target=target):
                if target in METHODS:
                    life.denied.add(target)
            case SubscriptionTaken(target=target):
                if target in life.denied:
                    life.denied.discard(target)
                    life.cut = life.cut or not life.denied

    def heard(self, incarnation: Incarnation, events: Sequence[object], came_s: float) -> None:
        """Note what the feed must make of what it has just taken."""
        life, now_s = self._life(incarnation), self.world.loop.now_s
        for event in events:
            if not isinstance(event, Quote | Trade):
                continue
            if self._may_be_refused(life):
                self.reach("feed: the market's time is not known")
                life.unsure = True
                continue
            life.heard_s = now_s
            life.take(event, came_s)

    def _may_be_refused(self, life: Life) -> bool:
        behind = self.world.clock.jump_ns <= -HOUR_BACK_S * NS_PER_S
        return behind and life.knows_s < KNOWS_S

    def _life(self, incarnation: Incarnation) -> Life:
        return self.lives.setdefault(incarnation, Life())

    # -- what it writes -----------------------------------------------------------------

    def redis_back(self) -> None:
        """Redis has started again: what lies there was looked at before, what it lost may come again."""
        stream = self.world.stream(MD)
        rows = stream.rows if isinstance(stream, Stream) else []
        self._read = stream.added if isinstance(stream, Stream) else 0
        if self.judge.data_lost:
            self._bar_ns = 0
            there = [decode(*row[1]) for row in rows]  # type: ignore[misc]
            for life in self.lives.values():
                life.at, life.gap = life.after(there), True

    def wrote(self, incarnation: Incarnation) -> None:
        """Look at what has come to the stream since the last look."""
        stream = self.world.stream(MD)
        if not self.on or not isinstance(stream, Stream):
            return
        rows = stream.rows[self._read - stream.added :] if stream.added > self._read else []
        self._read = stream.added
        if self.judge.archive.on:
            # A bar that is archived and gone may come again: who reads bars knows which it has had.
            older = (decode(*row[1]) for row in stream.rows[: len(stream.rows) - len(rows)])  # type: ignore[misc]
            self._bar_ns = max((one.ts_open_ns for one in older if isinstance(one, Bar)), default=0)
        life = self._life(incarnation)
        for row in rows:
            fields: Any = row[1]
            message = decode(*fields)
            if isinstance(message, FeedGap):
                self.reach("feed: gap marked")
                life.gap = True
            elif isinstance(message, Quote | Trade):
                self._told(life, message)
            elif isinstance(message, Bar):
                self._bar(message)
            elif isinstance(message, FeedState):
                self.reach(f"feed: {message.health}")

    def _told(self, life: Life, message: Quote | Trade) -> None:
        place = life.place(message)
        if place is None:
            known = life.unsure
            self.check("I-14", known, lambda: f"{message} is in the stream, and was not told after the last")
            return
        told, missing = life.told[place], place - life.at
        self.check(
            "I-14", not missing or life.gap or life.unsure,
            lambda: f"{missing} messages before {message} are not in the stream, and no gap is marked",
        )  # fmt: skip
        self.check(
            "I-14", life.gap or not told.after_gap,
            lambda: f"no gap is marked before {message}, and something may be missing",
        )  # fmt: skip
        same = life.unsure or told.message == message
        self.check("I-14", same, lambda: f"the stream has {message}, told was {told.message}")
        life.at, life.gap, life.waits_s = place + 1, False, 0.0

    def _bar(self, bar: Bar) -> None:
        hub = self.world.venue.market
        assert hub is not None
        rises = bar.ts_open_ns > self._bar_ns
        self.check("I-14", rises, lambda: f"{bar} is not after the last bar")
        self._bar_ns = bar.ts_open_ns
        self.reach(f"feed: bar of {bar.source}{', partial' if bar.partial else ''}")
        if bar.partial:
            return
        made = hub.minute(bar.ts_open_ns)
        whole = made is not None and (bar.open, bar.high, bar.low, bar.close, bar.volume) == (
            *(TICK * ticks for ticks in (made.open, made.high, made.low, made.close)), made.volume,
        )  # fmt: skip
        self.check("I-14", whole, lambda: f"{bar} is not what the market made: {made}")
        if bar.source is BarSource.TRADES:
            self.reach("feed: whole minute built")

    def published(self, incarnation: Incarnation, words: Sequence[bytes], answer: object) -> None:
        """Look at the conflated state that was just heard: its key cannot hold it when Redis is full."""
        _, channel, value = words
        if not self.on or channel != QUOTES or isinstance(answer, ErrorReply):
            return
        if isinstance(answer, Parked):  # a frozen server carries it out later; by its time it is old then
            answer.carried_out = lambda _: self._note(value)
            return
        state = self._note(value)
        if not 0 <= self._age_ns(state) <= VOUCHED_S * NS_PER_S:
            return
        older_s = self._older_s(incarnation)
        self.check(
            "I-17", older_s <= CONFIRMED_S,
            lambda: f"a feed that is the older one for {older_s:.2f} s still says {state}",
        )  # fmt: skip
        if state.health is FeedHealth.LIVE:
            self._live(state, self._life(incarnation), incarnation)

    def _age_ns(self, state: MarketState) -> int:
        return self.world.clock.now_ns() - state.ts_asof_ns

    def _note(self, value: bytes) -> MarketState:
        """Take note of when the market was vouched for."""
        state = decode(b"market_state", value)
        assert isinstance(state, MarketState)
        self._state = state
        if state.health is FeedHealth.LIVE:
            self.live_ns = max(self.live_ns, self.world.clock.true_ns() - max(self._age_ns(state), 0))
        return state

    @property
    def _right(self) -> Incarnation | None:
        """The life that took the right to write last."""
        return self.judge.streams.writers.get(HEAD)

    def _older_s(self, incarnation: Incarnation) -> float:
        """Return for how long another life has had the right to write."""
        writer, now_s = self._right, self.world.loop.now_s
        if writer is not self._writer:
            self._writer, self._writer_s = writer, now_s
        return 0.0 if writer is incarnation or writer is None else now_s - self._writer_s

    def _live(self, state: MarketState, life: Life, incarnation: Incarnation) -> None:
        """A market is called live, now: with the prices that have come, and because they come."""
        now_s = self.world.loop.now_s
        link = self._link(incarnation)
        unread_s = link.unread_s if link is not None else 0.0
        self.check(
            "I-4", unread_s <= READ_S,
            lambda: f"{state} is called live, and what has come waits to be read for {unread_s:.2f} s",
        )  # fmt: skip
        if life.unsure:
            return
        shown = (state.bid_px, state.ask_px)
        held = life.shown_since(now_s - VOUCHED_S - READ_S)
        self.check("I-4", shown in held, lambda: f"{shown} is called live, told was {held}")
        silent_s = self._silent_s(life)
        bound_s = self._threshold_s() + PROBE_WAIT_S + 2 * ANSWER_S
        self.check(
            "I-4", silent_s <= bound_s,
            lambda: f"the market is called live, and has traded unheard for {silent_s:.2f} s",
        )  # fmt: skip

    def _silent_s(self, life: Life) -> float:
        """Return how long ago the market did what a feed that hears nothing must have found out by now.

        Trades show in the broker's history. Those of the silence's beginning it cannot tell from what came:
        from its first look on it can.
        """
        hub, clock = self.world.venue.market, self.world.clock
        assert hub is not None
        # One that stands still as its first look is due takes it when it wakes.
        due_s = life.heard_s + self._threshold_s() + PROBE_WAIT_S
        first_look_s = life.awake_s(due_s) + ANSWER_S + (PLACE_S if self._away_s >= life.heard_s else 0.0)
        since_ns = clock.starts_ns + round(first_look_s * NS_PER_S)
        place = bisect_left(hub.traded_ns, since_ns)
        return (clock.true_ns() - hub.traded_ns[place]) / NS_PER_S if place < len(hub.traded_ns) else 0.0

    def _threshold_s(self) -> float:
        """A wall clock that is an hour off makes night of the day."""
        return STALE_AFTER_NIGHT_S if self.world.plan.jumps else STALE_AFTER_S

    def _link(self, incarnation: Incarnation) -> Any:
        hub = self.world.venue.market
        assert hub is not None
        return next((one for one in hub.links if one.is_of(incarnation)), None)

    # -- time ---------------------------------------------------------------------------

    def tick(self, every_s: float) -> None:
        """Look at what must not last."""
        if not self.on:
            return
        self._redis_s = self._redis_s + every_s if self.judge.liveness.redis_takes() else 0.0
        running, now_s = self.world.machine.processes["feed"].now, self.world.loop.now_s
        if not self._redis_s:
            self._away_s = now_s
        if running is not None:
            self._older_s(running)  # takes note of who writes
            life = self._life(running)
            life.knows_s += every_s if life.answered and not running.held else 0.0
            if running.held:
                life.stands_still(now_s, every_s)
        if running is None or running.held or self._right is not running or self._redis_s < APPENDED_S:
            for life in self.lives.values():
                life.waits_s = life.comes_s = 0.0
            return
        margin_s = BUS_LOST_S if self.world.plan.bus_lost else 0.0
        late = not life.unsure and life.at < len(life.told)
        life.waits_s = life.waits_s + every_s if late else 0.0
        waits_s = life.waits_s
        self.check(
            "I-14", waits_s <= APPENDED_S + margin_s,
            lambda: f"{life.told[life.at].message} was taken and is not in the stream for {waits_s:.2f} s",
        )  # fmt: skip
        live = self._state is not None and self._state.health is FeedHealth.LIVE
        comes = life.whole and now_s - life.heard_s <= COMES_S
        life.comes_s = life.comes_s + every_s if comes and not live else 0.0
        comes_s = life.comes_s
        self.check(
            "I-18", comes_s <= LIVE_WITHIN_S + margin_s,
            lambda: f"prices come for {comes_s:.2f} s, and the feed says {self._state}",
        )  # fmt: skip

    def unsettled(self) -> str:
        """Return what is not well yet with the feed, after the faults; empty when all is."""
        if not self.on or (self._state is not None and self._state.health is FeedHealth.LIVE):
            return ""
        return f"the feed says {self._state}"
