"""Keeping the record on disk: the newest one, as soon as the disk takes it, never over a newer guard's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.guard.record import Record
from services.guard.store import RecordFile, RecordTaken
from shared.bus.port import BusRefused, Fenced, StreamWriter
from shared.runtime.clock import Clock

RETRY_S = 1.0
CONFIRM_WITHIN_S = 0.5


class RecordKeeper:
    """Writes in a thread: a slow disk must not delay closing.

    What was not yet written at a kill is judged anew, and a loss that was realized by then breaks the rule
    again.
    """

    def __init__(
        self,
        file: RecordFile,
        clock: Clock,
        *,
        refuse: Callable[[BusRefused], None],
        write_fails: Callable[[str | None], None],
    ) -> None:
        """Take note of whom to tell.

        Args:
            refuse: Hears that another guard has taken over.
            write_fails: Hears why the disk does not take a record, and None when it has taken one.
        """
        self._file = file
        self._clock = clock
        self._refuse = refuse
        self._write_fails = write_fails
        self._record: Record | None = None
        self._handed_in = asyncio.Event()

    def write(self, record: Record) -> None:
        """Hand in the record as it is now. Never waits."""
        self._record = record
        self._handed_in.set()

    async def keep(self, writer: StreamWriter) -> None:
        """Write what is handed in, until another guard turns out to be the newer one."""
        while True:
            await self._handed_in.wait()
            self._handed_in.clear()
            record = self._record
            assert record is not None
            try:
                if not self._file.was_read:
                    await self._confirm(writer)
                await self._write(writer, record)
            except (Fenced, RecordTaken) as taken:
                self._refuse(taken if isinstance(taken, Fenced) else Fenced(str(taken)))
                return
            except OSError as error:
                self._write_fails(str(error))
                self._handed_in.set()
                await self._clock.sleep(RETRY_S)
            else:
                self._write_fails(None)

    async def _write(self, writer: StreamWriter, record: Record) -> None:
        """Write the record, also over that of an older guard, which wrote it while we began.

        Raises:
            OSError: If the disk does not take it.
            Fenced, RecordTaken: What lies there is a newer guard's, or may be.
        """
        while True:
            try:
                return await asyncio.to_thread(self._file.write, record)
            except RecordTaken:
                # Before we ask: who becomes the newest after the answer writes, and the file differs again.
                await asyncio.to_thread(self._file.look_again)
                if not await self._confirm(writer):
                    raise

    async def _confirm(self, writer: StreamWriter) -> bool:
        """Ask whether we are the newest guard: one that could read the record, unlike us, must not lose it.

        Returns:
            Whether Redis has said yes; False when it says nothing, or anything else.

        Raises:
            Fenced: We are not.
        """
        try:
            async with asyncio.timeout(CONFIRM_WITHIN_S):
                await writer.check()
        except Fenced:
            raise
        except (TimeoutError, BusRefused):
            return False
        return True
