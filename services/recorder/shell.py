"""Carry out what `core.decide` says: look at Redis, write files, delete what is archived."""

from __future__ import annotations

from collections import deque
from typing import assert_never

from services.recorder.archive import Archive, ArchiveLocked, DiskArchive
from services.recorder.config import RecorderConfig
from services.recorder.core import Limits, State, decide
from services.recorder.events import (
    Alarm,
    Command,
    EntriesRead,
    Event,
    Failed,
    Listed,
    ListFiles,
    Merge,
    Merged,
    Policy,
    ReadOn,
    RemoveFiles,
    Scanned,
    Trim,
    Trimmed,
    Write,
    Written,
)
from services.recorder.files import EntryId, Rows, shown
from shared.bus.port import Bus, BusAway, BusRefused, Entry
from shared.runtime.beat import BeatBoard
from shared.runtime.clock import Clock
from shared.runtime.logs import Log
from shared.runtime.service import Context
from shared.wire import topics

READ_ENTRIES = 2_000
"""Entries of one read: about a millisecond of the server's time, which others wait for too."""

READ_BYTES_MAX = 64 * 1024 * 1024
"""Payload bytes held at once; reached only by entries of unusual size."""

LOCK_RETRY_S = 1.0

STANDS_STILL_S = 30.0
"""Some piece of work ends at least this often, be it a merge or a slow write; heartbeat waits 2.5 times as
long until it calls it overdue. A disk that hangs never answers."""


class Shell:
    """The recorder with its ports."""

    def __init__(
        self, *, config: RecorderConfig, bus: Bus, clock: Clock, beat: BeatBoard, log: Log, archive: Archive
    ) -> None:
        self._config = config
        self._bus = bus
        self._clock = clock
        self._beat = beat
        self._log = log
        self._archive = archive
        self._duty = beat.duty("archive")
        # Beside it: a call that never returns reports no failure. It may take longer than work may wait.
        self._work = beat.duty("work", interval_s=max(STANDS_STILL_S, config.scan_interval_s))
        self._rows: dict[str, Rows] = {}
        # What we have written last, of (stream, set aside): reading it back from its file would take long.
        self._ends: dict[tuple[str, bool], tuple[EntryId, bytes]] = {}
        self._bus_away = False
        self.entries_written = 0
        self.entries_trimmed = 0
        self.state = State(limits=limits_of(config))

    async def run(self) -> None:
        """Archive until cancelled."""
        await self._take_lock()
        try:
            while True:
                await self.turn()
                if not self.state.has_backlog() or self._bus_away:
                    await self._clock.sleep(self._config.scan_interval_s)
        finally:
            await self._archive.unlock()

    async def turn(self) -> None:
        """Look at every stream once and do what is due."""
        self._work.did(self._clock.now_ns())
        try:
            await self._drive(await self._scan())
        except (BusAway, BusRefused) as error:
            if not self._bus_away:
                self._log.warning("redis_away", why=str(error))
            self._bus_away = True
            self._duty.waits(self._clock.now_ns())
            return
        self._bus_away = False
        self._report()

    async def _take_lock(self) -> None:
        told = False
        while True:
            try:
                await self._archive.lock()
            except (ArchiveLocked, OSError) as error:
                if not told:
                    self._log.error("archive_unavailable", why=str(error))
                told = True
                self._beat.detail["archive"] = str(error)
                self._duty.waits(self._clock.now_ns())
                await self._clock.sleep(LOCK_RETRY_S)
            else:
                return

    async def _scan(self) -> Scanned:
        newest: dict[str, EntryId | None] = {}
        refused: dict[str, str] = {}
        for key in await self._bus.keys("*"):
            topic = topics.topic_of(key)
            if topic is None or topic.kind is not topics.Kind.STREAM:
                continue
            try:
                last = await self._bus.last(key)
            except BusRefused as error:
                refused[key] = str(error)
            else:
                newest[key] = id_of(last[-1]) if last else None
        return Scanned(
            newest=newest,
            refused=refused,
            now_ns=self._clock.now_ns(),
            monotonic_ns=self._clock.monotonic_ns(),
        )

    async def _drive(self, event: Event) -> None:
        commands: deque[Command] = deque(decide(event, self.state))
        try:
            while commands:
                command = commands.popleft()
                outcomes = await self._perform(command)
                self._work.did(self._clock.now_ns())
                for outcome in outcomes:
                    commands.extend(decide(outcome, self.state))
        except BusAway:
            # Whatever was not done is decided again after the next look; only alarms are said once.
            for command in commands:
                if isinstance(command, Alarm):
                    self._tell(command)
            raise

    async def _perform(self, command: Command) -> list[Event]:
        stream = command.stream
        try:
            match command:
                case ListFiles():
                    files = await self._archive.files(stream)
                    return [Listed(stream=stream, policy=policy_of(stream, self._config), files=files)]
                case RemoveFiles(files=files):
                    await self._archive.remove(stream, files)
                case ReadOn():
                    return [await self._read(command)]
                case Write():
                    return await self._write(command)
                case Merge(parts=parts):
                    into = await self._archive.merge(stream, parts)
                    return [Merged(stream=stream, parts=parts, into=into)]
                case Trim(before=before, standing=standing):
                    if not await self._stands(stream, standing):
                        return []
                    self.entries_trimmed += await self._bus.trim_before(stream, shown(before))
                    return [Trimmed(stream=stream, before=before)]
                case Alarm():
                    self._tell(command)
                case _:
                    assert_never(command)
        except BusAway:
            raise
        except (OSError, BusRefused) as error:
            return [self._failed(stream, error, merging=isinstance(command, Merge | RemoveFiles))]
        return []

    async def _stands(self, stream: str, entry_id: EntryId, *, aside: bool = False) -> bool:
        """Say whether an entry that ends one of our files stands in Redis: it, and no other under its id.

        A Redis that lost its newest entries gives their ids again for as long as the clock is set back.
        """
        found = await self._bus.between(stream, shown(entry_id), shown(entry_id), 1)
        return bool(found) and await self._payload(stream, entry_id, aside) in (None, found[0].value)

    async def _payload(self, stream: str, entry_id: EntryId, aside: bool) -> bytes | None:
        """Return what we have archived under an id; None: nobody can say."""
        end = self._ends.get((stream, aside))
        if end is not None and end[0] == entry_id:
            return end[1]
        payload = None if aside else await self._archive.payload(stream, entry_id)
        if payload is not None:
            self._ends[stream, aside] = entry_id, payload
        return payload

    async def _read(self, command: ReadOn) -> EntriesRead:
        rows = Rows([], [], [])
        joined = not command.joins or command.after is None
        if command.after is not None and not joined:
            joined = await self._stands(command.stream, command.after, aside=command.aside)
        after = f"({shown(command.after)}" if command.after else "-"
        size = 0
        until = shown(command.until) if command.until else "+"
        more = joined
        while more and len(rows.ids) < command.count_max and size < READ_BYTES_MAX:
            count = min(READ_ENTRIES, command.count_max - len(rows.ids))
            entries = await self._bus.between(command.stream, after, until, count)
            for entry in entries:
                rows.ids.append(id_of(entry))
                rows.kinds.append(entry.kind)
                rows.payloads.append(entry.value)
                size += len(entry.value)
            more = len(entries) == count
            if entries:
                after = f"({entries[-1].id.decode()}"
        self._rows[command.stream] = rows
        return EntriesRead(
            stream=command.stream,
            ids=rows.ids,
            more=more,
            monotonic_ns=self._clock.monotonic_ns(),
            joined=joined,
            aside=command.aside,
        )

    async def _write(self, command: Write) -> list[Event]:
        stream = command.stream
        rows = self._rows.pop(stream)
        outcomes: list[Event] = []
        try:
            if command.holes:
                await self._archive.note(stream, command.holes, command.holes_more)
            for part in command.parts:
                cut = slice(part.start, part.stop)
                file = await self._archive.write(
                    stream, Rows(rows.ids[cut], rows.kinds[cut], rows.payloads[cut]), aside=command.aside
                )
                self._ends[stream, command.aside] = rows.ids[cut][-1], rows.payloads[cut][-1]
                outcomes.append(Written(stream=stream, file=file, aside=command.aside))
                self.entries_written += part.stop - part.start
        except OSError as error:
            outcomes.append(self._failed(stream, error))
        return outcomes

    def _failed(self, stream: str, error: Exception, *, merging: bool = False) -> Failed:
        return Failed(stream=stream, why=str(error), monotonic_ns=self._clock.monotonic_ns(), merging=merging)

    def _tell(self, alarm: Alarm) -> None:
        if alarm.lifted:
            self._log.info("archive_recovered", stream=alarm.stream, was=alarm.why)
        else:
            self._log.error("archive_alarm", stream=alarm.stream, why=alarm.why)

    def _report(self) -> None:
        now_ns = self._clock.now_ns()
        failures = self.state.failures()
        if failures:
            stream, why = sorted(failures.items())[0]
            self._duty.waits(now_ns)
            self._beat.detail["archive"] = f"{len(failures)} stream(s) cannot be archived: {stream}: {why}"
        else:
            self._duty.did(now_ns)
            self._beat.detail["archive"] = (
                f"{self.entries_written:,} entries of {len(self.state.streams)} streams archived, "
                f"{self.entries_trimmed:,} trimmed"
            )
            self._beat.ready = True
        if self.state.entries_missing:
            self._beat.detail["holes"] = f"{self.state.entries_missing:,} entries were trimmed unarchived"
        self._beat.lag.clear()
        self._beat.lag.update(self.state.lag())


async def run(ctx: Context[RecorderConfig]) -> None:
    """Run the recorder on the local disk."""
    archive = DiskArchive(ctx.julie.data_dir)
    shell = Shell(
        config=ctx.config, bus=ctx.bus, clock=ctx.clock, beat=ctx.beat, log=ctx.log, archive=archive
    )
    await shell.run()


def id_of(entry: Entry) -> EntryId:
    ms, _, seq = entry.id.partition(b"-")
    return int(ms), int(seq)


def limits_of(config: RecorderConfig) -> Limits:
    return Limits(
        flush_interval_s=config.flush_interval_s,
        rows_max=config.rows_max,
        retry_s=config.retry_s,
        compact_bytes_max=config.compact_bytes_max,
        compact_files_max=config.compact_files_max,
    )


def policy_of(stream: str, config: RecorderConfig) -> Policy:
    """Return how long a stream's archived entries stay in Redis (see the retention column of the table)."""
    match stream.partition(":")[0]:
        case "md" | "journal":
            return Policy(keep_s=config.keep_s)
        case "intents":
            return Policy(keep_s=config.keep_intents_s)
        case "session":
            return Policy(keep_s=config.keep_s, keep_entries=config.keep_session_entries)
        case _:
            return Policy(keep_s=config.trim_orders_after_s)
