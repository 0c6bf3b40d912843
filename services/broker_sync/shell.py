"""broker_sync's I/O: the user hub, the schedule, the REST reads, the stream and the hash.

`orders:{acct}` is not read: what execution did shows in the broker's own words, and those alone are believed
here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from services.broker_sync import core, events, view
from services.broker_sync.config import BrokerSyncSection
from services.broker_sync.gather import gather
from shared.broker.errors import BrokerQueryFailed, LimiterUnavailable, PayloadRefused
from shared.broker.port import (
    AccountLink,
    AccountPort,
    FrameRefused,
    LinkDown,
    LinkEvent,
    LinkUp,
    LoggedOut,
    SubscriptionRefused,
    SubscriptionTaken,
)
from shared.bus.port import BusAway, BusRefused, Fenced, RolledBack, StreamWriter
from shared.domain.market import MarketState
from shared.domain.report import SyncHealth
from shared.runtime.clock import NS_PER_S
from shared.runtime.schedule import turns
from shared.runtime.service import Context
from shared.runtime.session import SessionWatch
from shared.wire import topics
from shared.wire.codec import MessageRefused, decode

TICK_S = 0.25
RECALL_ENTRIES = 2_000
"""Entries of one page while our own stream is read back."""
VIEW_REWRITTEN_S = 5.0
"""The hash is checked this often, so that a Redis that lost it is noticed."""
CONFIRMED_NS = NS_PER_S
"""The stream's word that it is ours still; when it is older (this process was frozen), it is asked again."""
QUOTE_POLL_S = 1.0
LINK_FIRST_S = 1.0
"""The first read waits so long for the user hub."""


@dataclass(slots=True, kw_only=True)
class _Written:
    """The hash as we left it. Attributes: checked_ns: monotonic, when it was last seen to exist."""

    fields: dict[str, bytes]
    checked_ns: int


class Shell:
    def __init__(
        self, ctx: Context[BrokerSyncSection], port: AccountPort, watch: SessionWatch | None = None
    ) -> None:
        config = ctx.config
        self._ctx = ctx
        self._port = port
        self._watch = watch
        self._account_id = ctx.julie.account_id
        self._reconcile = ctx.beat.duty("reconcile", interval_s=config.reconcile_interval_s)
        self._alive = ctx.beat.duty("watch", interval_s=1.0)
        self._writer: StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._link_tried = asyncio.Event()
        self._marks: dict[str, MarketState] = {}
        self._written: _Written | None = None
        self._confirmed_ns: int | None = None
        self._link: AccountLink | None = None
        self.state = core.State(
            account_id=self._account_id,
            spacing_ns=_ns(config.reconcile_spacing_s),
            after_fill=config.reconcile_after_fill,
            gather_within_ns=_ns(config.gather_within_s),
            retry_first_ns=_ns(config.retry_first_s),
            retry_max_ns=_ns(config.retry_max_s),
            doubt_after_ns=_ns(config.doubt_after_s),
            push_trusted_ns=_ns(config.push_trusted_s),
        )

    @property
    def is_blind(self) -> bool:
        """Say whether the picture may differ from the broker's, so that a read is waited for."""
        return core.health(self.state)[0] is not SyncHealth.IN_SYNC

    async def run(self) -> None:
        stream = topics.reports(self._account_id)
        self._writer = await self._ctx.bus.open(stream)
        await self._recall(stream)
        self._ctx.log.info(
            "guarantee",
            account=self._account_id,
            sync=f"snapshot first, then pushes; reconciles every {self._ctx.config.reconcile_interval_s:g} s",
        )
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._tick(), name="tick")
            tasks.create_task(self._schedule(), name="reconcile")
            tasks.create_task(self._listen(), name="user-hub")
            tasks.create_task(self._hear_quotes(), name="quotes")
            tasks.create_task(self._poll_quotes(), name="quotes-polled")
            tasks.create_task(self._show(), name="view")

    # -- what comes in ------------------------------------------------------------

    async def _recall(self, stream: str) -> None:
        """Read our own stream back: what was published once is not published again."""
        after, refused = "-", 0
        while True:
            entries = await self._ctx.bus.between(stream, after, "+", RECALL_ENTRIES)
            for entry in entries:
                try:
                    report = decode(entry.kind, entry.value)
                except MessageRefused as why:
                    refused += 1
                    self._ctx.refuse(entry.cause, why.why, entry.value)
                    continue
                now_ns, ts_ns = self._now()
                recalled = events.Recalled(report=report, now_ns=now_ns, ts_ns=ts_ns)  # type: ignore[arg-type]
                self._decide(recalled)
            if len(entries) < RECALL_ENTRIES:
                break
            after = "(" + entries[-1].id.decode()
        picture = self.state.picture
        self._ctx.log.info(
            "recalled", fills=len(picture.fills), orders=len(picture.orders), unreadable=refused
        )

    async def _schedule(self) -> None:
        with suppress(TimeoutError):
            # What is read before the user hub is connected has to be read again after it.
            async with asyncio.timeout(LINK_FIRST_S):
                await self._link_tried.wait()
        async for _ in turns(self._ctx.clock, self._ctx.config.reconcile_interval_s, self._reconcile):
            now_ns, ts_ns = self._now()
            self._decide(events.Due(now_ns=now_ns, ts_ns=ts_ns))

    async def _tick(self) -> None:
        async for _ in turns(self._ctx.clock, TICK_S, self._alive):
            now_ns, ts_ns = self._now()
            self._decide(events.Tick(now_ns=now_ns, ts_ns=ts_ns))
            self._alive.did(ts_ns)

    async def _listen(self) -> None:
        self._link = link = self._port.account_link([self._account_id])
        try:
            async for batch in link.events():
                reports: list[events.Push] = []
                for item in batch:
                    if isinstance(item, LinkEvent):
                        self._hear_link(item)
                    else:
                        reports.append(item)
                if reports:
                    now_ns, ts_ns = self._now()
                    self._decide(events.Pushed(reports=reports, now_ns=now_ns, ts_ns=ts_ns))
        finally:
            await link.close()

    def _hear_link(self, item: LinkEvent) -> None:
        now_ns, ts_ns = self._now()
        log, detail = self._ctx.log, self._ctx.beat.detail
        self._link_tried.set()
        match item:
            case LinkUp(connection=connection):
                detail["user_hub"] = f"up, connection {connection}"
                log.info("user_hub_up", connection=connection)
                self._decide(events.LinkRose(now_ns=now_ns, ts_ns=ts_ns))
            case LinkDown(reason=reason, planned=planned):
                detail["user_hub"] = f"down: {reason}"
                (log.info if planned else log.warning)("user_hub_down", why=reason, planned=planned)
                self._decide(events.LinkFell(reason=reason, now_ns=now_ns, ts_ns=ts_ns))
            case SubscriptionRefused(target=target, argument=argument, error=error):
                why = f"the user hub refused {target}({argument}): {error}"
                self._decide(events.PushesRefused(reason=why, lasting=True, now_ns=now_ns, ts_ns=ts_ns))
            case SubscriptionTaken(target=target, argument=argument, still_refused=still_refused):
                log.info("subscription_taken", target=target, account=argument, still_refused=still_refused)
                if not still_refused:
                    # As after a reconnect: nobody knows what it would have said before.
                    why = f"the user hub has refused {target}({argument}) until now"
                    self._decide(events.LinkFell(reason=why, now_ns=now_ns, ts_ns=ts_ns))
                    self._decide(events.LinkRose(now_ns=now_ns, ts_ns=ts_ns))
            case FrameRefused(origin=origin, field=field, reason=reason, raw=raw):
                why = f"{origin} {field}: {reason}"
                log.warning("push_refused", why=why, raw=raw.decode("utf-8", "replace"))
                self._ctx.refuse(f"{origin} {field}".rstrip(), reason, raw)
                self._decide(events.PushesRefused(reason=why, lasting=False, now_ns=now_ns, ts_ns=ts_ns))
            case LoggedOut(text=text):
                log.error("logged_out", why=text, remedy="another device took the session; close it there")

    # -- what goes out ------------------------------------------------------------

    def _decide(self, event: events.Event) -> None:
        assert self._writer is not None
        for command in core.decide(event, self.state):
            match command:
                case events.Publish(reports=reports):
                    for report in reports:
                        self._writer.append(report)
                    self._say_sync()
                case events.Gather(why=why):
                    assert self._tasks is not None
                    self._reading = self._tasks.create_task(self._read(why), name="read")
                case events.GiveUp():
                    if self._reading is not None:
                        self._reading.cancel()
                case events.Reconnect(reason=reason):
                    if self._link is not None:
                        self._link.reconnect(reason)
                case events.Note(name=name, why=why):
                    count = self.state.counts[name]
                    self._ctx.beat.detail[name] = str(count)
                    self._ctx.log.warning(name, why=why, count=count)

    def _say_sync(self) -> None:
        sync = self.state.picture.sync
        if sync is None:
            return
        said = f"{sync.health}: {sync.reason}"
        detail = self._ctx.beat.detail
        if detail.get("sync") != said:
            detail["sync"] = said
            well = sync.health is SyncHealth.IN_SYNC
            (self._ctx.log.info if well else self._ctx.log.warning)(
                "sync", health=sync.health, why=sync.reason
            )
        self._ctx.beat.ready = self._ctx.beat.ready or sync.health is SyncHealth.IN_SYNC

    async def _read(self, why: str) -> None:
        config, clock = self._ctx.config, self._ctx.clock
        event: events.Event
        try:
            if self._watch is not None and self._watch.token() is None:
                state = self._watch.state
                detail = state.reason if state is not None else "heartbeat has not published one"
                raise _NoSession(f"there is no broker session yet ({detail})")
            reading = await gather(
                self._port,
                self._account_id,
                self.state.picture,
                now_ns=clock.now_ns(),
                history_ns=_ns(config.history_hours * 3_600),
                margin_ns=_ns(config.history_margin_s),
            )
        except (BrokerQueryFailed, LimiterUnavailable, _NoSession) as error:
            if isinstance(error, BrokerQueryFailed) and error.came is not None:
                self._ctx.refuse(error.endpoint, error.reason, error.came)
            if isinstance(error, PayloadRefused):
                self._ctx.log.warning("answer_refused", why=str(error), raw=error.refused.raw)
            now_ns, ts_ns = self._now()
            event = events.GatherFailed(reason=str(error), now_ns=now_ns, ts_ns=ts_ns)
        else:
            now_ns, ts_ns = self._now()
            event = events.Gathered(
                accounts=reading.accounts,
                positions=reading.positions,
                orders=reading.all_orders(),
                fills=reading.fills,
                looked_up=reading.looked_up,
                now_ns=now_ns,
                ts_ns=ts_ns,
            )
        before = self.state.gathered_once, self.state.failures
        self._decide(event)
        if self.state.failures == 0:
            self._reconcile.did(ts_ns)
            if before != (True, 0):
                self._ctx.log.info("reconciled", why=why)

    # -- quotes and the hash ------------------------------------------------------

    async def _hear_quotes(self) -> None:
        channels = [topics.quotes(symbol) for symbol in self._ctx.julie.symbols]
        async for _, value in self._ctx.bus.subscribe(channels):
            self._mark(value, pushed=True)

    async def _poll_quotes(self) -> None:
        """A lost message must not make a price old: the newest also lies under a key."""
        async for _ in turns(self._ctx.clock, QUOTE_POLL_S):
            for symbol in self._ctx.julie.symbols:
                try:
                    value = await self._ctx.bus.get(topics.quote(symbol))
                except (BusAway, BusRefused):
                    break
                if value is not None:
                    self._mark(value, pushed=False)

    def _mark(self, value: bytes, *, pushed: bool) -> None:
        try:
            mark = decode(b"market_state", value)
        except MessageRefused as refused:
            self._ctx.refuse("quote", refused.why, value)
            return
        assert isinstance(mark, MarketState)
        known = self._marks.get(mark.contract_id)
        # What is pushed comes in order, also after our wall clock was set back.
        if known is None or pushed or mark.ts_asof_ns >= known.ts_asof_ns:
            # A symbol means one contract month at a time: the old month's price is nobody's mark.
            self._marks = {c: m for c, m in self._marks.items() if m.symbol != mark.symbol}
            self._marks[mark.contract_id] = mark

    async def _show(self) -> None:
        key = topics.account(self._account_id)
        async for _ in turns(self._ctx.clock, self._ctx.config.view_interval_s):
            try:
                await self._look_for_view(key)
                await self._confirm()
                await self._write_view(key)
            except (Fenced, RolledBack):
                raise
            except (BusAway, BusRefused):
                # What it confirmed says nothing of the Redis that comes back.
                self._written = self._confirmed_ns = None

    async def _look_for_view(self, key: str) -> None:
        """Look now and then whether the hash is what we wrote, however often it is written."""
        written, now_ns = self._written, self._ctx.clock.monotonic_ns()
        if written is None or now_ns - written.checked_ns < _ns(VIEW_REWRITTEN_S):
            return
        found = await self._ctx.bus.hash_get(key)
        if not found:
            # Our stream is gone too. Start and recovery are one path: end here, begin with a snapshot.
            raise RolledBack(f"{key} has vanished: Redis was emptied; starting again with a snapshot")
        self._written = _Written(fields=found, checked_ns=now_ns)

    async def _confirm(self) -> None:
        """Ask the stream whether it is ours still, when its last word is old.

        Nothing fences the hash: who was frozen, and replaced meanwhile, must not overwrite his successor's.
        And of an older copy of Redis, readers miss our newest reports.

        Raises:
            Fenced, RolledBack: If it is not, or has lost what was acknowledged.
        """
        assert self._writer is not None
        clock = self._ctx.clock
        # Again, for what was answered may have waited for us to wake.
        while self._confirmed_ns is None or clock.monotonic_ns() - self._confirmed_ns > CONFIRMED_NS:
            asked_ns = clock.monotonic_ns()
            await self._writer.check()
            self._confirmed_ns = asked_ns

    async def _write_view(self, key: str) -> None:
        """Write the hash when it would change."""
        now_ns, ts_ns = self._now()
        fields = view.fields(
            self.state.picture,
            self._marks,
            account_id=self._account_id,
            now_ns=ts_ns,
            venue_now_ns=self._port.venue_now_ns() or ts_ns,
            fresh_within_ns=_ns(self._ctx.config.quote_fresh_s),
        )
        written = self._written
        if written is not None and written.fields == fields:
            return
        await self._ctx.bus.hash_set(key, fields)
        self._written = _Written(fields=fields, checked_ns=now_ns if written is None else written.checked_ns)

    def _now(self) -> tuple[int, int]:
        return self._ctx.clock.monotonic_ns(), self._ctx.clock.now_ns()


class _NoSession(Exception):
    """There is no token to ask with."""


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
