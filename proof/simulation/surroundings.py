"""What the order path needs around it in a small world: a feed, a session and a heartbeat that just work.

They speak to the Redis model directly, without a client. Worlds of kind `session` have the real heartbeat.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from proof.simulation.loop import NS_PER_S, SimClock
from proof.simulation.venue import SYMBOL, SimVenue
from shared.domain.control import Beat, Duty, SessionHealth, SessionState
from shared.domain.market import ContractResolved, FeedHealth, FeedState, MarketState, Quote
from shared.runtime.session import STATE_FIELD
from shared.wire import topics
from shared.wire.codec import encode, kind_of

Redis = Callable[[Sequence[Any]], Any]
"""Runs one command at the server; None when it is away or refuses."""

TURN_S = 0.5
DAY_NS = 86_400 * NS_PER_S


class Writer:
    """Appends to one stream as `julie_append` wants it, however often the server forgets us.

    Attributes:
        seq: Number of the last entry that the server has taken.
    """

    def __init__(self, redis: Redis, clock: SimClock, stream: str) -> None:
        self._redis = redis
        self._clock = clock
        self.stream = stream
        self._epoch = 0
        self.seq = 0

    def append(self, *messages: msgspec.Struct) -> bool:
        """Return whether the server took them; what it did not take is lost."""
        for _ in range(2):
            if not self._epoch and not self._open():
                return False
            args: list[Any] = [
                "FCALL", "julie_append", 2, self.stream, topics.head(self.stream), self._epoch,
                self.seq + 1, self._clock.now_ns() // 1_000_000, 0,
            ]  # fmt: skip
            for message in messages:
                args += [kind_of(message), encode(message)]
            if self._redis(args) is not None:
                self.seq += len(messages)
                return True
            self._epoch = 0
        return False

    def _open(self) -> bool:
        clock_us = self._clock.now_ns() // 1_000
        reply = self._redis(["FCALL", "julie_open", 1, topics.head(self.stream), clock_us])
        if reply is None:
            return False
        self._epoch, self.seq = reply
        return True


class Surroundings:
    """See the module.

    Attributes:
        silent: The feed has no prices.
        feed_stopped: The feed does nothing at all, and does not beat.
    """

    def __init__(self, redis: Redis, clock: SimClock, venue: SimVenue, rng: random.Random) -> None:
        self._redis = redis
        self._clock = clock
        self._venue = venue
        self._rng = rng
        self._md = Writer(redis, clock, topics.md(SYMBOL))
        self._operator = Writer(redis, clock, topics.CONTROL_OPERATOR)
        self._bid = 20_000
        self._beats = 0
        self._told = False
        self.silent = self.feed_stopped = False
        self.heard_ns = 0
        self.token = venue.issue()

    @property
    def bid(self) -> int:
        """What the feed shows, also while the venue takes no orders."""
        return self._bid

    @property
    def operator_seq(self) -> int:
        """Number of the operator's last word."""
        return self._operator.seq

    def operator(self, message: msgspec.Struct) -> bool:
        return self._operator.append(message)

    def acknowledged(self) -> list[tuple[str, int]]:
        """Return each stream written here, and the last number in it that the server has taken."""
        return [(one.stream, one.seq) for one in (self._md, self._operator)]

    async def run(self) -> None:
        turn = 0
        while True:
            if self._venue.door is not None:  # a real heartbeat keeps the session, and judges the feed too
                self._beat_as_feed()
            else:
                if turn % 2 == 0:
                    self._beat()
                if turn % 4 == 0:
                    self._keep_session()
            self._market(turn)
            turn += 1
            await asyncio.sleep(TURN_S)

    def _market(self, turn: int) -> None:
        rng, venue = self._rng, self._venue
        self._bid += rng.choice((-4, -2, -1, -1, 0, 0, 1, 1, 2, 4))
        if venue.state.session_open:
            venue.touch(self._bid, rng.randint(1, 4))
            if rng.random() < 0.3:
                venue.trade(self._bid + rng.randrange(2), rng.randint(1, 3))
        if self.silent or venue.market is not None:  # the real feed tells what the venue pushes
            return
        now_ns, true_ns = self._clock.now_ns(), self._clock.true_ns()
        contract = venue.contract
        bid, ask = self._bid * 0.25, (self._bid + 1) * 0.25
        health = FeedHealth.LIVE if venue.state.session_open else FeedHealth.CLOSED
        state = MarketState(
            symbol=SYMBOL, contract_id=contract.id, health=health, bid_px=bid, ask_px=ask, last_px=bid,
            crossed=False, tick_size="0.25", tick_value="1.25", ts_event_ns=true_ns, ts_asof_ns=now_ns,
        )  # fmt: skip
        value = encode(state)
        if self._redis(["SET", topics.quote(SYMBOL), value]) is not None:
            self._redis(["PUBLISH", topics.quotes(SYMBOL), value])
            self.heard_ns = true_ns
        if turn % 2:
            return
        messages: list[msgspec.Struct] = []
        if not self._told or turn % 8 == 0:
            messages.append(
                ContractResolved(
                    symbol=SYMBOL, contract_id=contract.id, contract_name=contract.name, tick_size="0.25",
                    tick_value="1.25", roll_at_ns=true_ns + DAY_NS, ts_recv_ns=now_ns,
                )
            )  # fmt: skip
            messages.append(
                FeedState(symbol=SYMBOL, health=health, reason="", contract_id=contract.id, ts_recv_ns=now_ns)
            )
        messages.append(Quote(symbol=SYMBOL, ts_event_ns=true_ns, ts_recv_ns=now_ns, bid_px=bid, ask_px=ask))
        self._told = self._md.append(*messages)

    def _beat(self) -> None:
        self._beats += 1
        now_ns = self._clock.now_ns()
        beat = Beat(
            process="heartbeat",
            pid=1,
            host="sim",
            build="sim",
            started_at_ns=1,
            ts_ns=now_ns,
            seq=self._beats,
        )
        self._redis(["PUBLISH", topics.BEATS, encode(beat)])

    def _beat_as_feed(self) -> None:
        if self.feed_stopped or self._venue.market is not None:  # the real feed beats itself
            return
        self._beats += 1
        now_ns = self._clock.now_ns()
        duty = Duty(interval_s=1.0, done=self._beats, ts_done_ns=now_ns)
        beat = Beat(
            process="feed", pid=1, host="sim", build="sim", started_at_ns=1, ts_ns=now_ns, seq=self._beats,
            ready=True, duties={"market": duty},
        )  # fmt: skip
        value = encode(beat)
        self._redis(["SET", topics.beat("feed"), value])
        self._redis(["PUBLISH", topics.BEATS, value])

    def _keep_session(self) -> None:
        now_ns = self._clock.now_ns()
        state = SessionState(
            health=SessionHealth.ACTIVE, token_version=1, token_expires_at_ns=now_ns + DAY_NS,
            ts_validated_ns=now_ns, reason="", ts_ns=now_ns,
        )  # fmt: skip
        self._redis(["SET", topics.SESSION_TOKEN, self.token.encode()])
        self._redis(["HSET", topics.SESSION_STATE, STATE_FIELD, encode(state)])
