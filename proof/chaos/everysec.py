"""The control run of F-5: `appendfsync everysec` on a slow disk, killed, loses what it had acknowledged."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

from proof.chaos.strace import injecting
from proof.chaos.watch import AWAY
from shared.bus.client import Address
from shared.runtime.embedded import server_binary

WRITING_S = 4.0
FSYNC_US = 1_500_000


async def acknowledged_and_lost(folder: Path) -> tuple[int, int]:
    """Return how many writes the server acknowledged, and how many of them it has not after a kill."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    address = Address(unix_path=str(folder / "redis.sock"))
    process = await _start(folder)
    client = address.once_client()
    acknowledged = 0
    try:
        await _answers(address)
        async with injecting(process.pid, [f"inject=fdatasync,fsync:delay_exit={FSYNC_US}"]):
            deadline = asyncio.get_running_loop().time() + WRITING_S
            while asyncio.get_running_loop().time() < deadline:
                await client.execute_command("INCR", "count")
                acknowledged += 1
            process.kill()
        await process.wait()
        await client.aclose()
        process = await _start(folder)
        await _answers(address)
        client = address.once_client()
        kept = int(await client.execute_command("GET", "count") or 0)
    finally:
        with suppress(*AWAY):
            await client.aclose()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)
    return acknowledged, acknowledged - kept


async def _start(folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        server_binary(), "--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def _answers(address: Address) -> None:
    for _ in range(500):
        client = address.once_client()
        try:
            await client.execute_command("PING")
            return
        except AWAY:
            await asyncio.sleep(0.02)
        finally:
            with suppress(*AWAY):
                await client.aclose()
    raise RuntimeError(f"no server answers at {address.unix_path}")
