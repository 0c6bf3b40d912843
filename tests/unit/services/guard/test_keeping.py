"""Whose record stays on disk: the newest guard's, and the bus says which one that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import cast

import msgspec
import pytest

from services.guard.keeping import RecordKeeper
from services.guard.record import Record
from services.guard.store import RecordFile
from shared.bus.port import BusRefused, Fenced, RolledBack, StreamWriter
from tests.support.clocks import ManualClock

BEFORE = Record(
    account_id=1001,
    since="",
    day="2026-03-04",
    start_balance=Decimal(50_000),
    eod_balance=Decimal(50_000),
    high_balance=Decimal(50_000),
)
OURS = msgspec.structs.replace(BEFORE, high_balance=Decimal(50_500), lives=1)
THEIRS = msgspec.structs.replace(BEFORE, high_balance=Decimal(50_300))


class Writer:
    """Says yes, says no, or nothing at all."""

    def __init__(self, answer: BusRefused | str) -> None:
        self.answer = answer
        self.before: Callable[[], None] = lambda: None

    async def check(self) -> None:
        self.before()
        if isinstance(self.answer, BusRefused):
            raise self.answer
        if self.answer == "silence":
            await asyncio.Event().wait()


async def kept(file: RecordFile, writer: Writer) -> list[BusRefused]:
    """Hand in our record and return what the keeper refused, once it has written it or has ended."""
    refused: list[BusRefused] = []
    written = asyncio.Event()
    keeper = RecordKeeper(
        file,
        ManualClock(),
        refuse=refused.append,
        write_fails=lambda why: written.set() if why is None else None,
    )
    keeper.write(OURS)
    keeping = asyncio.create_task(keeper.keep(cast(StreamWriter, writer)))
    waiting = asyncio.create_task(written.wait())
    await asyncio.wait({keeping, waiting}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    for task in (keeping, waiting):
        task.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)
    return refused


def files(folder: Path) -> tuple[RecordFile, RecordFile]:
    """Return the file as we and another guard know it; the other one has written since."""
    ours, theirs = RecordFile(folder / "guard.json"), RecordFile(folder / "guard.json")
    theirs.write(BEFORE)
    ours.load(account_id=1001, since="")
    theirs.write(THEIRS)
    return ours, theirs


def test_the_newest_guard_writes_over_what_an_older_one_wrote_while_it_began(tmp_path: Path) -> None:
    ours, theirs = files(tmp_path)
    assert asyncio.run(kept(ours, Writer("yes"))) == []
    assert theirs.load(account_id=1001, since="") == OURS


@pytest.mark.parametrize("answer", [Fenced("epoch 1 is older than 2"), RolledBack("gone"), "silence"])
@pytest.mark.proves("I-29")
def test_without_a_yes_of_the_bus_nothing_is_written_over_anothers_record(
    tmp_path: Path, answer: BusRefused | str
) -> None:
    ours, theirs = files(tmp_path)
    (refused,) = asyncio.run(kept(ours, Writer(answer)))
    assert isinstance(refused, Fenced)
    assert theirs.load(account_id=1001, since="") == THEIRS


@pytest.mark.proves("I-29")
def test_who_becomes_the_newest_after_the_bus_said_yes_to_us_loses_nothing(tmp_path: Path) -> None:
    ours, theirs = files(tmp_path)
    writer, newest = Writer("yes"), msgspec.structs.replace(THEIRS, lives=2)

    def taken_over() -> None:
        """The answer was on its way when another one opened the stream and wrote; we ask again."""
        theirs.write(newest)
        writer.before = lambda: setattr(writer, "answer", Fenced("epoch 1 is older than 2"))

    writer.before = taken_over
    (refused,) = asyncio.run(kept(ours, writer))
    assert isinstance(refused, Fenced)
    assert theirs.load(account_id=1001, since="") == newest
