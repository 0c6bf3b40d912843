"""The archive of simulated worlds answers as the one on the disk does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proof.simulation.archive import ArchiveDisk, SimArchive
from services.recorder.archive import Archive, ArchiveLocked, DiskArchive
from services.recorder.files import ArchiveFile, EntryId, Rows
from tests.support.buses import run

pytestmark = pytest.mark.integration

MD = "md:{MES}"
NOON_MS = 1_772_452_800_000


def sim_archive(disk: ArchiveDisk) -> SimArchive:
    nobody = SimpleNamespace(
        name="recorder",
        dead=False,
        alive=lambda: None,
        point=lambda name, when: None,
        process=SimpleNamespace(machine=SimpleNamespace(trace=lambda *what: None)),
    )
    return SimArchive(disk, cast(Any, nobody))


def rows(*seqs: int) -> Rows:
    return Rows([(NOON_MS, n) for n in seqs], [b"quote"] * len(seqs), [b"payload %d" % n for n in seqs])


def ranges(files: Iterable[ArchiveFile]) -> list[tuple[EntryId, EntryId]]:
    return [(file.first, file.last) for file in files]


async def story(archive: Archive, other: Archive) -> list[object]:
    """Return what an archive answers to all that a recorder asks of one."""
    told: list[object] = [await archive.files(MD)]
    await archive.lock()
    with pytest.raises(ArchiveLocked):
        await other.lock()
    parts = [await archive.write(MD, rows(1, 2)), await archive.write(MD, rows(3))]
    aside = await archive.write(MD, rows(9), aside=True)
    told += [ranges([*parts, aside]), ranges(await archive.files(MD))]
    told += [await archive.payload(MD, (NOON_MS, seq)) for seq in (1, 2, 3, 9)]
    into = await archive.merge(MD, parts)
    told += [ranges([into]), ranges(await archive.files(MD)), await archive.payload(MD, into.last)]
    with pytest.raises(OSError, match=r"\.parquet"):
        await archive.merge(MD, parts)
    await archive.remove(MD, [into])
    told += [ranges(await archive.files(MD)), await archive.payload(MD, into.last)]
    await archive.unlock()
    await other.lock()
    await other.unlock()
    return told


def test_both_archives_tell_the_same_story(tmp_path: Path) -> None:
    disk = ArchiveDisk()
    answers: list[list[object]] = []

    async def scenario() -> None:
        for archive, other in (
            (DiskArchive(tmp_path), DiskArchive(tmp_path)),
            (sim_archive(disk), sim_archive(disk)),
        ):
            answers.append(await story(archive, other))

    run(scenario)
    on_disk, simulated = answers
    assert on_disk == simulated
    assert on_disk[3:7] == [None, b"payload 2", b"payload 3", None]


def test_a_failing_disk_keeps_what_it_had() -> None:
    disk = ArchiveDisk()

    async def scenario() -> None:
        archive = sim_archive(disk)
        await archive.write(MD, rows(1))
        disk.failing = True
        with pytest.raises(OSError, match="full"):
            await archive.write(MD, rows(2))

    run(scenario)
    assert [entry_id for entry_id, _ in disk.entries(MD)] == [(NOON_MS, 1)]
