"""Merging in a process of its own: what it makes, how it fails, and what a kill at any side leaves.

A part that is a named pipe keeps the child where a test needs it: at work until the test lets it go on.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import uvloop

from services.recorder import merging
from services.recorder.archive import ArchiveLocked, DiskArchive, read_archive
from services.recorder.files import ArchiveFile, Rows, merged, sort_out
from services.recorder.merging import Job
from shared.wire import topics
from tests.support.eventually import eventually

pytestmark = pytest.mark.integration

MD = topics.md("MES")
BEGAN_MS = 1_795_344_000_000
ROWS = 3


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    """Name the loop of the standard library, and the one that the recorder has."""
    name: str = request.param
    return name


def run(loop: str, scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario()

    factory = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[loop]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(whole())


def make_rows(n: int) -> Rows:
    seqs = range(n * ROWS + 1, (n + 1) * ROWS + 1)
    return Rows(
        [(BEGAN_MS + seq, seq) for seq in seqs], [b"quote"] * ROWS, [b"\xff payload %d" % seq for seq in seqs]
    )


async def make_parts(archive: DiskArchive, count: int) -> list[ArchiveFile]:
    return [await archive.write(MD, make_rows(n)) for n in range(count)]


def path_of(archive: DiskArchive, file: ArchiveFile) -> Path:
    return archive._folder(MD) / file.day / file.name


def names(archive: DiskArchive) -> list[str]:
    """Return all there is, temporary files too."""
    return sorted(path.name for path in archive._folder(MD).glob("*/*"))


def make_pipe(path: Path) -> bytes:
    """Put a named pipe in a file's place; return what the file held."""
    held = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    return held


async def reached(pipe: Path) -> int:
    """Wait until the child reads the pipe; return the end to write to."""

    def opened() -> int | None:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            return None

    found = await eventually(opened, within_s=30, what="the child reads")
    assert isinstance(found, int)
    return found


def test_merged_file_holds_what_the_parts_held(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started in any folder, with the archive under a relative path as in the settings."""
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        archive = DiskArchive(Path("data"))
        await archive.lock()
        parts = await make_parts(archive, 40)
        before = read_archive(Path("data"), MD)
        into = await archive.merge(MD, parts)
        assert into == ArchiveFile(
            first=parts[0].first, last=parts[-1].last, bytes_=path_of(archive, into).stat().st_size
        )
        assert names(archive) == [into.name]
        after = read_archive(Path("data"), MD)
        assert after.equals(before)
        assert after["seq"].to_list() == list(range(1, 40 * ROWS + 1))
        await archive.unlock()

    run(loop, scenario)


def test_whoever_merges_needs_no_polars(tmp_path: Path) -> None:
    """What is never imported keeps no memory."""
    archive = DiskArchive(tmp_path)
    parts = asyncio.run(make_parts(archive, 2))
    job = Job(folder=str(archive._folder(MD)), parts=parts)
    code = """
import asyncio, sys
import msgspec
from services.recorder.archive import DiskArchive
from services.recorder.merging import Job, merge
job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
asyncio.run(merge(job, lock=None))
print("polars" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], input=msgspec.json.encode(job), capture_output=True)
    assert (done.stdout, done.stderr) == (b"False\n", b"")
    assert merged(parts).name in names(archive)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(b"PAR1 no more"), "restore it or move it away"),
        (lambda path: path.unlink(), "No such file or directory"),
    ],
    ids=["damaged", "missing"],
)
def test_part_that_cannot_be_read_is_named_and_nothing_is_removed(
    loop: str,
    tmp_path: Path,
    damage: Callable[[Path], None],
    told: str,
) -> None:
    async def scenario() -> None:
        archive = DiskArchive(tmp_path)
        parts = await make_parts(archive, 3)
        path = path_of(archive, parts[1])
        damage(path)
        before = names(archive)
        with pytest.raises(OSError, match="merging in") as raised:
            await archive.merge(MD, parts)
        assert str(path) in str(raised.value)
        assert told in str(raised.value)
        assert "\n" not in str(raised.value)
        assert names(archive) == before

    run(loop, scenario)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("kill -9 $$", "signal 9 ended it"),
        ("exit 3", "exit code 3"),
        ("echo one >&2; echo two >&2; exit 1", "failed: two"),
        (None, "cannot be started"),
    ],
)
def test_child_that_does_not_get_through_is_told(
    loop: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    told: str,
) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    monkeypatch.setattr(merging.sys, "executable", str(python))  # type: ignore[attr-defined]

    async def scenario() -> None:
        archive = DiskArchive(tmp_path)
        parts = await make_parts(archive, 2)
        with pytest.raises(OSError, match=told):
            await archive.merge(MD, parts)
        assert names(archive) == [part.name for part in parts]

    run(loop, scenario)


def test_cancelled_merge_leaves_no_child(loop: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        archive, next_one = DiskArchive(tmp_path), DiskArchive(tmp_path)
        await archive.lock()
        parts = await make_parts(archive, 3)
        pipe = path_of(archive, parts[1])
        make_pipe(pipe)
        task = asyncio.create_task(archive.merge(MD, parts))
        held_open = await reached(pipe)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(BrokenPipeError):
            os.write(held_open, b"nobody reads")
        os.close(held_open)
        assert names(archive) == [part.name for part in parts]
        await archive.unlock()
        await next_one.lock()
        await next_one.unlock()

    run(loop, scenario)


def test_next_recorder_waits_for_the_merge_of_a_killed_one(loop: str, tmp_path: Path) -> None:
    code = """
import asyncio, importlib, sys
from pathlib import Path
from services.recorder.archive import DiskArchive
from services.recorder.files import sort_out
data_dir, stream, loop = sys.argv[1:]
async def main():
    archive = DiskArchive(Path(data_dir))
    await archive.lock()
    parts, _ = sort_out(await archive.files(stream))
    await archive.merge(stream, parts)
with asyncio.Runner(loop_factory=importlib.import_module(loop).new_event_loop) as runner:
    runner.run(main())
"""

    async def scenario() -> None:
        archive = DiskArchive(tmp_path)
        parts = await make_parts(archive, 3)
        before = read_archive(tmp_path, MD)
        pipe = path_of(archive, parts[1])
        held = make_pipe(pipe)
        recorder = await asyncio.create_subprocess_exec(sys.executable, "-c", code, tmp_path, MD, loop)
        try:
            held_open = await reached(pipe)
        finally:
            recorder.kill()
            await recorder.wait()
        with pytest.raises(ArchiveLocked):
            await archive.lock()
        os.write(held_open, held)
        os.close(held_open)

        async def locked() -> bool:
            try:
                await archive.lock()
            except ArchiveLocked:
                return False
            return True

        await eventually(locked, within_s=30)
        kept, leftovers = sort_out(await archive.files(MD))
        assert [file.name for file in kept] == [merged(parts).name]
        assert [file.name for file in leftovers] == [part.name for part in parts]
        await archive.remove(MD, leftovers)
        assert names(archive) == [merged(parts).name]
        assert read_archive(tmp_path, MD).equals(before)
        await archive.unlock()

    run(loop, scenario)
