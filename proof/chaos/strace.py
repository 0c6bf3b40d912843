"""Failing and slow system calls of a running process, by strace. Missing strace fails the run."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

ATTACH_WITHIN_S = 5.0


class CannotInject(RuntimeError):
    """strace is not there, or may not attach."""


@asynccontextmanager
async def injecting(pid: int, what: Sequence[str], *, path: Path | None = None) -> AsyncIterator[None]:
    """Have system calls of `pid` fail or linger inside the block.

    Args:
        what: As strace's `-e`: `inject=fsync:delay_exit=50000`.
        path: Only calls on this file.

    Raises:
        CannotInject: If strace is missing or refused; install it, and allow ptrace.
    """
    calls = sorted({one.partition("=")[2].partition(":")[0] for one in what})
    command = ["strace", "-f", "-q", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={','.join(calls)}"]
    for one in what:
        command += ["-e", one]
    if path is not None:
        command += ["-P", str(path)]
    try:
        tracer = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise CannotInject("strace is not installed; install the package strace") from error
    try:
        await _attached(tracer, pid)
        yield
    finally:
        with suppress(ProcessLookupError):
            tracer.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(5.0):
                await tracer.wait()
        except TimeoutError:
            tracer.kill()
            await tracer.wait()


async def _attached(tracer: asyncio.subprocess.Process, pid: int) -> None:
    deadline = time.monotonic() + ATTACH_WITHIN_S
    while time.monotonic() < deadline:
        if tracer.returncode is not None:
            assert tracer.stderr is not None
            said = (await tracer.stderr.read()).decode(errors="replace")
            if "No such process" in said or not Path(f"/proc/{pid}").exists():
                return  # it died meanwhile: nothing left to mistreat
            raise CannotInject(f"strace could not attach to {pid}: {said.strip()}")
        with suppress(OSError):
            if f"TracerPid:\t{tracer.pid}\n" in Path(f"/proc/{pid}/status").read_text():
                return
        await asyncio.sleep(0.02)
    raise CannotInject(f"strace did not attach to {pid} within {ATTACH_WITHIN_S:g} s")
