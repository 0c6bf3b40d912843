"""Merging small files into one, in a process of its own: `python -m services.recorder.merging`.

Holding the rows of hundreds of files makes Polars keep some of that memory for good; a process gives back
everything when it ends. The recorder starts one for each merge, and waits for it in `merge`.

The child only adds the merged file. Whoever asked removes the parts; when nobody is left to do it, the next
start finds them as leftovers.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

from services.recorder.disk import store
from services.recorder.files import ArchiveFile, merged

ROOT = Path(__file__).parents[2]
"""Where the packages lie: begun there, the child finds them wherever the recorder was started."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the child reads from its standard input.

    Attributes:
        folder: The stream's, absolute: the child has another working folder.
        parts: Neighbors of one day.
    """

    folder: str
    parts: list[ArchiveFile]


async def merge(job: Job, *, lock: int | None) -> ArchiveFile:
    """Have a child store the file that replaces the parts; a cancellation kills it.

    Args:
        lock: Descriptor of the archive's lock. The child holds it as well: should we be killed, the next
            recorder waits until the child has ended.

    Raises:
        OSError: If it failed in any way; the parts are all that counts.
    """
    try:
        # A file, not a pipe: a child that ends before it has read everything breaks nothing on our side.
        with TemporaryFile() as given:
            given.write(msgspec.json.encode(job))
            given.seek(0)
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.recorder.merging", cwd=ROOT,
                stdin=given, stdout=PIPE, stderr=PIPE, pass_fds=() if lock is None else (lock,),
            )  # fmt: skip
    except OSError as error:
        raise OSError(f"merging in {job.folder} cannot be started: {error}") from error
    try:
        size, told = await child.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        raise
    if child.returncode != 0:
        raise OSError(f"merging in {job.folder} failed: {_why(child.returncode, told)}")
    into = merged(job.parts)
    return ArchiveFile(first=into.first, last=into.last, bytes_=int(size))


def _why(code: int | None, told: bytes) -> str:
    if code is not None and code < 0:
        return f"signal {-code} ended it ({signal.strsignal(-code)})"
    lines = told.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with exit code {code}"


def main() -> None:
    """Do what standard input says, and print the size of the merged file or, to standard error, why not."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        file = _merge(Path(job.folder), job.parts)
    except OSError as error:
        sys.exit(" ".join(str(error).split()))
    except Exception as error:
        sys.exit(repr(error))
    sys.stdout.write(f"{file.bytes_}\n")


def _merge(folder: Path, parts: list[ArchiveFile]) -> ArchiveFile:
    # The recorder imports this module, too, and must be spared Polars.
    from services.recorder import columns

    frame = columns.read(folder / part.day / part.name for part in parts)
    return store(folder, merged(parts), columns.parquet_of(frame))


if __name__ == "__main__":
    main()
